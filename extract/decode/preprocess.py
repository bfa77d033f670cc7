"""The evaluation transforms of timm and torchvision, pixel for pixel, with Pillow alone.

Their own classes import torch, which decode workers must not: it costs seconds and hundreds of
megabytes a process. Normalisation is left to the encoder, so a worker hands over uint8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from headstock.extract.decode.images import FAST, RULES, decode_image
from headstock.extract.encoder import Loader
from headstock.store.errors import OptionError

__all__ = ["INTERPOLATIONS", "ImageLoader", "Preprocess"]

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}
MODES = ("center", "squash", "border")
TALL = 1.9  # times as tall as wide; Pillow 13 turns to rows first at twice
FEW = 0.75  # of the rows: so few are worth a copy of them alone
MOST_PIXELS = 1 << 24  # after the crop: what a network makes of more takes tens of GB
REACH = 3  # of Lanczos, the widest filter, in pixels of the result
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Preprocess:
    """Resize, crop and normalise as pretrained weights were evaluated.

    ``resize`` (h, w) is the size before the crop and ``crop`` (h, w) the size after it, in pixels.
    ``mode``: ``center`` keeps the aspect and brings the shorter side to ``resize``; ``squash``
    resizes both sides; ``border`` keeps the aspect, brings the longer side to ``resize`` and fills
    with ``mean``. ``mean`` and ``std`` (3,) are in units of 0..1 and are applied by the encoder.
    Source: ``timm.data.transforms_factory.transforms_imagenet_eval`` and
    ``torchvision.transforms._presets.ImageClassification``.
    """

    resize: tuple[int, int]
    crop: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    mode: str = "center"

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            fix = f"one of {', '.join(INTERPOLATIONS)}"
            raise OptionError("interpolation", f"{self.interpolation!r} is not known", fix)
        if self.mode not in MODES:
            raise OptionError("crop mode", f"{self.mode!r} is not known", ", ".join(MODES))
        if min(*self.resize, *self.crop) < 1 or max(*self.resize, *self.crop) > 8192:
            raise OptionError("input size", f"{self.resize}, {self.crop}", "1 to 8192 pixels")
        if self.crop[0] * self.crop[1] > MOST_PIXELS:
            raise OptionError("input size", f"{self.crop}", f"at most {MOST_PIXELS:,} pixels")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise OptionError("mean, std", f"{self.mean}, {self.std}", "3 numbers, std above 0")
        if max(map(abs, self.mean)) > 1:
            fix = "in units of 0 to 1: divide by 255"
            raise OptionError("mean", f"{self.mean} is outside of every picture", fix)

    @classmethod
    def of_size(
        cls,
        size: Sequence[int],
        crop_pct: float,
        mean: Sequence[float],
        std: Sequence[float],
        interpolation: str = "bicubic",
        mode: str = "center",
    ) -> Preprocess:
        """timm's way to say it: the resize is ``floor(size / crop_pct)``; ``size`` is (h, w).

        Raises OptionError.
        """
        if not 0 < crop_pct <= 4:
            raise OptionError("crop-pct", f"{crop_pct} makes no picture", "0.875, for example")
        h, w = (int(v) for v in size)
        resize = (math.floor(h / crop_pct), math.floor(w / crop_pct))
        m, s = (tuple(float(v) for v in _three(values)) for values in (mean, std))
        return cls(resize, (h, w), m, s, interpolation, mode)  # type: ignore[arg-type]

    def recipe(self) -> dict[str, Any]:
        """The fields as plain data, for a Recipe."""
        return {
            "resize": list(self.resize),
            "crop": list(self.crop),
            "mode": self.mode,
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @classmethod
    def from_recipe(cls, fields: dict[str, Any]) -> Preprocess:
        """The inverse of ``recipe``."""
        plain: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**plain)

    def __call__(self, image: Image.Image) -> Image.Image:
        """``image`` (RGB, any size) resized and cropped to ``crop``."""
        width, height = image.size
        size = self.resized(height, width)
        if size != (height, width):
            if (box := self._kept(width, height, size)) is not None:
                return self._resize_box(image, box)
            image = image.resize((size[1], size[0]), INTERPOLATIONS[self.interpolation])
        fill = tuple(round(255 * v) for v in self.mean) if self.mode == "border" else (0, 0, 0)
        return _center_crop(image, self.crop, fill)

    def _kept(self, width: int, height: int, size: tuple[int, int]) -> Box | None:
        """(left, top, right, bottom) of the crop in a picture that shrinks to ``size`` (h, w), when
        resizing that box alone gives what resize-then-crop gives; else None.

        Pillow goes over the columns first except in very tall pictures and unequal scales, and
        rounds in between, so the order matters where bicubic overshoots.
        """
        (h, w), corner = size, self.box(*size)
        shrinks = h < height and w < width and height < TALL * width and self.mode == "center"
        if corner is None or not shrinks or self.interpolation == "nearest":
            return None
        down, across = height / h, width / w
        top, left = corner[0] * down, corner[1] * across
        right, bottom = left + self.crop[1] * across, top + self.crop[0] * down
        return left, top, min(right, float(width)), min(bottom, float(height))

    def _resize_box(self, image: Image.Image, box: Box) -> Image.Image:
        """``box`` of ``image`` brought to ``crop``: columns, then rows. Pillow holds corners
        in 32 bits; a value may be one grey level off, on pure noise a few in a million two.
        """
        left, top, right, bottom = box
        (h, w), method = self.crop, INTERPOLATIONS[self.interpolation]
        if bottom - top < FEW * image.height:
            reach = REACH * (bottom - top) / h + 1
            first, last = max(int(top - reach), 0), min(int(bottom + reach) + 1, image.height)
            image = image.crop((0, first, image.width, last))
            top, bottom = top - first, bottom - first
        columns = image.resize((w, image.height), method, (left, 0, right, image.height))
        return columns.resize((w, h), method, (0, top, w, bottom))

    def box(self, h: int, w: int) -> tuple[int, int] | None:
        """(top, left) of the crop in a resized picture of h x w; None when it is smaller."""
        if h < self.crop[0] or w < self.crop[1]:
            return None
        return round((h - self.crop[0]) / 2.0), round((w - self.crop[1]) / 2.0)

    def resized(self, h: int, w: int) -> tuple[int, int]:
        """(h, w) before the crop for a picture of h x w."""
        th, tw = self.resize
        if self.mode == "squash":
            return th, tw
        if self.mode == "center" and th == tw:  # torchvision's Resize(int): truncates
            short, long = min(h, w), max(h, w)
            other = int(th * long / short)
            return (other, th) if w <= h else (th, other)
        ratios = (h / th, w / tw)  # timm's ResizeKeepRatio: rounds
        ratio = max(ratios) if self.mode == "border" else min(ratios)
        return max(round(h / ratio), 1), max(round(w / ratio), 1)


def _three(values: Sequence[float]) -> Sequence[float]:
    """One number stands for all three channels."""
    return list(values) * 3 if len(values) == 1 else values


def _center_crop(image: Image.Image, crop: tuple[int, int], fill: tuple[int, ...]) -> Image.Image:
    """torchvision's ``center_crop``: a border where the picture is too small, Python's rounding."""
    h, w = crop
    if image.height < h or image.width < w:
        dh, dw = max(h - image.height, 0), max(w - image.width, 0)
        border = (dw // 2, dh // 2, (dw + 1) // 2, (dh + 1) // 2)
        image = ImageOps.expand(image, border, fill=fill)
    top, left = round((image.height - h) / 2.0), round((image.width - w) / 2.0)
    return image.crop((left, top, left + w, top + h))


@dataclass(frozen=True)
class ImageLoader(Loader):
    """bytes -> (h, w, 3) uint8, decoded by ``images.RULES`` and brought to the model's size.

    ``fast``: JPEGs are decoded at a reduced scale, at least twice the size before the crop, which
    is 2 to 5 times faster on large pictures and changes the vectors a little: another recipe.
    """

    preprocess: Preprocess
    fast: bool = False

    @property
    def way(self) -> str:  # type: ignore[override]
        """``full`` or ``fast``, for an account."""
        return "fast" if self.fast else "full"

    @property
    def decoding(self) -> tuple[str, int | None]:
        """Loaders that agree in this decode alike: one picture then serves them all."""
        return "image", FAST * max(self.preprocess.resize) if self.fast else None

    def decode(self, data: bytes) -> Image.Image:
        """The picture in ``data``. Raises ItemError when it cannot be trusted."""
        return decode_image(data, self.decoding[1])

    def transform(self, image: Image.Image) -> np.ndarray:
        """(h, w, 3) uint8 of a decoded picture, which stays as it is."""
        return np.asarray(self.preprocess(image))

    def recipe(self) -> dict[str, Any]:
        """The decoder's rules, for a Recipe."""
        scaled = {"jpeg": f"scaled, at least {FAST} times the resize"} if self.fast else {}
        return {**RULES, **scaled}
