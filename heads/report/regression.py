"""A run of numbers as text."""

from __future__ import annotations

from headstock.heads.report.findings import failed_lines, fold_words, search_lines
from headstock.heads.report.text import (
    Mark,
    held_out,
    laid_out,
    leaderboard_text,
    name_cells,
    note_lines,
    opening,
    verdict_lines,
)
from headstock.heads.run.numbers import NumberLine, NumberRun, NumberScores
from headstock.heads.run.run import Run
from headstock.heads.run.scores import Measure
from headstock.store.errors import one_line

__all__ = ["any_text", "ends", "figure", "number_cells", "numbers_text"]


def figure(value: float | None) -> str:
    """Five digits, enough to tell systems apart and few enough to read."""
    if value is None:
        return "-"
    return f"{value:.5g}" if 1e-3 <= abs(value) < 1e6 or value == 0 else f"{value:.3e}"


def numbers_text(run: NumberRun, width: int | None = None, strong: Mark = str) -> str:
    """What was evaluated, then one table, the best by the metric that decides first; see
    ``report.text.leaderboard_text``."""
    first, *others = run.settings.metric
    sizes = [size for repeat in run.fold_sizes for size in repeat]
    lines = opening(run, "a number each", fold_words({"rows": sizes}))
    if run.folds.grouped:
        lines.append("95 %: intervals with the spread of whole groups")
    drop = ("test 95 %", "valid 95 %", *reversed(others), "95 %", "seconds", "fusion", "on")
    below = [*verdict_lines(run), *_selection(run), *_worst(run), *search_lines(run)]
    below += [*note_lines(run), *failed_lines(run)]
    if run.leaderboard[0].importances:
        below.append(_weights(run.leaderboard[0]))
    below.append(f"ordered by {first}; a guess is the mean, of absolute errors the median")
    return laid_out(run, lines, number_cells(run), drop, below, width, strong)


def any_text(run: Run | NumberRun, width: int | None = None, strong: Mark = str) -> str:
    """A run of either target as text."""
    if isinstance(run, NumberRun):
        return numbers_text(run, width, strong)
    return leaderboard_text(run, width, strong)


def number_cells(run: NumberRun) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the whole table."""
    first, *others = run.settings.metric
    held = held_out(run.leaderboard)
    header = ["head", "on", "fusion", first, "95 %", *others]
    header += [f"{split}{column}" for split in held for column in ("", " 95 %")] + ["seconds"]
    rows = []
    for line in [*run.leaderboard, *([run.baseline] if run.baseline else [])]:
        cells = [*name_cells(line), *_known(line, first)]
        cells += [figure(line.metrics[name].value) for name in others]
        cells += [cell for split in held for cell in _known(line.held(split), first)]
        seconds = "-" if line.seconds is None else f"{line.seconds:.2f}"
        rows.append([*cells, "reused" if line.reused else seconds])
    for one in run.failed:
        names = name_cells(one)
        rows.append([*names, "failed", *["-"] * (len(header) - len(names) - 1)])
    return header, rows


def _known(scores: NumberScores | None, metric: str) -> list[str]:
    if scores is None:
        return ["-", "-"]
    known = scores.metrics[metric]
    return [figure(known.value), ends(known)]


def ends(known: Measure) -> str:
    """The interval in words."""
    if known.low is None or known.high is None:
        return "-"
    return f"{figure(known.low)} to {figure(known.high)}"


def _selection(run: NumberRun) -> list[str]:
    found = run.selection
    if found is None:
        return []
    value = f"{run.settings.decides} {figure(found.nested.value)} ({ends(found.nested)})"
    return [
        f"the best of {found.systems} systems, chosen on other rows than those that score it: "
        f"{value}; on the rows that chose it {figure(found.apparent)}"
    ]


def _worst(run: NumberRun) -> list[str]:
    named = [
        f"{one_line(one.id, 60)} {figure(one.predicted)} for {figure(one.true)}"
        for one in run.worst[:3]
    ]
    return [f"farthest off, {run.leaderboard[0].name}: {', '.join(named)}"] if named else []


def _weights(line: NumberLine) -> str:
    parts = []
    for name, weight in line.importances.items():
        columns = ", ".join(f"{c.name} {100 * c.share:.0f} %" for c in weight.columns[:3])
        parts.append(f"{name} ({columns})")
    return f"what weighs in {line.name}: {'; '.join(parts)}"
