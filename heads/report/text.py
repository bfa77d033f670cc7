"""A run as text."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence

from headstock.heads.report.findings import check_lines, findings, fold_lines
from headstock.heads.report.rows import account_lines, hygiene_lines
from headstock.heads.run.numbers import NumberLine, NumberRun
from headstock.heads.run.run import Run
from headstock.heads.run.scores import Gate, Line, Scores, SystemName
from headstock.store.errors import one_line, visible
from headstock.store.manifest.splits import HELD_OUT

__all__ = [
    "DROPPED", "Mark", "cells_of", "filled", "held_out", "laid_out", "leaderboard_text",
    "name_cells", "note_lines", "opening", "text_table", "undecided", "verdict_lines",
]  # fmt: skip

DROPPED = (
    "valid 95 %", "test 95 %", "log-loss", "balanced", "valid errors", "test errors", "95 %",
    "seconds", "errors", "fusion", "on",
)  # fmt: skip
"""The order in which a leaderboard that is too wide loses columns; then long names are cut."""
NARROWEST = 40
Mark = Callable[[str], str]


def leaderboard_text(run: Run, width: int | None = None, strong: Mark = str) -> str:
    """What was evaluated, then one table, the best first, held-out splits beside it.

    Lines are at most ``width`` columns (not below 40): the table loses columns in the order of
    ``DROPPED``, other lines are wrapped. ``strong`` marks the lines of the systems that are not
    distinguishable from the first.
    """
    board = run.leaderboard
    lines = opening(run, f"{len(run.settings.classes)} classes", fold_lines(run))
    units = [line.accuracy.by_group.groups for line in board if line.accuracy.by_group]
    if run.folds.grouped and units:
        lines.append(f"95 %: intervals with the spread of whole groups, {max(units)} groups")
    below = [*verdict_lines(run), *findings(run), *(f"check {line}" for line in check_lines(run))]
    below += [_gate_line(line.name, line.gate) for line in board if line.gate]
    for doubt in run.hygiene.label_doubts if run.settings.doubts else ():
        name, label, likely = (one_line(t, 60) for t in (doubt.id, doubt.label, doubt.likely))
        below.append(f"label in doubt: {name} is {label}, looks like {likely}")
    below += note_lines(run)
    drop = (*run.settings.beside, *DROPPED)
    return laid_out(run, lines, cells_of(run), drop, below, width, strong)


def laid_out(
    run: Run | NumberRun, above: Sequence[str], cells: tuple[list[str], list[list[str]]],
    drop: Sequence[str], below: Sequence[str], width: int | None, strong: Mark,
) -> str:  # fmt: skip
    """Header and rows of ``cells`` as a table between lines; see ``leaderboard_text``."""
    (header, rows), board, same = cells, run.leaderboard, undecided(run)
    some = len(same) < len(board)  # where all are alike none stands out
    marked: list[Mark] = [strong if some and line.name in same else str for line in board]
    marked += [str] * (len(rows) - len(board))
    table = text_table(header, rows, width, drop, marked)
    return "\n".join([*filled(above, width), "", table, "", *filled(below, width)]).rstrip()


def opening(run: Run | NumberRun, what: str, folds: Iterable[str]) -> list[str]:
    """Which rows were evaluated, how, and what to know of them before any score. what: their
    labels; folds: lines about what these hold."""
    plan, settings = run.folds, run.settings
    how = f"{plan.kind} ({plan.group})" if plan.group else plan.kind
    times = f", {plan.repeats} times" if plan.repeats > 1 else ""
    words = f"{plan.folds} folds {how}{times}, seed {plan.seed}"
    first = f"{plan.n} rows, {what}, {words}"
    if settings.scored == "valid":
        count = max(line.n for line in run.leaderboard)
        first = (
            f"{count} rows of the valid split, {what}, the one fold: answered by the refit on "
            f"{plan.n} training rows (inside them {words})"
        )
    lines = [first, *folds]
    lines += account_lines(settings.rows, "scored") if settings.rows else []
    for split in held_out(run.leaderboard):
        count = max(scores.n for line in run.leaderboard if (scores := line.held(split)))
        lines.append(f"{split} split, {count} rows: scored by the refit on all others")
    return [*lines, *hygiene_lines(run.hygiene)]


def note_lines(run: Run | NumberRun) -> list[str]:
    """Notes of systems, each once, and of the run."""
    noted: dict[str, list[str]] = {}
    for line in run.leaderboard:
        for note in line.notes:
            noted.setdefault(one_line(note, 160), []).append(line.name)
    lines = [f"note: {_some(names, 2)}: {note}" for note, names in noted.items()]
    return [*lines, *(f"note: {one_line(note, 160)}" for note in run.settings.notes)]


def held_out(board: Iterable[Line | NumberLine]) -> list[str]:
    """The held-out splits that lines of a leaderboard have scores on."""
    lines = list(board)
    return [split for split in HELD_OUT if any(line.held(split) for line in lines)]


def cells_of(run: Run) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the whole table; intervals are by groups where folds kept those of a
    column together."""
    grouped, held = run.folds.grouped, held_out(run.leaderboard)
    first, more = run.settings.decides, run.settings.beside
    by_other = first != "accuracy"
    header = ["head", "on", "fusion", *([first, f"{first} 95 %"] if by_other else []), *more]
    header += ["accuracy", "95 %", "errors"]
    header += [f"{split}{column}" for split in held for column in ("", " 95 %", " errors")]
    header += ["balanced", "log-loss", "seconds"]
    rows = []
    for line in [*run.leaderboard, *([run.baseline] if run.baseline else [])]:
        cells = [*name_cells(line), *(_measured(line, first) if by_other else [])]
        cells += [_measured(line, name)[0] for name in more]
        cells += _scored(line, grouped)
        for split in held:
            apart = _scored(line.held(split), grouped)
            decided = _measured(line.held(split), first) if by_other else apart[:2]
            cells += [*decided, apart[2]]
        cells += [f"{line.balanced_accuracy:.4f}", f"{line.log_loss:.4f}"]
        seconds = "-" if line.seconds is None else f"{line.seconds:.2f}"
        rows.append([*cells, "reused" if line.reused else seconds])
    for one in run.failed:
        cells = name_cells(one)
        rows.append([*cells, "failed", *["-"] * (len(header) - len(cells) - 1)])
    return header, rows


