"""Systems that answer with numbers: their scores, what is known of the first, and guessing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from headstock.heads.evaluation.in_time import scored_in_time
from headstock.heads.evaluation.lines import answered, line_record, with_patterns
from headstock.heads.evaluation.systems import System
from headstock.heads.metrics.table import Metric
from headstock.heads.outoffold.answer import Answer
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows
from headstock.heads.rows.times import in_time, past_of
from headstock.heads.run import numbers as run
from headstock.heads.run.as_json import parse
from headstock.heads.run.scores import Measure, MetricDifference
from headstock.heads.statistics.compare import between_systems
from headstock.heads.statistics.intervals import LEVEL
from headstock.heads.statistics.regression import Known, chosen_best, difference, interval
from headstock.store.manifest.splits import HELD_OUT

__all__ = [
    "compared", "fold_sizes", "guesses", "number_lines", "selected", "worst_rows",
]  # fmt: skip

WORST = 10
MIDDLES = {"mae": 0.5, "median_ae": 0.5, "mape": 0.5}
"""Metrics that a quantile of the numbers is the best guess for, and not their mean."""


def number_lines(
    systems: Sequence[System], answers: Mapping[str, Answer], rows: Rows, metrics: Sequence[Metric],
    test: Rows | None = None,
) -> list[run.NumberLine]:  # fmt: skip
    """One line a system: those that answer most rows first, of equals the best by the first of
    ``metrics``. ``test``: all rows that are held out."""
    scored = partial(_scored, metrics=metrics)
    board = [
        parse(run.NumberLine, line_record(s, answers[s.name], rows, test, scored), s.name)
        for s in systems
    ]
    return sorted(board, key=lambda line: _rank(line, metrics[0]))


def _rank(line: run.NumberLine, metric: Metric) -> tuple[float, ...]:
    value = line.metrics[metric.name].value
    return -line.n, np.inf if value is None else -metric.sign * value


def _scored(said: np.ndarray, rows: Rows, metrics: Sequence[Metric]) -> dict[str, Any]:
    """The scores of (r, n, 1) on the rows it answers, and on those of each pattern."""
    return with_patterns(said, rows, lambda which: _scores(said, rows, which, metrics))


def _scores(
    said: np.ndarray, rows: Rows, which: np.ndarray, metrics: Sequence[Metric]
) -> dict[str, Any]:
    groups = None if rows.groups is None else rows.groups[which]
    out = {}
    for metric in metrics:
        found = Known(metric, said[:, which], rows.y[which])
        out[metric.name] = _measure((found.value, *interval(found, groups)), groups)
    return {"n": int(which.sum()), "metrics": out}


def _measure(ends: Sequence[float], groups: np.ndarray | None) -> Measure:
    value, low, high = map(_defined, ends)
    return Measure(value=value, low=low, high=high, by="rows" if groups is None else "groups")


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def compared(
    board: Sequence[run.NumberLine], answers: Mapping[str, np.ndarray], rows: Rows, metric: Metric,
    seed: int = 0,
) -> tuple[run.NumberComparison, ...]:  # fmt: skip
    """The first system against each other one, on the rows that both answer, (r, n, 1) each; as
    ``statistics.compare.against_best``. A metric of one's own has intervals, and no verdicts."""
    names = [line.name for line in board]
    if len(names) < 2:
        return ()
    p_values = np.ones(len(names))
    if metric.pseudo is not None:
        said = [answers[name] for name in names]
        p_values = between_systems(metric, said, rows.y, rows.groups, seed)[0]
    out = []
    for number, name in enumerate(names[1:], 1):
        a, b = answers[names[0]], answers[name]
        there = answered(a[0]) & answered(b[0])
        if not there.any():
            continue
        groups = None if rows.groups is None else rows.groups[there]
        pair = [Known(metric, said[:, there], rows.y[there]) for said in (a, b)]
        value, low, high = difference(pair[0], pair[1], groups)
        verdict = "better" if metric.sign * value > 0 else "worse"
        p = float(p_values[number])
        ends = {"value": _defined(value), "low": _defined(low), "high": _defined(high)}
        gap = MetricDifference(metric=metric.name, **ends)
        out.append(
            run.NumberComparison(
                a=names[0], b=name, n=int(there.sum()), repeats=len(a), difference=gap,
                by="rows" if groups is None else "groups", adjusted_p=p,
                verdict=verdict if p < LEVEL else "not distinguishable",
            )
        )  # fmt: skip
    return tuple(out)


