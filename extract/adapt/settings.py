"""How a network is adapted: every number of it, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from headstock.extract.runtimes.eager import PRECISIONS
from headstock.store.errors import OptionError

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """``head_epochs`` of the classifier alone on the frozen backbone, then at most ``epochs`` of
    everything; from scratch, of everything at once.

    ``lr``: peak rate of the classifier; the backbone's is ``backbone_lr`` times that.
    ``warmup``: share of each phase in which the rate climbs. ``patience``: epochs without a better
    log-loss on the held-out part after which the phase ends; the best epoch's weights are kept.
    ``held_out``: share of the rows that only chooses the epoch. ``crop``: smallest share of the
    picture's area that a random crop keeps; ``flip``: mirror half of them; ``colour``: random
    change of brightness, contrast and saturation; ``mix``: share of the batches that are blended
    with themselves (mixup, Zhang et al. 2018). ``smoothing``: of labels. ``train_norm``: let
    batch normalisation follow these pictures, or keep the backbone's statistics; where weights
    have them folded into the convolutions they are kept in any case.
    """

    epochs: int = 12
    head_epochs: int = 3
    lr: float = 3e-3
    backbone_lr: float = 0.1
    warmup: float = 0.25
    weight_decay: float = 0.05
    smoothing: float = 0.1
    batch_size: int = 32
    patience: int = 6
    held_out: float = 0.15
    crop: float = 0.4
    flip: bool = True
    colour: float = 0.2
    mix: float = 0.0
    train_norm: bool = True
    precision: str = "fp32"
    from_scratch: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("epochs", 1, 10_000), ("head_epochs", 0, 10_000), ("lr", 1e-9, 10.0),
            ("backbone_lr", 0.0, 10.0), ("warmup", 0.0, 1.0), ("weight_decay", 0.0, 10.0),
            ("smoothing", 0.0, 0.9), ("seed", 0, 2**31), ("batch_size", 2, 65_536),
            ("patience", 1, 10_000), ("held_out", 0.01, 0.5), ("crop", 0.01, 1.0),
            ("colour", 0.0, 1.0), ("mix", 0.0, 1.0),
        ):  # fmt: skip
            value = getattr(self, name)
            if not least <= value <= most:
                flag = name.replace("_", "-")
                raise OptionError(flag, f"{value} has no meaning", f"from {least} to {most}")
        if self.precision not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise OptionError("precision", f"{self.precision!r} is not known", known)

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> Settings:
        """From what was stated; None means nothing was. Raises OptionError for an unknown name or
        a value of another kind."""
        known = {f.name: f.type for f in fields(cls)}
        given = {k: v for k, v in stated.items() if v is not None}
        for name, value in given.items():
            if name not in known:
                raise OptionError("settings", f"no {name}", f"one of {', '.join(known)}")
            if known[name] == "float" and type(value) is int:
                given[name] = float(value)
            elif type(value).__name__ != known[name]:
                raise OptionError(name.replace("_", "-"), f"{value!r} is no {known[name]}")
        return cls(**given)

    @property
    def alone(self) -> int:
        """Epochs in which the classifier alone is trained."""
        return 0 if self.from_scratch else self.head_epochs

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
