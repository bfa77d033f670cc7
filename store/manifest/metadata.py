"""Image folders as Hugging Face writes them: ``metadata.csv``, ``.jsonl`` or ``.parquet`` beside
the pictures, with a ``file_name`` for each."""

from __future__ import annotations

import os
from pathlib import Path

from headstock.store.errors import ManifestError
from headstock.store.manifest.paths import modality_of
from headstock.store.manifest.sources import table_of
from headstock.store.manifest.splits import split_of
from headstock.store.manifest.table import Table

__all__ = ["metadata_table"]

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
COLUMNS = {"file_name": "", "image_file_name": "image", "audio_file_name": "audio"}


def metadata_table(root: str | Path) -> tuple[Table, list[str]] | None:
    """The rows of every such table in ``root`` and in the folders straight below it, with the
    columns ``image`` and ``audio`` of paths relative to ``root``, and ``split`` from the name of
    the folder; None where there is none. Lines say what was read and what no row names.

    Raises ManifestError for two tables in one folder.
    """
    root = Path(root)
    found: list[tuple[Path, Table]] = []
    for folder in [root, *sorted(p for p in root.iterdir() if p.is_dir() and p.name[0] != ".")]:
        tables = [(folder / n, table_of(folder / n)) for n in NAMES if (folder / n).is_file()]
        tables = [(path, table) for path, table in tables if COLUMNS.keys() & set(table.header)]
        if len(tables) > 1:
            raise ManifestError(folder, f"{tables[0][0].name} and {tables[1][0].name}", "keep one")
        found += tables
    if not found:
        return None
    header: dict[str, None] = {}
    records: list[dict[str, str]] = []
    lines: list[int] = []
    places: list[str] = []
    for path, table in found:
        below = path.parent.relative_to(root).as_posix()
        split = split_of(below) if below != "." else ""
        for row, line in zip(table.rows, table.lines, strict=True):
            record = dict(zip(table.header, row, strict=True))
            record = _with_paths(record, "" if below == "." else f"{below}/", f"{path}:{line}")
            if split and "split" not in table.header:
                record["split"] = split
            if not any("id" in each.header for _, each in found):
                record["id"] = record.get("image") or record.get("audio", "")
            header |= dict.fromkeys(record)
            records.append(record)
            lines.append(line)
            places.append(str(path))
    rows = [[record.get(name, "") for name in header] for record in records]
    table = Table(str(root / found[0][0].name), list(header), rows, lines, places)
    notes = [f"rows of {', '.join(str(path.relative_to(root)) for path, _ in found)}"]
    named = {record.get(m, "") for record in records for m in ("image", "audio")} - {""}
    unnamed = sorted(_media(root) - named)
    if unnamed:
        more = f" (first: {unnamed[0]})"
        notes.append(f"{len(unnamed):,} pictures or sounds below it are in no row{more}")
    return table, notes


def _with_paths(record: dict[str, str], below: str, place: str) -> dict[str, str]:
    """The record with its file names as paths from the root, under the name of their modality."""
    out = {name: cell for name, cell in record.items() if name not in COLUMNS}
    for column, modality in COLUMNS.items():
        cell = record.get(column, "").strip()
        if column not in record or not cell:
            continue
        kind = modality or modality_of(cell) or "image"
        if out.get(kind):
            raise ManifestError(place, f"{column} and {kind} both name a file", "keep one of them")
        out[kind] = cell if os.path.isabs(cell) else os.path.normpath(below + cell)
    return out


def _media(root: Path) -> set[str]:
    found = set()
    for folder, below, names in os.walk(root):
        below[:] = [d for d in below if not d.startswith(".")]
        place = Path(folder).relative_to(root)
        found |= {(place / n).as_posix() for n in names if n[0] != "." and modality_of(n)}
    return found
