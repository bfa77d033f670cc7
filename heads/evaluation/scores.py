"""The scored lines of a leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from headstock.heads.evaluation.lines import answered, line_record, with_patterns
from headstock.heads.evaluation.systems import System
from headstock.heads.fusion.gate import gate_report, gate_verdicts
from headstock.heads.metrics.table import Metric
from headstock.heads.outoffold.answer import Answer
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows
from headstock.heads.run.as_json import parse
from headstock.heads.run.rows import Fold
from headstock.heads.run.scores import Line
from headstock.heads.statistics.chance import chance_p
from headstock.heads.statistics.compare import rights
from headstock.heads.statistics.figures import calibration_line, figures
from headstock.heads.statistics.intervals import unit_codes
from headstock.heads.statistics.measured import guess_p, metric_record
from headstock.heads.statistics.metrics import ByRow
from headstock.store.manifest.splits import HELD_OUT

__all__ = ["baseline", "fold_table", "score_lines", "shares"]


def score_lines(
    systems: Sequence[System],
    answers: Mapping[str, Answer],
    rows: Rows,
    plan: FoldPlan,
    test: Rows | None = None,
    seed: int = 0,
    metrics: Sequence[Metric] = (),
) -> list[Line]:
    """One line a system: those that answer most rows first, of equals the best by the first of
    ``metrics``, by default the most accurate.

    Where rows lack vectors a line has ``patterns``: the figures on the rows of each. ``test``: all
    rows that are held out; a line has the figures of each split of them, ``valid`` and ``test``.
    """
    folds = plan.codes[0] if plan.n == len(rows) and tuple(rows.ids) == plan.ids else None
    beyond = _beyond_chance([s.name for s in systems], answers, rows, folds, seed, metrics)
    gates = _gates([s for s in systems if s.fusion == "gated"], answers, rows, seed, metrics)
    scored = partial(_scored, metrics=metrics)
    board = []
    for system in systems:
        line = line_record(system, answers[system.name], rows, test, scored)
        line |= {"chance_p": beyond.get(system.name), "gate": gates.get(system.name)}
        board.append(parse(Line, line, system.name))
    best = lambda line: (*_rank(line, metrics), -line.accuracy.value, line.log_loss)  # noqa: E731
    first, *others = sorted(board, key=lambda line: (-line.n, *best(line)))
    return [
        _beyond_by_metric(first, answers[first.name].proba[0], rows, folds, seed, metrics),
        *others,
    ]


def _beyond_by_metric(
    line: Line, proba: np.ndarray, rows: Rows, folds: np.ndarray | None, seed: int,
    metrics: Sequence[Metric],
) -> Line:  # fmt: skip
    """The first line with its p-value against guessing by the metric that decides."""
    if not metrics or metrics[0].name == "accuracy":
        return line
    there = answered(proba)
    strata, groups = (None if x is None else x[there] for x in (folds, rows.groups))
    p = guess_p(metrics[0], proba[there], rows.codes[there], strata, groups, seed)
    return replace(line, chance_p=p)


def _rank(line: Line, metrics: Sequence[Metric]) -> tuple[float, ...]:
    """By the metric that decides: less is better, what is not defined last."""
    measure = line.metrics.get(metrics[0].name) if metrics else None
    if measure is None:
        return ()
    return (np.inf,) if measure.value is None else (-metrics[0].sign * measure.value,)


def _scored(proba: np.ndarray, rows: Rows, metrics: Sequence[Metric]) -> dict[str, Any]:
    """The figures of (r, n, k) on the rows it answers, and on those of each pattern."""
    out = with_patterns(proba, rows, lambda which: _figures(proba, rows, which, metrics))
    for part in out.get("patterns", {}).values():
        del part["per_class"]
    return out


def _figures(
    proba: np.ndarray, rows: Rows, which: np.ndarray, metrics: Sequence[Metric]
) -> dict[str, Any]:
    some, codes = proba[:, which], rows.codes[which]
    groups = None if rows.groups is None else rows.groups[which]
    out = figures([ByRow.of(one, codes) for one in some], codes, proba.shape[2], groups)
    out["calibration"] = calibration_line(some, codes, groups)
    if others := [one for one in metrics if one.name != "accuracy"]:
        out["metrics"] = {one.name: metric_record(one, some, codes, groups) for one in others}
    return out


def _beyond_chance(
    names: Sequence[str],
    answers: Mapping[str, Answer],
    rows: Rows,
    folds: np.ndarray | None,
    seed: int,
    metrics: Sequence[Metric],
) -> dict[str, float]:
    """p-values against guessing by system, at once for all that answer the same rows; none where
    another metric than the accuracy decides (``_beyond_by_metric``)."""
    out: dict[str, float] = {}
    if metrics and metrics[0].name != "accuracy":
        return out
    alike: dict[bytes, list[str]] = {}
    for name in names:
        alike.setdefault(answered(answers[name].proba[0]).tobytes(), []).append(name)
    for mask, same in alike.items():
        there = np.frombuffer(mask, dtype=bool)
        predicted = [answers[name].proba[0, there].argmax(axis=1) for name in same]
        groups = None if rows.groups is None else rows.groups[there]
        strata = None if folds is None else folds[there]
        p = chance_p(np.stack(predicted, axis=1), rows.codes[there], strata, groups, seed)
        out |= dict(zip(same, p.tolist(), strict=True))
    return out


def baseline(
    prior: np.ndarray,
    rows: Rows,
    share: np.ndarray,
    held: Rows | None = None,
    metrics: Sequence[Metric] = (),
) -> Line:
    """A line as of a leaderboard for one who knows how frequent the classes are and looks at
    nothing, and so always answers the most frequent one.

    prior (r, n, k): the shares among what each of ``rows`` is answered from; share (k,): among all
    training rows, for the splits of ``held``.
    """
    line: dict[str, Any] = {"head": "guessing", "on": "-", "fusion": None, "name": "guessing"}
    line |= _guessed(prior, rows, metrics)
    for split in HELD_OUT if held is not None else ():
        some = held.take(held.held_in(split))  # type: ignore[union-attr]
        if len(some):
            line[split] = _guessed(shares(share, len(some)), some, metrics)
    return parse(Line, line, "guessing")


def _guessed(proba: np.ndarray, rows: Rows, metrics: Sequence[Metric]) -> dict[str, Any]:
    """The figures of guesses (r, n, k) that answer every row. Of metrics that rank, what guesses
    differ in from fold to fold is left out: it only says which fold a row is in."""
    every = np.ones(len(rows), dtype=bool)
    ranked = [one for one in metrics if one.needs == "ranks"]
    out = _figures(proba, rows, every, [one for one in metrics if one not in ranked])
    if ranked:
        alike = np.broadcast_to(proba.mean(axis=(0, 1)), proba.shape)
        by_rank = _figures(alike, rows, every, ranked)["metrics"]
        out["metrics"] = {**out.get("metrics", {}), **by_rank}
    return out


def shares(share: np.ndarray, n: int) -> np.ndarray:
    """(1, n, k) the same answer, share (k,), to n rows."""
    return np.tile(share, (1, n, 1))


def fold_table(rows: Rows, plan: FoldPlan) -> tuple[tuple[Fold, ...], ...]:
    """What each fold of each repeat holds out."""
    k = len(rows.classes)
    keys = None
    if rows.groups is not None:
        keys = unit_codes(len(rows), rows.groups)

    def fold(mine: np.ndarray) -> Fold:
        counts = np.bincount(rows.codes[mine], minlength=k).tolist()
        groups = None if keys is None else len(np.unique(keys[mine]))
        return Fold(n=int(mine.sum()), classes=tuple(counts), groups=groups)

    return tuple(tuple(fold(codes == f) for f in range(plan.folds)) for codes in plan.codes)


def _gates(
    systems: Sequence[System],
    answers: Mapping[str, Answer],
    rows: Rows,
    seed: int,
    metrics: Sequence[Metric],
) -> dict[str, dict[str, Any]]:
    """Each gate on the rows that all its members answer (the others have no choice), and the
    verdicts on all of them together."""
    reports, right = [], []
    aim = metrics[0] if metrics and metrics[0].name != "accuracy" else None
    for system in systems:
        members = np.stack([answers[m].proba for m in system.members], axis=2)
        there = ~np.isnan(members[0, :, :, 0]).any(axis=1)
        nested, groups = answers[system.name].proba, rows.groups
        report = gate_report(
            members[:, there], nested[:, there], rows.codes[there], system.members,
            None if groups is None else groups[there], aim,
        )  # fmt: skip
        for proba in (nested, answers[report["best"]].proba):
            right.append(np.where(there, rights(proba, rows.codes), np.nan))
        reports.append(report)
    if reports:
        gate_verdicts(reports, np.stack(right, axis=1), rows.groups, seed)
    return {system.name: report for system, report in zip(systems, reports)}
