"""The scored lines of a leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headstock.heads.engine.outoffold import Answer
from headstock.heads.engine.shared import widths
from headstock.heads.evaluation.systems import System
from headstock.heads.fusion.gate import gate_report
from headstock.heads.numbers.compare import group_intervals
from headstock.heads.numbers.importances import weigh
from headstock.heads.numbers.metrics import score
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows, columns_of, parts_of

__all__ = ["answered", "score_lines"]


def answered(proba: np.ndarray) -> np.ndarray:
    """(n,) bool: the rows that (n, k) probabilities answer; NaN is no answer."""
    return ~np.isnan(proba[:, 0])


def score_lines(
    systems: Sequence[System],
    answers: Mapping[str, Answer],
    rows: Rows,
    plan: FoldPlan,
    test: Rows | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One line a system: those that answer most rows first, of equals the most accurate.

    Where rows lack vectors a line has ``patterns``: the figures on the rows of each.
    """
    board = []
    for system in systems:
        answer = answers[system.name]
        line: dict[str, Any] = {
            "head": system.head,
            "on": system.on,
            "fusion": system.fusion,
            "name": system.name,
        }
        line.update(_scored(answer.proba, rows))
        line.update(seconds=round(answer.seconds, 4), how=answer.how)
        if answer.reused:
            line["reused"] = True
        if answer.chosen:
            line["chosen"] = answer.chosen
        if answer.tried:
            line["tried"] = answer.tried
        if answer.importances:
            spans = columns_of(parts_of(system.on), widths(rows, system.on))
            line["importances"] = weigh(answer.importances, spans, rows.names)
        if answer.notes:
            line["notes"] = answer.notes
        if system.members:
            line["members"] = list(system.members)
        if system.fusion == "gated":
            line["gate"] = _gate(system, answers, rows, seed)
        if answer.test is not None and test is not None and answered(answer.test).any():
            line["test"] = _scored(answer.test[None], test)
        board.append(line)
    if rows.groups is not None:
        _by_group(board, answers, rows.codes, rows.groups, seed)
    board.sort(key=lambda r: (-r["n"], -r["accuracy"]["value"], r["log_loss"]))
    return board


def _scored(proba: np.ndarray, rows: Rows) -> dict[str, Any]:
    """The figures of (r, n, k) on the rows it answers, and on those of each pattern."""
    there = answered(proba[0])
    out = score(proba[:, there], rows.codes[there])
    if rows.present is not None:
        own = rows.patterns()
        out["patterns"] = {}
        for pattern in sorted(set(own), key=lambda p: (-p.count("+"), p)):
            which = there & (own == pattern)
            if which.any():
                part = score(proba[:, which], rows.codes[which])
                out["patterns"][pattern] = {k: v for k, v in part.items() if k != "per_class"}
    return out


def _by_group(
    board: Sequence[dict[str, Any]],
    answers: Mapping[str, Answer],
    codes: np.ndarray,
    groups: np.ndarray,
    seed: int,
) -> None:
    """Intervals with whole groups drawn, once for all lines that answer the same rows."""
    alike: dict[bytes, list[dict[str, Any]]] = {}
    for line in board:
        alike.setdefault(answered(answers[line["name"]].proba[0]).tobytes(), []).append(line)
    for mask, lines in alike.items():
        there = np.frombuffer(mask, dtype=bool)
        said = [answers[line["name"]].proba[0][there].argmax(axis=1) for line in lines]
        right = np.stack(said, axis=1) == codes[there, None]
        for line, interval in zip(lines, group_intervals(right, groups[there], seed)):
            line["accuracy"]["by_group"] = interval


def _gate(system: System, answers: Mapping[str, Answer], rows: Rows, seed: int) -> dict[str, Any]:
    """The gate on the rows that all its members answer: the others have no choice."""
    members = np.stack([answers[m].proba[0] for m in system.members], axis=1)
    there = ~np.isnan(members[:, :, 0]).any(axis=1)
    groups = None if rows.groups is None else rows.groups[there]
    nested = answers[system.name].proba[0][there]
    return gate_report(members[there], nested, rows.codes[there], system.members, groups, seed)
