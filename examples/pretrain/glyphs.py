"""Made-up letters: strokes on plain ground, so that the network meets more than photographs.

Letters: b drawings, m strokes of 4 control points, p points along a stroke.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

POINTS = 32


def alphabet(classes: int, seed: int) -> Tensor:
    """(classes, 3, 4, 2): every letter is one to three cubic curves; missing ones repeat one."""
    g = torch.Generator().manual_seed(seed)
    strokes = torch.rand(classes, 3, 4, 2, generator=g) * 1.6 - 0.8
    for i in range(classes):
        used = 1 + i % 3
        strokes[i, used:] = strokes[i, :1]
    return strokes


def draw(strokes: Tensor, size: int, coarse: float, g: torch.Generator) -> Tensor:
    """(b, m, 4, 2) in [-1, 1] -> (b, 3, size, size) in [-1, 1]: each drawn by another hand.

    A share `coarse` of them is seen through 8 pixels a side and enlarged again.

    Hand: wobble, turn, slant, scale, place, width and softness of the pen, and two colours,
    black and white (either way round) in half of the drawings.
    """
    b = len(strokes)

    def between(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(b, *shape, generator=g) * (high - low) + low

    wobbly = strokes + 0.07 * torch.randn(strokes.shape, generator=g)
    turn, slant = between(-0.35, 0.35), between(-0.3, 0.3)
    cos, sin, sx, sy = turn.cos(), turn.sin(), between(0.55, 1.1), between(0.55, 1.1)
    matrix = torch.stack([cos * sx, (slant * cos - sin) * sy, sin * sx, (slant * sin + cos) * sy])
    placed = torch.einsum("bmkc,dcb->bmkd", wobbly, matrix.view(2, 2, b))
    placed = placed + between(-0.15, 0.15, 1, 1, 2)
    t = torch.linspace(0, 1, POINTS)
    bernstein = torch.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], 1)
    points = torch.einsum("pk,bmkc->bmpc", bernstein, placed).flatten(1, 2)
    at = (torch.arange(size) + 0.5) * (2 / size) - 1
    pixels = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1).view(1, -1, 2)
    distance = torch.cdist(pixels.expand(b, -1, -1), points).amin(2).view(b, 1, size, size)
    pen, soft = between(0.04, 0.14, 1, 1, 1), between(0.01, 0.05, 1, 1, 1)
    ink = torch.sigmoid((pen - distance) / soft)
    colours = torch.rand(b, 2, 3, generator=g) * 2 - 1
    plain = torch.tensor([[-1.0] * 3, [1.0] * 3]).expand(b, 2, 3)
    plain = torch.where(between(0, 1, 1, 1) < 0.5, plain, -plain)
    colours = torch.where(between(0, 1, 1, 1) < 0.5, plain, colours)
    ground, front = colours[:, 0, :, None, None], colours[:, 1, :, None, None]
    x = ground + (front - ground) * ink
    low = F.interpolate(F.avg_pool2d(x, size // 8), (size, size), mode="bicubic")
    return torch.where(between(0, 1, 1, 1, 1) < coarse, low, x)
