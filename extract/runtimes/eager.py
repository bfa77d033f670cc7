"""What computes a batch with torch: threads on a CPU, streams on CUDA.

A runtime has a ``name``; ``start(pixels)`` takes (b, h, w, 3) uint8 on the host and gives a flight,
whose ``result()`` is ((b, s) float32, seconds of transfer, seconds of the model) and whose
``cancel()`` stops it if it has not begun. ``most``: pictures a pass, once memory has run out.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from headstock.extract.runtimes.compiled import Result
from headstock.extract.runtimes.views import Whole

__all__ = ["PRECISIONS", "TOLERANCE", "CudaRuntime", "Flight", "Runtime", "TorchRuntime", "threads"]

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
TOLERANCE = {"fp32": 1e-4, "bf16": 3e-2, "fp16": 1e-2}
"""The classes of precision: relative distance |v - w| / |w| that a runtime's vector v may have from
w, torch's in float32 on the same pixels; twice what torch itself is off in that precision, where
that is more (MobileNetV2 in bf16: 0.07). Runtimes of one class make one recipe."""


class Flight(Protocol):
    """A batch under way."""

    def result(self) -> Result: ...

    def cancel(self) -> bool: ...


class Runtime(Protocol):
    """See the module."""

    name: str
    most: int | None

    def start(self, pixels: Tensor) -> Any: ...


@functools.cache
def threads(count: int) -> ThreadPoolExecutor:
    """The process's pool of ``count`` threads that compute, one tile each; encoders that work side
    by side share it, so that they do not crowd each other."""
    return ThreadPoolExecutor(count, "headstock-model", torch.set_num_threads, (1,))


class TorchRuntime:
    """``whole`` on its device by torch, in ``pool`` (None: in a thread that waits for no other)."""

    name = "torch"

    def __init__(
        self,
        whole: Whole,
        device: torch.device,
        precision: str,
        pool: ThreadPoolExecutor | None = None,
        compiled: bool = False,
    ) -> None:
        self.whole, self.device = whole, device
        self.most: int | None = None
        self._low = PRECISIONS[precision]
        self._pool = pool or ThreadPoolExecutor(1, "headstock-model")
        # one shape a graph: left to itself, the second shape would make the batch a variable
        self._forward: Callable[[Tensor], Tensor] = (
            torch.compile(whole, dynamic=False) if compiled else whole
        )

    def stacked(self, items: Sequence[np.ndarray]) -> Tensor:
        """(b, h, w, 3) on the host of b pictures."""
        return torch.from_numpy(np.stack(items))

    def probe(self, pixels: Tensor) -> Tensor:
        """``run`` once and uncompiled, for a shape that will not come again."""
        return self._pass(pixels, self.whole)

    def start(self, pixels: Tensor) -> Future[Result]:
        return self._pool.submit(self._timed, pixels)

    def run(self, pixels: Tensor) -> Tensor:
        """(b, s) float32 on the device from (b, h, w, 3) uint8 on the device, in halves where it
        has too little memory for all."""
        if len(pixels) <= (self.most or len(pixels)):
            try:
                return self._pass(pixels, self._forward)
            except RuntimeError as error:  # torch.OutOfMemoryError is one
                if len(pixels) == 1 or not _out_of_memory(error):
                    raise
            self.most = max(len(pixels) // 2, 1)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        half = len(pixels) // 2
        return torch.cat([self.run(pixels[:half]), self.run(pixels[half:])])

    def _pass(self, pixels: Tensor, forward: Callable[[Tensor], Tensor]) -> Tensor:
        kind = self.device.type
        cast = torch.autocast(kind, self._low) if self._low is not None else nullcontext()
        with torch.inference_mode(), cast:
            return forward(pixels)

    def _timed(self, pixels: Tensor) -> Result:
        begin = time.perf_counter()
        there = pixels.to(self.device)
        moved = time.perf_counter()
        vectors = self.run(there).cpu().numpy()
        return vectors, moved - begin, time.perf_counter() - moved


@dataclass
class _OnDevice:
    """A batch on CUDA: its vectors on their way to the host, and the events around its steps."""

    vectors: Tensor
    events: tuple[Any, Any, Any, Any]
    pixels: Tensor  # the pinned input must outlive its copy

    def result(self) -> Result:
        begun, moved, computed, done = self.events
        done.synchronize()
        across = begun.elapsed_time(moved) + computed.elapsed_time(done)
        return self.vectors.numpy(), across / 1000, moved.elapsed_time(computed) / 1000

    def cancel(self) -> bool:
        return False


class CudaRuntime(TorchRuntime):
    """torch on CUDA: pinned memory, copies on a stream of their own beside the computing one, and
    nothing that waits before ``result``."""

    def __init__(
        self, whole: Whole, device: torch.device, precision: str, compiled: bool = False
    ) -> None:
        super().__init__(whole, device, precision, compiled=compiled)
        self._copying = torch.cuda.Stream(device)

    def stacked(self, items: Sequence[np.ndarray]) -> Tensor:
        """(b, h, w, 3) of b pictures, put into pinned memory at once."""
        shape = (len(items), *items[0].shape)
        with torch.cuda.device(self.device):
            pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        np.stack(items, out=pinned.numpy())
        return pinned

    def start(self, pixels: Tensor) -> Any:
        """``pixels`` on the host, or on the device already where it decoded them."""
        with torch.cuda.device(self.device):  # events go to the current device's stream
            return self._started(pixels)

    def _started(self, pixels: Tensor) -> _OnDevice:
        begun, moved, computed, done = (torch.cuda.Event(enable_timing=True) for _ in range(4))
        computing = torch.cuda.current_stream(self.device)
        held = pixels if pixels.device.type == "cuda" else pixels.pin_memory()
        with torch.cuda.stream(self._copying):
            begun.record()
            there = held.to(self.device, non_blocking=True)
            moved.record()
        computing.wait_event(moved)
        there.record_stream(computing)  # its memory is not to be used again before that
        out = self.run(there)
        computed.record()
        vectors = torch.empty(out.shape, dtype=out.dtype, pin_memory=True)
        vectors.copy_(out, non_blocking=True)
        done.record()
        return _OnDevice(vectors, (begun, moved, computed, done), held)


def _out_of_memory(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in text
