"""Writing text and CSV files whole, with cells that no spreadsheet will run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from headstock.store.disk.commit import write_whole
from headstock.store.manifest.table import safe_cell

__all__ = ["write_bytes", "write_csv", "write_text"]


def write_csv(
    path: str | Path | None, header: Sequence[object], rows: Iterable[Sequence[object]]
) -> str:
    """Write UTF-8 CSV, lines ending in a newline; or, without a path, return it.
    Raises StorageError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([safe_cell(v) for v in header])
    writer.writerows([safe_cell(v) for v in row] for row in rows)
    if path is None:
        return text.getvalue()
    write_text(path, text.getvalue())
    return ""


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8. Raises StorageError."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write the whole file or leave what was there, durably. Raises StorageError."""
    write_whole(path, data)
