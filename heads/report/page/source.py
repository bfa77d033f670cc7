"""The store behind a run: where a row's picture and sound lie, its vectors, what failed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headstock.heads.report.page.runs import Run
from headstock.store.errors import HeadstockError, ItemError, OptionError

if TYPE_CHECKING:
    from headstock.store.features import FeatureStore

__all__ = ["Source", "sources_of"]

LARGEST_FILE = 512 << 20


class Source:
    """One open store. ``data`` replaces the folder that the store's paths are relative to, for
    files that moved; nothing outside that folder is read."""

    def __init__(self, store: FeatureStore, data: str | Path | None = None) -> None:
        self.store = store
        self.items = store.items
        self.root = os.path.realpath(data if data is not None else self.items.root or ".")
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

    def file(self, modality: str, id: str) -> str | None:
        """The file behind a row, None when the row names none.

        Raises ItemError when it is no plain file inside the data folder, or larger than 512 MB.
        """
        row, paths = self._row.get(id), self.items.paths.get(modality)
        if row is None or paths is None or not paths[row]:
            return None
        try:
            place = os.path.realpath(os.path.join(self.root, paths[row]))
            if os.path.commonpath((place, self.root)) != self.root:
                raise ItemError(paths[row], "outside the data folder", code="unsafe-path")
            found = os.stat(place)
        except (OSError, ValueError) as error:
            raise ItemError(paths[row], "no such file", code="missing") from error
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_FILE:
            raise ItemError(paths[row], "no plain file of sensible size", code="not-a-file")
        return place


@contextmanager
def sources_of(
    runs: list[Run], store: str | Path | None, data: str | Path | None
) -> Iterator[tuple[dict[str, Source], list[str]]]:
    """The store of each run by the run's name, and a line for each run whose store is not found.

    ``store`` is for runs whose own record of it leads nowhere, and goes before that record.
    Raises what opening a store raises when ``store`` itself cannot be opened.
    """
    from headstock.store import FeatureStore

    out: dict[str, Source] = {}
    notes: list[str] = []
    opened: dict[str, Source] = {}
    with ExitStack() as stack:

        def source(path: str | Path) -> Source:
            key = os.path.realpath(path)
            if key not in opened:
                opened[key] = Source(stack.enter_context(FeatureStore.open(path)), data)
            return opened[key]

        for run in runs:
            told = run.settings.get("store")
            if store is not None:
                out[run.name] = source(store)
                continue
            places = [Path(told), run.folder / told, run.folder / Path(told).name] if told else []
            for place in places:
                try:
                    out[run.name] = source(place)
                    break
                except OptionError:
                    continue
                except HeadstockError as error:
                    notes.append(f"{run.name}: {error}")
                    break
            else:
                notes.append(
                    f"{run.name}: its store {told or '(not recorded)'} is not there, so there are "
                    "no pictures, sounds, map and duplicates; name it with --store"
                )
        yield out, notes
