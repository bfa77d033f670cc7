"""What spectra of sounds are made of: frames, analysis windows, and filters on the mel scale.

Slaney's and HTK's mel scales as in ``librosa.filters.mel`` 0.10 and 0.11. Letters: t frames, f
frequencies, m mels.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft

from headstock.store.errors import OptionError

__all__ = ["FRAMES", "MelSettings", "analysis_window", "frames", "mel_energies", "mel_filters"]

FRAMES = 64  # frames a block: 512 kB of float32 at n_fft 2048 stay in the cache
BAND = 16  # mels a product: their filters share a short range of frequencies


@dataclass(frozen=True)
class MelSettings:
    """librosa's parameters of a mel spectrogram, by its names."""

    n_fft: int = 2048
    hop_length: int = 512
    win_length: int | None = None
    window: str = "hann"
    n_mels: int = 128
    fmin: float = 0.0
    fmax: float | None = None
    htk: bool = False
    mel_norm: str | None = "slaney"
    power: float = 2.0


def mel_energies(
    blocks: Iterable[np.ndarray],
    rate: int,
    p: MelSettings,
    kind: Any = np.float32,
    center: bool = True,
) -> Iterator[np.ndarray]:
    """(t, m) float32 mel energies, t <= FRAMES, of mono samples at ``rate`` Hz; the Fourier
    transform is computed in ``kind``."""
    window = analysis_window(p.window, p.win_length or p.n_fft, p.n_fft).astype(kind)
    squares = p.power == 2.0
    parted = bands(rate, p.n_fft, p.n_mels, p.fmin, p.fmax, p.htk, p.mel_norm, squares)
    windowed = np.empty((FRAMES, p.n_fft), dtype=kind)
    for some in frames(blocks, p.n_fft, p.hop_length, center):
        t = len(some)
        spectrum = scipy.fft.rfft(np.multiply(some, window, out=windowed[:t]), axis=1)
        spectrum = spectrum.astype(np.complex64, copy=False)
        parts = spectrum.view(np.float32)  # real, imaginary, real ...
        power = np.square(parts, out=parts)
        if not squares:
            power = (power[:, 0::2] + power[:, 1::2]) ** (p.power / 2)
        mel = np.empty((t, p.n_mels), dtype=np.float32)
        for first, last, begin, end, filters in parted:
            np.matmul(power[:, begin:end], filters, out=mel[:, first:last])
        yield mel


def frames(
    blocks: Iterable[np.ndarray], n_fft: int, hop: int, center: bool = True
) -> Iterator[np.ndarray]:
    """(t, n_fft) float32 views, t <= FRAMES, of the samples; with ``center`` between n_fft // 2
    zeros each side."""
    half = n_fft // 2 if center else 0
    held = np.zeros(half, dtype=np.float32)
    skip = 0  # samples still to drop: with hop > n_fft a frame may start beyond what is held
    for block in _and_then(blocks, np.zeros(half, dtype=np.float32)):
        held = np.concatenate([held, block])
        drop = min(skip, len(held))
        held, skip = held[drop:], skip - drop
        count = 0 if len(held) < n_fft else 1 + (len(held) - n_fft) // hop
        if count:
            step = held.strides[0]  # as_strided and not sliding_window_view: a tenth of the time
            views = np.lib.stride_tricks.as_strided(
                held, (count, n_fft), (hop * step, step), writeable=False
            )
            for start in range(0, count, FRAMES):
                yield views[start : min(start + FRAMES, count)]
            used = count * hop
            skip = max(used - len(held), 0)
            held = held[used:].copy()


def _and_then(blocks: Iterable[np.ndarray], last: np.ndarray) -> Iterator[np.ndarray]:
    """``blocks``, the final one with ``last`` behind it: a short clip is then one block."""
    before = None
    for block in blocks:
        if before is not None:
            yield before
        before = block
    yield last if before is None else np.concatenate([before, last])


@functools.cache
def analysis_window(name: str, length: int, n_fft: int) -> np.ndarray:
    """(n_fft,) float64: the analysis window, centred in zeros."""
    if name == "hann":
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    else:
        window = _scipy_window(name, length)
    left = (n_fft - length) // 2
    return np.pad(window, (left, n_fft - length - left))


def _scipy_window(name: str, length: int) -> np.ndarray:
    from scipy.signal import get_window  # most of a second to import, in every worker

    try:
        return get_window(name, length, fftbins=True)
    except ValueError as error:
        raise OptionError("mfcc window", f"{name!r} is not known", "hann, hamming ...") from error


@functools.cache
def mel_filters(
    rate: int, n_fft: int, m: int, fmin: float, fmax: float | None, htk: bool, norm: str | None
) -> np.ndarray:
    """(m, f) float32 triangular filters, f = 1 + n_fft // 2, as ``librosa.filters.mel``."""
    ends = _to_mel(np.array([fmin, rate / 2 if fmax is None else fmax]), htk)
    corners = _to_hz(np.linspace(ends[0], ends[1], m + 2), htk)
    ramps = corners[:, None] - np.fft.rfftfreq(n_fft, 1.0 / rate)[None, :]
    widths = np.diff(corners)[:, None]
    filters = np.maximum(0, np.minimum(-ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]))
    if norm == "slaney":  # equal area
        filters *= (2.0 / (corners[2:] - corners[:-2]))[:, None]
    return filters.astype(np.float32)


@functools.cache
def bands(
    rate: int,
    n_fft: int,
    m: int,
    fmin: float,
    fmax: float | None,
    htk: bool,
    norm: str | None,
    squares: bool,
) -> list[tuple[int, int, int, int, np.ndarray]]:
    """The filters in bands: mels first to last, columns begin to end, and (columns, mels) weights;
    one product a band skips nine tenths of a whole matrix, which is zero.

    ``squares``: the columns are squared real and imaginary parts by turns, so each weight comes
    twice and the product adds them up.
    """
    filters = mel_filters(rate, n_fft, m, fmin, fmax, htk, norm)
    found = []
    for first in range(0, m, BAND):
        some = filters[first : first + BAND]
        used = np.flatnonzero(some.any(axis=0))
        begin, end = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        weights, each = some[:, begin:end].T, 1 + squares
        weights = np.ascontiguousarray(np.repeat(weights, each, axis=0))
        found.append((first, first + len(some), begin * each, end * each, weights))
    return found


STEP, KNEE = 200.0 / 3, 1000.0  # Slaney: linear below 1 kHz, logarithmic above
LOG_STEP = np.log(6.4) / 27.0


def _to_mel(hz: np.ndarray, htk: bool) -> np.ndarray:
    if htk:
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    above = KNEE / STEP + np.log(np.maximum(hz, KNEE) / KNEE) / LOG_STEP
    return np.where(hz >= KNEE, above, hz / STEP)


def _to_hz(mel: np.ndarray, htk: bool) -> np.ndarray:
    if htk:
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    above = KNEE * np.exp(LOG_STEP * (mel - KNEE / STEP))
    return np.where(mel >= KNEE / STEP, above, mel * STEP)
