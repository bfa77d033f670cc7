"""The Encoder protocol: what turns the bytes of one file into one vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from headstock.store.recipe import Recipe

__all__ = ["Encoder", "Loader"]


@runtime_checkable
class Loader(Protocol):
    """Decodes and preprocesses one file. Runs in worker processes, so it must pickle, start fast
    (no torch), be hashable and be the same function of the bytes everywhere.

    It may work in two steps, so that loaders share the first: ``decode(data)``, then
    ``transform(decoded)``, which leaves its argument as it is. Loaders decode alike when their
    ``decoding`` (hashable) is equal. What ``decode`` gives may be an iterator of blocks."""

    def __call__(self, data: bytes) -> Any:
        """The decoded item (an array). Raises ItemError with a code when ``data`` is not one.

        It takes bytes and not a path: what was hashed is then what was decoded, even when the file
        is replaced while it is read.
        """
        ...


@runtime_checkable
class Encoder(Protocol):
    """``name``: how a user asks for it. ``modality``: which input of a row it reads (``image`` or
    ``audio``). ``dim``: d, the length of a vector. ``loader``: runs beside it in worker processes.

    The contract: ``encode`` gives a vector that depends on its own item alone (not on its
    neighbours in the batch beyond rounding), is deterministic, and leaves no state behind;
    ``recipe`` names everything that changes the vector, and is known before the first item.
    """

    name: str
    modality: str
    dim: int

    @property
    def loader(self) -> Loader:
        """What turns bytes into an item."""
        ...

    def recipe(self) -> Recipe:
        """What determines the vector; see Recipe."""
        ...

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        """(b, d) float32 vectors of b decoded items, b >= 1."""
        ...
