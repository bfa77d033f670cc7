"""Measures this machine, so that the length of an extraction is known before it begins."""

from __future__ import annotations

import io
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

import headstock
from headstock.extract.backbones import DEFAULT_IMAGE, image_encoder
from headstock.extract.mfcc import MfccLoader
from headstock.extract.network import NetworkEncoder
from headstock.store import OK, Batch, FeatureStore, Items, Recipe
from headstock.store.progress import Report, unheard

__all__ = ["Checkup", "measure", "sample_jpeg", "sample_wav"]

SIZES = ((500, 375), (1280, 960), (4000, 3000))
ROWS = 32


@dataclass
class Checkup:
    """Rates a second. ``decode``: pictures, one core, by size; ``model``: pictures, the whole
    device, by precision; ``sounds``: five-second clips, one core; ``commit``: rows of d values,
    durable, in batches of 32."""

    versions: dict[str, str]
    cores: int
    device: str
    backbone: str
    dim: int
    decode: dict[str, float] = field(default_factory=dict)
    model: dict[str, float] = field(default_factory=dict)
    sounds: float = 0.0
    commit: float = 0.0

    @property
    def precision(self) -> str:
        """The fastest; full precision unless another one is worth a tenth."""
        best = max(self.model, key=lambda p: self.model[p])
        return best if self.model[best] > 1.1 * self.model["fp32"] else "fp32"

    @property
    def workers(self) -> int:
        """Decode processes that keep the model fed with 500 x 375 pictures."""
        needed = self.model[self.precision] / self.decode["500x375"]
        return int(min(max(np.ceil(1.2 * needed), 1), self.cores))

    def rate(self, size: str = "500x375") -> float:
        """Pictures a second end to end. On the CPU decoding and the model share the cores."""
        model, decode = self.model[self.precision], self.decode[size] * self.cores
        if self.device == "cpu":
            return 1 / (1 / model + 1 / decode)
        return min(model, decode)

    def hours(self, n: int, size: str = "500x375") -> float:
        """What ``n`` pictures take."""
        return n / self.rate(size) / 3600

    def text(self, items: int = 1_000_000) -> str:
        """Some lines for people; ``items``: how many pictures the estimate is for."""
        sizes = ", ".join(f"{size} {rate:.0f}" for size, rate in self.decode.items())
        models = ", ".join(f"{p} {rate:.1f}" for p, rate in self.model.items())
        said = ", ".join(f"{k} {v}" for k, v in self.versions.items())
        hours = ", ".join(f"{size} {self.hours(items, size):.1f}" for size in self.decode)
        return "\n".join(
            [
                said,
                f"{self.cores} cores, device {self.device}",
                f"decoding, pictures a second a core: {sizes}",
                f"{self.backbone}, pictures a second: {models}",
                f"mfcc, five-second clips a second a core: {self.sounds:.0f}",
                f"commit, rows of {self.dim} values a second: {self.commit:.0f}",
                f"settings: --device {self.device} --precision {self.precision} -j {self.workers}",
                f"hours for {items:,} pictures: {hours}",
            ]
        )

    def to_json(self) -> str:
        """Everything measured and what follows from it."""
        follows = {"precision": self.precision, "workers": self.workers, "rate": self.rate()}
        return json.dumps({**asdict(self), "settings": follows}, indent=2, allow_nan=False)


def measure(
    folder: str | Path = ".",
    backbone: str = DEFAULT_IMAGE,
    device: str = "auto",
    seconds: float = 20.0,
    progress: Report = unheard,
) -> Checkup:
    """Measure for about ``seconds`` after imports; ``folder`` is where commits are tried.

    The backbone has random weights: speed does not depend on them, and no download is needed.
    Raises OptionError, StorageError.
    """
    seed = None if backbone.startswith("headstock:") else 0
    steps = len(SIZES) + 5
    progress(0, steps, "the model")
    encoder = image_encoder(backbone, untrained_seed=seed, device=device)
    found = Checkup(
        versions={
            "headstock": headstock.__version__,
            "python": platform.python_version(),
            **encoder.provenance()["versions"],
        },
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
        device=encoder.device.type,
        backbone=backbone,
        dim=encoder.dim,
    )
    for step, (width, height) in enumerate(SIZES, 1):
        progress(step, steps, f"decoding {width}x{height}")
        data = sample_jpeg(width, height)
        found.decode[f"{width}x{height}"] = _rate(partial(encoder.loader, data), seconds / 12)
    wav, loader = sample_wav(5.0), MfccLoader()
    progress(len(SIZES) + 1, steps, "sounds")
    found.sounds = _rate(partial(loader, wav), seconds / 12)
    progress(len(SIZES) + 2, steps, "commits")
    found.commit = ROWS * _commits(Path(folder), encoder.dim, seconds / 12)
    progress(len(SIZES) + 3, steps, "the model, fp32")
    found.model["fp32"] = _model(encoder, seconds / 4)
    for precision in ("bf16",) if encoder.device.type == "cpu" else ("bf16", "fp16"):
        progress(len(SIZES) + 4, steps, f"the model, {precision}")
        low = image_encoder(backbone, untrained_seed=seed, device=device, precision=precision)
        found.model[precision] = _model(low, seconds / 4)
    return found


def _rate(step: Callable[[], object], seconds: float) -> float:
    """Calls a second, the first one left out."""
    step()
    begin, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - begin < seconds:
        step()
        calls += 1
    return calls / (time.perf_counter() - begin)


def _model(encoder: NetworkEncoder, seconds: float) -> float:
    count = encoder.batch_size
    batch = list(np.zeros((count, *encoder.network.preprocess.crop, 3), dtype=np.uint8))
    return count * _rate(partial(encoder.encode, batch), seconds)


def _commits(folder: Path, dim: int, seconds: float) -> float:
    """Durable commits a second of ROWS rows on the disk of ``folder``."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, dim), dtype=np.float32)
    status, stat = np.full(ROWS, OK, dtype=np.uint8), np.full((ROWS, 2), -1, dtype=np.int64)
    with (
        tempfile.TemporaryDirectory(prefix="headstock-doctor-", dir=folder) as place,
        FeatureStore.open(Path(place, "try.h5"), "a") as store,
    ):
        ids = [f"{i}" for i in range(ROWS)]
        store.register(Items.of(ids))
        store.declare("try", Recipe("image", {"unknown": "doctor"}), dim)

        def commit() -> None:
            digest = rng.integers(0, 256, (ROWS, 32), dtype=np.uint8)
            store.commit("try", Batch(ids, digest, stat, x, status))

        return _rate(commit, seconds)


def sample_jpeg(width: int, height: int, seed: int = 0) -> bytes:
    """A JPEG that costs what photographs cost: smooth shapes, texture and grain."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), dtype=np.float32)
    for cells, weight in ((6, 90), (40, 40), (200, 20)):
        small = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        large = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        picture += (np.asarray(large, dtype=np.float32) / 255 - 0.5) * weight
    picture += rng.standard_normal((height, width, 1), dtype=np.float32) * 4 + 128
    out = io.BytesIO()
    pixels = picture.clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(out, "JPEG", quality=90)
    return out.getvalue()


def sample_wav(seconds: float, rate: int = 22050) -> bytes:
    """Noise, as 16-bit WAV."""
    values = np.random.default_rng(0).uniform(-0.5, 0.5, int(seconds * rate))
    out = io.BytesIO()
    soundfile.write(out, values, rate, format="WAV", subtype="PCM_16")
    return out.getvalue()
