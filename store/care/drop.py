"""``store drop``: take rows out of a store, vectors and all, by an explicit word."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headstock.store.errors import OptionError
from headstock.store.features import FeatureStore
from headstock.store.items import Items
from headstock.store.manifest.folder import read_folder
from headstock.store.manifest.sources import table_of
from headstock.store.manifest.table import Table
from headstock.store.progress import Report, unheard

__all__ = ["Dropped", "by_path", "drop", "table_ids"]

SHOWN = 3


@dataclass
class Dropped:
    """``rows``: ids that went; ``left``: how many stay; ``unknown``: ids that were not there."""

    path: Path
    rows: list[str] = field(default_factory=list)
    left: int = 0
    unknown: list[str] = field(default_factory=list)

    def text(self) -> str:
        lines = [f"{self.path}: {_some(self.rows)} dropped, {self.left:,} left"]
        if self.unknown:
            lines.append(f"  not there: {_some(self.unknown)}")
        return "\n".join(lines)


def _some(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:SHOWN]) + (", …" if len(ids) > SHOWN else "")
    return f"{len(ids):,} {'row' if len(ids) == 1 else 'rows'}" + (f" ({shown})" if ids else "")


def drop(
    path: str | os.PathLike[str],
    *,
    ids: Sequence[str] = (),
    inside: str | os.PathLike[str] | None = None,
    outside: str | os.PathLike[str] | None = None,
    cols: Mapping[str, str] | None = None,
    progress: Report = unheard,
) -> Dropped:
    """Drop the rows ``ids``, those that the table ``inside`` names, or those that the table
    ``outside`` does not name.

    A table is a CSV or any that ``extract`` takes, or a folder; ``cols`` renames, as for
    ``Manifest.read``. Raises OptionError when none of the three or several are given, and when a
    table names no row of the store: then its ids are read from the wrong column.
    """
    if bool(ids) + bool(inside) + bool(outside) != 1:
        raise OptionError("drop", "needs one choice of rows", "give --id, --in or --not-in")
    FeatureStore.open(path).close()  # dropping makes no store where there is none
    with FeatureStore.open(path, "a") as store:
        items = store.items
        here = set(items.id.tolist())
        source = inside or outside
        named = list(dict.fromkeys(by_path(items, ids if source is None else _named(source, cols))))
        known = [i for i in named if i in here]
        if source and not known:
            fix = f"name the column of ids with --id-col; the store has {_some(items.id.tolist())}"
            raise OptionError(source, f"names no row of {store.path.name}", fix)
        chosen = [i for i in items.id.tolist() if i not in set(known)] if outside else known
        if chosen:
            store.drop(chosen, progress)
        unknown = [i for i in named if i not in here]
        return Dropped(Path(path), chosen, store.n, [] if outside else unknown)


def _named(source: str | os.PathLike[str], cols: Mapping[str, str] | None) -> list[str]:
    if os.path.isdir(source):
        return read_folder(os.fspath(source))[0].id.tolist()
    return table_ids(table_of(source), cols or {})


def table_ids(table: Table, cols: Mapping[str, str]) -> list[str]:
    """The ids of a table's rows: its column of ids, or its paths. Raises ManifestError."""
    names = [cols[kind] for kind in ("id", "image", "audio") if kind in cols]
    names += [kind for kind in ("id", "image", "audio") if kind in table.header]
    if not names and table.header[0] == "":
        names = [""]
    at = table.index(names[0] if names else "id")
    return [row[at].strip() for row in table.rows]


def by_path(items: Items, ids: Sequence[str]) -> list[str]:
    """Each id as the store knows it: one that is a path is that of the one row with this file."""
    here = set(items.id.tolist())
    if all(i in here for i in ids):
        return list(ids)
    rows: dict[str, set[str]] = {}
    for paths in items.paths.values():
        for identity, path in zip(items.id.tolist(), paths.tolist(), strict=True):
            rows.setdefault(path, set()).add(identity)
    one = {path: min(found) for path, found in rows.items() if path and len(found) == 1}
    return [i if i in here else one.get(i, i) for i in ids]
