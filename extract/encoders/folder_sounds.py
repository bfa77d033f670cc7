"""Sounds by a network of the transformers library: AST, CLAP, WavLM, wav2vec 2.0, HuBERT, Whisper.

Letters: t samples or steps in time, w windows, d features.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import headstock
from headstock.extract.decode.audio import MAX_SECONDS, RATES, RULES, mono_blocks
from headstock.extract.encoder import Encoder, Loader
from headstock.extract.encoders.folders import (
    built,
    defaults,
    front_end,
    kind_of,
    plain_fields,
    read_folder,
    read_tensors,
)
from headstock.extract.encoders.options import number, text
from headstock.extract.encoders.sound_networks import Pooled, windows_of
from headstock.store.errors import ItemError, OptionError, UnsafeInput, WeightsError, one_line
from headstock.store.recipe import Recipe

__all__ = ["FolderSounds", "folder_sounds", "folder_sounds_again"]

POOLS = ("own", "mean", "std", "max", "first")
TOGETHER = 4  # windows a pass
LONGEST_SECONDS = 600.0  # of a sound, for its samples go to the network whole
LEAST_SECONDS = 0.1


@dataclass(frozen=True)
class SamplesLoader(Loader):
    """bytes -> (t,) float32 samples at ``rate``; ``duration``: as of ``MfccLoader``."""

    rate: int
    duration: float | None = None

    @property
    def decoding(self) -> tuple[str, int, float | None]:
        return "sound", self.rate, self.duration

    def decode(self, data: bytes) -> Iterator[np.ndarray]:
        """The sound in ``data`` as blocks (t,) float32."""
        return mono_blocks(data, self.rate, self.duration)

    def transform(self, decoded: Iterable[np.ndarray]) -> np.ndarray:
        """(t,) float32. Raises ItemError for a sound of more than ten minutes."""
        parts, seen = [], 0
        for block in decoded:
            seen += len(block)
            if seen > LONGEST_SECONDS * self.rate:
                what = f"longer than {LONGEST_SECONDS:.0f} s, which a network of a folder takes"
                raise ItemError("audio", what, "state a duration", code="too-long")
            parts.append(block)
        least = max(int(LEAST_SECONDS * self.rate) - seen, 0)
        return np.concatenate([*parts, np.zeros(least, dtype=np.float32)])


class FolderSounds(Encoder):
    """Encodes sounds with ``network``, window by window. ``pool``: ``own`` for what the network
    pools by itself, averaged over windows; else of its steps in time, over all windows, those that
    are of the sound and not of what fills a window. ``window``: seconds.

    Raises OptionError for options without meaning.
    """

    modality = "audio"
    on_cpu = True
    batch_size = 8
    loader: SamplesLoader

    def __init__(
        self,
        name: str,
        folder: Path,
        config: Mapping[str, Any],
        front: Mapping[str, Any],
        *,
        pool: str | Sequence[str] = (),
        window: float | None = None,
        duration: float | None = None,
        device: str = "auto",
    ) -> None:
        from headstock.extract.encoders.checkpoint import digest
        from headstock.extract.encoders.network import pick_device

        self.name, self._folder = name, folder
        self._type = config.get("model_type")
        kind = self._kind = kind_of(name, self._type)
        known = defaults(kind, str(self._type))
        self._config = plain_fields(name, config, known[0])
        self._front = plain_fields(name, front, known[1])
        try:
            self._extract = front_end(kind, {k: v for k, v in self._front.items() if k not in SET})
            self.rate = int(self._extract.sampling_rate)
        except Exception as error:  # a constructor may raise anything over odd numbers
            what = f"transformers cannot build its front end: {one_line(error, 200)}"
            raise OptionError(name, what, "its own preprocessor_config.json") from error
        if not RATES[0] <= self.rate <= RATES[1]:
            raise OptionError(name, f"sampling_rate is {self.rate}", f"{RATES[0]} to {RATES[1]} Hz")
        self.pool = _pool(name, pool or kind.pool, kind.own)
        longest = self._longest()
        self.window = longest if window is None else number(f"{name} window", window)
        if not LEAST_SECONDS <= self.window <= longest:
            raise OptionError(name, f"window is {self.window:g} s", f"0.1 to {longest:g}")
        if duration is not None and not 0 < number(f"{name} duration", duration) <= MAX_SECONDS:
            raise OptionError(name, f"duration is {duration!r}", f"seconds up to {MAX_SECONDS}")
        self.loader = SamplesLoader(self.rate, duration)
        fields = {k: v for k, v in self._config.items() if k != "model_type"}
        network = built(name, kind, str(self._type), fields, read_tensors(folder))
        self._digest = digest(network)
        self._device = pick_device(device)
        self._network = network.to(self._device)
        try:
            noise = np.random.default_rng(0).uniform(-0.1, 0.1, self.rate).astype(np.float32)
            self.dim = self.encode([noise]).shape[1]
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
            what = f"does not take a sound: {one_line(error, 200)}"
            raise OptionError(name, what, "the config.json of its weights") from error

    def _longest(self) -> float:
        """Seconds that the front end brings its input to."""
        for field in ("nb_max_samples", "n_samples"):
            if (samples := getattr(self._extract, field, None)) is not None:
                return float(samples) / self.rate
        if self._type == "audio-spectrogram-transformer":
            return self._extract.max_length / 100  # frames of 10 ms
        return self._kind.seconds

    def recipe(self) -> Recipe:
        """Configuration, weights by digest, front end, windows and pooling."""
        fields = {
            "encoder": "hf",
            "version": 1,
            "config": {**self._config, "model_type": self._type},
            "front": self._front,
            "weights": {"sha256": self._digest},
            "pool": list(self.pool),
            "window": self.window,
            "duration": self.loader.duration,
            "decoder": RULES,
        }
        return Recipe("audio", fields)

    def provenance(self) -> dict[str, Any]:
        """Where the folder was, and what computed."""
        return {
            "weights": str(self._folder.absolute()),
            "source": str(self._folder),
            "device": str(self._device),
            "runtime": "torch",
            "versions": {
                "headstock": headstock.__version__,
                **{name: version(name) for name in ("torch", "transformers")},
            },
        }

    def encode(self, items: Sequence[np.ndarray]) -> np.ndarray:
        """(b, d) float32 from b sounds (t,); each goes through the network by itself."""
        return np.stack([self._vector(samples) for samples in items])

    def _vector(self, samples: np.ndarray) -> np.ndarray:
        length = int(self.window * self.rate)
        pooled = Pooled(("mean",) if self.pool == ("own",) else self.pool)
        parts = [samples[:, None]]
        cut = [samples] if len(samples) <= length else [
            window[:, 0] for window in windows_of(parts, length, length, True)
        ]  # fmt: skip
        for begin in range(0, len(cut), TOGETHER):
            for rows in self._through(cut[begin : begin + TOGETHER]):
                pooled.add(rows)
        return pooled.vector()

    def _through(self, windows: list[np.ndarray]) -> list[np.ndarray]:
        """Of each window (n, d): steps in time, or one row."""
        import torch

        given = self._extract(windows, sampling_rate=self.rate, return_tensors="pt", **self._more())
        given = {k: v.to(self._device) for k, v in given.items() if k != "attention_mask"}
        with torch.inference_mode():
            if self._type == "clap":
                out = self._network.get_audio_features(**given)
                own = out if isinstance(out, torch.Tensor) else out.pooler_output
                return list(own.float().cpu().numpy()[:, None])
            module = self._network.encoder if self._type == "whisper" else self._network
            out = module(**given)
        if self.pool == ("own",):
            return list(out.pooler_output.float().cpu().numpy()[:, None])
        steps = out.last_hidden_state.float().cpu().numpy()
        if self._type != "whisper":
            return list(steps)
        each = 2 * self._extract.hop_length  # samples a step: its second convolution halves
        return [x[: max(math.ceil(len(w) / each), 1)] for x, w in zip(steps, windows)]

    def _more(self) -> dict[str, Any]:
        """What the front end is told of windows of its own length: nothing is cut at random."""
        return {"truncation": "rand_trunc", "padding": "repeatpad"} if self._type == "clap" else {}


SET = frozenset({"feature_extractor_type", "truncation", "padding", "dither", "n_samples"}) | {
    "nb_max_samples", "nb_max_frames", "return_attention_mask",
}  # fmt: skip
"""Fields of a front end that are computed or set here."""


def _pool(name: str, pool: str | Sequence[str], own: bool) -> tuple[str, ...]:
    words = (
        tuple(text("pool", pool).replace(",", "+").split("+")) if isinstance(pool, str) else pool
    )
    known = POOLS if own else POOLS[1:]
    if not words or not all(isinstance(w, str) and w in known for w in words):
        raise OptionError(
            f"{name} pool", f"{one_line(repr(pool), 80)} is not known", ", ".join(known)
        )
    if len(set(words)) < len(words) or ("own" in words and len(words) > 1):
        raise OptionError(f"{name} pool", f"{'+'.join(words)} has no meaning", "own, or mean+std")
    return tuple(words)


def folder_sounds(folder: Path, **options: Any) -> FolderSounds:
    """The Encoder of the network in ``folder``; ``options``: pool, window, duration, device.

    Raises OptionError, WeightsError, UnsafeInput.
    """
    if odd := options.keys() - {"pool", "window", "duration", "device"}:
        raise OptionError(f"hf:{folder}", f"no option {min(odd)}", "pool, window, duration")
    config, front = read_folder(folder)
    return FolderSounds(f"hf:{folder.name}", folder, config, front, **options)


def folder_sounds_again(
    fields: Mapping[str, Any], places: Iterable[Any], device: str
) -> FolderSounds:
    """The Encoder that ``fields`` of a recipe describe, its weights from the first of ``places``
    that is a folder with those of its digest. Raises as ``folder_sounds``."""
    config, front, weights = fields.get("config"), fields.get("front"), fields.get("weights")
    if not (isinstance(config, Mapping) and isinstance(front, Mapping)):
        raise UnsafeInput("recipe", "config or front are no names and values", "its own")
    options: dict[str, Any] = {n: fields.get(n) for n in ("pool", "window", "duration")}
    if not isinstance(options["pool"], list):
        raise UnsafeInput("recipe", f"pool is {one_line(repr(options['pool']), 80)}", "a list")
    for place in places:
        if not isinstance(place, str | Path) or "\0" in str(place):
            continue
        folder = Path(place).parent if Path(place).is_file() else Path(place)
        try:
            made = FolderSounds(
                f"hf:{folder.name}", folder, config, front, device=device, **options
            )
        except WeightsError:  # those of another set, or nothing any more
            continue
        if made.recipe().fields["weights"] == weights:
            return made
    what = "the folder of its network is not where it was"
    fix = "put it there, or name its model.safetensors (--weights)"
    raise WeightsError("recipe", what, fix)
