"""The bytes of a picture -> an 8-bit RGB image, with every odd case handled on purpose.

``RULES`` says in words what is done; it is part of each image recipe, so a change of rule is a
change of recipe. Runs in worker processes and imports no torch.
"""

from __future__ import annotations

import functools
import io
import struct
import warnings
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps

from headstock.extract.decode.phone import is_heic, open_heic
from headstock.store.errors import ItemError, one_line

__all__ = ["FAST", "RULES", "decode_image", "plain_jpeg"]

FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
TINY = float(np.finfo(np.float32).tiny)
MAX_PIXELS = 100_000_000  # 300 MB as RGB; 10,000 x 10,000
MAX_ASPECT = 200  # a 1 x 65,500 strip becomes 4 Gpixel when its short side is made 256
BACKGROUND = (255, 255, 255)

RULES: dict[str, Any] = {
    "library": "pillow",
    "version": 2,  # 1 resized the whole picture: up to one grey level apart
    "formats": list(FORMATS),
    "frame": "first",
    "orientation": "exif 1-8 applied, others ignored",
    "alpha": {"composited_on": list(BACKGROUND)},
    "deep": "integers by their declared bits; float 0..1 times 255, 0..255 as is, else min..max",
    "cmyk": "pillow without profile",
    "lab": "littlecms to sRGB",
    "icc": "ignored",
    "truncated": "refused",
    "max_pixels": MAX_PIXELS,
    "max_aspect": MAX_ASPECT,
}

FAST = 2  # times the size before the crop that a fast decode keeps at least

# What Pillow's plugins raise on broken bytes; a parser bug on hostile input is the item's fault.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    AssertionError,
    EOFError,
    BufferError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    ImageCms.PyCMSError,
)
BITS_PER_SAMPLE, SAMPLE_FORMAT, SIGNED = 258, 339, 2  # two TIFF tags and a value of the second
ORIENTATION = 274  # an EXIF tag


def decode_image(data: bytes, enough: int | None = None) -> Image.Image:
    """The picture in ``data``, upright, mode ``RGB``, full resolution.

    ``enough``: a JPEG may come at 1/2, 1/4 or 1/8 of its size as long as its shorter side has so
    many pixels; the decoder then skips most of its work.

    Raises ItemError with one of the codes ``empty``, ``not-an-image``, ``bomb``, ``aspect``,
    ``truncated``, ``corrupt``, ``not-finite``, ``out-of-memory``, ``needs-extra``.
    """
    if not data:
        raise ItemError("image", "the file is empty", "replace it or drop the row", code="empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of sizes that MAX_PIXELS already judges
            return _decode(data, enough)
    except ItemError:
        raise
    except MemoryError as error:
        raise ItemError("image", "decoding needs too much memory", code="out-of-memory") from error
    except BROKEN as error:
        raise _refusal(error) from error


def plain_jpeg(data: bytes) -> bool:
    """Whether ``data`` is a whole JPEG of grey or YCbCr, upright and within bounds, as its header
    and its end say: one that another decoder may be trusted with.

    Raises ItemError for what is refused by its header alone.
    """
    if data[:3] != b"\xff\xd8\xff" or b"\xff\xd9" not in data[-64:]:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image: Image.Image = Image.open(io.BytesIO(data), formats=("JPEG",))
            _judge(image)
            upright = image.getexif().get(ORIENTATION, 1) not in range(2, 9)
            return upright and image.format == "JPEG" and image.mode in ("RGB", "L")
    except BROKEN:
        return False


def _refusal(error: BaseException) -> ItemError:
    """The ItemError for what Pillow raised."""
    text = one_line(error, 160)
    if isinstance(error, Image.UnidentifiedImageError):
        shown = ", ".join(FORMATS)
        return ItemError("image", "not a picture in a format read here", shown, "not-an-image")
    if isinstance(error, Image.DecompressionBombError) or "too large" in text.lower():
        return ItemError("image", text, "decompression bombs are refused", "bomb")
    if "truncated" in text.lower():
        return ItemError("image", text, "cut files are refused, not filled with grey", "truncated")
    return ItemError("image", text or type(error).__name__, "the file is damaged", "corrupt")


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _decode(data: bytes, enough: int | None) -> Image.Image:
    image: Image.Image
    image = open_heic(data) if is_heic(data) else Image.open(io.BytesIO(data), formats=_formats())
    _judge(image)
    if enough is not None and image.format in ("JPEG", "MPO"):
        image.draft("RGB", (enough, enough))
    bits = _declared_bits(image)
    image.load()
    return _to_rgb(_upright(image), bits)


def _judge(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        what = f"{width} x {height} pixels, more than {MAX_PIXELS:,}"
        raise ItemError("image", what, "decompression bombs are refused", code="bomb")
    if max(width, height) > MAX_ASPECT * max(min(width, height), 1):
        what = f"{width} x {height} is longer than {MAX_ASPECT} times its width"
        raise ItemError("image", what, "crop it first", code="aspect")


def _declared_bits(image: Image.Image) -> int | None:
    """Bits of one integer sample as the file declares them; None when only the pixels can tell."""
    if image.format != "TIFF":
        return 16
    tags = getattr(image, "tag_v2", {})
    bits = int(np.ravel(tags.get(BITS_PER_SAMPLE, 16))[0])
    signed = SIGNED in np.ravel(tags.get(SAMPLE_FORMAT, 1))
    return bits if bits <= 16 and not signed else None


def _upright(image: Image.Image) -> Image.Image:
    """``image`` turned in place as its EXIF orientation says; damaged EXIF counts as none."""
    with suppress(*BROKEN):
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _to_rgb(image: Image.Image, bits: int | None) -> Image.Image:
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode.startswith("I;16") or mode in ("I", "F"):
        return Image.fromarray(_eight_bits(np.asarray(image), bits)).convert("RGB")
    if mode == "LAB":
        converted = ImageCms.applyTransform(image, _lab_to_srgb())
        return converted if converted is not None else image.convert("RGB")
    if "transparency" in image.info or mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        return _on_background(image)
    return image.convert("RGB")


def _on_background(image: Image.Image) -> Image.Image:
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    canvas = Image.new("RGBA", rgba.size, (*BACKGROUND, 255))
    return Image.alpha_composite(canvas, rgba).convert("RGB")


def _eight_bits(deep: np.ndarray, bits: int | None) -> np.ndarray:
    """(h, w) integers or floats -> (h, w) uint8, scaled and never clipped."""
    values = deep.astype(np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        if not finite.any():
            raise ItemError("image", "no pixel is a finite number", code="not-finite")
        values = np.where(finite, values, values[finite].min())
    low, high = float(values.min()), float(values.max())
    if deep.dtype.kind in "iu" and bits is not None and low >= 0 and high < 2**bits:
        top = 2.0**bits - 1
    elif deep.dtype.kind == "f" and low >= 0 and high <= 255:
        top = 1.0 if high <= 1 else 255.0
    else:  # no range is declared: the picture's own
        values = values - low
        top = max(high - low, TINY)
    return np.rint(values * (255.0 / top)).astype(np.uint8)


@functools.cache
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )
