"""How the cells of a table's columns become numbers: the rules that a recipe keeps.

A number with empty cells becomes two values, the number or what stands in for it and a flag; a
category becomes a value of 0 or 1 for each of its frequent words and one for all others. What the
rules are made of (words, stand-ins) is read from the rows that are not held out, without any label.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstock.store.errors import UnsafeInput, one_line
from headstock.store.recipe import Recipe

__all__ = ["CATEGORY", "DATE", "FLAGS", "KINDS", "NUMBER", "Column", "columns_in", "recipe_of"]

NUMBER, CATEGORY, DATE = KINDS = ("number", "category", "date")
FLAGS = {CATEGORY: "--categories", DATE: "--dates"}
RARE = 0.005
"""The share of rows, and two rows at least, from which on a word has a value of its own."""
MOST = round(1 / RARE)
"""So many words of a category have one at most."""
LARGEST = float(np.finfo(np.float32).max)
_EPOCH = datetime.date(1970, 1, 1)


@dataclass(frozen=True)
class Column:
    """One column of a table. ``fill``: what an empty cell counts as, with a flag beside it; None:
    a row without the cell has no vector. ``values``: the words of a category with a value each,
    the empty one among them if it is frequent."""

    name: str
    kind: str = NUMBER
    fill: float | None = None
    values: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, kind: str, cells: np.ndarray, seen: np.ndarray) -> Column:
        """The rule that fits cells (n,), made from the rows ``seen`` (n,) bool."""
        if not seen.any():
            seen = np.ones(len(cells), dtype=bool)
        if kind == CATEGORY:
            count = Counter(cells[seen].tolist())
            least = max(2, RARE * int(seen.sum()))
            words = sorted(word for word, rows in count.items() if rows >= least)
            return cls(name, kind, values=tuple(words))
        if not np.isnan(cells).any():
            return cls(name, kind)
        with np.errstate(over="ignore"):
            there = cells[seen & np.isfinite(cells.astype(np.float32))]
        return cls(name, kind, float(np.float32(np.median(there))) if len(there) else 0.0)

    @property
    def features(self) -> list[str]:
        """The names of its values, in order."""
        if self.kind == CATEGORY:
            words = [f"{self.name}={one_line(v, 60)}" if v else f"{self.name} is empty"
                     for v in self.values]  # fmt: skip
            return [*words, f"{self.name}=(another)"]
        return [self.name] if self.fill is None else [self.name, f"{self.name} is empty"]

    def encode(self, cells: np.ndarray) -> np.ndarray:
        """(n, values) float64 of cells (n,): NaN or infinite where there is no value."""
        if self.kind == CATEGORY:
            place = {word: at for at, word in enumerate(self.values)}
            at = np.array([place.get(word, len(place)) for word in cells.tolist()], dtype=np.int64)
            return np.eye(len(place) + 1)[at]
        if self.fill is None:
            return cells[:, None]
        empty = np.isnan(cells)
        return np.stack([np.where(empty, self.fill, cells), empty], axis=1)

    def unknown(self, cells: np.ndarray) -> Counter[str]:
        """How many rows have which word that has no value of its own."""
        if self.kind != CATEGORY:
            return Counter()
        count = Counter(cells.tolist())
        return Counter({word: rows for word, rows in count.items() if word not in self.values})

    def rule(self) -> dict[str, Any] | None:
        """What a recipe keeps beside the name; None for a plain number."""
        if self.kind == CATEGORY:
            return {"kind": self.kind, "values": list(self.values)}
        if self.kind == NUMBER and self.fill is None:
            return None
        return {"kind": self.kind} | ({} if self.fill is None else {"fill": self.fill})


def days(cell: str) -> float:
    """Days since 1970 of an ISO date or time, in its own time zone. Raises ValueError."""
    when = datetime.datetime.fromisoformat(cell)
    return (when.date() - _EPOCH).days + ((when.hour * 60 + when.minute) * 60 + when.second) / 86400


def recipe_of(columns: Sequence[Column]) -> Recipe:
    """The recipe of a set read from a table: its columns, in order, and the rules of those that are
    not plain numbers."""
    rules = {one.name: rule for one in columns if (rule := one.rule())}
    fields: dict[str, Any] = {"columns": [one.name for one in columns], "dtype": "float32"}
    return Recipe("columns", {**fields, "rules": rules} if rules else fields)


def columns_in(recipe: Recipe) -> list[Column]:
    """The columns that a recipe was made of. Raises UnsafeInput for what is no rule: a recipe may
    come with a model or a store of somebody else's."""
    names, rules = recipe.fields.get("columns"), recipe.fields.get("rules", {})
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or len(set(names)) < len(names)
        or not isinstance(rules, Mapping)
        or not set(rules) <= set(names)
    ):
        raise UnsafeInput("recipe of columns", "no list of names with rules", "make the set again")
    return [_column(name, rules.get(name, {})) for name in names]


def _column(name: str, rule: Any) -> Column:
    if isinstance(rule, Mapping) and set(rule) <= {"kind", "fill", "values"}:
        kind, fill, values = rule.get("kind", NUMBER), rule.get("fill"), rule.get("values", [])
        words = isinstance(values, list) and all(isinstance(word, str) for word in values)
        number = fill is None or (type(fill) in (int, float) and abs(fill) <= LARGEST)
        once = words and len(set(values)) == len(values) <= MOST
        if kind in KINDS and number and once and (fill is None if kind == CATEGORY else not values):
            return Column(name, kind, fill, tuple(values))
    where = f"recipe of columns, {one_line(name, 60)}"
    raise UnsafeInput(where, f"no rule: {one_line(rule, 60)}", "make the set again")
