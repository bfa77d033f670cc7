"""Networks of sounds in files (ONNX, TFLite): the whole way from a file to its vector.

It is gone in the worker process that decodes the sound, window by window, so an hour of sound needs
no more memory than its frames (46 MB of 32 mels), as many sounds are under way as there are
workers, and a vector's bits depend on its own sound alone. Letters: t frames or samples in time, m
values a frame, w windows, d features.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import headstock
from headstock.extract.decode.audio import RULES, mono_blocks
from headstock.extract.encoder import Encoder, Loader
from headstock.extract.encoders.sound_settings import FrontNetwork, LogMel, SoundSettings, stated
from headstock.extract.encoders.spectra import mel_energies
from headstock.extract.runtimes.network_file import FORMATS, digest_of, opened
from headstock.store.errors import ItemError, OptionError, one_line
from headstock.store.recipe import Recipe

__all__ = ["Pooled", "SoundNetworkEncoder", "SoundNetworkLoader", "windows_of"]

TOGETHER = 8  # windows a pass, or four, two, one: each shape is compiled, and kept
CHUNK = 1000  # frames that a front network makes at a time where the whole sound is one window
WHOLE_SECONDS = 600.0  # of a sound that is one window


@dataclass(frozen=True)
class SoundNetworkLoader(Loader):
    """bytes -> (d,) float32 by the network in ``path``, as ``settings`` say; ``front``: the file of
    the network before it. Digests are those of the files when the encoder was made."""

    settings: SoundSettings
    path: Path
    sha256: str
    front: Path | None = None
    front_sha256: str = ""

    @property
    def decoding(self) -> tuple[str, int, float | None]:
        """As of ``MfccLoader``: one reading of the sound serves all that agree in it."""
        return "sound", self.settings.rate, self.settings.duration

    def decode(self, data: bytes) -> Iterator[np.ndarray]:
        """The sound in ``data`` as blocks (t,) float32."""
        return mono_blocks(data, self.settings.rate, self.settings.duration)

    def transform(self, blocks: Iterable[np.ndarray]) -> np.ndarray:
        """(d,) float32 of a sound in blocks. Raises what reading them raises."""
        s = self.settings
        pooled = Pooled(s.pool)
        for group in self._groups(self._frames(_at_least(blocks, self._needed()))):
            pooled.add(self._through(group))
        vector = pooled.vector()
        if not np.isfinite(vector).all():
            raise ItemError("audio", "its vector is not finite", "another sound", code="not-finite")
        return vector

    def _needed(self) -> int:
        """Samples that make one window."""
        s, front = self.settings, self.settings.front
        window = s.window or 1
        if front is None:
            return window
        if isinstance(front, FrontNetwork):
            return front.frame + (window - 1) * front.hop
        return (window - 1) * front.hop_length + (1 if front.center else front.n_fft)

    def _frames(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """(t, m) float32 of the front end; (t, 1) of samples as they are."""
        s, front = self.settings, self.settings.front
        scaled = (block * np.float32(s.scale) for block in blocks)
        if front is None:
            return (block[:, None] for block in scaled)
        if isinstance(front, FrontNetwork):
            made = self._by_network(scaled, front)
        else:
            mels = mel_energies(scaled, s.rate, front, np.float64, front.center)
            made = (_logarithm(mel, front) for mel in mels)
        if front.span is not None:  # below the loudest of all: all have to be there
            every = np.concatenate(list(made))
            made = iter([np.maximum(every, every.max() - np.float32(front.span), out=every)])
        return (frames * np.float32(front.multiply) + np.float32(front.add) for frames in made)

    def _by_network(self, blocks: Iterable[np.ndarray], p: FrontNetwork) -> Iterator[np.ndarray]:
        """(t, m) frames by the front network, as many at a time as a window has: one shape for all
        calls. What remains at the end is made with frames before it, which are there already."""
        window = self.settings.window
        wanted = p.frame + ((window or CHUNK) - 1) * p.hop
        before, held = np.empty(0, dtype=np.float32), np.empty(0, dtype=np.float32)
        for block in blocks:
            held = np.concatenate([held, block])
            while len(held) >= wanted:
                frames = self._through_front(held[:wanted], p)
                yield frames
                used = len(frames) * p.hop
                before, held = np.concatenate([before, held[:used]])[-wanted:], held[used:]
        if len(held) >= p.frame:
            count = 1 + (len(held) - p.frame) // p.hop
            end = len(before) + (count - 1) * p.hop + p.frame
            part = np.concatenate([before, held])[:end]
            yield self._through_front(part[-wanted:] if window else part[len(before) :], p)[-count:]

    def _through_front(self, samples: np.ndarray, p: FrontNetwork) -> np.ndarray:
        """(t, m) frames of samples (n,)."""
        assert self.front is not None
        shape = (1, len(samples) if self.settings.window else -1)
        network = opened(self.front, self.front_sha256, p.input, p.output, shape)
        out, count = network(samples[None]), 1 + (len(samples) - p.frame) // p.hop
        frames = out.reshape(-1, out.shape[-1])
        if len(frames) != count:
            what = f"gave {len(frames)} frames for {len(samples)} samples, not {count}"
            raise OptionError(self.front, what, "front.frame and front.hop of the network")
        return frames

    def _groups(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """(w, t, m) float32: the windows of a sound, some at a time."""
        s = self.settings
        if s.window is None:
            whole = np.concatenate(list(self._bounded(frames)))
            yield whole[None]
            return
        windows = windows_of(frames, s.window, s.hop or s.window, s.rest == "end")
        while group := list(itertools.islice(windows, TOGETHER)):
            while group:
                count = 1 << (len(group).bit_length() - 1)  # eight, four, two or one
                yield np.stack(group[:count])
                group = group[count:]

    def _bounded(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        s, seen = self.settings, 0
        hop = 1 if s.front is None else getattr(s.front, "hop_length", getattr(s.front, "hop", 1))
        for some in frames:
            seen += len(some)
            if seen * hop > WHOLE_SECONDS * s.rate:
                what = f"longer than {WHOLE_SECONDS:.0f} s, and the network takes it at once"
                raise ItemError("audio", what, "state a window or a duration", code="too-long")
            yield some

    def _through(self, group: np.ndarray) -> np.ndarray:
        """(n, d) float32: what the network makes of windows (w, t, m), over windows and time."""
        s = self.settings
        sides = {"b": len(group), "t": s.window or -1, "m": group.shape[2], "1": 1}
        shape = tuple(sides[axis] for axis in s.axes)
        network = opened(self.path, self.sha256, s.input, s.output, shape)
        if network.alone or "b" not in s.axes:
            return np.concatenate([_rows(network(_laid(one[None], s.axes)), s) for one in group])
        out = network(_laid(group, s.axes))
        if out.shape[:1] != (len(group),):
            what = f"gives {out.shape[0] if out.ndim else 0} items for {len(group)}"
            raise OptionError(self.path, what, "an output whose first axis is that of the windows")
        return _rows(out, s)


class SoundNetworkEncoder(Encoder):
    """The Encoder of sounds by a network in a file; the loader does all the work, in workers, and
    ``encode`` stacks rows.

    ``paths``: the network's file, and that of the network before it where there is one. ``source``:
    where they came from, in words. Raises OptionError and WeightsError as
    ``NetworkFile`` does, and OptionError for settings that do not fit the network.
    """

    modality = "audio"
    loader: SoundNetworkLoader

    def __init__(
        self,
        name: str,
        settings: SoundSettings,
        paths: Sequence[Path],
        source: str = "",
    ) -> None:
        self.name, self._source = name, source
        files = [(path.absolute(), digest_of(path)) for path in paths]
        before = files[1] if isinstance(settings.front, FrontNetwork) else (None, "")
        self.loader = SoundNetworkLoader(settings, *files[0], *before)
        self.dim = len(self._probe())

    def _probe(self) -> np.ndarray:
        """(d,) of a second of noise, so that what cannot be is said before the first sound."""
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, self.loader.settings.rate)
        try:
            return self.loader.transform([noise.astype(np.float32)])
        except (RuntimeError, ValueError, MemoryError, ItemError) as error:
            what = f"does not take a sound as it is described: {one_line(error, 200)}"
            raise OptionError(self.name, what, "axes, window and front of the network") from error

    def recipe(self) -> Recipe:
        """The files by digest, every setting, and the decoder's rules."""
        own, settings = self.loader, stated(self.loader.settings)
        if settings["front"] is not None and own.front is not None:
            settings["front"]["network"] = own.front_sha256
        fields = {
            "encoder": "net",
            "version": 1,
            "network": own.sha256,
            "format": FORMATS[own.path.suffix.lower()],
            **settings,
            "decoder": RULES,
        }
        return Recipe("audio", fields)

    def provenance(self) -> dict[str, Any]:
        """Where the files were, and what computed."""
        own = self.loader
        return {
            "weights": str(own.path),
            "front": None if own.front is None else str(own.front),
            "source": self._source or str(own.path),
            "runtime": "openvino",
            "versions": {"headstock": headstock.__version__, "openvino": version("openvino")},
        }

    def encode(self, items: Sequence[np.ndarray]) -> np.ndarray:
        """(b, d) float32 from b vectors (d,)."""
        return np.stack(items).astype(np.float32, copy=False)


