"""Fitting exactly what a line of an evaluation scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headstock.heads.bundle.bundle import Bundle
from headstock.heads.bundle.coverage import Coverage
from headstock.heads.bundle.fitting import Fit, fit_prepared
from headstock.heads.evaluation.plans import plan_for
from headstock.heads.metrics.table import metric_named
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.prepare import Rules, prepare
from headstock.heads.run.folder import read_any
from headstock.heads.run.numbers import NumberLine, NumberRun
from headstock.heads.run.run import Run, Settings
from headstock.heads.run.scores import Line
from headstock.heads.userfile import only_files
from headstock.store.errors import HeadError, OptionError, near
from headstock.store.progress import Report, unheard

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = ["fit_run"]


def fit_run(
    store: StoreReader,
    run: str | Path,
    system: str | None = None,
    *,
    coverage: float | None = None,
    coverage_per_class: bool = False,
    head_files: Sequence[str | Path] = (),
    progress: Report = unheard,
) -> Bundle:
    """Fit the system called ``system`` (by default the first) of the run folder ``run``: the same
    heads, options, rows and folds, so that its answers are those of the run's test column.
    coverage: as in ``fit``. head_files: files that the run's heads and metric may come from, which
    are run.

    Raises OptionError for a system that the run does not have, HeadError for a run that cannot be
    fitted again: one by blocks, or of several repeats, or of rows that the store no longer has;
    UnsafeInput for a file that is not among ``head_files``.
    """
    saved = read_any(run)
    line, settings = _line(saved, system), saved.settings
    if settings.by_blocks:
        raise HeadError("run", "it read by blocks", "fit with --stream and the head's name")
    plan = FoldPlan.load(Path(run, "folds.json"))
    if plan.repeats > 1:  # the run's own refit fused by the first
        plan = FoldPlan(plan.ids, plan.codes[:1], plan.kind, plan.seed, plan.group)
    group = plan.group if saved.folds.grouped and plan.kind != "given" else None
    rules = Rules(group, settings.missing, settings.dedupe, "mark", settings.rare, settings.target)
    found = prepare(store, list(settings.on), rules, plan)
    members = [tuple(member.rpartition("@")[::2]) for member in line.members]
    heads = list(dict.fromkeys(head for head, _ in members)) or [line.head]
    needed = {*heads, line.fusion}
    options = {h: o for h, o in settings.options.items() if h in needed}
    made = Fit(
        line.on, heads, line.fusion, settings.seed, options, [(head, on) for head, on in members],
        settings.decides, Coverage.asked(coverage, coverage_per_class, found.rows.target),
    )  # fmt: skip
    folds = plan_for(store, found.rows, plan, group=group, repeats=1, seed=made.seed)
    with only_files(head_files):
        _same_metric(settings, found.rows.classes.tolist())
        bundle = fit_prepared(store, found, folds, made, progress)
    bundle.settings["system"] = line.name
    return bundle


def _same_metric(settings: Settings, classes: Sequence[str]) -> None:
    """Raises HeadError when the file of the metric that decides is another one than in the run."""
    name = settings.decides
    before = settings.metric_files.get(name)
    if before is not None and metric_named(name, classes).source != before:
        raise HeadError(f"metric {name}", "its file is another one now", "evaluate again")


def _line(run: Run | NumberRun, system: str | None) -> Line | NumberLine:
    board: dict[str, Line | NumberLine] = {line.name: line for line in run.leaderboard}
    if system is None:
        return run.leaderboard[0]
    if system not in board:
        failed = [one.reason for one in run.failed if one.name == system]
        what = f"has no score: {failed[0]}" if failed else "is not in the run"
        fix = f"{near(system, board)}one of {', '.join([*board][:8])}"
        raise OptionError(f"system {system}", what, fix)
    return board[system]
