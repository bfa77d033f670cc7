"""Writing text and CSV files whole."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from headstock.store.disk.commit import write_whole
from headstock.store.manifest.table import CsvWriter

__all__ = ["write_bytes", "write_csv", "write_text"]


def write_csv(
    path: str | Path | None,
    header: Sequence[object],
    rows: Iterable[Sequence[object]],
    spreadsheet: bool = False,
) -> str:
    """Write UTF-8 CSV, lines ending in a newline; or, without a path, return it. ``spreadsheet``
    as in ``CsvWriter``. Raises StorageError."""
    text = io.StringIO(newline="")
    writer = CsvWriter(text, spreadsheet)
    writer.row(header)
    writer.rows(rows)
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
