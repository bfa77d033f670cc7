"""The input table: a CSV or a folder with one folder per class, read once into ``Items``."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from headstock.store.errors import ManifestError, OptionError, one_line
from headstock.store.items import Items, text_column
from headstock.store.manifest.cells import CATEGORY, DATE, NUMBER
from headstock.store.manifest.classes import ClassNames, join_forms, named
from headstock.store.manifest.classes import class_names as _class_names
from headstock.store.manifest.columns import FIELDS, cells_of, kinds_of, taken_columns
from headstock.store.manifest.endings import with_endings
from headstock.store.manifest.extra import text_columns
from headstock.store.manifest.files import files_as_items
from headstock.store.manifest.folder import read_folder
from headstock.store.manifest.likely import likely_flags, shown_columns
from headstock.store.manifest.metadata import metadata_table
from headstock.store.manifest.paths import located
from headstock.store.manifest.sources import table_of
from headstock.store.manifest.splits import read_splits, split_flag
from headstock.store.manifest.table import Table
from headstock.store.manifest.target import found_target

__all__ = ["Manifest"]


@dataclass(frozen=True)
class Manifest:
    """n rows, and the columns asked for.

    ``columns`` maps a column name to (n,) float64 values, NaN where the cell is empty, or to (n,)
    words where ``kinds`` has it as a category; ``kinds``: of columns that are no plain numbers.
    ``repeated``: ids of rows left out because an earlier row says exactly the same. ``apart``
    names columns that no pattern takes, only their own name. ``notes``: lines on what was
    understood, and on what was not taken.
    """

    source: str
    items: Items
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    repeated: tuple[str, ...] = ()
    apart: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        source: Any,
        *,
        cols: Mapping[str, str] | None = None,
        columns: Sequence[str] = (),
        categories: Sequence[str] = (),
        dates: Sequence[str] = (),
        roots: Mapping[str, str | Path] | None = None,
        class_names: ClassNames | None = None,
        split: str | None = None,
        delimiter: str | None = None,
        files: str | Path | None = None,
    ) -> Manifest:
        """Read a table, or a folder of class folders or with a ``metadata`` table in it.

        A table is a file (CSV, JSON lines, Parquet), a pandas, polars or pyarrow table, or a data
        set of the ``datasets`` package, one or a dictionary of splits, whose pictures are written
        to the folder ``files`` if they lie in no file.

        ``cols`` renames: ``{"image": "IMAGE", "label": "CLASS"}``. ``columns`` are shell patterns
        of columns to keep: numbers, and what ``categories`` and ``dates`` take too. ``roots`` says
        where a modality's relative paths start when it is not the CSV's folder. ``class_names``
        turns labels 0, 1, … into names: a list, a mapping, or a file (``classes.class_names``).
        ``split`` is the split of every row that names none. Without an id column the path is the
        id, as the table writes it. Splits are ``train``, ``valid`` and ``test``, by any usual word
        (``splits.WORDS``).

        Raises ManifestError (as file:line) for a broken table, an id listed twice with different
        content, ids that differ only in Unicode form, a number that is not one, or a split that is
        none; OptionError for a ``split`` that is none.
        """
        names = _class_names(class_names) if class_names else None
        split = split_flag(split, "--split") if split else None
        folder = isinstance(source, str | os.PathLike) and os.path.isdir(source)
        within = metadata_table(source) if folder else None
        if folder and within is None:
            items, told = read_folder(source)
            manifest = cls(str(source), items, notes=tuple(told))
        else:
            table, told = within or (table_of(source, delimiter, files), [])
            kinds = kinds_of(table, categories, dates)
            manifest = _from_table(table, dict(cols or {}), columns, kinds, dict(roots or {}))
            manifest = replace(manifest, notes=(*told, *manifest.notes))
        items, notes = manifest.items, list(manifest.notes)
        labels: Sequence[str] = items.label.tolist()
        if names:
            labels, told = named(labels, names, manifest.source)
            notes += told
        labels, told = join_forms(labels)
        items = replace(items, label=text_column(labels))
        if split:
            items = replace(items, split=np.where(items.split == "", split, items.split))
        return replace(manifest, items=items, notes=(*notes, *told))

    @classmethod
    def of_files(cls, names: Sequence[str | os.PathLike[str]]) -> Manifest:
        """Single pictures and sounds as rows (see ``files_as_items``)."""
        given = [os.fspath(name) for name in names]
        return cls(given[0] if len(given) == 1 else f"{len(given)} files", files_as_items(given))

    def take(self, rows: np.ndarray) -> Manifest:
        """The manifest of ``rows``, an integer or boolean index."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        return replace(self, items=self.items.take(rows), columns=columns)

    def account(self) -> list[str]:
        """What was read, as lines for a person: rows, files found per modality, classes."""
        items = self.items
        lines = [f"{self.source}: {len(items):,} rows"]
        if self.repeated:
            shown = ", ".join(self.repeated[:3]) + (", …" if len(self.repeated) > 3 else "")
            lines[0] += f" ({len(self.repeated):,} exact repeats left out: {one_line(shown)})"
        for modality, paths in items.paths.items():
            given = [p for p in paths if p]
            found = sum(os.path.isfile(os.path.join(items.root, p)) for p in given)
            none = len(items) - len(given)
            lines.append(
                f"  {modality}: {found:,} found, {len(given) - found:,} missing"
                + (f", {none:,} rows name none" if none else "")
            )
        if self.columns:
            kinds = [self.kinds.get(name, NUMBER) for name in self.columns]
            gaps = sum(_empty(values) for values in self.columns.values())
            lines.append(
                f"  numeric columns: {kinds.count(NUMBER):,}"
                + (f", categories: {kinds.count(CATEGORY):,}" if CATEGORY in kinds else "")
                + (f", dates: {kinds.count(DATE):,}" if DATE in kinds else "")
                + (f", {gaps:,} empty cells" if gaps else "")
            )
        counts = Counter(label for label in items.label if label)
        target = found_target([label for label in items.label.tolist() if label])
        if target.numbers is not None:
            lines.append(f"  labels: {target.line}")
        elif counts:
            shown = ", ".join(f"{k} {v:,}" for k, v in counts.most_common(12))
            more = f", and {len(counts) - 12} more" if len(counts) > 12 else ""
            lines.append(f"  classes: {len(counts):,} ({shown}{more})")
        unlabelled = len(items) - sum(counts.values())
        if unlabelled:
            lines.append(f"  without a label: {unlabelled:,} (kept, for prediction)")
        splits = Counter(s for s in items.split if s)
        if splits:
            lines.append("  splits: " + ", ".join(f"{k} {v:,}" for k, v in splits.items()))
        return lines + [f"  {one_line(note)}" for note in self.notes]


