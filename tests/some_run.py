"""A run that nobody evaluated, for tests of what reads one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from headstock.heads.run.as_json import parse, plain
from headstock.heads.run.run import Run
from headstock.heads.run.scores import Line, Scores


def line(system: str = "lda@image", n: int = 40, errors: int = 4, **more: Any) -> dict[str, Any]:
    """The line of a head on a set, as plain data."""
    head, _, on = system.partition("@")
    value = 1 - errors / n
    one = {
        "head": head, "on": on or "image", "fusion": None, "name": system, "n": n, "errors": errors,
        "accuracy": {"value": value, "low": max(value - 0.1, 0), "high": min(value + 0.1, 1)},
        "balanced_accuracy": value, "macro_f1": value, "log_loss": 0.3, "brier": 0.1,
        "calibration_error": 0.02, "seconds": 0.5, "how": "all folds at once", **more,
    }  # fmt: skip
    return plain(parse(Line, one))


def scores(line: dict[str, Any]) -> dict[str, Any]:
    """Those of a line."""
    names = {one.name for one in fields(Scores)}
    return {name: value for name, value in line.items() if name in names}


def run(lines: Iterable[dict[str, Any]], classes: Iterable[str] = ("a", "b"), **more: Any) -> Run:
    """A run of these lines; ``more``: other parts, as plain data."""
    lines = list(lines)
    plan = {"kind": "stratified", "group": None, "folds": 5, "repeats": 1, "seed": 0}
    settings = {
        "heads": [one["head"] for one in lines], "on": ["image"], "fusions": [], "seed": 0,
        "options": {}, "classes": list(classes), **more.pop("settings", {}),
    }  # fmt: skip
    folds = {**plan, "n": max(one["n"] for one in lines), **more.pop("folds", {})}
    return parse(Run, {"leaderboard": lines, "folds": folds, "settings": settings, **more})
