"""The columns of a table that are no field of their own: kept as text, so that any can be a group.

``--group patient_id`` comes after the extraction, so what may be a group is kept by default: words
first, whole numbers next (``101`` and pandas' ``101.0``), and measurements when there are few.
"""

from __future__ import annotations

from collections.abc import Sequence

from headstock.store.manifest.table import Table

__all__ = ["text_columns"]

MOST = 64  # columns kept; a table of pixels has hundreds
LONGEST = 512  # characters of a cell: what is longer is prose, no group
SHOWN = 3
WORDS, WHOLE, MEASURED = range(3)


def text_columns(table: Table, columns: Sequence[int]) -> tuple[dict[str, list[str]], list[str]]:
    """The cells of those of ``columns`` (their numbers) that a store keeps, by name, and a line
    that names others, which are too many or too long."""
    cells = {i: [row[i].strip() for row in table.rows] for i in columns}
    kinds = {i: _kind(values) for i, values in cells.items() if max(map(len, values)) <= LONGEST}
    ranked = sorted(kinds, key=lambda i: (kinds[i], i))
    if len(ranked) > MOST:
        ranked = [i for i in ranked if kinds[i] != MEASURED][:MOST]
    kept = {table.header[i]: cells[i] for i in sorted(ranked)}
    left = [table.header[i] for i in columns if table.header[i] not in kept]
    if not left:
        return kept, []
    shown = ", ".join(left[:SHOWN]) + (", …" if len(left) > SHOWN else "")
    return kept, [f"{len(left):,} columns not kept as text ({shown}); --group-col keeps one"]


def _kind(values: Sequence[str]) -> int:
    kind = WHOLE
    for value in values:
        if value:
            try:
                number = float(value)
            except ValueError:
                return WORDS
            kind = kind if number.is_integer() else MEASURED
    return kind