def _empty(cells: np.ndarray) -> int:
    return int((cells == "").sum() if cells.dtype == object else np.isnan(cells).sum())


def _from_table(
    table: Table,
    cols: dict[str, str],
    patterns: Sequence[str],
    kinds: dict[str, str],
    roots: dict[str, str | Path],
) -> Manifest:
    unknown = sorted(cols.keys() - set(FIELDS))
    if unknown:
        raise OptionError("columns", f"no field {unknown[0]!r}", f"fields: {', '.join(FIELDS)}")
    where = {core: table.index(name) for core, name in cols.items()}
    folded: list[str] = []
    for core in FIELDS:
        at = table.find(core)
        if (
            core not in where
            and at is not None
            and (table.header[at] == core or at not in where.values())
        ):
            where[core] = at
            if table.header[at] != core:
                folded.append(f"column {table.header[at]!r} is taken as {core}")
    claimed = [table.header[i] for i in where.values()]
    numeric, apart, notes = taken_columns(table, patterns, claimed, kinds)
    notes = folded + notes
    likely = likely_flags(table, where, numeric)
    if not {"image", "audio"} & where.keys() and not numeric:
        raise ManifestError(
            f"{table.path}:1",
            "no image, audio or numeric column",
            f"its columns: {shown_columns(table)}; "
            + (f"likely: {' '.join(likely)}" if likely else "name one: --image-col, --audio-col"),
        )
    if "label" not in where and likely:
        notes.append(f"no column of labels; likely: {' '.join(likely)}")

    def cells(core: str) -> list[str]:
        return [row[where[core]].strip() for row in table.rows]

    base = os.path.dirname(os.path.abspath(table.path))
    starts = {m: os.path.abspath(r) for m, r in roots.items() if m in where}
    root = os.path.commonpath([base, *starts.values()])
    paths: dict[str, list[str]] = {}
    for modality in ("image", "audio"):
        if modality in where:
            paths[modality], told = located(cells(modality), starts.get(modality, base), root)
            paths[modality], more = with_endings(paths[modality], root, modality)
            notes += [f"{modality}: {line}" for line in (*told, *more)]
    texts = {core: cells(core) for core in ("label", "split", "group") if core in where}
    if "split" in texts:
        texts["split"], told = read_splits(texts["split"], table.place)
        notes += told
    ids = _ids(table, where, cells)
    keep, repeated = _unique(table, ids)
    used = {i for core, i in where.items() if core != "group"}
    spare = set(table.header) - {"", "group", *numeric}
    free = [i for i, name in enumerate(table.header) if name in spare and i not in used]
    extra, told = text_columns(table, free)
    notes += told
    items = Items.of(
        ids,
        paths=paths,
        **texts,
        extra=extra,
        root=root,
    )
    rows = np.array(keep, dtype=np.int64)
    kinds = {name: kind for name, kind in kinds.items() if name in numeric}
    values = {name: cells_of(table, name, kinds.get(name, NUMBER))[rows] for name in numeric}
    kept = items.take(rows)
    return Manifest(table.path, kept, values, repeated, frozenset(apart), tuple(notes), kinds)


