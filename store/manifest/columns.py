"""Which columns of a table a pattern takes, and which none takes unless it is named: a label, an
id, a group or a split is no measurement, however numeric it looks."""

from __future__ import annotations

import fnmatch
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NoReturn

import numpy as np

from headstock.store.errors import ManifestError, OptionError, near
from headstock.store.manifest.cells import CATEGORY, DATE, NUMBER, days
from headstock.store.manifest.table import Table

__all__ = ["FIELDS", "NO_FEATURE", "cells_of", "kinds_of", "matching", "taken_columns"]

FIELDS = ("id", "image", "audio", "label", "group", "split")
NO_FEATURE = frozenset(
    "id ids label labels target targets class classes group groups split path paths file filename "
    "file_name filepath file_path image image_path audio audio_path".split()
)
"""Names, whatever their case, of columns that say which row it is or what is to be predicted."""
_EMPTY = frozenset(("", "nan", "na", "null", "none"))


def matching(names: Iterable[str], pattern: str, apart: Collection[str] = ()) -> list[str]:
    """The names that a pattern takes: the column that is called so to the letter, else those that
    the shell pattern fits, without those that stand ``apart``."""
    names = list(names)
    if pattern in names:
        return [pattern]
    return [n for n in names if n not in apart and fnmatch.fnmatchcase(n, pattern)]


def kinds_of(table: Table, categories: Sequence[str], dates: Sequence[str]) -> dict[str, str]:
    """{column: its kind} of the columns that these patterns take. Raises ManifestError for a
    pattern that takes none, OptionError for a column that is both."""
    kinds: dict[str, str] = {}
    for kind, patterns in ((CATEGORY, categories), (DATE, dates)):
        for pattern in patterns:
            for name in matching(table.header, pattern) or _nothing(table, pattern):
                if kinds.setdefault(name, kind) != kind:
                    raise OptionError(f"column {name!r}", "is a category and a date", "choose")
    return kinds


def taken_columns(
    table: Table,
    patterns: Sequence[str],
    claimed: Collection[str],
    kinds: Mapping[str, str] | None = None,
) -> tuple[list[str], set[str], list[str]]:
    """The columns that ``patterns`` take, in the table's order; the names that stand apart, which
    only their own name takes; and a line for each pattern that met such columns.

    ``claimed``: the table's columns of ids, labels, groups, splits and paths; ``kinds``: of columns
    that may hold text, None where none may. Raises ManifestError for a pattern that takes none.
    """
    apart = {n for n in table.header if n in claimed or n.casefold() in NO_FEATURE}
    taken: set[str] = set()
    lines: list[str] = []
    for pattern in patterns:
        fits = matching(table.header, pattern) or _nothing(table, pattern)
        if fits == [pattern]:
            taken.add(pattern)
            continue
        held = [n for n in fits if n in apart]
        text = [n for n in fits if n not in apart and n not in (kinds or ()) and _is_text(table, n)]
        apart |= set(text)
        if held:
            reason = "ids, labels, groups, splits and paths are features only when named one by one"
            lines.append(f"columns {pattern!r}: without {_shown(held)} ({reason})")
        if text:
            way = "no number in it"
            if kinds is not None:
                way += f"; --categories {text[0]} takes its words"
            lines.append(f"columns {pattern!r}: without {_shown(text)} ({way})")
        rest = [n for n in fits if n not in apart]
        if not rest:
            fix = f"name it to take it all the same: --columns {fits[0]}"
            raise ManifestError(
                f"{table.path}:1", f"{pattern!r} matches {_shown(fits)} alone, no measurement", fix
            )
        taken |= set(rest)
    for name in kinds or ():
        if name not in taken and name not in apart:
            fix = f"name it there too: --columns {name} --as NAME"
            raise OptionError(f"column {name!r}", "is taken by no --columns", fix)
    return [n for n in table.header if n in taken], apart, lines


def _nothing(table: Table, pattern: str) -> NoReturn:
    shown = ", ".join(table.header[:20]) + (", …" if len(table.header) > 20 else "")
    fix = f"{near(pattern, table.header)}quote the pattern; columns are: {shown}"
    raise ManifestError(f"{table.path}:1", f"no column matches {pattern!r}", fix)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _is_text(table: Table, name: str) -> bool:
    """Whether the column has cells and none of them is a number."""
    i, filled = table.index(name), False
    for row in table.rows:
        cell = row[i].strip()
        if cell.lower() in _EMPTY:
            continue
        try:
            float(cell)
        except ValueError:
            filled = True
        else:
            return False
    return filled


def cells_of(table: Table, name: str, kind: str = NUMBER) -> np.ndarray:
    """The cells of a column: (n,) float64, NaN where empty, of numbers and of dates (days since
    1970); (n,) text of a category. Raises ManifestError at the first cell that is none."""
    i = table.index(name)
    cells = [row[i].strip() for row in table.rows]
    if kind == CATEGORY:
        words = [unicodedata.normalize("NFC", cell) for cell in cells]
        return np.array(["" if w.lower() in _EMPTY else w for w in words], dtype=object)
    out = np.full(len(cells), np.nan)
    for j, cell in enumerate(cells):
        if cell.lower() in _EMPTY:
            continue
        try:
            out[j] = days(cell) if kind == DATE else float(cell)
        except ValueError:
            what = "no date (write 2026-11-30)" if kind == DATE else "not a number"
            fix = "leave a missing value empty"
            if kind == NUMBER:
                fix += f", or take it as words: --categories {name}"
            raise ManifestError(
                table.place(j), f"{cell!r} in column {name!r} is {what}", fix
            ) from None
    return out
