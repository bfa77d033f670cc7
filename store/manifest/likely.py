"""Which columns of a table are likely its pictures, sounds and labels, for an error that can be
answered by pasting."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence

from headstock.store.manifest.columns import NO_FEATURE
from headstock.store.manifest.paths import modality_of
from headstock.store.manifest.table import Table

__all__ = ["likely_flags", "shown_columns"]

LABELS = (
    "label labels class classes target category categories species diagnosis class_name "
    "class_id label_name y"
).split()
LOOKED_AT = 200
"""Rows that are looked at."""


def shown_columns(table: Table) -> str:
    """The names of the first columns."""
    return ", ".join(table.header[:20]) + (", …" if len(table.header) > 20 else "")


def likely_flags(table: Table, where: Mapping[str, int], numeric: Sequence[str]) -> list[str]:
    """Words such as ``--image-col path --label-col target`` for fields that ``where`` has no column
    of; empty where nothing looks like one. ``numeric``: columns taken as features."""
    free = [i for i, name in enumerate(table.header) if i not in where.values() and name]
    rows = table.rows[:LOOKED_AT]
    words: list[str] = []
    for modality in ("image", "audio") if not numeric else ():
        counts = {i: sum(modality_of(row[i].strip()) == modality for row in rows) for i in free}
        best = max(counts, key=lambda i: counts[i], default=-1)
        if modality not in where and best >= 0 and counts[best] > len(rows) / 2:
            words += [f"--{modality}-col", shlex.quote(table.header[best])]
            free.remove(best)
    if not words and not numeric and not {"image", "audio"} & where.keys():
        words = _files(table, free) or _numbers(table, free)
    if "label" not in where:
        called = {table.header[i].casefold(): i for i in reversed(free)}
        named = [called[name] for name in LABELS if name in called]
        if named:
            words += ["--label-col", shlex.quote(table.header[named[0]])]
    return words


def _files(table: Table, free: Sequence[int]) -> list[str]:
    """A column of files that lie beside the table, whatever their endings."""
    base = os.path.dirname(os.path.abspath(table.path))
    for i in free:
        cells = [row[i].strip() for row in table.rows[:5]]
        if all(cell and os.path.isfile(os.path.join(base, cell)) for cell in cells):
            return ["--image-col", shlex.quote(table.header[i])]
    return []


def _numbers(table: Table, free: Sequence[int]) -> list[str]:
    """Numeric columns that are no ids, labels or groups, as one feature set."""
    measured = [i for i in free if table.header[i].casefold() not in NO_FEATURE]
    for i in measured:
        cells = [row[i].strip() for row in table.rows[:LOOKED_AT]]
        if all(_is_number(cell) for cell in cells if cell) and any(cells):
            return ["--columns", "'*'", "--as", "numbers"]
    return []


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
