"""The store behind a run: where a row's picture and sound lie, its vectors, what failed."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from headstock.heads.report.saved import Saved
from headstock.heads.report.stores import open_recorded
from headstock.store.dataroot import DataRoot
from headstock.store.errors import HeadstockError, one_line

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = ["Source", "sources_of"]

LARGEST_FILE = 512 << 20


class Source:
    """One open store. ``data``: the folder that its paths are relative to, as a user says; without
    it the store's own word counts inside the store's folder. Nothing outside is read."""

    def __init__(self, store: StoreReader, data: str | Path | None = None) -> None:
        self.store = store
        self.items = store.items
        self.root = DataRoot.of(self.path, self.items.root, data)
        self._row = {id: row for row, id in enumerate(self.items.id)}

    @property
    def path(self) -> Path:
        return self.store.path

    def row(self, id: str) -> int | None:
        """The row number of ``id``."""
        return self._row.get(id)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """(m,) row numbers, -1 for an id the store does not have."""
        return np.array([self._row.get(i, -1) for i in ids], dtype=np.int64)

    def label(self, id: str) -> str:
        return str(self.items.label[self._row[id]])

    def open(self, modality: str, id: str) -> BinaryIO | None:
        """The file behind a row, to read; None when it names none, or the user must name the folder
        first (see ``note``).

        Raises ItemError when it is no plain file inside the data folder, or larger than 512 MB.
        """
        row, paths = self._row.get(id), self.items.paths.get(modality)
        if row is None or paths is None or not paths[row] or not self.root.folder:
            return None
        return io.BufferedReader(self.root.open(paths[row], LARGEST_FILE))

    @property
    def note(self) -> str:
        """Why there are no pictures and sounds; "" when nothing keeps them away."""
        if self.root.folder or not any((paths != "").any() for paths in self.items.paths.values()):
            return ""
        return f"{self.path}: {self.root.hint}; to show them: --data {one_line(self.root.named)}"


@contextmanager
def sources_of(
    runs: list[Saved], store: str | Path | None, data: str | Path | None
) -> Iterator[tuple[dict[str, Source], list[str]]]:
    """The store of each run by the run's name, and a line for each run whose store is not found.

    ``store`` is for runs whose own record of it leads nowhere, and goes before that record.
    Raises what opening a store raises when ``store`` itself cannot be opened.
    """
    from headstock.store import open_store

    out: dict[str, Source] = {}
    notes: list[str] = []
    opened: dict[str, Source] = {}
    with ExitStack() as stack:

        def source(path: str | Path) -> Source:
            key = os.path.realpath(path)
            if key not in opened:
                opened[key] = Source(stack.enter_context(open_store(path)), data)
            return opened[key]

        def mine(run: Saved) -> Source | None:
            if store is not None:
                return source(store)
            found = open_recorded(run.folder, run.run.settings)
            if found is None:
                return None
            key = os.path.realpath(found.path)
            if key in opened:
                found.close()
            else:
                opened[key] = Source(stack.enter_context(found), data)
            return opened[key]

        for run in runs:
            try:
                found = mine(run)
            except HeadstockError as error:
                if store is not None:
                    raise
                notes.append(f"{run.name}: {error}")
                continue
            if found is None:
                place = one_line(run.run.settings.store or "(not recorded)", 300)
                notes.append(
                    f"{run.name}: its store {place} is not there, or is not the one that was "
                    "evaluated, so there are no pictures, sounds, map and duplicates; name it "
                    "with --store"
                )
                continue
            out[run.name] = found
        notes += dict.fromkeys(filter(None, (one.note for one in out.values())))
        yield out, notes
