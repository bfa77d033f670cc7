"""What telephones write, read by the packages of the extra ``phone``: HEIC pictures by libheif,
AAC sounds (.m4a, .aac) by FFmpeg.

A recipe does not speak of them: they are read where the decoders of the recipe know nothing, so no
vector that was made without them would be another one with them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from headstock.store.errors import ItemError, one_line

__all__ = ["AacSound", "is_aac", "is_heic", "open_heic"]

HOW = "pip install 'headstock[phone]'"
LACKING = "needs-extra"
BROKEN = (ValueError, OSError, EOFError, LookupError, RuntimeError, ArithmeticError)
"""What FFmpeg's binding raises on broken bytes besides errors of its own."""
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
CONTAINER, STREAM = "mov", "aac"
"""FFmpeg's names of the two readers that are allowed: one for MP4 files, one for bare AAC."""


def is_heic(data: bytes) -> bool:
    """Whether the file says of itself that it is a HEIC picture."""
    return data[4:8] == b"ftyp" and any(brand in data[8:64] for brand in HEIC)


def is_aac(data: bytes) -> bool:
    """Whether the file says of itself that it is an MP4 container or a bare AAC stream."""
    bare = len(data) > 1 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0
    return bare or (data[4:8] == b"ftyp" and not is_heic(data))


def open_heic(data: bytes) -> Image.Image:
    """The picture, upright, its pixels not read yet.

    Raises ItemError (``needs-extra``, ``corrupt``), and what Pillow raises.
    """
    _heif()
    try:
        return Image.open(io.BytesIO(data), formats=("HEIF",))
    except Image.UnidentifiedImageError as error:
        raise ItemError("image", "a HEIC file that is damaged", "replace it", "corrupt") from error


@cache
def _heif() -> None:
    """Teach Pillow the format, without the pictures beside the picture."""
    options = {"thumbnails": False, "depth_images": False, "aux_images": False, "decode_threads": 1}
    try:
        import pi_heif

        pi_heif.register_heif_opener(**options)
    except ImportError:
        try:
            import pillow_heif
        except ImportError as error:
            raise ItemError("image", "a HEIC picture", HOW, LACKING) from error
        pillow_heif.register_heif_opener(**options)


def _ffmpeg() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise ItemError("audio", "an AAC sound (.m4a, .aac)", HOW, LACKING) from error
    return av


class AacSound:
    """A sound that is read block by block, in the manner of ``soundfile.SoundFile``: ``channels``,
    ``samplerate``, ``frames`` (what the header claims) and ``read``.

    Raises ItemError (``needs-extra``, ``corrupt``, ``not-audio``).
    """

    def __init__(self, data: bytes) -> None:
        self._av = _ffmpeg()
        form = CONTAINER if data[4:8] == b"ftyp" else STREAM
        try:
            self._file = self._av.open(io.BytesIO(data), format=form, metadata_errors="replace")
            streams = self._file.streams.audio
            if not streams:
                self._file.close()
                raise ItemError("audio", "no sound in this file", "a sound file", "not-audio")
            self._stream = streams[0]
            codec = self._stream.codec_context
            if codec is None:
                self._file.close()
                raise ItemError(
                    "audio", "a kind of sound that nobody here decodes", "", "not-audio"
                )
            self.channels, self.samplerate = int(codec.channels), int(codec.sample_rate)
        except (self._av.FFmpegError, *BROKEN) as error:
            raise self._damaged(error) from error
        self.frames = 0
        self._blocks = self._decoded()
        self._left = np.empty((0, self.channels), dtype=np.float32)

    def _damaged(self, error: Exception) -> ItemError:
        what = one_line(getattr(error, "strerror", None) or error, 160)
        return ItemError("audio", f"AAC: {what}", "the file is damaged", "corrupt")

    def _decoded(self) -> Iterator[np.ndarray]:
        """(t, channels) float32 a frame."""
        plain: Any = self._av.AudioResampler(format="fltp")
        try:
            for frame in self._file.decode(self._stream):
                for part in plain.resample(frame):
                    block = part.to_ndarray().T
                    if block.shape[1] != self.channels:
                        what = f"{block.shape[1]} channels after {self.channels}"
                        raise ItemError("audio", what, "the file is damaged", "corrupt")
                    yield np.ascontiguousarray(block, dtype=np.float32)
        except (self._av.FFmpegError, *BROKEN) as error:
            raise self._damaged(error) from error

    def read(self, out: np.ndarray) -> np.ndarray:
        """Fills ``out`` (t, channels) as far as there are samples; the part that was filled."""
        filled = 0
        while filled < len(out):
            if not len(self._left):
                block = next(self._blocks, None)
                if block is None:
                    break
                self._left = block
            take = min(len(out) - filled, len(self._left))
            out[filled : filled + take] = self._left[:take]
            self._left = self._left[take:]
            filled += take
        return out[:filled]

    def __enter__(self) -> AacSound:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
