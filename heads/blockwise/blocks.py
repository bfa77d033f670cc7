"""Rows of a store read by blocks, part after part: what does not fit in memory is never there.

What stays is a few bytes a row: its class, its fold, and whether it is wanted.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from headstock.heads.rows.adapted import seen_by
from headstock.heads.rows.folds import USUAL_FOLDS, FoldPlan
from headstock.heads.rows.labelled import parts_of, tells_copies
from headstock.store.errors import HeadError, IncompleteSet, OptionError
from headstock.store.manifest.splits import splits_of

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = ["BLOCK", "Block", "Streamed", "read_streamed"]

BLOCK = 32 << 20
"""Bytes of float32 vectors in a block."""
UNUSED = -2
HELD = {"test": -1, "valid": -3}
"""In place of a fold: the split of a row that is held out."""


@dataclass(frozen=True)
class Block:
    """b rows: X (b, d) float32, codes (b,) into the classes, fold (b,) with a number of HELD for a
    held-out split, mark (b,) uint64: a number by which rows can be sampled alike in every pass."""

    X: np.ndarray
    codes: np.ndarray
    fold: np.ndarray
    mark: np.ndarray


@dataclass
class Streamed:
    """The wanted rows of a store. codes (n,) int32, fold (n,) int16 (UNUSED where not wanted),
    mark (n,) uint64, over all n rows of the store; classes (k,). group: the column whose values
    stay in one fold, if any."""

    store: StoreReader
    on: str
    classes: np.ndarray
    codes: np.ndarray
    fold: np.ndarray
    mark: np.ndarray
    folds: int
    account: dict[str, Any] = field(default_factory=dict)
    group: str | None = None

    def where(self, split: str = "") -> np.ndarray:
        """The numbers of the training rows in the store's order, or of a held-out split's."""
        return np.flatnonzero(self.fold == HELD[split] if split else self.fold >= 0)

    def groups(self, split: str = "") -> np.ndarray | None:
        """Which of these rows belong together; None where no column was asked for."""
        return None if self.group is None else self.mark[self.where(split)]

    @property
    def dim(self) -> int:
        return sum(self.store.declared(name).dim for name in parts_of(self.on))

    def blocks(self, split: str = "") -> Iterator[Block]:
        """The training rows in the store's order, or those of a held-out split. Raises HeadError
        for values that are not finite."""
        step = max(1, BLOCK // (4 * self.dim))
        for own, part in self.store.each():
            fold = self.fold[own]
            local = np.flatnonzero(fold == HELD[split] if split else fold >= 0)
            for start in range(0, len(local), step):
                rows = local[start : start + step]
                X = part.matrix(list(parts_of(self.on)), rows)[0]
                if not np.isfinite(X).all():
                    raise HeadError(part.path, "vectors are not finite", "extract them again")
                rows = rows + own.start
                yield Block(X, self.codes[rows], self.fold[rows], self.mark[rows])


def read_streamed(
    store: StoreReader,
    on: str,
    *,
    folds: int | None = None,
    group: str | None = None,
    seed: int = 0,
    missing: str = "refuse",
) -> Streamed:
    """Look at every row's text once and keep its class and fold; no vector is read.

    The fold of a row is a hash of its group, or of the bytes of the file that the first set of
    ``on`` was made from: rows of one group, or with the same bytes, are never parted, and the fold
    of a row does not depend on what else the store holds. Folds are as stratified as chance makes
    many rows. Raises what ``read_rows`` raises.
    """
    folds = USUAL_FOLDS if folds is None else folds
    if not isinstance(folds, int) or not 2 <= folds < 1 << 15:
        told = "a saved plan" if isinstance(folds, FoldPlan) else repr(folds)
        raise OptionError("folds", f"{told} is no plan for rows by blocks", "a number from 2")
    if missing not in ("refuse", "exclude"):
        raise OptionError("missing", f"{missing!r} is no setting here", "use refuse or exclude")
    sets = list(dict.fromkeys(parts_of(on)))
    for name in sets:
        if seen_by(store.feature_set(name)) is not None:
            what = "its network saw labels, and blocks do not keep its folds apart"
            raise OptionError(f"set {name}", what, "read it at once, without --stream")
    n = store.n
    codes, fold = np.full(n, -1, np.int32), np.full(n, UNUSED, np.int16)
    mark = np.empty(n, np.uint64)
    known: dict[str, int] = {}
    forms: dict[str, str] = {}  # labels that differ in Unicode form alone are one class
    labelled = lacking = 0
    for own, part in store.each():
        items = part.items.take(np.arange(own.stop - own.start))
        there = items.label != ""
        if not there.any():
            _marks(part, items, sets[0], group, mark[own], seed)
            continue
        here = all(name in part.sets for name in sets)
        complete = part.complete(sets)[: len(items)] if here else np.zeros(len(items), bool)
        lacking += int((there & ~complete).sum())
        labelled += int(there.sum())
        words, index = np.unique(items.label[there].astype(str), return_inverse=True)
        one = [forms.setdefault(unicodedata.normalize("NFC", str(w)), str(w)) for w in words]
        numbers = np.array([known.setdefault(word, len(known)) for word in one])
        codes[own.start + np.flatnonzero(there)] = numbers[index]
        _marks(part, items, sets[0], group, mark[own], seed)
        splits = splits_of(items.split, items.id, part.path)
        own_fold = ((mark[own] >> np.uint64(16)) % np.uint64(folds)).astype(np.int16)
        for split, number in HELD.items():
            own_fold = np.where(splits == split, number, own_fold)
        fold[own] = np.where(there & complete, own_fold, UNUSED)
    if not labelled:
        raise HeadError(store.path, "no row has a label", "add labels to the manifest")
    if lacking and missing == "refuse":
        raise IncompleteSet(
            store.path,
            f"{lacking} of {labelled} labelled rows have no vector in {' or '.join(sets)}",
            "run extract again, or leave them out by --missing exclude",
        )
    names = np.array(list(known), dtype=object)
    labels = np.bincount(codes[codes >= 0], minlength=len(names))
    seen = np.bincount(codes[fold != UNUSED], minlength=len(names)) > 0
    order = np.argsort(names.astype(str))
    order = order[seen[order]]
    classes = names[order]
    place = np.full(len(names), -1, np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    codes[codes >= 0] = place[codes[codes >= 0]]
    train = np.bincount(codes[fold >= 0], minlength=len(classes))
    if (train > 0).sum() < 2 or (train == 0).any():
        alien = [str(c) for c in classes[train == 0][:5]]
        what = f"no training row of class {', '.join(alien)}" if alien else "one class alone"
        raise HeadError(
            store.path, what, "a head needs rows of each class, outside the held-out splits"
        )
    account = {
        "rows": n,
        "train": int((fold >= 0).sum()),
        **{split: int((fold == number).sum()) for split, number in HELD.items()},
        "unlabelled": n - labelled,
        "excluded_incomplete": lacking,
        "vectorless": dict(zip(names[~seen].tolist(), labels[~seen].tolist(), strict=True)),
        "unseen": {name: len(marked) for name in sets if (marked := store.unseen(name))},
        "sets": sets,
    }
    return Streamed(store, on, classes, codes, fold, mark, folds, account, group)


def _marks(part: Any, items: Any, name: str, group: str | None, out: np.ndarray, seed: int) -> None:
    """A 64-bit hash of each row's group, or of its file's bytes; of its id where it has neither."""
    digest = np.zeros((len(items), 32), np.uint8)
    if name in part.sets and tells_copies(part.feature_set(name)):
        digest = np.ascontiguousarray(part.feature_set(name).digest[: len(items)])
    values = digest[:, :8].copy().view("<u8")[:, 0]
    own = np.flatnonzero(~digest.any(axis=1))
    values[own] = [_hash(f"id {i}") for i in items.id[own]]
    if group is not None:
        try:
            column = items.column(group)
        except KeyError as error:
            raise OptionError(
                "group", f"there is no column {group}", f"one of {error.args[0]}"
            ) from error
        words, index = np.unique(column.astype(str), return_inverse=True)
        same = [unicodedata.normalize("NFC", str(word)) for word in words]
        hashes = np.array([_hash(f"group {word}") for word in same], dtype=np.uint64)
        values = np.where(column != "", hashes[index], values)
    out[:] = _mixed(values.astype(np.uint64), seed)


def _hash(text: str) -> int:
    raw = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(raw, "little")


def _mixed(values: np.ndarray, seed: int) -> np.ndarray:
    """splitmix64 (Steele, Lea, Flood 2014) of each value, moved by ``seed``."""
    z = values + np.uint64((0x9E3779B97F4A7C15 * (seed + 1)) % (1 << 64))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