def selected(
    board: Sequence[run.NumberLine], answers: Mapping[str, np.ndarray], rows: Rows, metric: Metric,
    seed: int = 0,
) -> run.NumberSelection | None:  # fmt: skip
    """What the best of the systems that answer every row is worth when other rows choose it."""
    names = [line.name for line in board if answered(answers[line.name][0]).all()]
    if len(names) < 2:
        return None
    systems = [Known(metric, answers[name], rows.y) for name in names]
    found = chosen_best(systems, rows.groups, seed)
    if found is None:
        return None
    order = np.argsort(-found.wins, kind="stable")[:5]
    return run.NumberSelection(
        leader=names[0], systems=len(names), apparent=found.apparent,
        nested=_measure((found.nested, found.low, found.high), rows.groups),
        optimism=metric.sign * (found.apparent - found.nested),
        wins=tuple((names[i], float(found.wins[i])) for i in order if found.wins[i]),
    )  # fmt: skip


def guesses(
    rows: Rows, plan: FoldPlan, metrics: Sequence[Metric], test: Rows | None, one_fold: bool
) -> run.NumberLine:
    """A line for one who knows the training rows' numbers and looks at nothing: their mean, or for
    a metric of absolute errors their median, of a pinball loss their quantile."""
    line: dict[str, Any] = {"head": "guessing", "on": "-", "fusion": None, "name": "guessing"}
    scored = rows
    if one_fold and test is not None:
        scored = test.take(test.held_in("valid"))
    elif in_time(plan):
        scored = rows.take(scored_in_time(rows, plan))
    by_metric: dict[str, Any] = {}
    for metric in metrics:
        share = _quantile(metric)
        # an answer that is the same for all ranks nothing; by fold it would tell folds apart
        alike = one_fold or metric.low == -1
        said = _constants(rows, plan, share, scored, alike)
        by_metric |= _scores(said, scored, np.ones(len(scored), bool), [metric])["metrics"]
        for split in HELD_OUT if test is not None else ():
            held = test.take(test.held_in(split))  # type: ignore[union-attr]
            if len(held) and not (one_fold and split == "valid"):
                same = np.full((1, len(held), 1), _middle(rows.y, share))
                part = _scores(same, held, np.ones(len(held), dtype=bool), [metric])
                line.setdefault(split, {"n": len(held), "metrics": {}})
                line[split]["metrics"] |= part["metrics"]
    return parse(run.NumberLine, {**line, "n": len(scored), "metrics": by_metric}, "guessing")


def _quantile(metric: Metric) -> float | None:
    """The quantile of the numbers that is the best guess, or None for their mean."""
    if metric.name.startswith("pinball"):
        return float(metric.name.partition("=")[2])
    return MIDDLES.get(metric.name)


def _middle(y: np.ndarray, share: float | None) -> float:
    return float(y.mean() if share is None else np.quantile(y, share))


def _constants(
    rows: Rows, plan: FoldPlan, share: float | None, scored: Rows, alike: bool
) -> np.ndarray:
    """(r, n, 1) what each scored row is guessed to be, from the rows it may be answered from."""
    if alike:
        return np.full((1, len(scored), 1), _middle(rows.y, share))
    if in_time(plan):
        folds = plan.codes[0][scored_in_time(rows, plan)]
        pasts = {f: past_of(plan, f, rows.groups) for f in np.unique(folds).tolist()}
        each = {fold: _middle(rows.y[past], share) for fold, past in pasts.items()}
        return np.array([each[fold] for fold in folds.tolist()])[None, :, None]
    out = np.empty((plan.repeats, len(rows), 1))
    for said, codes in zip(out, plan.codes):
        for fold in range(plan.folds):
            said[codes == fold] = _middle(rows.y[codes != fold], share)
    return out


def fold_sizes(plan: FoldPlan) -> tuple[tuple[int, ...], ...]:
    """How many rows each fold of each repeat holds out."""
    return tuple(tuple(np.bincount(codes).tolist()) for codes in plan.codes)


def worst_rows(said: np.ndarray, rows: Rows) -> tuple[run.Worst, ...]:
    """The rows that (r, n, 1), the first system's answers, are farthest off on."""
    predicted = said.mean(axis=0)[:, 0]
    off = np.nan_to_num(np.abs(predicted - rows.y), nan=-1.0)
    order = [row for row in np.argsort(-off, kind="stable")[:WORST] if off[row] >= 0]
    return tuple(
        run.Worst(id=str(rows.ids[row]), true=float(rows.y[row]), predicted=float(predicted[row]))
        for row in order
    )