def _laid(group: np.ndarray, axes: str) -> np.ndarray:
    """Windows (w, t, m) in the order of ``axes``."""
    if "m" not in axes:
        group = group[:, :, 0]
    order = [{"b": 0, "t": 1, "m": 2}[axis] for axis in axes if axis != "1"]
    if "b" not in axes:
        return group[0]
    out = group.transpose(order)
    for place, axis in enumerate(axes):
        if axis == "1":
            out = np.expand_dims(out, place)
    return out


def _rows(out: np.ndarray, s: SoundSettings) -> np.ndarray:
    """(n, d) of a network's output: the axis of features last, all others are time."""
    if out.ndim < 1 or out.size == 0:
        raise ItemError("audio", "the network gave nothing", "a longer sound", code="loader-error")
    if s.features == "first" and out.ndim > 2:
        out = np.moveaxis(out, 1, -1)
    return out.reshape(-1, out.shape[-1])


def _logarithm(mel: np.ndarray, p: LogMel) -> np.ndarray:
    out = np.maximum(mel, np.float32(p.floor)) + np.float32(p.offset)
    if p.log == "none":
        return out
    made = np.log(out) if p.log == "ln" else np.log10(out)
    return made * np.float32(10) if p.log == "db" else made


def _at_least(blocks: Iterable[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """``blocks``, filled with zeros at the end to ``count`` samples."""
    seen = 0
    for block in blocks:
        seen += len(block)
        yield block
    if seen < count:
        yield np.zeros(count - seen, dtype=np.float32)


def windows_of(
    frames: Iterable[np.ndarray], length: int, hop: int, to_end: bool
) -> Iterator[np.ndarray]:
    """(length, m) each ``hop`` frames; ``to_end``: one more that ends with the last frame, when
    frames remain behind the last window."""
    held: np.ndarray | None = None
    last: np.ndarray | None = None  # the frames before ``held`` that a last window may need
    skip = 0
    for some in frames:
        held = some if held is None else np.concatenate([held, some])
        drop = min(skip, len(held))
        last, held, skip = _tail(last, held[:drop], length), held[drop:], skip - drop
        while len(held) >= length:
            yield held[:length]
            drop = min(hop, len(held))
            last, held, skip = _tail(last, held[:drop], length), held[drop:], hop - drop
    behind = 0 if held is None else len(held)
    if to_end and last is not None and behind > max(length - hop, 0):
        assert held is not None
        yield np.concatenate([last, held])[-length:]


def _tail(last: np.ndarray | None, more: np.ndarray, length: int) -> np.ndarray | None:
    if not len(more):
        return last
    return (more if last is None else np.concatenate([last, more]))[-length:]


class Pooled:
    """Rows (n, d) pooled as they come: means and deviations by Chan's update, in double precision
    (Chan, Golub, LeVeque 1979)."""

    def __init__(self, pool: tuple[str, ...]) -> None:
        self._pool = pool
        self._n = 0

    def add(self, rows: np.ndarray) -> None:
        x = rows.astype(np.float64)
        n, mean = len(x), x.mean(axis=0)
        spread = np.square(x - mean).sum(axis=0)
        if self._n == 0:
            self._first, self._max, self._mean, self._spread = x[0], x.max(axis=0), mean, spread
        else:
            delta, total = mean - self._mean, self._n + n
            self._mean = self._mean + delta * (n / total)
            self._spread += spread + np.square(delta) * (self._n * n / total)
            self._max = np.maximum(self._max, x.max(axis=0))
        self._n += n

    def vector(self) -> np.ndarray:
        """(len(pool) * d,) float32."""
        made = {
            "mean": self._mean,
            "std": np.sqrt(self._spread / self._n),
            "max": self._max,
            "first": self._first,
        }
        return np.concatenate([made[one] for one in self._pool]).astype(np.float32)
