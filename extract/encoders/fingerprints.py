"""What a picture or a sound looks or sounds like, whatever file it is in: to find copies by.

A copy is saved again at another quality or size, in grey, brighter, mirrored, cropped a little, as
mp3, louder, cut or moved by a moment. Its bytes differ, and so do the vectors of a network; what
stands here hardly does. It is stored as a feature set beside the others, is no feature of a head,
and is compared in ``heads/rows/copies``.

Pictures: 32 x 32 grey values. Sounds: the first 2 s at 8 kHz from where they begin to sound, as
decibels in 16 mel bands every 10 ms, 0 where they are 40 dB below the loudest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from headstock.extract.decode.audio import mono_blocks
from headstock.extract.decode.images import RULES as PICTURE_RULES
from headstock.extract.decode.images import decode_image
from headstock.extract.encoder import Encoder, Loader
from headstock.extract.encoders.spectra import MelSettings, mel_energies
from headstock.store.fingerprints import BANDS, FRAMES, SIDE, fingerprint_recipe
from headstock.store.recipe import Recipe

__all__ = ["PictureFingerprint", "SoundFingerprint", "fingerprint_of"]

RATE, WINDOW, HOP = 8000, 256, 80
MELS = MelSettings(
    n_fft=WINDOW, hop_length=HOP, n_mels=BANDS, fmin=100.0, fmax=3600.0, htk=True, mel_norm=None
)
RANGE = 40.0
"""Decibels below the loudest band at which a sound counts as silent."""


@dataclass(frozen=True)
class ThumbnailLoader(Loader):
    """bytes -> (SIDE * SIDE,) float32 grey values, 0 to 255. ``enough``: as ``decode_image``."""

    enough: int | None = None

    @property
    def decoding(self) -> tuple[str, int | None]:
        """As that of ``ImageLoader``: one decoded picture serves both."""
        return "image", self.enough

    def decode(self, data: bytes) -> Image.Image:
        return decode_image(data, self.enough)

    def transform(self, image: Image.Image) -> np.ndarray:
        small = image.convert("L")
        way = Image.Resampling.BOX if min(image.size) >= SIDE else Image.Resampling.BICUBIC
        return np.asarray(small.resize((SIDE, SIDE), way), dtype=np.float32).ravel()


@dataclass(frozen=True)
class SpectrumLoader(Loader):
    """bytes -> (FRAMES * BANDS,) float32 decibels above silence, frame after frame."""

    def decode(self, data: bytes) -> np.ndarray:
        """Raises ItemError when ``data`` is not a sound that can be trusted."""
        return spectrum(np.concatenate([*_first(mono_blocks(data, RATE)), np.zeros(0, np.float32)]))


def _first(blocks: Iterable[np.ndarray], seconds: float = 6.0) -> Iterator[np.ndarray]:
    """The blocks of the first seconds: silence before the sound is cut, so more than is kept."""
    left = int(seconds * RATE)
    for block in blocks:
        yield block[:left]
        left -= len(block)
        if left <= 0:
            return


def spectrum(x: np.ndarray) -> np.ndarray:
    """(FRAMES * BANDS,) of mono samples (t,) at ``RATE``; zeros behind where the sound ends."""
    out = np.zeros((FRAMES, BANDS), dtype=np.float32)
    if len(x) < WINDOW:
        x = np.pad(x, (0, WINDOW - len(x)))
    bands = np.concatenate([*mel_energies([x], RATE, MELS, center=False)])
    loudest = float(bands.max())
    if loudest <= 0:
        return out.ravel()
    level = 10 * np.log10(np.maximum(bands / loudest, 1e-12)) + RANGE
    level = np.maximum(level, 0).astype(np.float32)
    sounding = np.flatnonzero(level.max(axis=1) > 0)
    kept = level[sounding[0] : sounding[-1] + 1][:FRAMES]
    out[: len(kept)] = kept
    return out.ravel()


class PictureFingerprint(Encoder):
    """Grey values of pictures; made by workers, here only stacked."""

    modality = "image"
    name = "fingerprint"
    dtype = "float16"
    dim = SIDE * SIDE

    def __init__(self, enough: int | None = None) -> None:
        self.loader = ThumbnailLoader(enough)

    def recipe(self) -> Recipe:
        return fingerprint_recipe("image", PICTURE_RULES)

    def encode(self, items: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack(items)


class SoundFingerprint(Encoder):
    """Loudness of sounds over bands and time; made by workers, here only stacked."""

    modality = "audio"
    name = "fingerprint"
    dtype = "float16"
    dim = FRAMES * BANDS
    loader = SpectrumLoader()

    def recipe(self) -> Recipe:
        return fingerprint_recipe("audio", {})

    def encode(self, items: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack(items)


def fingerprint_of(encoder: Encoder) -> Callable[[], Encoder] | None:
    """Builds what finds copies among the files that ``encoder`` reads, decoded as it decodes."""
    if encoder.modality == "audio":
        return SoundFingerprint
    if encoder.modality != "image":
        return None
    decoding = encoder.loader.decoding
    # where a device decodes, the host's share stays small
    return partial(PictureFingerprint, decoding[1] if isinstance(decoding, tuple) else 4 * SIDE)
