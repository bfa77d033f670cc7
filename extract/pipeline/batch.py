"""Rows on their way to one commit: some to be encoded, some riding along with known vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headstock.extract.decode.reading import Done
from headstock.store import FAILED, OK, Batch, Items
from headstock.store.errors import ItemError

__all__ = ["Assembly", "Rows"]


@dataclass
class Rows:
    """Rows of one batch. ``pixels``: the new items; ``slots``: their digests -> position.

    Each row is (id, digest, stat, source); the source is a position in ``pixels``, a vector (d,),
    or (code, line) of a failure. ``fresh``: how many rows were computed for this batch."""

    pixels: list[Any] = field(default_factory=list)
    slots: dict[bytes, int] = field(default_factory=dict)
    rows: list[tuple[str, bytes, tuple[int, int], Any]] = field(default_factory=list)
    fresh: set[str] = field(default_factory=set)

    def batch(self, vectors: np.ndarray, dim: int, refused: Mapping[int, ItemError]) -> Batch:
        """The store's Batch, given the (b, d) vectors of ``pixels``; ``refused``: what the encoder
        could not decode, by position. A vector that is not finite is a failure of its row, with
        code ``not-finite``.

        Raises ValueError when the encoder broke its contract on shape.
        """
        if vectors.shape != (len(self.pixels), dim):
            raise ValueError(f"encoder gave {vectors.shape}, not {(len(self.pixels), dim)}")
        b = len(self.rows)
        x = np.zeros((b, dim), dtype=np.float32)
        status = np.full(b, FAILED, dtype=np.uint8)
        errors = []
        for i, (identity, _, _, source) in enumerate(self.rows):
            if isinstance(source, tuple):
                errors.append((identity, *source))
                continue
            if isinstance(source, int) and source in refused:
                odd = refused[source]
                said = ItemError(identity, odd.what, odd.fix, odd.code)
                errors.append((identity, odd.code, str(said)))
                continue
            vector = vectors[source] if isinstance(source, int) else source
            if np.isfinite(vector).all():
                x[i], status[i] = vector, OK
            else:
                error = ItemError(identity, "its vector is not finite", "another precision")
                errors.append((identity, "not-finite", str(error)))
        return Batch(
            ids=[row[0] for row in self.rows],
            digest=np.frombuffer(b"".join(row[1] for row in self.rows), np.uint8).reshape(b, 32),
            stat=np.array([row[2] for row in self.rows], dtype=np.int64).reshape(b, 2),
            x=x,
            status=status,
            errors=errors,
        )


class Assembly:
    """Collects the next batch. ``made``: digests whose vectors exist or are under way."""

    def __init__(self, items: Items, made: set[bytes]) -> None:
        self._items, self.made = items, made
        self._next = Rows()

    @property
    def items(self) -> int:
        """New items so far."""
        return len(self._next.pixels)

    @property
    def size(self) -> int:
        """Rows so far."""
        return len(self._next.rows)

    def add(self, rows: list[int], done: Done) -> None:
        """Rows of one file; its item is encoded unless this batch holds the same bytes."""
        slot = self._next.slots.get(done.digest)
        if slot is None:
            slot = self._next.slots[done.digest] = len(self._next.pixels)
            self._next.pixels.append(done.item)
            self._next.fresh.update(self._append(rows[:1], done, slot))
            rows = rows[1:]
        self._append(rows, done, slot)

    def reuse(self, rows: list[int], done: Done, vector: np.ndarray) -> None:
        """Rows whose bytes have their vector already."""
        self._append(rows, done, vector)

    def fail(self, rows: list[int], done: Done) -> None:
        """Rows of a file that could not be read."""
        self._append(rows, done, done.error)

    def take(self) -> Rows:
        """What was collected; the next batch begins empty."""
        taken, self._next = self._next, Rows()
        self.made.update(taken.slots)
        return taken

    def _append(self, rows: list[int], done: Done, source: Any) -> list[str]:
        ids = [self._items.id[row] for row in rows]
        self._next.rows += [(i, done.digest, done.stat, source) for i in ids]
        return ids
