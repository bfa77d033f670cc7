"""The scored lines of a leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headstock.heads.engine.shared import widths
from headstock.heads.evaluation.systems import System
from headstock.heads.fusion.gate import gate_report, gate_verdicts
from headstock.heads.metrics.table import Metric
from headstock.heads.numbers.beside import beside
from headstock.heads.numbers.chance import chance_p, priors
from headstock.heads.numbers.compare import rights
from headstock.heads.numbers.importances import weigh
from headstock.heads.numbers.intervals import share_interval
from headstock.heads.numbers.measured import guess_p, metric_record
from headstock.heads.numbers.metrics import score
from headstock.heads.outoffold.answer import Answer
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows, columns_of, parts_of
from headstock.store.manifest.splits import HELD_OUT

__all__ = ["answered", "baseline", "fold_table", "score_guess", "score_lines"]


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
    metrics: Sequence[Metric] = (),
) -> list[dict[str, Any]]:
    """One line a system: those that answer most rows first, of equals the best by the first of
    ``metrics``, by default the most accurate.

    Where rows lack vectors a line has ``patterns``: the figures on the rows of each. ``test``: all
    rows that are held out; a line has the figures of each split of them, ``valid`` and ``test``.
    """
    board = []
    folds = plan.codes[0] if plan.n == len(rows) and tuple(rows.ids) == plan.ids else None
    for system in systems:
        answer = answers[system.name]
        line: dict[str, Any] = {
            "head": system.head,
            "on": system.on,
            "fusion": system.fusion,
            "name": system.name,
        }
        line.update(_scored(answer.proba, rows, metrics))
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
        if answer.test is not None and test is not None:
            for split in HELD_OUT:
                which = test.held_in(split)
                if answered(answer.test[which]).any():
                    line[split] = _scored(answer.test[None, which], test.take(which), metrics)
        board.append(line)
    _beyond_chance(board, answers, rows, folds, seed, metrics)
    _gates([s for s in systems if s.fusion == "gated"], board, answers, rows, seed)
    board.sort(key=lambda r: (-r["n"], *_rank(r, metrics), -r["accuracy"]["value"], r["log_loss"]))
    return board


def _rank(line: Mapping[str, Any], metrics: Sequence[Metric]) -> tuple[float, ...]:
    """By the metric that decides: less is better, what is not defined last."""
    record = (line.get("metrics") or {}).get(metrics[0].name) if metrics else None
    if record is None:
        return ()
    return (np.inf,) if record["value"] is None else (-metrics[0].sign * record["value"],)


def _scored(proba: np.ndarray, rows: Rows, metrics: Sequence[Metric]) -> dict[str, Any]:
    """The figures of (r, n, k) on the rows it answers, and on those of each pattern."""
    there = answered(proba[0])
    out = _figures(proba, rows, there, metrics)
    if rows.present is not None:
        own = rows.patterns()
        out["patterns"] = {}
        for pattern in sorted(set(own), key=lambda p: (-p.count("+"), p)):
            which = there & (own == pattern)
            if which.any():
                part = _figures(proba, rows, which, metrics)
                out["patterns"][pattern] = {k: v for k, v in part.items() if k != "per_class"}
    return out


def _figures(
    proba: np.ndarray, rows: Rows, which: np.ndarray, metrics: Sequence[Metric]
) -> dict[str, Any]:
    out = score(proba[:, which], rows.codes[which])
    groups = None if rows.groups is None else rows.groups[which]
    more = beside(proba[:, which], rows.codes[which], groups)
    for line, ends in zip(out["per_class"], more.pop("recalls"), strict=True):
        line["interval"] = ends
    out |= more
    if groups is not None:
        right = rights(proba[:, which], rows.codes[which])[:, None] / len(proba)
        low, high = (float(end[0]) for end in share_interval(right, groups))
        units = len(np.unique(groups.astype(str)))
        out["accuracy"]["by_group"] = {"low": low, "high": high, "groups": units}
    if others := [one for one in metrics if one.name != "accuracy"]:
        some, codes = proba[:, which], rows.codes[which]
        out["metrics"] = {one.name: metric_record(one, some, codes, groups) for one in others}
    return out


def _beyond_chance(
    board: Sequence[dict[str, Any]],
    answers: Mapping[str, Answer],
    rows: Rows,
    folds: np.ndarray | None,
    seed: int,
    metrics: Sequence[Metric],
) -> None:
    """p-values against guessing, at once for all lines that answer the same rows; by the metric
    that decides, where it has pseudo-values."""
    if metrics and metrics[0].name != "accuracy" and metrics[0].interval != "resamples":
        for line in board:
            proba = answers[line["name"]].proba
            there = answered(proba[0])
            some = None if rows.groups is None else rows.groups[there]
            line["chance_p"] = guess_p(metrics[0], proba[:, there], rows.codes[there], some)
        return
    alike: dict[bytes, list[dict[str, Any]]] = {}
    for line in board:
        alike.setdefault(answered(answers[line["name"]].proba[0]).tobytes(), []).append(line)
    for mask, lines in alike.items():
        there = np.frombuffer(mask, dtype=bool)
        said = [answers[line["name"]].proba[0, there].argmax(axis=1) for line in lines]
        groups = None if rows.groups is None else rows.groups[there]
        strata = None if folds is None else folds[there]
        found = chance_p(np.stack(said, axis=1), rows.codes[there], strata, groups, seed)
        for line, p in zip(lines, found.tolist()):
            line["chance_p"] = p


def baseline(
    rows: Rows, plan: FoldPlan, test: Rows | None = None, metrics: Sequence[Metric] = ()
) -> dict[str, Any]:
    """A line as of a leaderboard for one who knows how frequent the classes are and looks at
    nothing: the shares of the training rows, and so always the most frequent class."""
    k = len(rows.classes)
    line: dict[str, Any] = {"head": "guessing", "on": "-", "fusion": None, "name": "guessing"}
    line |= score_guess(priors(rows.codes, plan.codes, k), rows, metrics)
    share = np.bincount(rows.codes, minlength=k) / len(rows)
    for split in HELD_OUT if test is not None else ():
        which = test.held_in(split)  # type: ignore[union-attr]
        if len(which):
            held = test.take(which)  # type: ignore[union-attr]
            said = np.tile(share, (1, len(held), 1))
            line[split] = _figures(said, held, np.ones(len(held), dtype=bool), metrics)
    return line


def score_guess(proba: np.ndarray, rows: Rows, metrics: Sequence[Metric] = ()) -> dict[str, Any]:
    """The figures of guesses (r, n, k) that answer every row. Of metrics that rank, what guesses
    differ in from fold to fold is left out: it only says which fold a row is in."""
    every = np.ones(len(rows), dtype=bool)
    ranked = [one for one in metrics if one.needs == "ranks"]
    out = _figures(proba, rows, every, [one for one in metrics if one not in ranked])
    if ranked:
        alike = np.broadcast_to(proba.mean(axis=(0, 1)), proba.shape)
        own = _figures(alike, rows, every, ranked)["metrics"]
        out["metrics"] = {**out.get("metrics", {}), **own}
    return out


def fold_table(rows: Rows, plan: FoldPlan) -> list[list[dict[str, Any]]]:
    """Of each repeat and fold: how many rows it holds out, ``classes`` (k,) of each class, and of
    how many groups, where there are any."""
    k, out = len(rows.classes), []
    keys = None
    if rows.groups is not None:
        keys = np.unique(rows.groups.astype(str), return_inverse=True)[1]
    for codes in plan.codes:
        parts = []
        for fold in range(plan.folds):
            mine = codes == fold
            counts = np.bincount(rows.codes[mine], minlength=k).tolist()
            part: dict[str, Any] = {"n": int(mine.sum()), "classes": counts}
            if keys is not None:
                part["groups"] = len(np.unique(keys[mine]))
            parts.append(part)
        out.append(parts)
    return out


def _gates(
    systems: Sequence[System],
    board: Sequence[dict[str, Any]],
    answers: Mapping[str, Answer],
    rows: Rows,
    seed: int,
) -> None:
    """Each gate on the rows that all its members answer (the others have no choice), and the
    verdicts on all of them together."""
    reports, right = [], []
    for system in systems:
        members = np.stack([answers[m].proba for m in system.members], axis=2)
        there = ~np.isnan(members[0, :, :, 0]).any(axis=1)
        nested, groups = answers[system.name].proba, rows.groups
        report = gate_report(
            members[:, there], nested[:, there], rows.codes[there], system.members,
            None if groups is None else groups[there],
        )  # fmt: skip
        for proba in (nested, answers[report["best"]].proba):
            right.append(np.where(there, rights(proba, rows.codes), np.nan))
        reports.append(report)
    if reports:
        gate_verdicts(reports, np.stack(right, axis=1), rows.groups, seed)
    told = {system.name: report for system, report in zip(systems, reports)}
    for line in board:
        if line["name"] in told:
            line["gate"] = told[line["name"]]
