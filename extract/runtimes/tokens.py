"""Which values of a layer stand for places of the picture, and which for a class or nothing at all.

A transformer may put tokens before those of places: a class token, one of a teacher, registers.
Libraries say how many (``num_prefix_tokens``), but a layer need not have them yet: some networks
add the class token in their last layers. The count of tokens decides: without those before, it has
to be a grid of the picture's proportions. The same tells channels that come last from those that
come first. Letters: b pictures, t tokens, p places, c channels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headstock.store.errors import OptionError

__all__ = ["Reading", "last_blocks", "reading_of"]

CLASS = re.compile(r"(?:embeds\.)?(?:cls|class)_token(?:_?\d+)?")
LAST = re.compile(r"last([1-9][0-9]?)")
STACKS = (("blocks", "norm"), ("encoder.layers", "encoder.ln"))
"""Where libraries keep a transformer's blocks, and the norm behind the last of them."""


@dataclass(frozen=True)
class Reading:
    """How a layer's output is read: ``prefix`` tokens come before those of places; ``cls``: the
    first of them is a class token; ``last``: the channels of a map (b, h, w, c) come last, and
    ``stated`` that its library says so.
    """

    prefix: int
    cls: bool
    last: bool
    stated: bool

    @property
    def plain(self) -> bool:
        """Whether all tokens are places, in the layout that the library says."""
        return self.prefix == 0 and self.last == self.stated

    def pooled(self, layer: str, pool: str, out: Tensor, places: bool) -> Tensor:
        """(b, d) of a map or of tokens; ``places``: over places alone, and not over all tokens.

        Raises OptionError for a class token where there is none, and for places likewise.
        """
        if "cls" in pool and not self.cls:
            raise OptionError(f"pool {pool}", f"layer {layer} has no class token", "avg or max")
        if pool == "cls":
            return out[:, 0]
        if out.ndim == 4:
            last = self.last if places else self.stated
            tokens = out.flatten(1, 2) if last else out.flatten(2).transpose(1, 2)
        else:
            tokens = out[:, self.prefix :] if places else out
        if tokens.shape[1] == 0:
            raise OptionError(f"pool {pool}", f"layer {layer} has no places", "pool=cls")
        pooled = tokens.amax(dim=1) if pool == "max" else tokens.mean(dim=1)
        return torch.cat([out[:, 0], pooled], dim=1) if pool == "cls+avg" else pooled


def reading_of(module: nn.Module, layer: str, out: Tensor, crop: tuple[int, int]) -> Reading:
    """Of ``out``, what ``layer`` of ``module`` gives for pictures of ``crop`` (h, w) pixels.

    Raises OptionError for a number of tokens that is no grid of the picture, with or without those
    before it.
    """
    stated = getattr(module, "output_fmt", "NCHW") == "NHWC"
    if out.ndim == 4:
        last = stated
        if not _grid(out, last, crop) and _grid(out, not last, crop):
            last = not stated
        return Reading(0, False, last, stated)
    count, cls = _before(module)
    t = int(out.shape[1])
    if not count or t <= count:
        return Reading(min(count, t), cls, stated, stated)
    for prefix in (count, 0):
        if _is_grid(t - prefix, crop):
            return Reading(prefix, cls and prefix > 0, stated, stated)
    what = f"gives {t} tokens, which are no grid of the picture with or without {count} before it"
    raise OptionError(f"layer {layer}", what, "a layer such as blocks.11")


def last_blocks(module: nn.Module, layer: str) -> tuple[list[str], nn.Module | None] | None:
    """The names of the last blocks that ``layer`` (``last4``) asks for, and the norm behind them;
    None when it asks for a module. Raises OptionError for more than there are."""
    asked = LAST.fullmatch(layer)
    modules = dict(module.named_modules())
    if asked is None or layer in modules:
        return None
    for stack, norm in STACKS:
        if stack in modules:
            names = [f"{stack}.{name}" for name, _ in modules[stack].named_children()]
            if len(names) < int(asked[1]):
                what = f"asks for more than the network's {len(names)} blocks"
                raise OptionError(f"layer {layer}", what, f"last1 to last{len(names)}")
            return names[-int(asked[1]) :], modules.get(norm)
    what = "asks for blocks, and the network has no one row of them"
    raise OptionError(f"layer {layer}", what, "the name of a module")


def _before(module: nn.Module) -> tuple[int, bool]:
    """How many tokens ``module`` puts before those of places, and whether a class token leads."""
    classes = [p for name, p in module.named_parameters() if CLASS.fullmatch(name)]
    count = getattr(module, "num_prefix_tokens", None)
    if count is None:
        count = classes[0].shape[1] if classes else 0
    return int(count), bool(classes)


def _grid(out: Tensor, last: bool, crop: tuple[int, int]) -> bool:
    h, w = (out.shape[1:3]) if last else (out.shape[2:4])
    return _alike(int(h), int(w), crop)


def _alike(h: int, w: int, crop: tuple[int, int]) -> bool:
    """Whether h x w may be ``crop`` made smaller; a cell more or less is the strides' rounding."""
    return abs(h * crop[1] - w * crop[0]) <= max(crop) if crop[0] != crop[1] else h == w


def _is_grid(count: int, crop: tuple[int, int]) -> bool:
    sides = (h for h in range(1, count + 1) if count % h == 0)
    return any(_alike(h, count // h, crop) for h in sides)
