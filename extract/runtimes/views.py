"""What of a network becomes the vector: which layer, how its map is pooled, which way round."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headstock.extract.decode.preprocess import Preprocess
from headstock.extract.runtimes.tokens import Reading, last_blocks, reading_of
from headstock.store.errors import OptionError

__all__ = ["View", "Whole"]

POOLS = ("avg", "max", "cls", "cls+avg")
FLIPS = ("none", "mean", "both", "only")
PLACES = "places"

Tap = tuple[str | None, str, str]


@dataclass(frozen=True)
class View:
    """``layer``: the name of a module inside the network; ``last4`` for its last four blocks,
    each through the norm behind them, one after the other (4 d values); None for its own pooled
    features before the classifier. ``pool`` makes a layer's map one vector: ``avg`` or ``max`` over
    places, ``cls`` the class token, ``cls+avg`` both (2 d values). ``flip``: what the mirrored
    picture adds; ``mean`` of both vectors, ``both`` one after the other (2 d values), ``only`` the
    mirrored one's.

    ``tokens``: ``places``, or ``all``, as recipes had it before places were told from other tokens.
    """

    layer: str | None = None
    pool: str | None = None
    flip: str = "none"
    tokens: str = PLACES

    def __post_init__(self) -> None:
        if self.pool is not None and self.pool not in POOLS:
            raise OptionError("pool", f"{self.pool!r} is not known", ", ".join(POOLS))
        if self.pool is not None and self.layer is None:
            raise OptionError("pool", "says no layer", "for example layer=layer4,pool=max")
        if self.flip not in FLIPS:
            raise OptionError("flip", f"{self.flip!r} is not known", ", ".join(FLIPS))

    @property
    def tap(self) -> Tap:
        """The part that runs inside the network: layer, pooling and tokens."""
        return (self.layer, self.pool or "avg", self.tokens) if self.layer else (None, "", "")

    def recipe(self, pooling: str, plain: bool) -> dict[str, Any]:
        """The fields for a Recipe; a view that says nothing adds nothing. ``plain``: the vector is
        the one that all tokens give."""
        layer, pool, tokens = self.tap
        fields: dict[str, Any] = {"pooling": pool if layer else pooling}
        if layer:
            fields["layer"] = layer
        if tokens == PLACES and not plain:
            fields["tokens"] = PLACES
        if self.flip != "none":
            fields["flip"] = self.flip
        return fields

    @classmethod
    def from_recipe(cls, fields: Mapping[str, Any]) -> View:
        """The inverse of ``recipe``."""
        layer, flip = fields.get("layer"), fields.get("flip", "none")
        return cls(layer, fields["pooling"] if layer else None, flip, fields.get("tokens", "all"))


class Whole(nn.Module):
    """uint8 pixels (b, h, w, 3) -> (b, s) float32: normalised, through the network, and the vectors
    of each tap of ``views`` side by side, those of mirrored pictures after all others.

    ``take(raw, view)`` finds a view's vectors among them. Raises OptionError for a layer that the
    network does not have.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, module: nn.Module, preprocess: Preprocess, views: Sequence[View]) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, 3, 1, 1), False)
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, 3, 1, 1), False)
        self.crop = preprocess.crop
        self.taps = list(dict.fromkeys(view.tap for view in views))
        self.mirrored = any(view.flip != "none" for view in views)
        self.upright = any(view.flip != "only" for view in views)
        self.layout = torch.channels_last
        self.widths: list[int] = []  # of each tap, known after the first pass
        self._caught = threading.local()  # several threads pass through one module
        self._readings: dict[str, Reading] = {}  # of each layer, known after the first pass
        asked = {tap[0] for tap in self.taps if tap[0]}
        self._blocks = {n: found for n in asked if (found := last_blocks(module, n)) is not None}
        in_blocks = {name for names, _ in self._blocks.values() for name in names}
        for layer in sorted(asked - self._blocks.keys() | in_blocks):
            self._layer(layer).register_forward_hook(self._catch(layer))

    def _layer(self, name: str) -> nn.Module:
        try:
            return self.module.get_submodule(name)
        except AttributeError as error:
            known = [n for n, _ in self.module.named_modules() if n]
            near = difflib.get_close_matches(name, known, 3, 0.4) or known[:8]
            raise OptionError(f"layer {name}", "is not in the network", ", ".join(near)) from error

    def _catch(self, layer: str) -> Any:
        def keep(_: nn.Module, __: Any, out: Any) -> None:
            if not hasattr(self._caught, "maps"):
                self._caught.maps = {}
            self._caught.maps[layer] = out

        return keep

    def forward(self, pixels: Tensor) -> Tensor:
        batch = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=self.layout)
        batch = batch.div_(255).sub_(self.mean).div_(self.std)
        parts = self._vectors(batch) if self.upright else []
        if self.mirrored:
            parts = parts + self._vectors(batch.flip(3))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _vectors(self, batch: Tensor) -> list[Tensor]:
        """(b, d) of each tap."""
        own = self.module(batch)
        maps = self._caught.__dict__.pop("maps", {})
        parts = []
        for layer, pool, tokens in self.taps:
            if layer is None:
                out = own
            elif layer in self._blocks:
                names, norm = self._blocks[layer]
                outs = [self._map(name, maps[name]) for name in names]
                if norm is not None and len({out.shape[1:] for out in outs}) > 1:
                    what = "asks for blocks of several sizes, and the norm is for the last"
                    raise OptionError(f"layer {layer}", what, "the name of a module")
                if norm is not None:  # its forward: a hook would catch it again
                    outs = [norm.forward(out) for out in outs]
                vectors = [self._pooled(n, pool, tokens, o) for n, o in zip(names, outs)]
                out = torch.cat(vectors, dim=1)
            else:
                out = self._pooled(layer, pool, tokens, self._map(layer, maps[layer]))
            if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != len(batch):
                raise TypeError("gives no (b, d) features")
            parts.append(out.float())
        self.widths = [part.shape[1] for part in parts]
        return parts

    def _map(self, layer: str, out: Any) -> Tensor:
        """What ``layer`` gave: a map (b, c, h, w), tokens (b, t, c), or a vector."""
        if isinstance(out, tuple | list) and out:
            out = out[0]
        if not isinstance(out, Tensor) or out.ndim not in (2, 3, 4):
            raise TypeError(f"layer {layer} gives no map")
        return out

    def _pooled(self, layer: str, pool: str, tokens: str, out: Tensor) -> Tensor:
        """(b, d) of a map or of tokens; a vector as it is."""
        if out.ndim == 2:
            return out
        reading = self._readings.get(layer)
        if reading is None:
            reading = self._readings[layer] = reading_of(self.module, layer, out, self.crop)
        return reading.pooled(layer, pool, out, tokens == PLACES)

    def plain(self, view: View) -> bool:
        """Whether the vector of ``view`` is the one that all tokens give; known after a pass."""
        layer, pool, _ = view.tap
        if layer is None or pool == "cls":
            return True
        names = self._blocks[layer][0] if layer in self._blocks else [layer]
        return all(self._readings[name].plain for name in names if name in self._readings)

    def take(self, raw: np.ndarray, view: View) -> np.ndarray:
        """(b, d) of ``view`` from (b, s)."""
        at = self.taps.index(view.tap)
        begin, width, half = sum(self.widths[:at]), self.widths[at], sum(self.widths)
        plain = raw[:, begin : begin + width]
        if view.flip == "none":
            return plain
        if not self.upright:
            return plain  # nothing but mirrored ones
        mirrored = raw[:, half + begin : half + begin + width]
        if view.flip == "only":
            return mirrored
        if view.flip == "both":
            return np.concatenate([plain, mirrored], axis=1)
        return (plain + mirrored) / np.float32(2)
