"""The contract of what turns the bytes of one file into one vector.

``Encoder`` and ``Loader`` declare everything that is asked of an encoder, anywhere; what is not
abstract has an answer that suits most. ``headstock.extract.check_encoder`` tests any encoder of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstock.store.errors import ItemError, OptionError
from headstock.store.recipe import Recipe

__all__ = ["Encoder", "Loader", "Status", "refuse_unlike"]


class Loader(ABC):
    """Decodes and preprocesses one file. Runs in worker processes, so it must pickle, start fast
    (no torch), be hashable and be the same function of the bytes everywhere.

    It works in two steps, so that loaders of one pass share the first: ``transform`` of what
    ``decode`` gives. ``way``: how pictures are decoded, for an account.
    """

    way: str = ""

    @property
    def decoding(self) -> Hashable:
        """Loaders decode alike when theirs are equal; by itself a loader is like its equals."""
        return self

    @abstractmethod
    def decode(self, data: bytes) -> Any:
        """What is in ``data``; an iterator when it comes in blocks. Raises ItemError with a code
        when it is not what it should be.

        It takes bytes and not a path: what was hashed is then what was decoded, even when the file
        is replaced while it is read.
        """

    def transform(self, decoded: Any) -> Any:
        """The item (an array) of what was decoded, which stays as it is. Raises ItemError."""
        return decoded

    def __call__(self, data: bytes) -> Any:
        """The item of ``data``. Raises ItemError."""
        return self.transform(self.decode(data))


@dataclass(frozen=True)
class Status:
    """What computes, and what it took so far. ``runtime`` and ``precision``: by their names;
    ``note``: what should be known of the choice. Seconds: ``start`` in preparing, ``model`` in
    which the device computed, ``transfer`` to it and back; ``model`` is None where the caller's own
    clock around ``start`` and ``finish`` tells as much. ``device_bytes``: the accelerator's peak.
    """

    runtime: str = ""
    precision: str = ""
    note: str = ""
    start_seconds: float = 0.0
    model_seconds: float | None = None
    transfer_seconds: float = 0.0
    device_bytes: int = 0


class Encoder(ABC):
    """``name``: how a user asks for it. ``modality``: which input of a row it reads (``image`` or
    ``audio``). ``dim``: d, the length of a vector. ``loader``: runs beside it in worker processes.
    ``dtype``: how vectors are stored, ``float32`` or ``float16``. ``feature_names``: of the d
    values, where they have any. ``batch_size``: items a batch, unless a user says otherwise;
    ``in_flight``: batches under way at a time. ``on_cpu``: ``encode`` keeps cores busy, so that
    workers begin with half of them; ``devices``: how many of its device this machine has, each of
    which may have a process that wants its share of the cores.

    The contract: ``encode`` gives a vector that depends on its own item alone (not on its
    neighbours in the batch beyond rounding), is deterministic, and leaves no state behind;
    ``recipe`` names everything that changes the vector, and is known before the first item.
    """

    name: str
    modality: str
    dim: int
    loader: Loader
    dtype: str = "float32"
    feature_names: Sequence[str] | None = None
    batch_size: int = 32
    in_flight: int = 1
    on_cpu: bool = False
    devices: int = 1

    @abstractmethod
    def recipe(self) -> Recipe:
        """What determines the vector; see Recipe."""

    def provenance(self) -> dict[str, Any]:
        """What is recorded beside the vectors and changes nothing, as plain data."""
        return {}

    @abstractmethod
    def encode(self, items: Sequence[Any]) -> np.ndarray:
        """(b, d) float32 vectors of b items of the loader, b >= 1."""

    def start(self, items: Sequence[Any]) -> Any:
        """Begin a batch and give what ``finish`` takes; a device computes while files are read."""
        return self.encode(items)

    def finish(self, flight: Any) -> np.ndarray:
        """(b, d) float32 of a batch that ``start`` began."""
        return np.asarray(flight, dtype=np.float32)

    def refused(self, flight: Any) -> Mapping[int, ItemError]:
        """Items of a batch that turned out to be none, by position; their vectors do not count."""
        return {}

    def abandon(self, flight: Any) -> None:  # noqa: B027  most have nothing to drop
        """Drop a batch that ``start`` began: what has not begun will not."""

    def prepare(self, batch: int) -> None:  # noqa: B027  most are prepared
        """Expect batches of ``batch`` items, and do now what the first would wait for."""

    def status(self) -> Status:
        """What computes, and what it took so far."""
        return Status()

    @property
    def trunk(self) -> Hashable | None:
        """Encoders whose trunk is equal, and not None, can share passes; see ``shared``."""
        return None

    def shared(self, encoders: Sequence[Any]) -> Sequence[Encoder]:
        """``encoders`` of one trunk, itself among them, as encoders that compute the trunk once
        for items that each of them is given."""
        return encoders


def refuse_unlike(where: str, encoder: object) -> None:
    """Raises OptionError when ``encoder``, or its loader, is not what it claims to be."""
    for what, kind in ((encoder, Encoder), (getattr(encoder, "loader", None), Loader)):
        if not isinstance(what, kind):
            raise OptionError(
                where, f"{type(what).__name__} is no {kind.__name__}",
                f"inherit headstock.extract.{kind.__name__}",
            )  # fmt: skip
