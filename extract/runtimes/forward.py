"""Batches through a network: which runtime computes them, proof that it does, tiles, clocks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from headstock.extract.encoder import Status
from headstock.extract.runtimes.compiled import OpenVinoRuntime, converted, present
from headstock.extract.runtimes.eager import TOLERANCE, CudaRuntime, Runtime, TorchRuntime, threads
from headstock.extract.runtimes.views import View, Whole
from headstock.store.errors import OptionError, StorageError

__all__ = ["RUNTIMES", "THREADS", "TILE", "Forward"]

RUNTIMES = ("auto", "torch", "openvino")
TILE = 8
THREADS = torch.get_num_threads()  # as the user set it; pool threads change torch's own answer


class Forward:
    """The passes of ``whole``, for one set or for several that share it.

    On the CPU a batch is cut into tiles of exactly ``tile`` pictures (the last one repeated to fill
    it), each computed by one thread alone, as many at a time as there are cores: threads that never
    wait for each other inside a layer, and bits that depend neither on the batch nor on the number
    of cores. On CUDA, and when ``compiled``, a batch has the shape of the largest before it: what
    is searched for or compiled is so for one shape.

    ``runtime``: ``torch``, ``openvino``, or ``auto``: on the CPU OpenVINO where it is installed and
    takes the network. Whatever is not torch has to prove on the first pictures that it agrees with
    torch in float32 within ``TOLERANCE``; else ``auto`` falls back to torch and ``note`` says so,
    and ``openvino`` is refused.
    """

    def __init__(
        self,
        whole: Whole,
        device: torch.device,
        precision: str,
        runtime: str = "auto",
        compiled: bool = False,
        tile: int | None = None,
        count: int | None = None,
    ) -> None:
        if runtime not in RUNTIMES:
            raise OptionError("runtime", f"{runtime!r} is not known", ", ".join(RUNTIMES))
        if runtime == "openvino" and (device.type != "cpu" or compiled):
            what = "computes on the CPU" if not compiled else "compiles by itself"
            raise OptionError("runtime openvino", what, "--device cpu, without --compile")
        if runtime == "openvino" and not present():
            fix = "pip install 'headstock[cpu]', or --runtime torch"
            raise OptionError("runtime openvino", "is not installed", fix)
        self.whole, self.device, self.precision = whole, device, precision
        self._asked, self._compiled = runtime, compiled
        cuda, cpu = device.type == "cuda", device.type == "cpu"
        self.threads = (count or THREADS) if cpu and not compiled else 1
        self.batch_size = 256 if cuda else max(32, 2 * TILE * self.threads)
        self.in_flight = 3 if cuda else 2
        self.tile = tile or (TILE if cpu else None)
        self._one_shape = self.tile is None and (cuda or compiled)
        self.model_seconds = 0.0  # in which the device, or each of the threads, computed
        self.transfer_seconds = 0.0
        self.start_seconds = 0.0  # that preparing and proving the runtime took
        self.note = ""
        self.on_proof: Callable[[Any], None] | None = None  # takes the converted network
        self._runtime: Runtime | None = None
        self.torch = self._by_torch()

    @property
    def runtime(self) -> str:
        """The name of what computes, or would: it is settled with the first pictures."""
        if self._runtime is None:
            name = "openvino" if self._wanted() else "torch"
        else:
            name = self._runtime.name
        return str(getattr(self.whole.module, "computed_by", name))

    def _wanted(self) -> bool:
        traceable = not hasattr(self.whole.module, "computed_by")
        able = traceable and self.device.type == "cpu" and not self._compiled and present()
        return self._asked == "openvino" or (self._asked == "auto" and able)

    def _by_torch(self) -> TorchRuntime:
        if self.device.type == "cuda":
            return CudaRuntime(self.whole, self.device, self.precision, self._compiled)
        pool = threads(self.threads) if self.device.type == "cpu" and not self._compiled else None
        return TorchRuntime(self.whole, self.device, self.precision, pool, self._compiled)

    def settle(self, pixels: Tensor) -> Runtime:
        """The runtime, proven on ``pixels`` (b, h, w, 3) uint8 the first time. Raises OptionError
        and StorageError when one was asked for by name and is not fit."""
        if self._runtime is not None:
            return self._runtime
        begin, chosen = time.perf_counter(), cast(Runtime, self.torch)
        if self._wanted():
            try:
                chosen = self._proven(pixels[: self.tile])
            except (OptionError, StorageError) as error:
                if self._asked == "openvino":
                    raise
                self.note = f"computed by torch: {error.where} {error.what}"
        self._runtime = chosen
        self.start_seconds = time.perf_counter() - begin
        return chosen

    def _proven(self, pixels: Tensor) -> Runtime:
        tile = self.tile or TILE
        pool = threads(self.threads)
        model = converted(self.whole, tile)
        fast = OpenVinoRuntime(model, self.precision, self.threads, pool)
        shown, _, _ = fast.start(filled(pixels, tile)).result()
        plain = TorchRuntime(self.whole, self.device, "fp32", pool)
        right = plain.start(pixels).result()[0].astype(np.float64)
        apart, allowed = _distance(shown[: len(pixels)], right), TOLERANCE[self.precision]
        if self.precision != "fp32":
            own = self.torch.start(pixels).result()[0]
            allowed = max(allowed, 2 * float(_distance(own, right).max()))
        if not (apart <= allowed).all():  # NaN is not
            worst = float(np.nan_to_num(apart, nan=np.inf).max())
            what = f"is {worst:.1e} from torch on the first pictures, more than {allowed:.1e}"
            raise OptionError("runtime openvino", what, "--runtime torch")
        if self.on_proof is not None:
            self.on_proof(model)
        return fast

    def start(self, items: Sequence[np.ndarray]) -> list[Any]:
        """Begin a batch of pictures (h, w, 3) uint8; ``finish`` takes what it gives."""
        return self.start_pixels(self.torch.stacked(items))

    def start_pixels(self, pixels: Tensor) -> list[Any]:
        """The same for (b, h, w, 3) uint8, wherever it is."""
        runtime = self.settle(pixels)
        if self._one_shape:
            self.tile = max(self.tile or 0, len(pixels))
        size = min(self.tile or len(pixels), runtime.most or sys.maxsize)
        parts = pixels.split(size)
        if self.tile:
            parts = [filled(part, size) for part in parts]
        return [len(pixels), *(runtime.start(part) for part in parts)]

    def finish(self, flights: list[Any]) -> np.ndarray:
        """(b, s) float32 of a batch that ``start`` began; see ``Whole.take``."""
        wanted, *tiles = flights
        parts = []
        for tile in tiles:
            vectors, transfer, model = tile.result()
            self.transfer_seconds += transfer / self.threads
            self.model_seconds += model / self.threads
            parts.append(vectors)
        return np.concatenate(parts)[:wanted].astype(np.float32, copy=False)

    def take(self, raw: np.ndarray, view: View) -> np.ndarray:
        """(b, d) of ``view`` from what ``finish`` gave."""
        return self.whole.take(raw, view)

    def abandon(self, flights: list[Any]) -> None:
        """Drop a batch that ``start`` began: what has not begun will not."""
        for tile in flights[1:]:
            tile.cancel()

    def status(self) -> Status:
        """What computes, and what it took so far."""
        cuda = self.device.type == "cuda"
        return Status(
            self.runtime, self.precision, self.note,
            self.start_seconds, self.model_seconds, self.transfer_seconds,
            torch.cuda.max_memory_allocated(self.device) if cuda else 0,
        )  # fmt: skip


def _distance(vectors: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(b,) relative distances of ``vectors`` (b, s) from ``right``."""
    norms = np.maximum(np.linalg.norm(right, axis=1), 1e-12)
    return np.linalg.norm(vectors - right, axis=1) / norms


def filled(pixels: Tensor, size: int) -> Tensor:
    """``pixels`` brought to ``size`` by repeating the last."""
    short = size - len(pixels)
    return torch.cat([pixels, pixels[-1:].expand(short, -1, -1, -1)]) if short > 0 else pixels
