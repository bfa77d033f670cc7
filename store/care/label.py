"""``store label``: new labels, groups and splits from a CSV, without touching a vector."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstock.store.care.drop import by_path, table_ids
from headstock.store.disk.patch import Patch
from headstock.store.disk.rows import LONGEST
from headstock.store.disk.state import State
from headstock.store.errors import ManifestError
from headstock.store.features import FeatureStore
from headstock.store.items import text_column
from headstock.store.manifest.classes import join_forms
from headstock.store.manifest.sources import table_of
from headstock.store.manifest.splits import read_splits
from headstock.store.manifest.table import Table

__all__ = ["Relabelled", "relabel"]

CORE = ("label", "split", "group")
SHOWN = 3


@dataclass(frozen=True)
class Relabelled:
    """Counts of rows ``changed`` and ``unchanged``; ``unknown``: ids that the store does not have,
    and of which nothing was taken."""

    changed: int
    unchanged: int
    unknown: list[str]

    def text(self, path: str) -> str:
        lines = [f"{path}: {self.changed:,} rows changed, {self.unchanged:,} as they were"]
        if self.unknown:
            some = ", ".join(self.unknown[:SHOWN]) + (", …" if len(self.unknown) > SHOWN else "")
            lines.append(f"  {len(self.unknown):,} ids are not in the store: {some}")
        return "\n".join(lines)


def relabel(
    path: str | os.PathLike[str],
    table: Any,
    *,
    cols: Mapping[str, str] | None = None,
    extra: Sequence[str] = (),
    clear: bool = False,
    strict: bool = False,
    note: Callable[[str], None] = lambda line: None,
) -> Relabelled:
    """Take label, split, group (those the CSV has) and the ``extra`` columns from ``table``.

    ``cols`` renames, ``{"id": "IMAGE", "label": "CLASS"}``. Rows are found by id, and rows the CSV
    does not list keep what they have. An empty cell changes nothing; with ``clear`` it empties.
    Splits are read by ``manifest.splits``; a label that differs from one of the table or the store
    in Unicode form alone becomes it; ``note`` is told of both, a line each.
    Ids that the store does not have are counted and named; without a column of ids the paths are
    taken. Raises ManifestError (as file:line) for an id that is listed twice and not alike, when
    the CSV has none of the columns, when no id fits, and, with ``strict``, when one does not.
    """
    read, names = table_of(table), dict(cols or {})
    ids = table_ids(read, names)
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
    FeatureStore.open(path).close()  # relabelling makes no store where there is none
    with FeatureStore.open(path, "a") as store:
        ids = by_path(store.items, ids)
        keep = _once(read, ids, columns)
        ids, columns = [ids[at] for at in keep], {k: v[keep] for k, v in columns.items()}
        counts: list[Relabelled] = []

        def patch(state: State) -> Patch | None:
            rows = np.array([state.known.get(i, -1) for i in ids], dtype=np.int64)
            unknown = [ids[at] for at in np.flatnonzero(rows < 0).tolist()]
            if unknown and (strict or len(unknown) == len(ids)):
                where = read.place(int(keep[ids.index(unknown[0])]))
                what = f"the store has no row {unknown[0]!r}"
                more = f" ({len(unknown):,} such ids)" if len(unknown) > 1 else ""
                raise ManifestError(where, what + more, "ids must match exactly: --id-col")
            differs = np.zeros(len(ids), dtype=bool)
            for name, cells in columns.items():
                old = state.columns.get(name)
                now = np.full(len(ids), "", dtype=object) if old is None else old[rows]
                differs |= (cells != now) & (clear | (cells != ""))
            differs &= rows >= 0
            pick = np.flatnonzero(differs)
            counts.append(Relabelled(len(pick), len(ids) - len(unknown) - len(pick), unknown))
            if not pick.size:
                return None
            changed = {name: cells[pick] for name, cells in columns.items()}
            return Patch([ids[at] for at in pick], changed, clear=list(changed) if clear else ())

        store.change(patch)
    return counts[-1]


def _once(read: Table, ids: Sequence[str], columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """The lines to take: the first of those that say the same of one row."""
    first: dict[str, int] = {}
    for at, identity in enumerate(ids):
        before = first.setdefault(identity, at)
        if any(cells[before] != cells[at] for cells in columns.values()):
            what = f"the id {identity!r} comes twice and not alike"
            raise ManifestError(read.place(at), what, f"see {read.place(before)}")
    return np.array(list(first.values()), dtype=np.int64)


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
