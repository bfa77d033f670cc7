"""JPEGs decoded, resized and cropped on the accelerator; everything else by the host.

Workers read, hash and judge the header, and hand over the bytes; nvJPEG decodes a whole batch.
It rounds otherwise than libjpeg, so this is a recipe of its own.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from headstock.extract.decode.images import RULES, plain_jpeg
from headstock.extract.decode.preprocess import ImageLoader, Preprocess
from headstock.extract.encoder import Loader
from headstock.store.errors import ItemError, OptionError, one_line

__all__ = ["DEVICES", "DeviceLoader", "judge_device", "pixels_on"]

DEVICES = ("cuda",)
METHODS = ("bicubic", "bilinear")  # that torch has with antialiasing, as Pillow has them


@dataclass(frozen=True)
class DeviceLoader(Loader):
    """bytes -> the bytes of a plain JPEG, (t,) uint8, for the device to decode; of any other
    picture (h, w, 3) uint8 as ``ImageLoader`` makes it. Raises OptionError for a transform that
    the device does not do."""

    preprocess: Preprocess
    way = "device"

    def __post_init__(self) -> None:
        p = self.preprocess
        if p.interpolation not in METHODS or p.mode == "border":
            what = f"does not do {p.interpolation} in mode {p.mode}"
            raise OptionError("--decode device", what, "--decode full")

    def decode(self, data: bytes) -> np.ndarray:
        """Raises ItemError when ``data`` is not a picture that can be trusted."""
        if plain_jpeg(data):
            return np.frombuffer(data, dtype=np.uint8)
        return ImageLoader(self.preprocess)(data)

    def recipe(self) -> dict[str, Any]:
        """The decoder's rules, for a Recipe."""
        return {**RULES, "jpeg": "by the device"}


def judge_device(device: Any) -> None:
    """Raises OptionError when ``device`` decodes nothing: every picture would go the usual way,
    under a recipe that says otherwise."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "JPEG")
    try:
        _decoded([np.frombuffer(out.getvalue(), dtype=np.uint8)], device)
    except RuntimeError as error:
        what = f"torchvision has no JPEG decoder for {device}: {one_line(error, 120)}"
        raise OptionError("--decode device", what, "--decode full or fast") from error


def pixels_on(
    device: Any, items: Sequence[np.ndarray], preprocess: Preprocess
) -> tuple[Any, dict[int, ItemError]]:
    """(b, h, w, 3) uint8 on ``device`` of what a DeviceLoader gave, and the errors of those that
    nobody can decode, by position; they are black.

    The device refuses a batch as a whole: then each picture is tried alone, and by the host last.
    """
    import torch

    raw = [i for i, item in enumerate(items) if item.ndim == 1]
    pictures: dict[int, Any] = {}
    errors: dict[int, ItemError] = {}
    try:
        decoded = _decoded([items[i] for i in raw], device) if raw else []
        pictures = {i: _transformed(picture, preprocess) for i, picture in zip(raw, decoded)}
    except RuntimeError:
        for i in raw:
            try:
                pictures[i] = _transformed(_decoded([items[i]], device)[0], preprocess)
            except RuntimeError:
                try:
                    there = np.array(ImageLoader(preprocess)(items[i].tobytes()))
                except ItemError as error:
                    there, errors[i] = np.zeros((*preprocess.crop, 3), np.uint8), error
                pictures[i] = torch.from_numpy(there).to(device)
    for i, item in enumerate(items):
        if item.ndim != 1:
            pictures[i] = torch.from_numpy(np.array(item)).to(device)
    return torch.stack([pictures[i] for i in range(len(items))]), errors


def _decoded(data: Sequence[np.ndarray], device: Any) -> list[Any]:
    """(3, h, w) uint8 of each JPEG, on the device. Raises RuntimeError."""
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision says that TorchCodec will take over
        tensors = [torch.from_numpy(np.array(one)) for one in data]
        return decode_jpeg(tensors, mode=ImageReadMode.RGB, device=device)


def _transformed(picture: Any, p: Preprocess) -> Any:
    """(h, w, 3) uint8: ``Preprocess`` on a tensor (3, h, w)."""
    import torch
    import torch.nn.functional as F

    size = p.resized(*picture.shape[1:])
    if size != tuple(picture.shape[1:]):
        values = F.interpolate(
            picture[None].float(), size, mode=p.interpolation, antialias=True, align_corners=False
        )
        picture = values[0].round_().clamp_(0, 255).to(torch.uint8)
    h, w = p.crop
    down, across = max(h - size[0], 0), max(w - size[1], 0)
    if down or across:
        sides = (across // 2, (across + 1) // 2, down // 2, (down + 1) // 2)
        picture = F.pad(picture, sides)
    top, left = round((picture.shape[1] - h) / 2.0), round((picture.shape[2] - w) / 2.0)
    return picture[:, top : top + h, left : left + w].permute(1, 2, 0)
