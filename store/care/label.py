"""``store label``: new labels, groups and splits from a CSV, without touching a vector."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from headstock.store.disk.patch import Patch
from headstock.store.disk.rows import LONGEST, Change
from headstock.store.disk.state import State
from headstock.store.errors import ManifestError
from headstock.store.features import FeatureStore
from headstock.store.items import text_column
from headstock.store.manifest.classes import join_forms
from headstock.store.manifest.sources import table_of
from headstock.store.manifest.splits import read_splits
from headstock.store.manifest.table import Table

__all__ = ["relabel"]

CORE = ("label", "split", "group")


def relabel(
    path: str | os.PathLike[str],
    table: Any,
    *,
    cols: Mapping[str, str] | None = None,
    extra: Sequence[str] = (),
    clear: bool = False,
    note: Callable[[str], None] = lambda line: None,
) -> Change:
    """Take label, split, group (those the CSV has) and the ``extra`` columns from ``table``.

    ``cols`` renames, ``{"id": "IMAGE", "label": "CLASS"}``. Rows are found by id, and rows the CSV
    does not list keep what they have. An empty cell changes nothing; with ``clear`` it empties.
    Splits are read by ``manifest.splits``; a label that differs from one of the table or the store
    in Unicode form alone becomes it; ``note`` is told of both, a line each.
    Raises ManifestError (as file:line) for an id that the store does not have or that is listed
    twice, and when the CSV has none of the columns.
    """
    read, names = table_of(table), dict(cols or {})
    ids = _cells(read, names.get("id", "id"))
    columns = {}
    for kind in CORE:
        column = names.get(kind, kind)
        if kind in names or read.find(column) is not None:
            cells, told = _read(kind, _cells(read, column), read, path)
            columns[kind] = text_column(cells)
            for words in told:
                note(words)
    columns |= {f"extra/{name}": text_column(_cells(read, name)) for name in extra}
    if not columns:
        have = ", ".join(read.header)
        raise ManifestError(f"{read.path}:1", "no label, split or group column", f"it has: {have}")
    seen: set[str] = set()
    for line, identity in zip(read.lines, ids, strict=True):
        if identity in seen:
            raise ManifestError(f"{read.path}:{line}", f"the id {identity!r} comes twice")
        seen.add(identity)
    counts: list[Change] = []

    def patch(state: State) -> Patch | None:
        rows = np.array([_row(state, read, at, i) for at, i in enumerate(ids)], dtype=np.int64)
        differs = np.zeros(len(ids), dtype=bool)
        for name, cells in columns.items():
            old = state.columns.get(name)
            now = np.full(len(ids), "", dtype=object) if old is None else old[rows]
            differs |= (cells != now) & (clear | (cells != ""))
        pick = np.flatnonzero(differs)
        counts.append(Change(0, len(pick), len(ids) - len(pick)))
        if not pick.size:
            return None
        changed = {name: cells[pick] for name, cells in columns.items()}
        return Patch([ids[at] for at in pick], changed, clear=list(changed) if clear else ())

    FeatureStore.open(path).close()  # relabelling makes no store where there is none
    with FeatureStore.open(path, "a") as store:
        store.change(patch)
    return counts[-1]


def _read(
    kind: str, cells: list[str], table: Table, path: str | os.PathLike[str]
) -> tuple[Sequence[str], list[str]]:
    if kind == "split":
        return read_splits(cells, table.place)
    if kind == "label":
        with FeatureStore.open(path) as store:
            return join_forms(cells, store.items.label.tolist())
    return cells, []


def _cells(table: Table, column: str) -> list[str]:
    at = table.index(column)
    cells = [row[at].strip() for row in table.rows]
    for line, cell in zip(table.lines, cells, strict=True):
        if len(cell.encode()) > LONGEST:
            raise ManifestError(f"{table.path}:{line}", f"{column} is longer than {LONGEST} bytes")
    return cells


def _row(state: State, table: Table, at: int, identity: str) -> int:
    if identity not in state.index:
        where = f"{table.path}:{table.lines[at]}"
        raise ManifestError(where, f"the store has no row {identity!r}", "ids must match exactly")
    return state.index[identity]
