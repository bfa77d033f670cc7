"""Sets that are views of one network share its passes: the picture goes through it once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from headstock.extract.encoder import Encoder

__all__ = ["joined"]

HELD = 8  # batches whose other views may still be asked for


def joined(encoders: Mapping[str, Encoder], todo: Mapping[str, bytes]) -> dict[str, Encoder]:
    """``encoders`` by set name; those with the same ``trunk``, and the same in ``todo`` to do,
    replaced by shares of one pass."""
    alike: dict[Any, list[str]] = {}
    for name, encoder in encoders.items():
        if todo[name]:
            alike.setdefault((getattr(encoder, "trunk", name), todo[name]), []).append(name)
    out = dict(encoders)
    for names in alike.values():
        if len(names) > 1:
            passes = _Passes([encoders[name] for name in names])
            out.update({name: _Share(encoders[name], passes) for name in names})
    return out


class _Passes:
    """The passes of one network for several views; a batch that was started for one is there for
    the others, when they ask with the very same items."""

    def __init__(self, encoders: Sequence[Any]) -> None:
        self.views = len(encoders)
        self.forward = encoders[0].forward_of([encoder.view for encoder in encoders])
        self.begin = partial(encoders[0].start_on, self.forward)
        self._batches: OrderedDict[tuple[int, ...], _Batch] = OrderedDict()

    def start(self, items: Sequence[np.ndarray]) -> _Batch:
        key = tuple(map(id, items))
        batch = self._batches.get(key)
        if batch is None:
            batch = self._batches[key] = _Batch(list(items), self.begin(items))
            while len(self._batches) > HELD:
                self._batches.popitem(last=False)
        batch.users += 1
        if batch.users == self.views:
            self._batches.pop(key, None)
        return batch

    def finish(self, batch: _Batch) -> np.ndarray:
        if batch.raw is None:
            forward = self.forward
            model, transfer = forward.model_seconds, forward.transfer_seconds
            batch.raw = forward.finish(batch.flights)
            batch.model = (forward.model_seconds - model) / self.views
            batch.transfer = (forward.transfer_seconds - transfer) / self.views
        return batch.raw


class _Batch:
    """``items`` under way (held, so that their identity stays theirs) and, later, ``raw`` and each
    set's share of the seconds."""

    def __init__(self, items: list[np.ndarray], flights: list[Any]) -> None:
        self.items, self.flights, self.users = items, flights, 0
        self.errors = getattr(flights, "errors", {})
        self.raw: np.ndarray | None = None
        self.model = self.transfer = 0.0


class _Share:
    """One set's view of passes that it shares; everything else is its own encoder's."""

    def __init__(self, encoder: Any, passes: _Passes) -> None:
        self._encoder, self._passes = encoder, passes
        self.batch_size, self.in_flight = passes.forward.batch_size, passes.forward.in_flight
        self.model_seconds = self.transfer_seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    @property
    def start_seconds(self) -> float:
        return self._passes.forward.start_seconds

    @property
    def runtime(self) -> str:
        return self._passes.forward.runtime

    @property
    def note(self) -> str:
        return self._passes.forward.note

    def encode(self, items: Sequence[np.ndarray]) -> np.ndarray:
        return self.finish(self.start(items))

    def start(self, items: Sequence[np.ndarray]) -> _Batch:
        return self._passes.start(items)

    def finish(self, batch: _Batch) -> np.ndarray:
        raw = self._passes.finish(batch)
        self.model_seconds += batch.model
        self.transfer_seconds += batch.transfer
        return self._passes.forward.take(raw, self._encoder.view)

    def abandon(self, batch: _Batch) -> None:
        self._passes.forward.abandon(batch.flights)
