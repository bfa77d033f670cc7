"""A network as an Encoder: uint8 pictures in, pooled float32 vectors out, on any device."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

import headstock
from headstock.extract.decode.device_jpeg import DEVICES, DeviceLoader, judge_device, pixels_on
from headstock.extract.decode.preprocess import ImageLoader, Preprocess
from headstock.extract.encoder import Encoder, Status
from headstock.extract.encoders.checkpoint import digest
from headstock.extract.encoders.shared import Passes, SharedView
from headstock.extract.runtimes.eager import PRECISIONS
from headstock.extract.runtimes.forward import Forward
from headstock.extract.runtimes.views import View, Whole
from headstock.store.errors import ItemError, OptionError, WeightsError
from headstock.store.recipe import Recipe
from headstock.store.seen import Seen

__all__ = ["Network", "NetworkEncoder", "pick_device"]

DECODES = ("full", "fast", "device")
OF_A_VIEW = {"pooling", "layer", "tokens", "flip"}


@dataclass
class Network:
    """What a library builds: ``module`` maps (b, 3, h, w) normalised to (b, d) pooled features.

    ``seed`` is set when the weights are untrained; ``file`` is the weights file that was given,
    ``source`` says in words where weights came from, ``versions`` what built it; ``seen`` is set
    when the weights were adapted on labels of rows that may be encoded now. ``digest``: of the
    file, where the weights are no tensors of ``module``; ``more``: further fields of the recipe.
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
    digest: str = ""
    more: dict[str, Any] = field(default_factory=dict)


def pick_device(asked: str) -> torch.device:
    """The torch device for ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises OptionError when it is not there.
    """
    kind, numbered, number = asked.partition(":")
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
    if numbered and not (number.isdecimal() and int(number) < _devices(kind)):
        here = ", ".join(f"{kind}:{i}" for i in range(_devices(kind)))
        raise OptionError(f"device {asked}", "is not available here", f"one of: {here}")
    return torch.device(asked)


def _devices(kind: str) -> int:
    return torch.cuda.device_count() if kind == "cuda" else 1


