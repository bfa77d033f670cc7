"""A network as an Encoder: uint8 pictures in, pooled float32 vectors out, on any device."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import headstock
from headstock.extract.checkpoint import digest
from headstock.extract.preprocess import ImageLoader, Preprocess
from headstock.store.errors import OptionError, WeightsError
from headstock.store.recipe import Recipe
from headstock.store.seen import Seen

__all__ = ["Network", "NetworkEncoder", "pick_device"]

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
TILE = 8
THREADS = torch.get_num_threads()  # as the user set it; pool threads change torch's own answer


@dataclass
class Network:
    """What a library builds: ``module`` maps (b, 3, h, w) normalised to (b, d) pooled features.

    ``seed`` is set when the weights are untrained; ``file`` is the weights file that was given,
    ``source`` says in words where weights came from, ``versions`` what built it; ``seen`` is set
    when the weights were adapted on labels of rows that may be encoded now.
    """

    module: nn.Module
    library: str
    architecture: str
    preprocess: Preprocess
    model_args: dict[str, Any] = field(default_factory=dict)
    pooling: str = "pre-logits"
    seed: int | None = None
    file: str | None = None
    source: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    seen: Seen | None = None


def pick_device(asked: str) -> torch.device:
    """The torch device for ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises OptionError when it is not there.
    """
    kind = asked.partition(":")[0]
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if asked == "auto":
        return torch.device(next(k for k in ("cuda", "mps", "cpu") if present[k]))
    if not present.get(kind, False):
        here = ", ".join(k for k, there in present.items() if there)
        raise OptionError(f"device {asked}", "is not available here", f"auto or one of: {here}")
    return torch.device(asked)


@dataclass
class _OnDevice:
    """A batch under way on CUDA: its vectors, on their way to the host, and the events around."""

    vectors: Tensor
    begun: Any
    done: Any
    pixels: Tensor  # the pinned input must outlive its copy

    def result(self) -> tuple[Tensor, float]:
        self.done.synchronize()
        return self.vectors, self.begun.elapsed_time(self.done) / 1000

    def cancel(self) -> bool:
        return False


class NetworkEncoder:
    """Encodes pictures with ``network``.

    On the CPU a batch is cut into tiles of exactly ``tile`` pictures (the last one repeated to fill
    it), each computed by one thread alone, as many at a time as there are cores. Threads that never
    wait for each other inside a layer make about twice the pictures a core of torch's own
    parallelism, far more on a busy machine, and the last bits of a vector depend neither on
    ``--batch-size`` nor on the number of cores nor on which rows were already done. On CUDA batches
    go through pinned memory without blocking. ``in_flight`` batches are under way at a time. With
    ``compile`` the batch shape is fixed. What does not fit in memory is halved, and stays so.
    """

    modality = "image"
    feature_names = None

    def __init__(
        self,
        name: str,
        network: Network,
        device: str = "auto",
        precision: str = "fp32",
        tile: int | None = None,
        compile: bool = False,
        channels_last: bool = True,
        decode: str = "full",
        threads: int | None = None,
    ) -> None:
        if decode not in ("full", "fast"):
            raise OptionError("decode", f"{decode!r} is not known", "full or fast")
        if precision not in PRECISIONS:
            raise OptionError("precision", f"{precision!r} is not known", ", ".join(PRECISIONS))
        self.name, self.network, self.precision = name, network, precision
        self.device = pick_device(device)
        self.loader = ImageLoader(network.preprocess, decode == "fast")
        self._digest = digest(network.module)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self._layout = layout
        module = network.module.eval().requires_grad_(False)
        self._module = module.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        self._forward: Callable[[Tensor], Tensor] = self._module
        if compile:
            self._forward = torch.compile(self._module)
        self._cuda = cuda = self.device.type == "cuda"
        cpu = self.device.type == "cpu"
        if cuda:  # fp32 is to mean fp32; TF32 changes the fourth digit
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self.threads = (threads or THREADS) if cpu and not compile else 1
        alone = (torch.set_num_threads, (1,)) if cpu and not compile else (None, ())
        self._pool = ThreadPoolExecutor(self.threads, "headstock-model", *alone)
        self.batch_size = 256 if cuda else max(32, 2 * TILE * self.threads)
        self.in_flight = 3 if cuda else 2
        self.tile = tile or (TILE if cpu else self.batch_size if compile else None)
        self.model_seconds = 0.0  # in which the device, or each of the threads, computed
        self._most: int | None = None  # pictures a pass, once memory has run out
        shape = (3, *network.preprocess.crop)
        self._mean = torch.tensor(network.preprocess.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(network.preprocess.std, device=self.device).view(1, 3, 1, 1)
        self.dim = self._probe(shape)

    def _probe(self, shape: tuple[int, ...]) -> int:
        """d, by one forward pass. Raises OptionError when the network does not take this size."""
        try:
            out = self._pass(torch.zeros((1, *shape), dtype=torch.uint8))
        except (RuntimeError, AssertionError, ValueError, TypeError) as error:
            what = f"does not take {shape[1]} x {shape[2]} pictures: {error}"
            raise OptionError(self.name, what, "state --input-size or --model-arg") from error
        if not isinstance(out, Tensor) or out.ndim != 2:
            raise OptionError(self.name, "gives no (b, d) features", "a model that pools")
        return int(out.shape[1])

    def recipe(self) -> Recipe:
        """Library, architecture, weights by digest, preprocessing, decoder rules and precision."""
        n = self.network
        weights: dict[str, Any] = {"sha256": self._digest}
        if n.seed is not None:
            weights["untrained_seed"] = n.seed
        if n.seen is not None:
            weights["adapted"] = n.seen.summary()
        fields = {
            "encoder": n.library,
            "version": 1,
            "architecture": n.architecture,
            "model_args": n.model_args,
            "weights": weights,
            "pooling": n.pooling,
            "preprocess": n.preprocess.recipe(),
            "decoder": self.loader.recipe(),
            "precision": self.precision,
        }
        return Recipe("image", fields)

    def provenance(self) -> dict[str, Any]:
        """What made the vectors but does not change them beyond rounding."""
        return {
            "name": self.name,
            "weights": self.network.file,
            "source": self.network.source,
            "device": str(self.device),
            "versions": {
                "headstock": headstock.__version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                **self.network.versions,
            },
            **({} if self.network.seen is None else {"adapted": self.network.seen.to_json()}),
        }

    def device_memory(self) -> int:
        """Peak bytes on the accelerator so far; 0 on the CPU."""
        return torch.cuda.max_memory_allocated(self.device) if self._cuda else 0

    def encode(self, items: Sequence[np.ndarray]) -> np.ndarray:
        """(b, d) float32 from b pictures (h, w, 3) uint8."""
        return self.finish(self.start(items))

    def start(self, items: Sequence[np.ndarray]) -> list[Any]:
        """Begin a batch and return; ``finish`` takes what it gives."""
        pixels = torch.from_numpy(np.stack(items)).permute(0, 3, 1, 2)  # channels last already
        size = min(self.tile or len(pixels), self._most or sys.maxsize)
        tiles = [self._filled(part, size) for part in pixels.split(size)]
        if self._cuda:
            return [len(items), *map(self._fly, tiles)]
        return [len(items), *(self._pool.submit(self._timed, tile) for tile in tiles)]

    def finish(self, flights: list[Any]) -> np.ndarray:
        """(b, d) float32 of a batch that ``start`` began."""
        wanted, *tiles = flights
        parts = []
        for tile in tiles:
            vectors, seconds = tile.result()
            self.model_seconds += seconds / self.threads
            parts.append(vectors.numpy())
        return np.concatenate(parts)[:wanted].astype(np.float32, copy=False)

    def abandon(self, flights: list[Any]) -> None:
        """Drop a batch that ``start`` began: what has not begun will not."""
        for tile in flights[1:]:
            tile.cancel()

    def _filled(self, pixels: Tensor, size: int) -> Tensor:
        """``pixels`` brought to ``size`` where the shape is fixed."""
        short = size - len(pixels) if self.tile else 0
        return torch.cat([pixels, pixels[-1:].expand(short, -1, -1, -1)]) if short else pixels

    def _timed(self, pixels: Tensor) -> tuple[Tensor, float]:
        begin = time.perf_counter()
        vectors = self._spared(pixels).cpu()
        return vectors, time.perf_counter() - begin

    def _fly(self, pixels: Tensor) -> _OnDevice:
        begun, done = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        pinned = pixels.pin_memory()
        begun.record()
        out = self._spared(pinned)
        vectors = torch.empty(out.shape, dtype=out.dtype, pin_memory=True)
        vectors.copy_(out, non_blocking=True)
        done.record()
        return _OnDevice(vectors, begun, done, pinned)

    def _spared(self, pixels: Tensor) -> Tensor:
        """``_pass``, in halves when the device has too little memory."""
        if len(pixels) <= (self._most or len(pixels)):
            try:
                return self._pass(pixels)
            except RuntimeError as error:  # torch.OutOfMemoryError is one
                if len(pixels) == 1 or not _out_of_memory(error):
                    raise
            self._most = max(len(pixels) // 2, 1)
            if self._cuda:
                torch.cuda.empty_cache()
        half = len(pixels) // 2
        return torch.cat([self._spared(pixels[:half]), self._spared(pixels[half:])])

    def _pass(self, pixels: Tensor) -> Tensor:
        """(b, d) float32 on the device from (b, 3, h, w) uint8 on the host."""
        low = PRECISIONS[self.precision]
        cast = torch.autocast(self.device.type, low) if low is not None else nullcontext()
        with torch.inference_mode(), cast:
            moved = pixels.to(self.device, non_blocking=True)
            batch = moved.to(torch.float32, memory_format=self._layout)
            batch = batch.div_(255).sub_(self._mean).div_(self._std)
            return self._forward(batch).float()


def _out_of_memory(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in text


def seeded(seed: int, build: Callable[[], nn.Module]) -> nn.Module:
    """``build()`` with random weights that ``seed`` alone determines."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def untrained(name: str, seed: int | None) -> str:
    """``name`` marked when its weights are random, so that no table hides it."""
    return name if seed is None else f"{name}[untrained:{seed}]"


def option_error(name: str, error: Exception) -> OptionError:
    """For model arguments that the library's constructor refuses."""
    return OptionError(name, f"cannot be built: {error}", "see --model-arg")


def weights_error(name: str, error: Exception) -> WeightsError:
    """For weights that the library's own loader refuses."""
    return WeightsError(name, f"weights did not load: {error}", "give --weights FILE")
