"""Every head for numbers on every set with every fusion, scored on one fold plan."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from headstock.heads.engine.shared import MEMORY
from headstock.heads.evaluation.answers import How, answer_systems, nested_fits
from headstock.heads.evaluation.failures import failed_lines
from headstock.heads.evaluation.in_time import answer_in_time, scored_in_time
from headstock.heads.evaluation.ledger import saved_as
from headstock.heads.evaluation.regression import (
    answered,
    compared,
    fold_sizes,
    guesses,
    number_lines,
    selected,
    worst_rows,
)
from headstock.heads.evaluation.reuse import Reuse
from headstock.heads.evaluation.systems import System, bases_of, fused_systems, patterns_of
from headstock.heads.fusion.fusions import fusions_of, make_fusion
from headstock.heads.head import make_head
from headstock.heads.metrics.regression import SHOWN, USUAL, number_metric
from headstock.heads.metrics.table import Metric
from headstock.heads.outoffold.answer import Answer
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows
from headstock.heads.rows.times import in_time
from headstock.heads.run.as_json import parse, plain
from headstock.heads.run.folder import body_of, write_run
from headstock.heads.run.numbers import NumberLine, NumberRun
from headstock.heads.run.rows import Plan
from headstock.heads.run.run import Settings
from headstock.heads.specs import NUMBER
from headstock.store.errors import HeadError, OptionError
from headstock.store.manifest.splits import HELD_OUT

__all__ = ["HeldNumbers", "NumberEvaluation", "evaluate_numbers", "metrics_of"]


@dataclass(frozen=True)
class HeldNumbers:
    """m rows of one split that nothing learned from: ids (m,), numbers y (m,), and said {system
    name: (m,)} by the refits on all training rows."""

    ids: np.ndarray
    y: np.ndarray
    said: dict[str, np.ndarray]


@dataclass
class NumberEvaluation:
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

    def to_json(self) -> dict[str, Any]:
        """The content of metrics.json."""
        return body_of(self.run)

    def text(self, width: int | None = None, strong: Callable[[str], str] = str) -> str:
        """The leaderboard as text; see ``Evaluation.text``."""
        from headstock.heads.report.regression import numbers_text

        return numbers_text(self.run, width, strong)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from headstock.heads.report.notebook import leaderboard_html

        return leaderboard_html(self.run)

    def save(self, run_dir: str | Path, more: Mapping[str, str] | None = None) -> None:
        """Write the run folder: metrics.json, settings.json, leaderboard.txt, folds.json, oof.npz,
        valid.npz and test.npz with ids, numbers and answers, and ``more``. It holds all of this run
        or what was there before. Raises StorageError."""
        files: dict[str, bytes | str] = {
            "settings.json": json.dumps(plain(self.run.settings), indent=1, allow_nan=False),
            "leaderboard.txt": self.text() + "\n",
            "folds.json": json.dumps(self.folds.to_json()),
            "oof.npz": _npz(self.ids, self.y, self.said),
        }
        for split, held in self.held.items():
            files[f"{split}.npz"] = _npz(held.ids, held.y, held.said)
        write_run(run_dir, self.run, {**files, **(more or {})})
        if self.run.hygiene.looks:
            saved_as(self.run.hygiene.looks, run_dir)


def _npz(ids: np.ndarray, y: np.ndarray, said: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"said/{name}": value for name, value in said.items()}
    np.savez(buffer, ids=np.asarray(ids, dtype=str), y=y, **arrays)
    return buffer.getvalue()


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
    if one_fold and (test is None or not len(test.held_in("valid"))):
        fix = "name one in the table's split column, or take a number of folds"
        raise HeadError("folds", "there is no labelled row in split valid", fix)
    metrics = metrics_of(metric)
    options = {name: dict(own) for name, own in (options or {}).items()}
    heads, on = list(dict.fromkeys(heads)), list(dict.fromkeys(on))
    _refuse_wrong(heads, fusions, options, nested, plan, seed)
    systems = [System(h, o, "early" if "+" in o else None) for o in on for h in heads]
    singles = [o for o in on if "+" not in o]
    fused = fused_systems(heads, singles, fusions, NUMBER)
    bases = len(bases_of(systems, patterns_of(rows, test)))
    total = bases * (plan.folds * plan.repeats + (test is not None)) + len(fused)
    total += 0 if nested is False else nested_fits(fused, plan)
    done = 0

    def step(name: str, fits: int = 1) -> None:
        nonlocal done
        done = min(done + fits, total)
        if progress is not None:
            progress(done, total, name)

    systems += fused
    how = How(options, seed, nested, memory, device, reuse, None, step)
    ask = partial(answer_systems, how=how)
    timed = in_time(plan) and not one_fold
    if timed:
        given = answer_in_time(systems, rows, plan, ask, test, seed)
    else:
        given = ask(systems, rows, plan, test=test)
    step(systems[-1].name, total)  # what was known took no fits
    answers, scored, held = given.by_name, given.systems, test
    baseline = guesses(rows, plan, metrics, test, one_fold)
    if timed:
        rows = rows.take(scored_in_time(rows, plan))
    elif one_fold and test is not None:
        rows, held, answers = on_valid(test, answers)
        scored = [s for s in scored if answered(answers[s.name].proba).any()]
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
        {} if held is None else _held(held, answers),
    )  # fmt: skip


def _refuse_wrong(
    heads: Sequence[str], fusions: Sequence[str], options: Mapping[str, Mapping[str, Any]],
    nested: bool | None, plan: FoldPlan, seed: int,
) -> None:  # fmt: skip
    """A wrong name or option costs no fit."""
    for name in heads:
        make_head(name, seed, options.get(name), NUMBER)
    unused = sorted(set(options) - {*heads, *fusions})
    if unused:
        raise OptionError("options", f"{', '.join(unused)} is not among the heads", "add --head")
    late = fusions_of(NUMBER)
    for name in fusions:
        if name in late and late[name] is None:
            continue
        stack = make_fusion(name, seed, options.get(name), NUMBER)
        if (nested or getattr(stack, "wants_features", False)) and plan.folds < 3:
            raise OptionError("folds", "two are too few for a nested fusion", "three or more")


def on_valid(
    held: Rows, answers: Mapping[str, Answer]
) -> tuple[Rows, Rows | None, dict[str, Answer]]:
    """The valid rows, the test rows or None, and the answers on both: what the refits said of the
    valid rows stands in the place of out-of-fold answers."""
    valid, test = held.held_in("valid"), held.held_in("test")
    moved = {
        name: replace(a, proba=a.test[None, valid], test=a.test[test] if len(test) else None)
        for name, a in answers.items()
        if a.test is not None
    }
    return held.take(valid), held.take(test) if len(test) else None, moved


def _held(rows: Rows, answers: Mapping[str, Answer]) -> dict[str, HeldNumbers]:
    out = {}
    for split in HELD_OUT:
        which = rows.held_in(split)
        if len(which):
            said = {n: a.test[which, 0] for n, a in answers.items() if a.test is not None}
            out[split] = HeldNumbers(rows.ids[which], rows.y[which], said)
    return out