class NetworkEncoder(Encoder):
    """Encodes pictures with ``network``, as ``view`` says what of it; see ``Forward`` for how.

    ``runtime``: ``auto``, ``torch`` or ``openvino``. It is in the provenance and not in the recipe,
    for it changes a vector by no more than the class of its precision allows (``TOLERANCE``).
    ``decode``: ``full``, ``fast`` or, on CUDA, ``device``; each is a recipe. ``threads``: how many
    compute on a CPU. ``device``: as for ``pick_device``, or ``elsewhere``: another machine encodes,
    here only the recipe and the dimension are asked for.
    """

    modality = "image"
    loader: ImageLoader | DeviceLoader

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
        runtime: str = "auto",
        view: View | None = None,
    ) -> None:
        if decode not in DECODES:
            raise OptionError("decode", f"{decode!r} is not known", ", ".join(DECODES))
        if precision not in PRECISIONS:
            raise OptionError("precision", f"{precision!r} is not known", ", ".join(PRECISIONS))
        self.name, self.network, self.precision = name, network, precision
        elsewhere = device == "elsewhere"
        self.device = pick_device("cpu" if elsewhere else device)
        self.view = view or View()
        self.loader = ImageLoader(network.preprocess, decode == "fast")
        if decode == "device":
            if self.device.type not in DEVICES and not elsewhere:
                raise OptionError("--decode device", "needs a CUDA device", "--decode full or fast")
            self.loader = DeviceLoader(network.preprocess)
            if not elsewhere:
                judge_device(self.device)
        self._digest = network.digest or digest(network.module)
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        if self.device.type == "cuda":  # fp32 is to mean fp32; TF32 changes the fourth digit
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
            torch.backends.cudnn.benchmark = True  # batches have one shape: worth a search
        self._options = runtime, compile, tile, threads
        self._forwards: dict[tuple[View, ...], Forward] = {}
        self.forward = self.forward_of([self.view])
        self.batch_size, self.in_flight = self.forward.batch_size, self.forward.in_flight
        self.on_cpu, self.devices = self.device.type == "cpu", _devices(self.device.type)
        self.dim = self._probe()

    def forward_of(self, views: Sequence[View]) -> Forward:
        """The passes that give ``views`` of this network; made once, for starting them costs."""
        if (made := self._forwards.get(tuple(views))) is not None:
            return made
        module = self.network.module.eval().requires_grad_(False)
        whole = Whole(module, self.network.preprocess, views).eval()
        whole.layout = self._layout
        whole.to(self.device, memory_format=self._layout)  # type: ignore[call-overload]
        made = Forward(whole, self.device, self.precision, *self._options)
        self._forwards[tuple(views)] = made
        return made

    def _probe(self) -> int:
        """d, by one forward pass. Raises OptionError when the network does not take this size."""
        h, w = self.network.preprocess.crop
        blank = torch.zeros((1, h, w, 3), dtype=torch.uint8, device=self.device)
        try:
            with torch.inference_mode():
                raw = self.forward.torch.probe(blank).cpu().numpy()
        except (RuntimeError, AssertionError, ValueError, TypeError) as error:
            what = f"does not take {h} x {w} pictures: {error}"
            raise OptionError(self.name, what, "state --input-size or --model-arg") from error
        return int(self.forward.take(raw, self.view).shape[1])

    def prepare(self, batch: int) -> None:
        """Compile for tiles of ``batch`` pictures: a tile that one picture has to fill is waste."""
        if self.forward.tile is not None:
            self.forward.tile = min(batch, self.forward.tile)
        self.encode([np.zeros((*self.network.preprocess.crop, 3), dtype=np.uint8)] * batch)

    def status(self) -> Status:
        return self.forward.status()

    @property
    def trunk(self) -> tuple[Any, ...]:
        """Encoders that agree in this run the same network on the same pixels in the same way."""
        fields = {k: v for k, v in self.recipe().fields.items() if k not in OF_A_VIEW}
        return Recipe("image", fields).fingerprint, str(self.device), self._options, self._layout

    def shared(self, encoders: Sequence[NetworkEncoder]) -> list[Encoder]:
        """``encoders`` as views of passes that each picture goes through once."""
        passes = Passes(self, [encoder.view for encoder in encoders])
        return [SharedView(encoder, passes) for encoder in encoders]

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
            **self.view.recipe(n.pooling, self.forward.whole.plain(self.view)),
            "preprocess": n.preprocess.recipe(),
            "decoder": self.loader.recipe(),
            "precision": self.precision,
            **n.more,
        }
        return Recipe("image", fields)

    def provenance(self) -> dict[str, Any]:
        """What made the vectors but does not change them beyond the class of their precision."""
        return {
            "name": self.name,
            "weights": self.network.file,
            "source": self.network.source,
            "device": str(self.device),
            "runtime": self.forward.runtime,
            "versions": {
                "headstock": headstock.__version__,
                "python": platform.python_version(),
                **_versions(self.forward.runtime),
                **self.network.versions,
            },
            **({} if self.network.seen is None else {"adapted": self.network.seen.to_json()}),
        }

    def encode(self, items: Sequence[np.ndarray]) -> np.ndarray:
        """(b, d) float32 from b pictures (h, w, 3) uint8."""
        return self.finish(self.start(items))

    def start(self, items: Sequence[np.ndarray]) -> Flight:
        return self.start_on(self.forward, items)

    def start_on(self, forward: Forward, items: Sequence[np.ndarray]) -> Flight:
        """``start`` on passes that several sets share."""
        if isinstance(self.loader, DeviceLoader):
            pixels, refused = pixels_on(self.device, items, self.network.preprocess)
            return Flight(forward.start_pixels(pixels), refused)
        return Flight(forward.start(items))

    def finish(self, flight: Flight) -> np.ndarray:
        return self.forward.take(self.forward.finish(flight.tiles), self.view)

    def refused(self, flight: Flight) -> dict[int, ItemError]:
        """What the device could not decode, and the host neither."""
        return flight.refused

    def abandon(self, flight: Flight) -> None:
        self.forward.abandon(flight.tiles)


@dataclass
class Flight:
    """A batch under way: what ``Forward.start`` gave, and the items that nobody could decode."""

    tiles: list[Any]
    refused: dict[int, ItemError] = field(default_factory=dict)


def _versions(runtime: str) -> dict[str, str]:
    versions = {"torch": str(torch.__version__)}
    if runtime == "openvino":
        from importlib.metadata import version

        versions["openvino"] = version("openvino")
    return versions


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
