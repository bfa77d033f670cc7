"""Networks that were converted for this processor, kept in the user's cache: they encode without
torch, whose import takes longer than a picture.

A network is kept once it has proven on pictures that it agrees with torch (see ``Forward``), under
its recipe, the versions of headstock and OpenVINO, and the processor. What is loaded is read once,
and refused unless its digest is the one that was written beside it; then it is converted again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import headstock
from headstock.extract.decode.preprocess import ImageLoader, Preprocess
from headstock.extract.encoder import Encoder, Status
from headstock.extract.runtimes.compiled import (
    OpenVinoRuntime,
    Result,
    core,
    openvino,
    present,
)
from headstock.store.cores import cores
from headstock.store.disk.commit import sweep, temp_name
from headstock.store.errors import StorageError
from headstock.store.jsonfile import parse_json
from headstock.store.recipe import Recipe

if TYPE_CHECKING:
    from headstock.extract.encoders.network import NetworkEncoder

__all__ = ["ConvertedEncoder", "folder_of", "keep_converted", "kept_converted", "on_cpu"]

KEPT = 8  # networks, those used last
NAMES = ("network.xml", "network.bin")
ABOUT = "network.json"


class ConvertedEncoder(Encoder):
    """Pictures through the OpenVINO ``model``, in tiles of the size that it was made for: to the
    bit the vectors of the encoder that made it (see ``compiled.converted``)."""

    modality = "image"
    on_cpu = True
    in_flight = 2

    def __init__(self, recipe: Recipe, about: dict[str, Any], model: Any) -> None:
        fields, threads = recipe.fields, _threads()
        self.name, self.dim = str(about["provenance"]["name"]), int(about["dim"])
        fast = bool(fields["decoder"].get("jpeg"))
        self.loader = ImageLoader(Preprocess.from_recipe(fields["preprocess"]), fast)
        self.batch_size = max(32, 2 * int(about["tile"]) * threads)
        self._recipe, self._about, self._tile, self._threads = recipe, about, about["tile"], threads
        self._seconds = 0.0
        pool = ThreadPoolExecutor(threads, "headstock-model")
        self._runtime = OpenVinoRuntime(model, fields["precision"], threads, pool)

    def recipe(self) -> Recipe:
        return self._recipe

    def provenance(self) -> dict[str, Any]:
        return self._about["provenance"]

    def encode(self, items: Sequence[np.ndarray]) -> np.ndarray:
        return self.finish(self.start(items))

    def start(self, items: Sequence[np.ndarray]) -> tuple[int, list[Future[Result]]]:
        tiles = [items[at : at + self._tile] for at in range(0, len(items), self._tile)]
        filled = [np.stack([*tile, *[tile[-1]] * (self._tile - len(tile))]) for tile in tiles]
        return len(items), [self._runtime.submit(pixels) for pixels in filled]

    def finish(self, flight: tuple[int, list[Future[Result]]]) -> np.ndarray:
        count, tiles = flight
        parts = [tile.result() for tile in tiles]
        self._seconds += sum(seconds for _, _, seconds in parts) / self._threads
        return np.concatenate([vectors for vectors, _, _ in parts])[:count]

    def abandon(self, flight: tuple[int, list[Future[Result]]]) -> None:
        for tile in flight[1]:
            tile.cancel()

    def status(self) -> Status:
        precision = self._recipe.fields["precision"]
        return Status("openvino", precision, model_seconds=self._seconds)


def kept_converted(recipe: Recipe) -> ConvertedEncoder | None:
    """The encoder of ``recipe``, whose fields were checked, when it is in the cache, and whole."""
    if not present():
        return None
    folder = folder_of(recipe)
    try:
        about = parse_json((folder / ABOUT).read_text())
        parts = [(folder / name).read_bytes() for name in NAMES]
        if about["recipe"] != recipe.to_json() or about["sha256"] != [_digest(p) for p in parts]:
            return None
        os.utime(folder)
        return ConvertedEncoder(recipe, about, core().read_model(*parts))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # absent, cut, or another form
        return None


def keep_converted(encoder: NetworkEncoder, model: Any) -> None:
    """Keep the OpenVINO ``model`` of ``encoder``, and sweep what killed processes left there. A
    cache that cannot be written keeps nothing."""
    if encoder.view.flip != "none" or not isinstance(encoder.loader, ImageLoader):
        return  # vectors are made of several outputs, or pictures decoded by the device
    recipe = encoder.recipe()
    folder = folder_of(recipe)
    with contextlib.suppress(OSError, RuntimeError, StorageError):
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        sweep(folder.parent)
        made = temp_name(folder.parent)
        made.mkdir()
        try:
            openvino().save_model(model, made / NAMES[0], compress_to_fp16=False)
            about = {
                "recipe": recipe.to_json(),
                "dim": encoder.dim,
                "tile": encoder.forward.tile,
                "provenance": encoder.provenance(),
                "sha256": [_digest((made / name).read_bytes()) for name in NAMES],
            }
            (made / ABOUT).write_text(json.dumps(about))
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(made, folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
        _forget(folder.parent)


def folder_of(recipe: Recipe) -> Path:
    """Where the converted network of ``recipe`` is kept, by this machine's versions."""
    here = (headstock.__version__, version("openvino"), platform.machine(), _processor())
    key = "\0".join((recipe.fingerprint, *here)).encode()
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    cache = os.environ.get("HEADSTOCK_CACHE") or Path(home, "headstock")
    return Path(cache, "networks", hashlib.sha256(key).hexdigest()[:32])


def on_cpu(device: str) -> bool:
    """Whether the CPU will encode, as far as one sees without torch."""
    other = sys.platform == "darwin" or os.path.exists("/dev/nvidiactl")
    return device == "cpu" or (device == "auto" and not other)


def _forget(parent: Path) -> None:
    """Remove all but the KEPT networks that were used last."""
    folders = sorted((f for f in parent.iterdir() if len(f.name) == 32), key=_used, reverse=True)
    for folder in folders[KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


def _used(folder: Path) -> float:
    return folder.stat().st_mtime


def _processor() -> str:
    """What the processor calls itself and can do: another one computes other bits."""
    try:
        with open("/proc/cpuinfo") as file:
            lines = {line.partition(":")[0].strip(): line for line in file}
    except OSError:
        return platform.processor()
    return lines.get("model name", "") + lines.get("flags", lines.get("Features", ""))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _threads() -> int:
    """As many as torch would take: what the user set, else the cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) else cores()
