"""OpenVINO as the runtime of a network on the CPU: the same graph, compiled for this processor.

torch is imported where a network is converted, and not to run one.
"""

from __future__ import annotations

import logging
import queue
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstock.store.errors import OptionError, StorageError, one_line

if TYPE_CHECKING:
    from torch import Tensor

    from headstock.extract.runtimes.views import Whole

__all__ = [
    "OpenVinoRuntime",
    "Result",
    "converted",
    "core",
    "last_line",
    "openvino",
    "present",
    "requests_of",
]

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}

Result = tuple[np.ndarray, float, float]
"""Vectors (b, s) float32, seconds of transfer, seconds of the model."""


def present() -> bool:
    """Whether OpenVINO is installed."""
    return find_spec("openvino") is not None


def openvino() -> Any:
    """The library. Raises OptionError when it is not there."""
    # It would report its use over the network, from a forked child that it waits for.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        fix = "pip install 'headstock[cpu]', or --runtime torch"
        raise OptionError("runtime openvino", "is not installed", fix) from error
    return openvino


@cache
def core() -> Any:
    """The one Core of this process, which never ends. Each that is made gives its thread a stack
    for signals and frees it when it ends, in whatever order: the next signal would then find no
    stack and kill the process."""
    return openvino().Core()


def converted(whole: Whole, tile: int) -> Any:
    """``whole`` as an OpenVINO model of exactly ``tile`` pictures, as it is when it was written and
    read: a cached network is that, and what was converted in memory computes other last bits.
    Raises OptionError when OpenVINO cannot take it, StorageError when no file can be written."""
    shape = [tile, *whole.crop, 3]
    library = openvino()
    try:
        with _logging_kept():
            made = library.convert_model(_traced(whole, shape), input=(shape, np.uint8))
        with tempfile.TemporaryDirectory(prefix="headstock-") as folder:
            library.save_model(made, Path(folder, "n.xml"), compress_to_fp16=False)
            parts = [Path(folder, name).read_bytes() for name in ("n.xml", "n.bin")]
        return core().read_model(*parts)
    except Exception as error:  # many classes, over three libraries
        if isinstance(error, OSError) or "iostream" in str(error):  # C++ says no more than that
            what = f"cannot hold the network that OpenVINO converts: {last_line(error)}"
            fix = "free some space there, or set TMPDIR, or --runtime torch"
            raise StorageError(tempfile.gettempdir(), what, fix) from error
        raise _refused(error) from error


@contextmanager
def _logging_kept() -> Iterator[None]:
    """The converter sets up the root logger for itself and, where it fails, leaves it so: every
    warning of ours and of whoever called would be silenced."""
    root = logging.getLogger()
    level, handlers, filters = root.level, root.handlers[:], root.filters[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:], root.filters[:] = handlers, filters


def _refused(error: Exception) -> OptionError:
    what = f"cannot take the network: {last_line(error)}"
    return OptionError("runtime openvino", what, "--runtime torch")


def last_line(error: Exception) -> str:
    """What OpenVINO says of ``error``; before it stand the places in its own source."""
    return one_line((str(error).strip().splitlines() or [type(error).__name__])[-1], 160)


def requests_of(model: Any, precision: str, threads: int) -> queue.SimpleQueue[Any]:
    """``model`` compiled for this processor: a request for each of ``threads`` that may compute at
    a time, each by one core, so that bits do not depend on how many there are."""
    settings = {  # weights stay in float32 and threads where the scheduler puts them
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "NUM_STREAMS": threads,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = core().compile_model(model, "CPU", settings)
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(threads):
        requests.put(compiled.create_infer_request())
    return requests


class OpenVinoRuntime:
    """``model`` (see ``converted``) on tiles of the size it was made for, ``threads`` of them at a
    time. Raises OptionError when OpenVINO is not there or cannot take the network.
    """

    name = "openvino"

    def __init__(self, model: Any, precision: str, threads: int, pool: ThreadPoolExecutor) -> None:
        self.most: int | None = None
        self._pool = pool
        try:
            self._requests = requests_of(model, precision, threads)
        except OptionError:
            raise
        except Exception as error:
            raise _refused(error) from error

    def start(self, pixels: Tensor) -> Future[Result]:
        return self.submit(pixels.numpy())

    def submit(self, pixels: np.ndarray) -> Future[Result]:
        """``start`` of a tile (b, h, w, 3) uint8."""
        return self._pool.submit(self._timed, pixels)

    def _timed(self, pixels: np.ndarray) -> Result:
        request = self._requests.get()
        begin = time.perf_counter()
        try:
            vectors = next(iter(request.infer([pixels], share_inputs=True).values())).copy()
        finally:
            self._requests.put(request)
        return vectors.astype(np.float32, copy=False), 0.0, time.perf_counter() - begin


def _traced(whole: Whole, shape: list[int]) -> Any:
    """``whole`` as a graph with its weights in it; freezing halves the time of the conversion."""
    import torch

    example = torch.zeros(shape, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch says that tracing will go; it is what is read here
        traced = torch.jit.trace(whole, example, check_trace=False)
        return torch.jit.freeze(traced)
