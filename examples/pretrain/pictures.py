"""Pictures for training: read once into memory, cropped and recoloured by the batch.

Letters: n pictures, b batch.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from settings import SIZE, Settings
from torch import Tensor

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


def read_pictures(source: Path) -> Iterator[tuple[str, bytes]]:
    """Name ('train/<class>/<file>') and bytes of every picture below a folder or in a zip."""
    if source.is_dir():
        for path in sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES):
            yield path.relative_to(source).as_posix(), path.read_bytes()
    else:
        with zipfile.ZipFile(source) as archive:
            for name in sorted(archive.namelist()):
                if Path(name).suffix.lower() in SUFFIXES:
                    yield name, archive.read(name)


def decode(source: Path) -> tuple[np.ndarray, list[str]]:
    """(n, 64, 64, 3) uint8 and the n names; bigger pictures are centre-cropped and shrunk."""
    names, pixels = [], []
    for name, data in read_pictures(source):
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        if picture.size != (SIZE, SIZE):
            w, h = picture.size
            s = min(w, h)
            box = ((w - s) / 2, (h - s) / 2, (w + s) / 2, (h + s) / 2)
            picture = picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)
        names.append(name)
        pixels.append(np.asarray(picture))
    return np.stack(pixels), names


def like_any(x: np.ndarray, reference: np.ndarray, threshold: float) -> np.ndarray:
    """(n,) bool: correlates with a reference picture, or its mirror, at 32x32 pixels or better."""

    def unit(a: np.ndarray) -> np.ndarray:
        small = a.reshape(len(a), 32, 2, 32, 2, 3).astype(np.float32).mean((2, 4))
        flat = small.reshape(len(a), -1)
        flat = flat - flat.mean(1, keepdims=True)
        return flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-6)

    both = unit(np.concatenate([reference, reference[:, :, ::-1]])).T
    return np.concatenate(
        [(unit(x[i : i + 1000]) @ both).max(1) >= threshold for i in range(0, len(x), 1000)]
    )


def load_data(source: Path, exclude: tuple[Path, ...], work: Path, s: Settings) -> dict:
    """Training and validation pictures and labels, without training pictures found elsewhere."""
    cache = work / "pictures.npz"
    if not cache.exists():
        x, names = decode(source)
        split = [n.startswith("val/") for n in names]
        if not any(split):
            split = [i % 10 == 0 for i in range(len(names))]
        classes = sorted({Path(n).parent.name for n in names})
        y = np.array([classes.index(Path(n).parent.name) for n in names])
        val = np.array(split)
        drop = like_any(x, x[val], s.duplicate) & ~val
        click.echo(f"{drop.sum()} training pictures look like a validation picture: left out")
        for folder in exclude:
            found = like_any(x, decode(folder)[0], s.duplicate) & ~val
            click.echo(f"{found.sum()} training pictures look like one of {folder.name}: left out")
            drop |= found
        train = ~val & ~drop
        np.savez(
            cache,
            x=x[train],
            y=y[train],
            vx=x[val],
            vy=y[val],
            classes=classes,
            left_out=[n for n, d in zip(names, drop, strict=True) if d],
        )
    return dict(np.load(cache))


def to_batch(x: np.ndarray, boxes: Tensor | None, size: int, mode: str = "bilinear") -> Tensor:
    """(b, 64, 64, 3) uint8 -> (b, 3, size, size) in [-1, 1]; box = centre x, y, half width, height,
    in the picture's own [-1, 1]; a negative half width mirrors."""
    pixels = torch.from_numpy(x).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    if boxes is not None:
        cx, cy, hw, hh = boxes.unbind(1)
        zero = torch.zeros_like(cx)
        theta = torch.stack([hw, zero, cx, zero, hh, cy], 1).view(-1, 2, 3)
        grid = F.affine_grid(theta, [len(x), 3, size, size], align_corners=False)
        pixels = F.grid_sample(pixels, grid, mode, "reflection", align_corners=False).clamp_(-1, 1)
    return pixels.contiguous(memory_format=torch.channels_last)


def random_boxes(n: int, area: tuple[float, float], g: torch.Generator) -> Tensor:
    """(n, 4) crops of random area, aspect 3/4 to 4/3 and place, inside the picture."""
    share = torch.empty(n).uniform_(*area, generator=g)
    aspect = torch.empty(n).uniform_(-math.log(4 / 3), math.log(4 / 3), generator=g).exp()
    hw, hh = (share * aspect).sqrt().clamp_(max=1), (share / aspect).sqrt().clamp_(max=1)
    cx = (torch.rand(n, generator=g) * 2 - 1) * (1 - hw)
    cy = (torch.rand(n, generator=g) * 2 - 1) * (1 - hh)
    return torch.stack([cx, cy, hw, hh], 1)


def recolour(x: Tensor, s: Settings, g: torch.Generator) -> Tensor:
    """Grey, two tones, inversion, blur, contrast, brightness: drawn for each of (b, 3, h, w)."""

    def chosen(p: float) -> Tensor:
        return torch.rand(len(x), 1, 1, 1, generator=g) < p

    def around(centre: float) -> Tensor:
        return centre + s.jitter * (torch.rand(len(x), 1, 1, 1, generator=g) * 2 - 1)

    grey = x.mean(1, keepdim=True)
    x = torch.where(chosen(s.gray), grey, x)
    x = torch.where(chosen(s.two_tone), (grey - grey.mean((2, 3), keepdim=True)).sign(), x)
    x = torch.where(chosen(s.invert), -x, x)
    coarse = F.interpolate(F.avg_pool2d(x, 4), x.shape[2:], mode="bilinear")
    x = torch.where(chosen(s.blur), coarse, x)
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * around(1) + mean + around(0)
