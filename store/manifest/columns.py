"""Which columns of a table a pattern takes, and which none takes unless it is named: a label, an
id, a group or a split is no measurement, however numeric it looks."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from headstock.store.errors import ManifestError, near
from headstock.store.manifest.table import Table

__all__ = ["FIELDS", "NO_FEATURE", "matching", "numbers_of", "numeric_columns"]

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


def numeric_columns(
    table: Table, patterns: Sequence[str], claimed: Collection[str]
) -> tuple[list[str], set[str], list[str]]:
    """The columns that ``patterns`` take, in the table's order; the names that stand apart, which
    only their own name takes; and a line for each pattern that met such columns.

    ``claimed``: the table's columns of ids, labels, groups, splits and paths. Raises ManifestError
    for a pattern that takes none.
    """
    apart = {n for n in table.header if n in claimed or n.casefold() in NO_FEATURE}
    taken: set[str] = set()
    lines: list[str] = []
    for pattern in patterns:
        fits = matching(table.header, pattern)
        if not fits:
            shown = ", ".join(table.header[:20]) + (", …" if len(table.header) > 20 else "")
            fix = f"{near(pattern, table.header)}quote the pattern; columns are: {shown}"
            raise ManifestError(f"{table.path}:1", f"no column matches {pattern!r}", fix)
        if fits == [pattern]:
            taken.add(pattern)
            continue
        held = [n for n in fits if n in apart]
        text = [n for n in fits if n not in apart and _is_text(table, n)]
        apart |= set(text)
        if held:
            told = "ids, labels, groups, splits and paths are features only when named one by one"
            lines.append(f"columns {pattern!r}: without {_shown(held)} ({told})")
        if text:
            lines.append(f"columns {pattern!r}: without {_shown(text)} (no number in it)")
        rest = [n for n in fits if n not in apart]
        if not rest:
            fix = f"name it to take it all the same: --columns {fits[0]}"
            raise ManifestError(
                f"{table.path}:1", f"{pattern!r} matches {_shown(fits)} alone, no measurement", fix
            )
        taken |= set(rest)
    return [n for n in table.header if n in taken], apart, lines


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


def numbers_of(table: Table, name: str) -> np.ndarray:
    """(n,) float64 of a column, NaN for an empty cell. Raises ManifestError at the first cell that
    is no number."""
    i = table.index(name)
    out = np.full(len(table.rows), np.nan)
    for j, row in enumerate(table.rows):
        cell = row[i].strip()
        if cell.lower() in _EMPTY:
            continue
        try:
            out[j] = float(cell)
        except ValueError:
            raise ManifestError(
                table.place(j),
                f"{cell!r} in column {name!r} is not a number",
                "leave a missing value empty",
            ) from None
    return out