def _measured(scores: Scores | None, name: str) -> list[str]:
    """A metric and its interval."""
    found = scores.metrics.get(name) if scores else None
    if found is None or found.value is None:
        return ["-", "-"]
    known = found.low is not None and found.high is not None
    return [f"{found.value:.4f}", f"{found.low:.4f}-{found.high:.4f}" if known else "-"]


def name_cells(line: SystemName) -> list[str]:
    return [one_line(line.head, 40), one_line(line.on, 60), one_line(line.fusion or "-", 40)]


def _some(names: Sequence[str], most: int) -> str:
    """The first of the names, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def _scored(scores: Scores | None, grouped: bool) -> list[str]:
    if scores is None:
        return ["-", "-", "-"]
    ends = scores.accuracy.ends(grouped)
    interval = f"{ends.low:.4f}-{ends.high:.4f}"
    return [f"{scores.accuracy.value:.4f}", interval, f"{scores.errors:g}/{scores.n}"]


def undecided(run: Run | NumberRun) -> set[str]:
    """The first system and those that cannot be told from it on these rows, by name."""
    return {run.leaderboard[0].name, *(c.b for c in run.comparisons if not c.differs)}


def verdict_lines(run: Run | NumberRun) -> list[str]:
    """What the comparisons with the first system say, in words."""
    if not run.comparisons:
        return []
    first, by = run.comparisons[0], dict[str, list[str]]()
    for one in run.comparisons:
        by.setdefault(one.verdict, []).append(one.b)
    better = len(by.get("better", ()))
    of = f" by {one_line(first.difference.metric, 40)}" if first.difference else ""
    of += f" (over {first.repeats} repeats)" if first.repeats > 1 else ""
    count = len(run.comparisons)
    lines = [f"{first.a} is first; it is better than {better} of the other {count}{of}"]
    for verdict, words in (
        ("worse", "worse than these on the rows that both answer"),
        ("not distinguishable", "not distinguishable from it on these rows"),
    ):
        names = by.get(verdict, [])
        if names:
            lines.append(f"{words}: {_some(names, 6)}")
    return lines


def _gate_line(name: str, gate: Gate) -> str:
    alone = f"{gate.first_accuracy:.4f} alone"
    if gate.best != gate.first:
        alone += f" (best alone: {gate.best} {gate.best_accuracy:.4f})"
    return (
        f"{name}: {gate.first} hands its {gate.k} least sure rows to {gate.second}; {alone}, "
        f"{gate.apparent_accuracy:.4f} apparent, {gate.nested_accuracy:.4f} nested: {gate.verdict}"
    )


def text_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None = None,
    drop: Sequence[str] = (),
    mark: Sequence[Mark] = (),
) -> str:
    """Columns padded to their widest cell; text left, numbers right.

    Where that is more than ``width``, the columns named in ``drop`` go, in that order, and then
    text is cut, the longest first, to no less than six letters. ``mark``: what makes a finished
    line of each row, such as bold.
    """
    keep = list(range(len(header)))
    sizes = [max([len(header[c]), *(len(r[c]) for r in rows)]) for c in keep]
    left = [not any(r[c][:1].isdigit() for r in rows) for c in keep]
    room = max(width or 0, NARROWEST)
    for name in drop if width is not None else ():
        if _total(keep, sizes) <= room:
            break
        keep = [c for c in keep if header[c] != name]
    while width is not None and _total(keep, sizes) > room:
        longest = max((c for c in keep if left[c]), key=lambda c: sizes[c], default=None)
        if longest is None or sizes[longest] <= 6:
            break
        sizes[longest] -= 1

    def line(cells: Sequence[str]) -> str:
        cut = [(one_line(cells[c], sizes[c]), sizes[c], left[c]) for c in keep]
        return "  ".join(
            t.ljust(size) if to_left else t.rjust(size) for t, size, to_left in cut
        ).rstrip()

    body = [line(cells) for cells in rows]
    if mark:
        body = [make(text) for make, text in zip(mark, body, strict=True)]
    return "\n".join([line(header), "  ".join("-" * sizes[c] for c in keep), *body])


def _total(keep: Sequence[int], sizes: Sequence[int]) -> int:
    return sum(sizes[c] for c in keep) + 2 * (len(keep) - 1)


def filled(lines: Sequence[str], width: int | None) -> list[str]:
    """Each line wrapped to ``width``."""
    if width is None:
        return [visible(line) for line in lines]
    room = max(width, NARROWEST)
    return [textwrap.fill(one_line(text), room, subsequent_indent="  ") for text in lines]
