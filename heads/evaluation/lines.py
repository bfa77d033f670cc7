"""A line of a leaderboard as plain data, whatever its scores are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from headstock.heads.engine.shared import widths
from headstock.heads.evaluation.systems import System
from headstock.heads.outoffold.answer import Answer
from headstock.heads.rows.labelled import Rows, columns_of, parts_of
from headstock.heads.statistics.importances import weigh
from headstock.store.manifest.splits import HELD_OUT

__all__ = ["answered", "line_record", "with_patterns"]


def answered(said: np.ndarray) -> np.ndarray:
    """(n,) bool: the rows that (n, k) answers; NaN is no answer."""
    return ~np.isnan(said[:, 0])


def line_record(
    system: System, answer: Answer, rows: Rows, test: Rows | None,
    scored: Callable[[np.ndarray, Rows], dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """The system, how it came to its answers, and its scores on ``rows`` and on each split of
    ``test`` that it answers. scored: those of answers (r, n, k) on n rows."""
    line: dict[str, Any] = {
        "head": system.head, "on": system.on, "fusion": system.fusion, "name": system.name,
        **scored(answer.proba, rows), "seconds": round(answer.seconds, 4), "how": answer.how,
        "reused": answer.reused, "chosen": answer.chosen, "tried": answer.tried or None,
        "notes": answer.notes, "members": system.members,
    }  # fmt: skip
    if answer.importances:
        spans = columns_of(parts_of(system.on), widths(rows, system.on))
        line["importances"] = weigh(answer.importances, spans, rows.names)
    if answer.test is not None and test is not None:
        for split in HELD_OUT:
            which = test.held_in(split)
            if answered(answer.test[which]).any():
                line[split] = scored(answer.test[None, which], test.take(which))
    return line


def with_patterns(
    said: np.ndarray, rows: Rows, figures: Callable[[np.ndarray], dict[str, Any]]
) -> dict[str, Any]:
    """``figures`` of the rows (n,) bool that (r, n, k) answers, and where rows lack vectors those
    of each pattern, most sets first."""
    there = answered(said[0])
    out = figures(there)
    if rows.present is not None:
        patterns = rows.patterns()
        order = sorted(set(patterns), key=lambda pattern: (-pattern.count("+"), pattern))
        parts = {pattern: there & (patterns == pattern) for pattern in order}
        out["patterns"] = {p: figures(which) for p, which in parts.items() if which.any()}
    return out
