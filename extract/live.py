"""Single uploads into the vectors that a model reads, for a service that answers while it runs.

Decoding is done by the same worker processes as extraction: a hostile file is bounded in time and
memory, and costs its own request.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from headstock.extract.decode.reading import Task
from headstock.extract.decode.workers import Workers
from headstock.extract.encoder import Encoder
from headstock.extract.encoders.backbones import encoder_from_recipe
from headstock.store.datafile import Reader
from headstock.store.errors import BundleError, ItemError
from headstock.store.recipe import Recipe

__all__ = ["Live"]


class Live:
    """Encodes by the recipes of a model; called with {modality: bytes} it gives {set: (1, d)}.

    ``lanes`` calls may run beside each other, each with a worker process for every set.
    ``seconds`` and ``memory`` (bytes beyond a worker's own) bound the decoding of one file, which
    is tried twice. Uploaded bytes lie in a private temporary folder, under a number, while their
    call lasts. ``modalities``: what a call takes. Close it, or use it as a context.

    Raises BundleError for a set that is made of a table's columns, and what
    ``encoder_from_recipe`` raises.
    """

    def __init__(
        self,
        recipes: Mapping[str, Recipe],
        *,
        provenance: Mapping[str, Mapping[str, Any]] | None = None,
        weights: str | Path | None = None,
        device: str = "auto",
        offline: bool = False,
        lanes: int = 2,
        seconds: float = 10.0,
        memory: int = 1 << 30,
        max_bytes: int = 64 << 20,
    ) -> None:
        self._encoders: dict[str, Encoder] = {}
        for name, recipe in recipes.items():
            if recipe.modality not in ("image", "audio"):
                what = f"is made of {recipe.modality}, and single files hold none"
                raise BundleError(f"set {name}", what, "predict a manifest instead")
            self._encoders[name] = encoder_from_recipe(
                recipe,
                weights_hint=weights,
                provenance=(provenance or {}).get(name),
                device=device,
                offline=offline,
            )
        self.modalities = tuple(dict.fromkeys(r.modality for r in recipes.values()))
        self._made = ExitStack()
        self._folder = Path(self._made.enter_context(_private_folder()))
        self._reader = Reader(str(self._folder), (os.path.realpath(self._folder),), max_bytes)
        self._bounds: dict[str, Any] = {"seconds": seconds, "memory": memory}
        self._number = itertools.count()
        self._lanes = {name: self._idle(encoder, lanes) for name, encoder in self._encoders.items()}

    def _idle(self, encoder: Encoder, lanes: int) -> queue.SimpleQueue[Workers]:
        out: queue.SimpleQueue[Workers] = queue.SimpleQueue()
        for _ in range(lanes):
            out.put(self._workers(encoder))
        return out

    def _workers(self, encoder: Encoder) -> Workers:
        return Workers(self._reader, encoder.loader, 1, window=1, **self._bounds)

    def start(self) -> None:
        """Start the worker processes and the networks, so that the first call need not wait."""
        for name, lanes in self._lanes.items():
            waiting = [lanes.get() for _ in range(lanes.qsize())]
            for workers in waiting:
                list(workers.run([Task(next(self._number), "nothing-here")]))
                self._lanes[name].put(workers)
        for encoder in self._encoders.values():
            encoder.prepare(1)

    def __call__(self, files: Mapping[str, bytes]) -> dict[str, np.ndarray]:
        """{set: (1, d) float32} of the sets whose modality is among ``files``.

        Raises ItemError with the modality and the code of what is wrong with its file.
        """
        out = {}
        for name, encoder in self._encoders.items():
            if encoder.modality in files:
                item = self._decoded(name, encoder, files[encoder.modality])
                out[name] = encoder.encode([item])
        return out

    def _decoded(self, name: str, encoder: Encoder, data: bytes) -> Any:
        with self._file(data) as path, self._lane(name, encoder) as workers:
            (done,) = workers.run([Task(next(self._number), path)])
        if done.error is not None:
            code, line = done.error
            what = line.removeprefix(f"{path}: ")
            raise ItemError(encoder.modality, what, code=code)
        return done.item

    @contextlib.contextmanager
    def _file(self, data: bytes) -> Iterator[str]:
        place = self._folder / str(next(self._number))
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            yield place.name
        finally:
            place.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _lane(self, name: str, encoder: Encoder) -> Iterator[Workers]:
        workers = self._lanes[name].get()
        try:
            yield workers
        except BaseException:
            workers.close()
            workers = self._workers(encoder)
            raise
        finally:
            self._lanes[name].put(workers)

    def close(self) -> None:
        """End the worker processes and remove the folder; no call may be under way."""
        for lanes in self._lanes.values():
            while not lanes.empty():
                lanes.get().close()
        self._made.close()

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _private_folder() -> Any:
    return tempfile.TemporaryDirectory(prefix="headstock-serve-")
