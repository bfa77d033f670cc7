"""Mel-frequency cepstral coefficients, librosa's definition, summarised to one fixed vector.

Frames are transformed in batches: one real FFT a block, then a few small matrix products, for the
filters of neighbouring mels share a short range of frequencies. NumPy and SciPy only. The FFT is in
double precision, as librosa's, where ``top_db`` does not hide the noise of single precision.
Letters: t frames, f frequencies, m mels, c coefficients, w windows in time.

Definition: librosa 0.10 and 0.11, ``librosa.feature.mfcc`` with ``center=True`` and
``pad_mode="constant"``; Slaney's and HTK's mel scales as in ``librosa.filters.mel``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy.fft

from headstock.extract.decode.audio import MAX_SECONDS, RULES, mono_blocks
from headstock.extract.encoder import Encoder, Loader
from headstock.extract.encoders.options import number, switch, text, whole
from headstock.extract.encoders.spectra import MelSettings, analysis_window, mel_energies
from headstock.store.errors import ItemError, OptionError
from headstock.store.recipe import Recipe

__all__ = ["MfccEncoder", "MfccLoader", "mfcc", "windows"]

HIDING = 80.0  # dB below the loudest mel: single precision's noise is some 40 dB lower still
AMIN = 1e-10
DECIBELS = 10 / np.log(10)
STATS = ("mean", "std", "min", "max")
WHOLE = ("rate", "n_mfcc", "n_fft", "hop_length", "win_length", "n_mels", "dct_type", "windows")
NUMBERS = ("fmin", "fmax", "power", "top_db", "lifter", "duration")
WORDS = ("window", "norm", "mel_norm")
OPTIONAL = {"win_length", "fmax", "top_db", "duration", "norm", "mel_norm"}


@dataclass(frozen=True)
class MfccLoader(MelSettings, Loader):
    """bytes -> (d,) float32: the whole way from file to vector, in the worker.

    The classic parameters carry librosa's names and defaults. ``windows``: the frames are cut into
    so many equal parts in time and each part is summarised by ``stats``; see ``windows()``.
    ``duration``: seconds read from the start, None for all.
    """

    rate: int = 22050
    n_mfcc: int = 13
    top_db: float | None = 80.0
    dct_type: int = 2
    norm: str | None = "ortho"
    lifter: float = 0.0
    windows: int = 8
    stats: tuple[str, ...] = ("mean",)
    duration: float | None = None

    def __post_init__(self) -> None:
        for names, kind in ((WHOLE, whole), (NUMBERS, number), (WORDS, text), (("htk",), switch)):
            for name in names:
                value = getattr(self, name)
                if name in OPTIONAL and value in (None, "none"):
                    value = None
                else:
                    value = kind(f"mfcc {name}", value)
                object.__setattr__(self, name, value)
        stats: Any = self.stats
        if not isinstance(stats, list | tuple):
            stats = re.split("[+,]", text("mfcc stats", stats))
        object.__setattr__(self, "stats", tuple(text("mfcc stats", one) for one in stats))
        for ok, name, fix in (
            (1_000 <= self.rate <= 768_000, "rate", "1000 to 768000 Hz"),
            (2 <= self.n_fft <= 1 << 20, "n_fft", "2 to 1048576"),
            (self.hop_length >= 1, "hop_length", "at least 1"),
            (1 <= (self.win_length or 1) <= self.n_fft, "win_length", "1 to n_fft"),
            (1 <= self.n_mels <= 4096, "n_mels", "1 to 4096"),
            (1 <= self.n_mfcc <= self.n_mels, "n_mfcc", "1 to n_mels"),
            (0 <= self.fmin < (self.fmax or self.rate / 2), "fmin", "0 or more, below fmax"),
            (self.mel_norm in ("slaney", None), "mel_norm", "slaney or none"),
            (self.power > 0, "power", "above 0"),
            (self.top_db is None or self.top_db >= 0, "top_db", "0 or more, or none"),
            (self.dct_type in (1, 2, 3), "dct_type", "1, 2 or 3"),
            (self.norm in ("ortho", None), "norm", "ortho or none"),
            (self.dct_type > 1 or self.n_mels > 1, "n_mels", "2 or more with dct_type 1"),
            (self.lifter >= 0, "lifter", "0 or more"),
            (1 <= self.windows <= 1024, "windows", "1 to 1024"),
            (bool(self.stats) and set(self.stats) <= set(STATS), "stats", ", ".join(STATS)),
            (len(set(self.stats)) == len(self.stats), "stats", "each one once"),
            (self.n_mels * self.n_fft <= 1 << 27, "n_fft", "n_mels times n_fft at most 2^27"),
            (self.windows * len(self.stats) * self.n_mfcc <= 1 << 20, "windows", "2^20 values"),
            (self.duration is None or 0 < self.duration <= MAX_SECONDS, "duration", "seconds"),
        ):
            if not ok:
                raise OptionError(f"mfcc {name}", f"{getattr(self, name)!r} has no meaning", fix)
        analysis_window(self.window, 2, 2)

    @property
    def double(self) -> bool:
        """Whether quiet mels beside loud ones count, and so the FFT's own noise would."""
        return self.power != 2 or self.top_db is None or self.top_db > HIDING

    @property
    def names(self) -> list[str]:
        """What each of the d values is: window, statistic, coefficient; all counted from 1."""
        return [
            f"w{w + 1}_{stat}_mfcc{c + 1}"
            for w in range(self.windows)
            for stat in self.stats
            for c in range(self.n_mfcc)
        ]

    @property
    def decoding(self) -> tuple[str, int, float | None]:
        """Loaders that agree in this decode alike: one reading of the sound then serves them all,
        held whole (an hour in 320 MB at 22,050 Hz)."""
        return "sound", self.rate, self.duration

    def decode(self, data: bytes) -> Iterator[np.ndarray]:
        """The sound in ``data`` as blocks (t,) float32."""
        return mono_blocks(data, self.rate, self.duration)

    def transform(self, blocks: Iterable[np.ndarray]) -> np.ndarray:
        """(d,) float32 of a sound in blocks. Raises what reading them raises."""
        coefficients = mfcc(blocks, self)
        vector = windows(coefficients, self.windows, self.stats)
        if not np.isfinite(vector).all():
            raise ItemError("audio", "the coefficients overflow", "scale it", code="not-finite")
        return vector


