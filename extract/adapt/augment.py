"""Random views of pictures, computed by the batch on the device that trains.

Letters: b batch, h and w of the canvas, s the side of the network's input. All chance comes from a
generator, so a step that is done again after a kill sees the same views.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from headstock.extract.adapt.settings import Settings
from headstock.extract.decode.preprocess import Preprocess

__all__ = ["centred", "mixed", "normalised", "views"]

ASPECT = math.log(4 / 3)


def normalised(pixels: Tensor, p: Preprocess) -> Tensor:
    """(b, 3, h, w) in 0..1 by the network's mean and deviation."""
    mean, std = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (p.mean, p.std))
    return (pixels - mean) / std


def centred(canvas: Tensor, p: Preprocess) -> Tensor:
    """(b, 3, h, w) uint8 -> (b, 3, s, s), as the network's own evaluation crops it."""
    h, w = p.crop
    top, left = round((canvas.shape[2] - h) / 2), round((canvas.shape[3] - w) / 2)
    return normalised(canvas[:, :, top : top + h, left : left + w].float() / 255, p)


def views(canvas: Tensor, p: Preprocess, s: Settings, g: torch.Generator) -> Tensor:
    """(b, 3, h, w) uint8 -> (b, 3, s, s): random crops, mirrored and recoloured."""
    b, device = len(canvas), canvas.device
    boxes = _boxes(b, s, g).to(device)
    grid = F.affine_grid(boxes, [b, 3, *p.crop], align_corners=False)
    pixels = canvas.float().div_(255)
    pixels = F.grid_sample(pixels, grid, "bilinear", "reflection", align_corners=False)
    if s.colour:
        pixels = _recoloured(pixels, s.colour, g)
    return normalised(pixels.clamp_(0, 1), p)


def _boxes(b: int, s: Settings, g: torch.Generator) -> Tensor:
    """(b, 2, 3) maps from the view to the canvas: area from ``crop`` to 1, aspect 3/4 to 4/3
    (Szegedy et al. 2015, as in every ImageNet recipe since), anywhere inside."""
    area = torch.empty(b).uniform_(s.crop, 1.0, generator=g)
    aspect = torch.empty(b).uniform_(-ASPECT, ASPECT, generator=g).exp()
    half_w, half_h = (area * aspect).sqrt().clamp_(max=1), (area / aspect).sqrt().clamp_(max=1)
    x = (torch.rand(b, generator=g) * 2 - 1) * (1 - half_w)
    y = (torch.rand(b, generator=g) * 2 - 1) * (1 - half_h)
    mirrored = torch.rand(b, generator=g) < 0.5
    if s.flip:
        half_w = torch.where(mirrored, -half_w, half_w)
    zero = torch.zeros(b)
    return torch.stack([half_w, zero, x, zero, half_h, y], 1).view(b, 2, 3)


def _recoloured(pixels: Tensor, most: float, g: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation, each by a factor from 1 - most to 1 + most."""

    def factor() -> Tensor:
        drawn = torch.rand(len(pixels), 1, 1, 1, generator=g).to(pixels.device)
        return 1 + most * (2 * drawn - 1)

    pixels = pixels * factor()
    middle = pixels.mean((1, 2, 3), keepdim=True)
    pixels = (pixels - middle) * factor() + middle
    grey = pixels.mean(1, keepdim=True)
    return (pixels - grey) * factor() + grey


def mixed(x: Tensor, target: Tensor, s: Settings, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch (b, 3, s, s) and its targets (b, k) blended with the batch in reverse, where the dice
    say so."""
    share, blend = torch.rand(2, generator=g).tolist()
    if share >= s.mix:
        return x, target
    return blend * x + (1 - blend) * x.flip(0), blend * target + (1 - blend) * target.flip(0)
