"""The compiled loops, and the runs of columns that they read."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["loops", "runs_of"]


def loops() -> Any:
    """``compiled_tiles``, which importing numba makes slow to load: compiled once a machine where
    numba can keep its cache."""
    from headstock.heads.solvers import compiled_tiles

    return compiled_tiles


def runs_of(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the runs of consecutive numbers in ``columns`` (rising) begin and end."""
    breaks = np.flatnonzero(np.diff(columns) != 1) + 1
    begins = columns[np.concatenate([[0], breaks])]
    ends = columns[np.concatenate([breaks - 1, [len(columns) - 1]])] + 1
    return begins, ends