def mfcc(blocks: Iterable[np.ndarray], p: MfccLoader) -> np.ndarray:
    """(t, c) float32 coefficients of a sound that comes in blocks of mono samples at ``p.rate``.

    t = 1 + samples // hop_length. Holds (t, m) mel energies at most, 80 MB for an hour at defaults.
    """
    energies = list(mel_energies(blocks, p.rate, p, np.float64 if p.double else np.float32))
    transform = _dct(p.n_mels, p.n_mfcc, p.dct_type, p.norm, p.lifter)
    loudest = max(float(mel.max()) for mel in energies)
    floor = -np.inf if p.top_db is None else 10 * np.log10(max(loudest, AMIN)) - p.top_db
    out = np.empty((sum(map(len, energies)), p.n_mfcc), dtype=np.float32)
    start = 0
    for mel in energies:  # one after the other: together they would be there twice
        rows = np.maximum(mel, np.float32(AMIN), out=mel)
        decibels = np.log(rows, out=rows).astype(np.float64) * DECIBELS
        out[start : start + len(mel)] = np.maximum(decibels, floor, out=decibels) @ transform
        start += len(mel)
    return out


def windows(frames: np.ndarray, count: int, stats: Sequence[str] = ("mean",)) -> np.ndarray:
    """(t, c) frames -> (count * len(stats) * c,) float32: each statistic in each of ``count``
    equal windows in time, window by window.

    Window i (from 0) covers frames ``floor(i t / count)`` to ``floor((i + 1) t / count)`` without
    the last, and at least the first of them: with fewer frames than windows, frames repeat.
    """
    t = len(frames)
    parts = []
    for i in range(count):
        first, last = i * t // count, (i + 1) * t // count
        part = frames[first : max(last, first + 1)].astype(np.float64)
        parts += [getattr(part, stat)(axis=0) for stat in stats]
    return np.concatenate(parts).astype(np.float32)


@functools.cache
def _dct(m: int, c: int, kind: int, norm: str | None, lifter: float) -> np.ndarray:
    """(m, c): the discrete cosine transform and the lifter as one matrix."""
    matrix = scipy.fft.dct(np.eye(m), axis=0, type=kind, norm=norm)[:c]
    if lifter > 0:
        matrix *= 1 + lifter / 2 * np.sin(np.pi * np.arange(1, c + 1) / lifter)[:, None]
    return np.ascontiguousarray(matrix.T)


class MfccEncoder(Encoder):
    """The Encoder of sounds: the loader does all the work, in workers; ``encode`` stacks rows."""

    modality = "audio"
    loader: MfccLoader

    def __init__(self, **parameters: Any) -> None:
        known = MfccLoader.__dataclass_fields__
        unknown = sorted(parameters.keys() - known.keys())
        if unknown:
            raise OptionError("mfcc", f"no option {', '.join(unknown)}", f"one of {list(known)}")
        self.loader = MfccLoader(**parameters)
        self.name = "mfcc"
        self.feature_names = self.loader.names
        self.dim = len(self.feature_names)

    def recipe(self) -> Recipe:
        """Every parameter, and the decoder's rules."""
        version = 2 if self.loader.double else 1  # 1 had its FFT in single precision always
        fields = {"encoder": "mfcc", "version": version, **asdict(self.loader), "decoder": RULES}
        return Recipe("audio", fields)

    def encode(self, items: Sequence[np.ndarray]) -> np.ndarray:
        """(b, d) float32 from b vectors (d,)."""
        return np.stack(items).astype(np.float32, copy=False)