def _ids(table: Table, where: Mapping[str, int], cells: Callable[[str], list[str]]) -> list[str]:
    if "id" in where:
        ids = cells("id")
    elif "image" in where or "audio" in where:
        # as the table writes it: a file's name alone would join train/0.png and test/0.png
        both = [cells(modality) for modality in ("image", "audio") if modality in where]
        ids = [next((cell for cell in row if cell), "") for row in zip(*both, strict=True)]
    elif table.header[0] == "":  # a data frame's index, written without a name
        ids = [row[0].strip() for row in table.rows]
    else:
        raise ManifestError(f"{table.path}:1", "no id column", "name one with --id-col")
    for line, value in zip(table.lines, ids):
        if not value:
            raise ManifestError(f"{table.path}:{line}", "no id", "every row needs an id or a file")
    return ids


def _unique(table: Table, ids: Sequence[str]) -> tuple[list[int], tuple[str, ...]]:
    """Rows to keep, the first of exact repeats, and the ids of those that are left out; an id with
    two contents is an error."""
    first: dict[str, int] = {}
    keep = []
    for i, value in enumerate(ids):
        key = unicodedata.normalize("NFC", value)
        j = first.setdefault(key, i)
        if j == i:
            keep.append(i)
        elif ids[j] != value:
            raise ManifestError(
                f"{table.path}:{table.lines[i]}",
                f"id {value!r} and line {table.lines[j]} differ only in Unicode form",
                "write both the same way",
            )
        elif table.rows[j] != table.rows[i]:
            raise ManifestError(
                f"{table.path}:{table.lines[i]}",
                f"id {value!r} is on line {table.lines[j]} with other content",
                "ids must be unique: --id-col names a column that is",
            )
    kept = set(keep)
    return keep, tuple(value for i, value in enumerate(ids) if i not in kept)
