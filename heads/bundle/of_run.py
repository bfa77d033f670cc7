"""Fitting exactly what a line of an evaluation scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstock.heads.bundle.bundle import Bundle
from headstock.heads.bundle.fitting import Fit, fit_prepared
from headstock.heads.evaluation.plans import plan_for
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.prepare import Rules, prepare
from headstock.heads.specs import CLASSES
from headstock.store.errors import HeadError, OptionError, near
from headstock.store.progress import Report, unheard

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = ["fit_run"]


def fit_run(
    store: StoreReader,
    run: str | Path,
    system: str | None = None,
    progress: Report = unheard,
) -> Bundle:
    """Fit the system called ``system`` (by default the first) of the run folder ``run``: the same
    heads, options, rows and folds, so that its answers are those of the run's test column.

    Raises OptionError for a system that the run does not have, HeadError for a run that cannot be
    fitted again: one by blocks, or of several repeats, or of rows that the store no longer has.
    """
    from headstock.heads.report.text import saved_metrics

    metrics = saved_metrics(run)
    plan = FoldPlan.load(Path(run, "folds.json"))
    line, settings = _line(metrics, system), metrics.get("settings") or {}
    if settings.get("by_blocks"):
        raise HeadError("run", "it read by blocks", "fit with --stream and the head's name")
    if plan.repeats > 1:  # the run's own refit fused by the first
        plan = FoldPlan(plan.ids, plan.codes[:1], plan.kind, plan.seed, plan.group)
    group = plan.group if plan.group not in (None, "duplicates") and plan.kind != "given" else None
    rules = Rules(
        group, settings.get("missing", "refuse"), settings.get("dedupe", "group"), "mark",
        settings.get("rare", "drop"), settings.get("target", CLASSES),
    )  # fmt: skip
    found = prepare(store, list(settings["on"]), rules, plan)
    members = [tuple(str(m).rpartition("@")[::2]) for m in line.get("members") or ()]
    heads = list(dict.fromkeys(head for head, _ in members)) or [str(line["head"])]
    fusion = line.get("fusion")
    needed = {*heads, *([fusion] if fusion else [])}
    options = {h: o for h, o in (settings.get("options") or {}).items() if h in needed}
    made = Fit(
        str(line["on"]), heads, fusion, int(settings.get("seed", 0)), options,
        [(head, on) for head, on in members],
    )  # fmt: skip
    folds = plan_for(store, found.rows, plan, group=group, repeats=1, seed=made.seed)
    bundle = fit_prepared(store, found, folds, made, progress)
    bundle.settings["system"] = line["name"]
    return bundle


def _line(metrics: Mapping[str, Any], system: str | None) -> Mapping[str, Any]:
    board = {str(line["name"]): line for line in metrics["leaderboard"]}
    if system is None:
        return next(iter(board.values()))
    if system not in board:
        failed = [f["reason"] for f in metrics.get("failed") or () if f["name"] == system]
        what = f"has no score: {failed[0]}" if failed else "is not in the run"
        fix = f"{near(system, board)}one of {', '.join([*board][:8])}"
        raise OptionError(f"system {system}", what, fix)
    return board[system]
