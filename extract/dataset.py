"""A store as a torch Dataset: vectors and class numbers, read where they lie.

Importing this file imports torch; nothing else in this package imports this file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from headstock.store import StoreReader, open_store
from headstock.store.errors import OptionError
from headstock.store.manifest.splits import in_split

__all__ = ["FeatureDataset"]


class FeatureDataset(Dataset[tuple[torch.Tensor, int]]):
    """The complete rows of a store, one ``(vector, class number)`` an item.

    The vector is (d,) float32 of the sets side by side, the number counts in ``classes`` (k,), -1
    for a row without a label. ``ids`` (m,) names the items, ``left_out`` counts rows of the split
    that lack a vector in one of the sets, ``spans`` has each set's columns.

    Nothing is read before it is asked for, and a DataLoader's batch is read in one go. In each
    process that works for a DataLoader the store is opened anew.

    path: the store. sets: which, all by default. split: only this one, such as ``train``.
    labelled: leave rows without a label out. Raises OptionError, MissingSet, and what opening a
    store raises.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sets: Sequence[str] | None = None,
        split: str | None = None,
        labelled: bool = False,
    ) -> None:
        self.path = os.fspath(path)
        with open_store(self.path) as store:
            self.sets = list(sets or store.sets)
            if not self.sets:
                raise OptionError(path, "has no feature set", "run `headstock extract` first")
            items = store.items
            wanted = np.ones(store.n, dtype=bool) if split is None else in_split(items.split, split)
            if labelled:
                wanted = wanted & (items.label != "")
            complete = store.complete(self.sets)
            self.rows = np.flatnonzero(wanted & complete)
            self.left_out = int((wanted & ~complete).sum())
            if not len(self.rows):
                raise OptionError(path, "no complete row is left", "see headstock store info")
            self.ids = items.id[self.rows].astype(str)
            labels = items.label[self.rows].astype(str)
            self.classes = sorted(set(labels) - {""})
            number = {name: k for k, name in enumerate(self.classes)}
            self.targets = torch.tensor([number.get(v, -1) for v in labels], dtype=torch.int64)
            self.spans, at = {}, 0
            for name in self.sets:
                dim = store.declared(name).dim
                self.spans[name] = slice(at, at := at + dim)
            self.dim = at
        self._store: StoreReader | None = None
        self._process = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> tuple[torch.Tensor, int]:
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[int]) -> list[tuple[torch.Tensor, int]]:
        """A batch at once; torch's loader asks for it where it is there."""
        wanted = np.asarray(items, dtype=np.int64)
        # the store wants each row once and in order; a sampler may draw otherwise
        some, back = np.unique(self.rows[wanted], return_inverse=True)
        X, _ = self._open().matrix(self.sets, some)
        vectors = torch.from_numpy(np.array(X[back], dtype=np.float32))
        return [(vectors[k], int(self.targets[i])) for k, i in enumerate(wanted.tolist())]

    def _open(self) -> StoreReader:
        """The store, opened by this very process: file positions are not shared over a fork."""
        if self._store is None or self._process != os.getpid():
            self._store, self._process = open_store(self.path), os.getpid()
        return self._store

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_store": None}
