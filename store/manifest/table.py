"""Delimited text tables: read strictly, complaints by file and line; written so that what goes in
comes out."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TextIO

from headstock.store.errors import ManifestError, near
from headstock.store.textfile import lines_of, read_text

__all__ = ["CsvWriter", "Table", "header_of", "read_table"]

_DELIMITERS = ",;\t|"
_CELL_LIMIT = 1 << 20


@dataclass(frozen=True)
class Table:
    """A header of c names and n rows of c cells, with the line each row starts on; ``places``: the
    file of each row, where they come of several."""

    path: str
    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    places: list[str] | None = None

    def place(self, row: int) -> str:
        """Where a row stands, as file:line."""
        return f"{self.places[row] if self.places else self.path}:{self.lines[row]}"

    def find(self, name: str) -> int | None:
        """The position of the column that is called so, or else of the only one whose name differs
        from it by case alone; None when there is none."""
        if name in self.positions:
            return self.positions[name]
        folded = [i for i, n in enumerate(self.header) if n.casefold() == name.casefold()]
        return folded[0] if len(folded) == 1 else None

    def index(self, name: str) -> int:
        """The position of a column, as ``find``. Raises ManifestError with the names there are."""
        at = self.find(name)
        if at is None:
            have = ", ".join(self.header[:20]) + (", …" if len(self.header) > 20 else "")
            fix = f"{near(name, self.header)}columns are: {have}"
            raise ManifestError(f"{self.path}:1", f"no column {name!r}", fix)
        return at

    @cached_property
    def positions(self) -> dict[str, int]:
        """Each column's, by name: a table may have as many columns as rows."""
        return {name: position for position, name in enumerate(self.header)}


def _delimiter(header: str) -> str:
    """The delimiter that splits the header into most columns; a comma for a single column."""
    return max(_DELIMITERS, key=lambda d: (header.count(d), d == ","))


def read_table(path: str | Path, delimiter: str | None = None) -> Table:
    """Read a CSV with a header; ``,`` ``;`` tab and ``|`` are told apart by the header line.

    UTF-8 with or without a byte order mark. CR, LF and CRLF end a line, anything else is part of a
    cell, as are line breaks in quotes. Cells stay text.
    Raises ManifestError for text that is not UTF-8, NUL, an unclosed quote, a repeated or empty
    column name, a row with another number of cells, or no rows; StorageError when it cannot be
    opened; UnsafeInput when it is no plain file.
    """
    name = str(path)
    lines_read = lines_of(read_text(path, "give a readable CSV file"))
    if not "".join(lines_read).strip():
        raise ManifestError(f"{name}:1", "the file is empty", "start with a header line")
    csv.field_size_limit(_CELL_LIMIT)
    reader = csv.reader(
        lines_read,
        delimiter=delimiter or _delimiter(lines_read[0]),
        strict=True,
    )
    header: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    start = 1
    try:
        for cells in reader:
            if not header:
                header = header_of(name, cells)
            elif any(cell.strip(" \t") for cell in cells):
                if len(cells) != len(header):
                    raise ManifestError(
                        f"{name}:{start}",
                        f"{len(cells)} cells, the header has {len(header)}",
                        "quote cells that hold the delimiter",
                    )
                rows.append(cells)
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as err:
        raise ManifestError(f"{name}:{start}", f"broken CSV ({err})", "check the quotes") from err
    if not rows:
        raise ManifestError(f"{name}:1", "no rows below the header", "list one item a line")
    return Table(name, header, rows, lines)


def header_of(name: str, cells: Sequence[str]) -> list[str]:
    """The names of a table's columns. Raises ManifestError for one that is empty (but the first) or
    comes twice."""
    header = [unicodedata.normalize("NFC", cell.strip()) for cell in cells]
    seen: set[str] = set()
    for i, column in enumerate(header):
        if not column and i:
            raise ManifestError(f"{name}:1", f"column {i + 1} has no name", "name every column")
        if column in seen:
            raise ManifestError(f"{name}:1", f"column {column!r} twice", "names must differ")
        seen.add(column)
    return header


class CsvWriter:
    """Writes rows to ``file`` (text, opened with ``newline=""``), lines ending in a newline.

    Every cell comes out of a CSV reader as it went in. ``spreadsheet``: for people who open the
    file in one, text that it would run as a formula gets a leading apostrophe; other programs then
    read another text.
    """

    def __init__(self, file: TextIO, spreadsheet: bool = False) -> None:
        self._cell = _inert if spreadsheet else _as_it_is
        self._writer = csv.writer(file, lineterminator="\n")
        self._quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def row(self, cells: Iterable[object]) -> None:
        given = [self._cell(cell) for cell in cells]
        # Python before 3.13 leaves a carriage return bare, which ends a line for every reader
        bare = any(isinstance(cell, str) and "\r" in cell for cell in given)
        (self._quoted if bare else self._writer).writerow(given)

    def rows(self, rows: Iterable[Iterable[object]]) -> None:
        for cells in rows:
            self.row(cells)


def _as_it_is(value: object) -> object:
    return value


def _inert(value: object) -> object:
    """Text that a spreadsheet would take for a formula gets a leading apostrophe; numbers stay."""
    if not isinstance(value, str) or not value or value[0] not in "=+-@\t\r":
        return value
    try:
        float(value)
    except ValueError:
        return "'" + value
    return value
