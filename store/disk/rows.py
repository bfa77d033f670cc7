"""The rows of a store as named text columns, and what a registration changes in them.

A column's name is ``label``, ``split``, ``group``, ``path/<modality>`` or ``extra/<name>``; every
column is an (n,) object array of ``str``, ``""`` where a row has nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from headstock.store.errors import ManifestError
from headstock.store.items import Items, text_column

__all__ = [
    "Change",
    "Difference",
    "anchored",
    "columns_of",
    "dataset",
    "difference",
    "items_of",
    "unseen_column",
]

UNSEEN = "headstock.unseen."
"""Before a set's name: the text column of marks on rows that keep a vector though their file was
not seen. It is the store's own and no column of the table; an older headstock reads it as one."""
LONGEST = 4096  # bytes in one cell: a fixed-length column costs its longest cell in every row


@dataclass(frozen=True)
class Change:
    """Counts of a registration: rows added, changed, and left as they were."""

    added: int
    changed: int
    unchanged: int


@dataclass(frozen=True)
class Difference:
    """The rows that differ: ``ids`` (m,), ``columns`` of m cells in which ``""`` says nothing."""

    ids: list[str]
    columns: dict[str, np.ndarray]
    change: Change
    root: str | None


def dataset(column: str) -> str:
    """The HDF5 path of a column: names of extra columns may hold what HDF5 names cannot."""
    kind, _, name = column.partition("/")
    if not name:
        return f"/items/{kind}"
    name = name.replace("%", "%25").replace("/", "%2F")
    return f"/items/{kind}/{name.replace('.', '%2E') if set(name) == {'.'} else name}"


def columns_of(items: Items) -> dict[str, np.ndarray]:
    return {
        "label": items.label,
        "split": items.split,
        "group": items.group,
        **{f"path/{k}": v for k, v in items.paths.items()},
        **{f"extra/{k}": v for k, v in items.extra.items() if not k.startswith(UNSEEN)},
    }


def unseen_column(name: str) -> str:
    """The column that marks rows of the set ``name``."""
    return f"extra/{UNSEEN}{name}"


def items_of(ids: np.ndarray, columns: dict[str, np.ndarray], root: str) -> Items:
    blank = text_column([""] * len(ids))
    named = {"path": {}, "extra": {}}  # type: dict[str, dict[str, np.ndarray]]
    for column, values in columns.items():
        kind, _, name = column.partition("/")
        if name and not name.startswith(UNSEEN):
            named[kind][name] = values
    return Items(
        id=ids,
        paths=named["path"],
        label=columns.get("label", blank),
        split=columns.get("split", blank),
        group=columns.get("group", blank),
        extra=named["extra"],
        root=root,
    )


def _check(items: Items) -> None:
    seen: set[str] = set()
    for identity in items.id.tolist():
        if not identity or identity in seen:
            what = f"the id {identity!r} comes twice" if identity else "an id is empty"
            raise ManifestError("rows", what, "give every row an id of its own")
        seen.add(identity)
    for column, values in {"id": items.id, **columns_of(items)}.items():
        for identity, cell in zip(items.id.tolist(), values.tolist(), strict=True):
            # a cell shorter than a quarter of the limit cannot be too long in UTF-8
            if "\0" in cell or (len(cell) > LONGEST // 4 and len(cell.encode()) > LONGEST):
                what = "holds a NUL" if "\0" in cell else f"is longer than {LONGEST} bytes"
                raise ManifestError(f"row {identity}", f"{column} {what}", "shorten or clean it")


def difference(
    items: Items, index: dict[str, int], columns: dict[str, np.ndarray], root: str
) -> Difference:
    """What registering ``items`` changes in rows that are in ``index`` and ``columns`` now.

    An empty cell says nothing: a manifest without labels does not erase any. Raises ManifestError
    for duplicate ids and cells that no store can hold.
    """
    _check(items)
    rows = np.array([index.get(i, -1) for i in items.id.tolist()], dtype=np.int64)
    known = rows >= 0
    incoming = columns_of(items)
    new_root = None
    if items.root != root:
        if not index or known.sum() == len(index):  # all rows moved together
            new_root = items.root
        else:
            incoming.update(anchored(items))
    differs = ~known
    for column, values in incoming.items():
        now = columns.get(column)
        old = np.full(len(rows), "", dtype=object)
        if now is not None:
            old[known] = now[rows[known]]
        differs |= (values != "") & (values != old)
    pick = np.flatnonzero(differs)
    added = int((~known).sum())
    return Difference(
        ids=items.id[pick].tolist(),
        columns={c: v[pick] for c, v in incoming.items() if (v[pick] != "").any()},
        change=Change(added, len(pick) - added, len(rows) - len(pick)),
        root=new_root,
    )


def anchored(items: Items) -> dict[str, np.ndarray]:
    """Paths with the manifest's own root before them, for a store that has another root."""
    return {
        f"path/{k}": text_column([os.path.join(items.root, p) if p else "" for p in v.tolist()])
        for k, v in items.paths.items()
    }
