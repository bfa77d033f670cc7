"""Whose labels a network saw: the rows it was adapted on, by content, and the fold of each.

A vector from a network that was trained on the row's own label knows the label; scored as if it did
not, any head looks brilliant. So a network that was adapted carries the list of what it saw: with
its weights, in the recipe (by digest) and in the provenance of every set that it filled.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Seen", "keys_of"]

KEY = 8  # bytes of a digest that name a row: a million rows collide with odds of 1 in 37 million
NO_FOLD = 255


def keys_of(digests: np.ndarray) -> np.ndarray:
    """(n,) uint64 names of rows whose content has sha256 ``digests`` (n, 32) uint8."""
    return np.ascontiguousarray(digests[:, :KEY]).view(">u8").ravel().astype(np.uint64)


@dataclass(frozen=True)
class Seen:
    """The m labelled rows of one adaptation.

    keys (m,) uint64, sorted, unique; fold (m,) uint8: which fold held each row out, NO_FOLD all
    over where there were no folds. ``folds``: how many. ``own``: the fold whose rows this network
    did not see; None for the network that saw them all.
    """

    keys: np.ndarray
    fold: np.ndarray
    folds: int = 0
    own: int | None = None

    @classmethod
    def of(
        cls, digests: np.ndarray, fold: np.ndarray | None = None, own: int | None = None
    ) -> Seen:
        """From the digests (n, 32) of the rows, alike ones included, and their folds (n,)."""
        keys, first = np.unique(keys_of(digests), return_index=True)
        folds = 0 if fold is None else int(fold.max()) + 1
        held = np.full(len(keys), NO_FOLD) if fold is None else np.asarray(fold)[first]
        return cls(keys, held.astype(np.uint8), folds, own)

    @property
    def digest(self) -> str:
        """sha256 of keys and folds: the same for all networks of one adaptation."""
        return hashlib.sha256(self._bytes()).hexdigest()

    def _bytes(self) -> bytes:
        return self.keys.astype(">u8").tobytes() + self.fold.tobytes()

    def saw(self, digests: np.ndarray) -> np.ndarray:
        """(n,) bool: whether this network saw the label of each row of content ``digests``."""
        fold = self.fold_of(digests)
        return (fold >= 0) & (fold != (-1 if self.own is None else self.own))

    def fold_of(self, digests: np.ndarray) -> np.ndarray:
        """(n,) the fold that held each row out, NO_FOLD without folds; -1 for rows never seen."""
        asked = keys_of(digests)
        at = np.minimum(np.searchsorted(self.keys, asked), len(self.keys) - 1)
        return np.where(self.keys[at] == asked, self.fold[at].astype(np.int64), -1)

    def summary(self) -> dict[str, Any]:
        """What goes into a recipe: which fold, of how many, of which rows."""
        return {"fold": self.own, "folds": self.folds, "labels": self.digest}

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data, 12 bytes a row."""
        packed = base64.b64encode(self._bytes()).decode("ascii")
        return {**self.summary(), "rows": len(self.keys), "seen": packed}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Seen:
        """The inverse. Raises ValueError when the list is not the one that its digest names."""
        try:
            m = int(body["rows"])
            raw = base64.b64decode(body["seen"], validate=True)
            keys = np.frombuffer(raw, ">u8", m).astype(np.uint64)
            fold = np.frombuffer(raw, np.uint8, offset=m * KEY)
            own = None if body["fold"] is None else int(body["fold"])
            made = cls(keys, fold, int(body["folds"]), own)
            whole = m > 0 and len(fold) == m and made.digest == body["labels"]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"no list of seen rows: {error}") from error
        if not whole or (keys[1:] <= keys[:-1]).any():
            raise ValueError("the list of seen rows is not the one that was written")
        return made
