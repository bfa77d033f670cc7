"""Small pictures and short sounds for the page, each counted against one budget of bytes."""

from __future__ import annotations

import base64
import io
import struct
import warnings
import zlib
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from headstock.heads.report.page.source import Source
from headstock.store.errors import ItemError

__all__ = ["Shelf", "clip", "thumbnail"]

SIDE = 128
SECONDS = 4.0
RATE = 16_000
BARS = 40
MAX_PIXELS = 100_000_000
MAX_RATE = 1_000_000
MAX_CHANNELS = 64
FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")

# What Pillow's and libsndfile's readers raise on broken bytes: it costs that picture or sound only.
BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError,
    RuntimeError, AssertionError, EOFError, BufferError, MemoryError, struct.error, zlib.error,
)  # fmt: skip


def thumbnail(file: BinaryIO, side: int = SIDE) -> tuple[str, bytes]:
    """The MIME type and bytes of the picture in ``file``, at most ``side`` pixels wide and high,
    upright, on white, without metadata. Raises ItemError."""
    from PIL import Image, ImageOps, features

    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=[f for f in FORMATS if f in Image.OPEN]) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ItemError("image", "too many pixels", code="bomb")
                image.draft("RGB", (2 * side, 2 * side))  # JPEG: decode no more than is needed
                small = ImageOps.exif_transpose(_shrunk(image, side))
            pixels = np.asarray(_on_white(small))
        kind = "WEBP" if features.check("webp") else "JPEG"
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, kind, quality=72)  # from pixels alone: no metadata
    except Image.DecompressionBombError as error:
        raise ItemError("image", "too many pixels", code="bomb") from error
    except BROKEN as error:
        raise ItemError("image", error, code="corrupt") from error
    return f"image/{kind.lower()}", out.getvalue()


def _shrunk(image: Any, side: int) -> Any:
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        deep = np.nan_to_num(np.asarray(image, dtype=np.float64))
        low, span = deep.min(), np.ptp(deep) or 1.0
        exif = image.getexif()
        image = Image.fromarray(np.uint8((deep - low) / span * 255))
        image.getexif().update(exif)
    elif image.mode == "P":
        image = image.convert("RGBA")
    image.thumbnail((side, side))
    return image


def _on_white(image: Any) -> Any:
    from PIL import Image

    if image.mode not in ("RGBA", "LA", "PA"):
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


@dataclass(frozen=True)
class Clip:
    """A sound's beginning: MIME type, bytes, seconds, whether more follows in the file, and its
    envelope as BARS digits 0 to 9."""

    mime: str
    data: bytes
    seconds: float
    cut: bool
    bars: str


def clip(file: BinaryIO, seconds: float = SECONDS) -> Clip:
    """The first ``seconds`` of the sound in ``file`` as one channel at 16 kHz, MP3 where this
    libsndfile writes it and else WAV. Raises ItemError."""
    import soundfile
    import soxr

    try:
        with soundfile.SoundFile(file) as opened:
            rate = opened.samplerate
            if not 0 < rate <= MAX_RATE or not 0 < opened.channels <= MAX_CHANNELS:
                raise ItemError("audio", "no sensible sample rate", code="corrupt")
            # Read in blocks: a header may claim more samples than there are.
            wanted, parts, have = int(rate * seconds), [], 0
            while have <= wanted:
                part = opened.read(min(65_536, wanted + 1 - have), dtype="float32", always_2d=True)
                if not len(part):
                    break
                parts.append(part.mean(axis=1))
                have += len(part)
        if not have:
            raise ItemError("audio", "no samples", code="empty")
        sound = np.clip(np.nan_to_num(np.concatenate(parts)[:wanted]), -1, 1)
        length = len(sound) / rate
        sound = soxr.resample(sound, rate, RATE) if rate != RATE else sound
        kind = "MP3" if "MP3" in soundfile.available_formats() else "WAV"
        out = io.BytesIO()
        soundfile.write(out, sound, RATE, format=kind)
    except BROKEN as error:
        raise ItemError("audio", error, code="corrupt") from error
    return Clip(
        "audio/mpeg" if kind == "MP3" else "audio/wav",
        out.getvalue(), round(length, 2), have > wanted, _bars(sound),
    )  # fmt: skip


def _bars(sound: np.ndarray) -> str:
    peaks = np.array([np.abs(p).max(initial=0) for p in np.array_split(sound, BARS)])
    top = peaks.max() or 1.0
    return "".join(f"{9 * p / top:.0f}" for p in peaks)


@dataclass
class Shelf:
    """What the page keeps of items, each picture and sound once however often it is shown.

    ``limit`` is in bytes of the finished page. ``items``: [id, label] by number; ``pictures`` and
    ``sounds``: by that number, ready for the script.
    """

    limit: int
    used: int = 0
    items: list[list[str]] = field(default_factory=list)
    pictures: dict[int, str] = field(default_factory=dict)
    sounds: dict[int, list[Any]] = field(default_factory=dict)
    broken: dict[tuple[str, int], str] = field(default_factory=dict)
    left_out: set[tuple[str, int]] = field(default_factory=set)
    _number: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def item(self, owner: str, id: str, label: str) -> int:
        """The number under which the page knows this row of ``owner``, a store or a run."""
        key = (owner, id, label)
        if key not in self._number:
            self._number[key] = len(self.items)
            self.items.append([id, label])
        return self._number[key]

    def picture(self, source: Source, number: int) -> str | None:
        """None when the picture is on the page, else why not; ``""`` when the row has none."""
        return self._take("image", source, number)

    def sound(self, source: Source, number: int) -> str | None:
        """None when the sound is on the page, else why not; ``""`` when the row has none."""
        return self._take("audio", source, number)

    def _take(self, modality: str, source: Source, number: int) -> str | None:
        shelf: dict[int, Any] = self.pictures if modality == "image" else self.sounds
        key = modality, number
        if number in shelf:
            return None
        if key in self.broken:
            return self.broken[key]
        try:
            file = source.open(modality, self.items[number][0])
            if file is None:
                return ""
            with file:
                if self.used >= self.limit:
                    self.left_out.add(key)
                    return "left out: the report's limit is reached"
                self._put(modality, number, file)
        except ItemError as error:
            self.broken[key] = f"cannot be shown: {error.what}"
            return self.broken[key]
        return None

    def _put(self, modality: str, number: int, file: BinaryIO) -> None:
        if modality == "image":
            mime, data = thumbnail(file)
            self.pictures[number] = f"data:{mime};base64,{base64.b64encode(data).decode()}"
            self.used += len(self.pictures[number])
        else:
            made = clip(file)
            uri = f"data:{made.mime};base64,{base64.b64encode(made.data).decode()}"
            self.sounds[number] = [uri, made.seconds, made.bars, made.cut]
            self.used += len(uri)
