"""Sets that are views of one network share its passes: the picture goes through it once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headstock.extract.encoder import Encoder, Status
from headstock.store.errors import ItemError
from headstock.store.recipe import Recipe

if TYPE_CHECKING:
    from headstock.extract.encoders.network import Flight, NetworkEncoder
    from headstock.extract.runtimes.views import View

__all__ = ["Passes", "SharedView"]

HELD = 8  # batches whose other views may still be asked for


@dataclass
class Batch:
    """``items`` under way (held, so that their identity stays theirs), asked for by ``users`` views
    so far, and, later, ``raw`` and each view's share of the seconds."""

    items: list[np.ndarray]
    flight: Flight
    users: int = 0
    raw: np.ndarray | None = None
    model: float = 0.0
    transfer: float = 0.0


class Passes:
    """The passes of one network for several views; a batch that was started for one is there for
    the others, when they ask with the very same items."""

    def __init__(self, encoder: NetworkEncoder, views: Sequence[View]) -> None:
        self.encoder, self.views = encoder, len(views)
        self.forward = encoder.forward_of(views)
        self._batches: OrderedDict[tuple[int, ...], Batch] = OrderedDict()

    def start(self, items: Sequence[np.ndarray]) -> Batch:
        key = tuple(map(id, items))
        batch = self._batches.get(key)
        if batch is None:
            batch = Batch(list(items), self.encoder.start_on(self.forward, items))
            self._batches[key] = batch
            while len(self._batches) > HELD:
                self._batches.popitem(last=False)
        batch.users += 1
        if batch.users == self.views:
            self._batches.pop(key, None)
        return batch

    def finish(self, batch: Batch) -> np.ndarray:
        if batch.raw is None:
            forward = self.forward
            model, transfer = forward.model_seconds, forward.transfer_seconds
            batch.raw = forward.finish(batch.flight.tiles)
            batch.model = (forward.model_seconds - model) / self.views
            batch.transfer = (forward.transfer_seconds - transfer) / self.views
        return batch.raw


class SharedView(Encoder):
    """One set's view of passes that it shares; everything else is its own encoder's."""

    def __init__(self, encoder: NetworkEncoder, passes: Passes) -> None:
        self._encoder, self._passes = encoder, passes
        self.name, self.modality, self.dim = encoder.name, encoder.modality, encoder.dim
        self.loader, self.on_cpu, self.devices = encoder.loader, encoder.on_cpu, encoder.devices
        self.batch_size, self.in_flight = passes.forward.batch_size, passes.forward.in_flight
        self._model_seconds = self._transfer_seconds = 0.0

    def recipe(self) -> Recipe:
        return self._encoder.recipe()

    def provenance(self) -> dict[str, Any]:
        return self._encoder.provenance()

    def encode(self, items: Sequence[np.ndarray]) -> np.ndarray:
        return self.finish(self.start(items))

    def start(self, items: Sequence[np.ndarray]) -> Batch:
        return self._passes.start(items)

    def finish(self, batch: Batch) -> np.ndarray:
        raw = self._passes.finish(batch)
        self._model_seconds += batch.model
        self._transfer_seconds += batch.transfer
        return self._passes.forward.take(raw, self._encoder.view)

    def refused(self, batch: Batch) -> Mapping[int, ItemError]:
        return batch.flight.refused

    def abandon(self, batch: Batch) -> None:
        self._encoder.abandon(batch.flight)

    def status(self) -> Status:
        """Of the passes, with this view's share of the seconds."""
        return replace(
            self._passes.forward.status(),
            model_seconds=self._model_seconds,
            transfer_seconds=self._transfer_seconds,
        )
