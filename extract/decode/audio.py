"""The bytes of a sound file -> blocks of mono float32 samples at one rate, in bounded memory.

Whatever libsndfile reads is read. A header is never believed: blocks are read until the samples
end, so a header that claims years costs nothing and an hour in 181 kB of FLAC fits in a few
megabytes. Runs in worker processes and imports no torch.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import soundfile
import soxr

from headstock.extract.decode.phone import AacSound, is_aac
from headstock.store.errors import ItemError, one_line

__all__ = ["RULES", "mono_blocks"]

MAX_SECONDS = 7200
MAX_CHANNELS = 256
RATES = (1_000, 768_000)
BROKEN = (soundfile.LibsndfileError, RuntimeError, ValueError, TypeError, OSError)
BLOCK = 1 << 18  # values a read: 1 MB of float32, over all channels
LEAST = 1 << 12  # samples a read

RULES: dict[str, Any] = {
    "library": "libsndfile",
    "version": 1,
    "mono": "mean of channels",
    "resampler": "soxr_hq",
    "not_finite": "refused",
    "no_samples": "refused",
    "max_seconds": MAX_SECONDS,
    "max_channels": MAX_CHANNELS,
    "rates": list(RATES),
}


def mono_blocks(data: bytes, rate: int, duration: float | None = None) -> Iterator[np.ndarray]:
    """Blocks (t,) float32 of the sound in ``data``, mono, at ``rate`` Hz.

    ``duration``: only the first so many seconds. Without it a sound longer than MAX_SECONDS is
    refused. Raises ItemError with one of the codes ``empty``, ``not-audio``, ``corrupt``,
    ``channels``, ``rate``, ``too-long``, ``not-finite``, ``no-samples``, ``needs-extra``.
    """
    if not data:
        raise ItemError("audio", "the file is empty", "replace it or drop the row", code="empty")
    with _open(data) as sound:
        _judge(sound)
        blocks = _samples(sound, duration)
        yield from blocks if sound.samplerate == rate else _resampled(blocks, sound, rate)


class _Bytes(io.BytesIO):
    """libsndfile asks damaged files for places before their start; that is no reason to shout."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


def _open(data: bytes) -> soundfile.SoundFile | AacSound:
    try:
        return soundfile.SoundFile(_Bytes(data))
    except BROKEN as error:
        text = _reason(error)
        unknown = "not recognised" in text.lower()
        if unknown and data[:3] == b"ID3" and len(data) > 10:
            return _open(_untagged(data))  # libsndfile finds these by the file's name alone
        if unknown and is_aac(data):
            return AacSound(data)
        code = "not-audio" if unknown else "corrupt"
        raise ItemError("audio", text, "a format that libsndfile reads", code=code) from error


def _untagged(data: bytes) -> bytes:
    """``data`` after its ID3v2 tag and the zeros behind it; the length has 7 bits a byte."""
    length = sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0)))
    return data[10 + length :].lstrip(b"\0")


def _reason(error: Exception) -> str:
    """libsndfile's words, without the address of the buffer that they begin with."""
    text = getattr(error, "error_string", "") or str(error)
    return one_line(text, 160).rstrip(".")


def _judge(sound: soundfile.SoundFile | AacSound) -> None:
    if not 1 <= sound.channels <= MAX_CHANNELS:
        what = f"{sound.channels} channels"
        raise ItemError("audio", what, f"1 to {MAX_CHANNELS} are read", code="channels")
    if not RATES[0] <= sound.samplerate <= RATES[1]:
        what = f"a sampling rate of {sound.samplerate} Hz"
        raise ItemError("audio", what, f"{RATES[0]} to {RATES[1]} Hz are read", code="rate")


def _samples(sound: soundfile.SoundFile | AacSound, duration: float | None) -> Iterator[np.ndarray]:
    """Mono blocks at the file's own rate."""
    hint = max(sound.frames, LEAST)  # of what the header claims: a short clip needs a short buffer
    size = max(min(BLOCK // sound.channels, hint), 1)
    buffer = np.empty((size, sound.channels), dtype=np.float32)
    left = None if duration is None else round(duration * sound.samplerate)
    seen = 0
    while left is None or left > 0:
        want = len(buffer) if left is None else min(len(buffer), left)
        try:  # `out` and not `frames`: the length that the header claims is not asked
            block = sound.read(out=buffer[:want])
        except BROKEN as error:
            what = f"{_reason(error)} after {seen} samples"
            raise ItemError("audio", what, "the file is damaged", code="corrupt") from error
        if not len(block):
            break
        seen += len(block)
        left = None if left is None else left - len(block)
        if left is None and seen > MAX_SECONDS * sound.samplerate:
            fix = "state a duration, or cut it"
            raise ItemError("audio", f"longer than {MAX_SECONDS} s", fix, code="too-long")
        mono = block.mean(axis=1, dtype=np.float32) if sound.channels > 1 else block[:, 0].copy()
        if not np.isfinite(mono).all():
            raise ItemError("audio", "NaN or infinite samples", "repair it", code="not-finite")
        yield mono
    if not seen:
        raise ItemError("audio", "no samples in the file", "drop the row", code="no-samples")


def _resampled(
    blocks: Iterator[np.ndarray], sound: soundfile.SoundFile | AacSound, rate: int
) -> Iterator[np.ndarray]:
    stream = soxr.ResampleStream(sound.samplerate, rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty(0, dtype=np.float32), last=True)
