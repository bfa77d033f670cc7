"""What wrong answers cost: the mean cost of the answers that are cheapest in expectation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstock.store.errors import OptionError, near
from headstock.store.manifest.table import read_table

__all__ = ["COSTS", "cheapest", "cost_rows", "costs_of", "digest_of", "is_cost"]

PREFIX = "cost:"
COSTS = "costs"
"""Where the settings of a model hold them."""


def is_cost(name: str | None) -> bool:
    """Whether ``name`` is of the form ``cost:FILE.csv``."""
    return name is not None and name.startswith(PREFIX)


def digest_of(name: str) -> str:
    """sha256 of the file that ``cost:FILE.csv`` names."""
    return hashlib.sha256(Path(name.removeprefix(PREFIX)).read_bytes()).hexdigest()


def costs_of(name: str, classes: Sequence[Any]) -> np.ndarray:
    """(k, k) what it costs to answer a row of each class (line) by each class (column), from the
    CSV of ``cost:FILE.csv`` with the columns ``true``, ``answer`` and ``cost``. What it does not
    name costs 0 where the answer is right, and 1 where it is wrong.

    Raises ManifestError for what is no such table, OptionError for a class that is none, a pair
    that stands twice, and a cost that is no number from 0.
    """
    path = name.removeprefix(PREFIX)
    table = read_table(path)
    at = [table.index(column) for column in ("true", "answer", "cost")]
    names = [str(c) for c in classes]
    out = 1.0 - np.eye(len(names))
    seen: set[tuple[int, int]] = set()
    for number, cells in enumerate(table.rows):
        *pair, text = (cells[column] for column in at)
        for one in pair:
            if one not in names:
                fix = f"{near(one, names)}one of {', '.join(names[:20])}"
                raise OptionError(table.place(number), f"{one!r} is no class", fix)
        try:
            cost = float(text)
        except ValueError:
            cost = np.nan
        line, column = (names.index(one) for one in pair)
        if (line, column) in seen or not 0 <= cost < np.inf:
            twice = f"{pair[0]} answered by {pair[1]} stands twice"
            what = twice if (line, column) in seen else f"{text!r} is no cost"
            raise OptionError(table.place(number), what, "one line a pair, such as ill,well,10")
        seen.add((line, column))
        out[line, column] = cost
    return out


def cheapest(proba: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """(n,) the class whose answer costs least in expectation under probabilities (n, k)."""
    return (proba @ costs).argmin(axis=1)


def cost_rows(costs: np.ndarray, proba: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(n,) what the cheapest answer to each row then costs."""
    return costs[codes, cheapest(proba, costs)]
