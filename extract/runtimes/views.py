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
from headstock.store.errors import OptionError

__all__ = ["View", "Whole"]

POOLS = ("avg", "max", "cls")
FLIPS = ("none", "mean", "both", "only")


@dataclass(frozen=True)
class View:
    """``layer``: the dotted name of a module inside the network; None for its own pooled features
    before the classifier. ``pool`` makes a layer's map one vector: ``avg`` or ``max`` over places,
    ``cls`` the first token. ``flip``: what the mirrored picture adds; ``mean`` of both vectors,
    ``both`` one after the other (2 d values), ``only`` the mirrored one's.
    """

    layer: str | None = None
    pool: str | None = None
    flip: str = "none"

    def __post_init__(self) -> None:
        if self.pool is not None and self.pool not in POOLS:
            raise OptionError("pool", f"{self.pool!r} is not known", ", ".join(POOLS))
        if self.pool is not None and self.layer is None:
            raise OptionError("pool", "says no layer", "for example layer=layer4,pool=max")
        if self.flip not in FLIPS:
            raise OptionError("flip", f"{self.flip!r} is not known", ", ".join(FLIPS))

    @property
    def tap(self) -> tuple[str | None, str]:
        """The part that runs inside the network: layer and pooling."""
        return self.layer, (self.pool or "avg") if self.layer else ""

    def recipe(self, pooling: str) -> dict[str, Any]:
        """The fields for a Recipe; a view that says nothing adds nothing."""
        layer, pool = self.tap
        fields: dict[str, Any] = {"pooling": pool if layer else pooling}
        if layer:
            fields["layer"] = layer
        if self.flip != "none":
            fields["flip"] = self.flip
        return fields

    @classmethod
    def from_recipe(cls, fields: Mapping[str, Any]) -> View:
        """The inverse of ``recipe``."""
        layer = fields.get("layer")
        return cls(layer, fields["pooling"] if layer else None, fields.get("flip", "none"))


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
        self.plain = any(view.flip != "only" for view in views)
        self.layout = torch.channels_last
        self.widths: list[int] = []  # of each tap, known after the first pass
        self._caught = threading.local()  # several threads pass through one module
        self._last_channels = getattr(module, "output_fmt", "NCHW") == "NHWC"
        for layer in {layer for layer, _ in self.taps if layer}:
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
        parts = self._vectors(batch) if self.plain else []
        if self.mirrored:
            parts = parts + self._vectors(batch.flip(3))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _vectors(self, batch: Tensor) -> list[Tensor]:
        """(b, d) of each tap."""
        own = self.module(batch)
        maps = self._caught.__dict__.pop("maps", {})
        parts = []
        for layer, pool in self.taps:
            out = own if layer is None else self._pooled(layer, pool, maps[layer])
            if not isinstance(out, Tensor) or out.ndim != 2:
                raise TypeError("gives no (b, d) features")
            parts.append(out.float())
        self.widths = [part.shape[1] for part in parts]
        return parts

    def _pooled(self, layer: str, pool: str, out: Any) -> Tensor:
        """(b, d) of a map (b, c, h, w), of tokens (b, t, c), or of a vector as it is."""
        if isinstance(out, tuple | list) and out:
            out = out[0]
        if not isinstance(out, Tensor) or out.ndim not in (2, 3, 4):
            raise TypeError(f"layer {layer} gives no map")
        if out.ndim == 2:
            return out
        if out.ndim == 4:
            out = out.flatten(1, 2) if self._last_channels else out.flatten(2).transpose(1, 2)
        if pool == "cls":
            return out[:, 0]
        return out.mean(dim=1) if pool == "avg" else out.amax(dim=1)

    def take(self, raw: np.ndarray, view: View) -> np.ndarray:
        """(b, d) of ``view`` from (b, s)."""
        at = self.taps.index(view.tap)
        begin, width, half = sum(self.widths[:at]), self.widths[at], sum(self.widths)
        plain = raw[:, begin : begin + width]
        if view.flip == "none":
            return plain
        if not self.plain:
            return plain  # nothing but mirrored ones
        mirrored = raw[:, half + begin : half + begin + width]
        if view.flip == "only":
            return mirrored
        if view.flip == "both":
            return np.concatenate([plain, mirrored], axis=1)
        return (plain + mirrored) / np.float32(2)
