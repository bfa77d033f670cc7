"""Every head for numbers on every set with every fusion, scored on one fold plan."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstock.heads.engine.shared import MEMORY
from headstock.heads.evaluation.answers import How
from headstock.heads.evaluation.failures import failed_lines
from headstock.heads.evaluation.in_time import scored_in_time
from headstock.heads.evaluation.lines import answered
from headstock.heads.evaluation.regression import (
    compared,
    fold_sizes,
    guesses,
    number_lines,
    selected,
    worst_rows,
)
from headstock.heads.evaluation.request import answer_request, held_answers, on_valid
from headstock.heads.evaluation.reuse import Reuse
from headstock.heads.metrics.regression import SHOWN, USUAL, number_metric
from headstock.heads.metrics.table import Metric
from headstock.heads.result import Views, answers_npz
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows
from headstock.heads.rows.times import in_time
from headstock.heads.run.as_json import parse
from headstock.heads.run.numbers import NumberLine, NumberRun
from headstock.heads.run.rows import Plan
from headstock.heads.run.run import Settings
from headstock.heads.specs import NUMBER

__all__ = ["HeldNumbers", "NumberEvaluation", "evaluate_numbers", "metrics_of"]


@dataclass(frozen=True)
class HeldNumbers:
    """m rows of one split that nothing learned from: ids (m,), numbers y (m,), and said {system
    name: (m,)} by the refits on all training rows."""

    ids: np.ndarray
    y: np.ndarray
    said: dict[str, np.ndarray]


@dataclass
class NumberEvaluation(Views):
    """What ``evaluate`` gives back of numbers.

    run: the figures, as in metrics.json. ids (n,), numbers y (n,); said: {system name: (n,)} out of
    fold, NaN where a system has nothing to read. held: {split: its rows and the refits' answers} of
    the splits ``valid`` and ``test`` that have any. Where the valid split is the one fold, ids, y
    and said are its own.
    """

    run: NumberRun
    ids: np.ndarray
    y: np.ndarray
    folds: FoldPlan
    said: dict[str, np.ndarray]
    held: dict[str, HeldNumbers]

    @property
    def leaderboard(self) -> tuple[NumberLine, ...]:
        """The best by the metric that decides first."""
        return self.run.leaderboard

    def files(self) -> dict[str, bytes | str]:
        """folds.json; oof.npz, valid.npz and test.npz with ids, numbers and answers."""
        files: dict[str, bytes | str] = {
            "folds.json": json.dumps(self.folds.to_json()),
            "oof.npz": answers_npz(self.ids, "said", self.said, y=self.y),
        }
        for split, held in self.held.items():
            files[f"{split}.npz"] = answers_npz(held.ids, "said", held.said, y=held.y)
        return files


def metrics_of(names: Sequence[str]) -> list[Metric]:
    """The metrics that are shown, that which decides first: those named, then ``SHOWN``. Raises
    OptionError for one that is none of numbers."""
    found = [number_metric(name) for name in (*(names or (USUAL,)), *SHOWN)]
    return list({one.name: one for one in found}.values())


def evaluate_numbers(
    rows: Rows, heads: Sequence[str], on: Sequence[str], fusions: Sequence[str], plan: FoldPlan, *,
    test: Rows | None = None, seed: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None, nested: bool | None = None,
    memory: float = MEMORY, device: str = "cpu",
    progress: Callable[[int, int, str], None] | None = None, reuse: Reuse | None = None,
    one_fold: bool = False, metric: Sequence[str] = (),
) -> NumberEvaluation:  # fmt: skip
    """``evaluate`` on plain arrays of numbers, as ``evaluate_rows`` on those of classes."""
    metrics = metrics_of(metric)
    options = {name: dict(own) for name, own in (options or {}).items()}
    heads, on = list(dict.fromkeys(heads)), list(dict.fromkeys(on))
    how = How(options, seed, nested, memory, device, reuse)
    given = answer_request(
        rows, heads, on, fusions, plan, how,
        test=test, one_fold=one_fold, target=NUMBER, progress=progress,
    )  # fmt: skip
    answers, scored, held = given.by_name, given.systems, test
    baseline = guesses(rows, plan, metrics, test, one_fold)
    if in_time(plan) and not one_fold:
        rows = rows.take(scored_in_time(rows, plan))
    elif one_fold and test is not None:
        rows, held, answers = on_valid(test, answers)
        scored = [s for s in scored if answered(answers[s.name].proba[0]).any()]
    board = number_lines(scored, answers, rows, metrics, held)
    said = {name: answer.proba for name, answer in answers.items()}
    run = NumberRun(
        leaderboard=tuple(board),
        folds=parse(Plan, plan.summary()),
        failed=failed_lines(given.failed),
        baseline=baseline,
        fold_sizes=fold_sizes(plan),
        comparisons=compared(board, said, rows, metrics[0], seed),
        selection=selected(board, said, rows, metrics[0], seed),
        worst=worst_rows(said[board[0].name], rows),
        settings=Settings(
            heads=tuple(heads), on=tuple(on), fusions=tuple(fusions), nested=nested, seed=seed,
            options=options, classes=(), scored="valid" if one_fold else "folds", target=NUMBER,
            metric=tuple(one.name for one in metrics),
        ),
    )  # fmt: skip
    return NumberEvaluation(
        run, rows.ids, rows.y, plan,
        {name: one[0, :, 0] for name, one in said.items()},
        {
            split: HeldNumbers(some.ids, some.y, {name: p[:, 0] for name, p in proba.items()})
            for split, some, proba in held_answers(held, answers)
        },
    )  # fmt: skip
