"""The command that fits what a line of a leaderboard scored."""

from __future__ import annotations

import json

from headstock.heads.run.numbers import NumberLine, NumberRun
from headstock.heads.run.run import Run, Settings
from headstock.heads.run.scores import Line
from headstock.heads.userfile import is_own

__all__ = ["file_words", "fit_words"]


def file_words(settings: Settings) -> list[str]:
    """The flags that let the files of somebody's own that a run names run, for a command that reads
    these names from the run."""
    values = [value for options in settings.options.values() for value in options.values()]
    names = [str(name) for name in (*settings.heads, settings.decides, *values)]
    files = dict.fromkeys(name.rpartition(":")[0] for name in names if is_own(name))
    return [word for file in files for word in ("--head-file", file)]


def fit_words(
    store: str, line: Line | NumberLine, run: Run | NumberRun, folder: str | None = None
) -> list[str]:
    """The words after ``headstock`` that fit what a line of ``run`` scored, with its settings and
    by the plan in its ``folder``."""
    settings = run.settings
    heads = dict.fromkeys(m.partition("@")[0] for m in line.members or (line.head,))
    words = ["fit", store, *(w for head in heads for w in ("--head", head)), "--on", line.on]
    late = [str(line.fusion)] if line.late else []
    words += [w for fusion in late for w in ("--fusion", fusion)]
    for name in [*heads, *late]:
        for key, value in settings.options.get(name, {}).items():
            text = value if isinstance(value, str) else json.dumps(value)
            words += ["--set", f"{name}.{key}={text}"]
    if settings.by_blocks:
        words.append("--stream")
    if settings.rows and settings.rows.target:
        words += ["--target", settings.target]
    for key in ("seed", "missing", "dedupe", "rare"):
        if (value := getattr(settings, key)) != USUAL[key]:
            words += [f"--{key}", str(value)]
    return [*words, *_fold_words(line, run, folder), "-o", "model.headstock"]


USUAL = {"seed": 0, "missing": "refuse", "dedupe": "group", "rare": "drop"}


def _fold_words(line: Line | NumberLine, run: Run | NumberRun, folder: str | None) -> list[str]:
    """What makes ``fit`` hold out as the run did: its saved plan, where it is of the same rows and
    of one repeat, else how it was made."""
    plan = run.folds
    if folder and _same_rows(line, run.settings) and plan.repeats == 1:
        return ["--folds", f"{folder}/folds.json"]
    if plan.kind == "given":
        return ["--folds", f"given:{plan.group}"]
    if plan.kind.startswith("time, "):
        how = plan.kind.removeprefix("time, ").replace(" ", "=")
        return ["--folds", f"time:{plan.group}:{how}"]
    words = ["--folds", plan.kind] if plan.kind == "group-out" else []
    if not words and plan.folds != 5:
        words = ["--folds", str(plan.folds)]
    return [*words, "--group", plan.group] if plan.grouped and plan.group else words


def _same_rows(line: Line | NumberLine, settings: Settings) -> bool:
    """Whether a fit of ``line`` alone reads the rows of the run's plan."""
    sets = {part for on in settings.on for part in on.split("+")}
    whole = settings.missing == "refuse" and settings.dedupe != "drop"
    return not settings.by_blocks and (whole or sets <= set(line.on.split("+")))
