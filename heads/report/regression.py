"""A run of numbers as text, and as a notebook shows it."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from headstock.heads.report.rows import account_lines, hygiene_lines
from headstock.heads.report.text import filled, leaderboard_text, text_table
from headstock.heads.run.numbers import NumberLine, NumberRun, NumberScores
from headstock.heads.run.run import Run
from headstock.heads.run.scores import Failed, Measure
from headstock.store.errors import one_line
from headstock.store.manifest.splits import HELD_OUT

__all__ = [
    "any_text", "ends", "figure", "held_splits", "number_cells", "numbers_html", "numbers_text",
    "undecided",
]  # fmt: skip

Mark = Callable[[str], str]
NAMED = 6


def figure(value: float | None) -> str:
    """Five digits, enough to tell systems apart and few enough to read."""
    if value is None:
        return "-"
    return f"{value:.5g}" if 1e-3 <= abs(value) < 1e6 or value == 0 else f"{value:.3e}"


def numbers_text(run: NumberRun, width: int | None = None, strong: Mark = str) -> str:
    """What was evaluated, then one table, the best by the metric that decides first; see
    ``report.text.leaderboard_text``."""
    board, first = run.leaderboard, run.settings.decides
    lines = _account(run)
    for split in held_splits(run):
        count = max(scores.n for line in board if (scores := line.held(split)))
        lines.append(f"{split} split, {count} rows: scored by the refit on all others")
    lines += hygiene_lines(run.hygiene)
    if run.folds.grouped:
        lines.append("95 %: intervals with the spread of whole groups")
    header, rows = number_cells(run)
    same = undecided(run)
    some = len(same) < len(board)
    marked: list[Mark] = [strong if some and line.name in same else str for line in board]
    marked += [str] * (len(rows) - len(board))
    drop = (
        "test 95 %",
        "valid 95 %",
        *run.settings.metric[:0:-1],
        "95 %",
        "seconds",
        "fusion",
        "on",
    )
    table = text_table(header, rows, width, drop, marked)
    below = [*_verdicts(run), *_selection(run), *_worst(run), *_searches(run)]
    noted: dict[str, list[str]] = {}
    for line in board:
        for note in line.notes:
            noted.setdefault(one_line(note, 160), []).append(line.name)
    for note, names in noted.items():
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        below.append(f"note: {', '.join(names[:2])}{more}: {note}")
    below += [f"note: {one_line(note, 160)}" for note in run.settings.notes]
    below += [f"no score: {one.name}: {one_line(one.reason, 200)}" for one in run.failed]
    if run.leaderboard[0].importances:
        below.append(_weights(run.leaderboard[0]))
    below.append(f"ordered by {first}; a guess is the mean, of absolute errors the median")
    return "\n".join([*filled(lines, width), "", table, "", *filled(below, width)]).rstrip()


def any_text(run: Run | NumberRun, width: int | None = None, strong: Mark = str) -> str:
    """A run of either target as text."""
    if isinstance(run, NumberRun):
        return numbers_text(run, width, strong)
    return leaderboard_text(run, width, strong)


def _account(run: NumberRun) -> list[str]:
    plan, settings = run.folds, run.settings
    how = f"{plan.kind} ({plan.group})" if plan.group else plan.kind
    times = f", {plan.repeats} times" if plan.repeats > 1 else ""
    folds = f"{plan.folds} folds {how}{times}, seed {plan.seed}"
    first = f"{plan.n} rows, a number each, {folds}"
    if settings.scored == "valid":
        count = max(line.n for line in run.leaderboard)
        first = (
            f"{count} rows of the valid split, a number each, the one fold: answered by the refit "
            f"on {plan.n} training rows (inside them {folds})"
        )
    sizes = [size for repeat in run.fold_sizes for size in repeat]
    low, high = min(sizes), max(sizes)
    held = f"a fold holds out {low if low == high else f'{low} to {high}'} rows"
    account = account_lines(settings.rows, "scored") if settings.rows else []
    return [first, held, *account]


def held_splits(run: NumberRun) -> list[str]:
    """The held-out splits that lines of the leaderboard have scores on."""
    return [split for split in HELD_OUT if any(line.held(split) for line in run.leaderboard)]


def number_cells(run: NumberRun) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the whole table."""
    first, *others = run.settings.metric
    held = held_splits(run)
    header = ["head", "on", "fusion", first, "95 %", *others]
    header += [f"{split}{column}" for split in held for column in ("", " 95 %")] + ["seconds"]
    rows = []
    for line in [*run.leaderboard, *([run.baseline] if run.baseline else [])]:
        cells = [*_names(line), *_known(line, first)]
        cells += [figure(line.metrics[name].value) for name in others]
        cells += [cell for split in held for cell in _known(line.held(split), first)]
        seconds = "-" if line.seconds is None else f"{line.seconds:.2f}"
        rows.append([*cells, "reused" if line.reused else seconds])
    for one in run.failed:
        names = _names(one)
        rows.append([*names, "failed", *["-"] * (len(header) - len(names) - 1)])
    return header, rows


def _names(line: NumberLine | Failed) -> list[str]:
    return [one_line(line.head, 40), one_line(line.on, 60), one_line(line.fusion or "-", 40)]


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


def undecided(run: NumberRun) -> set[str]:
    """The first system and those that cannot be told from it on these rows, by name."""
    return {run.leaderboard[0].name, *(c.b for c in run.comparisons if not c.differs)}


def _verdicts(run: NumberRun) -> list[str]:
    """What the comparisons with the first system say, in words."""
    if not run.comparisons:
        return []
    first, by = run.comparisons[0], dict[str, list[str]]()
    for one in run.comparisons:
        by.setdefault(one.verdict, []).append(one.b)
    better, count = len(by.get("better", ())), len(run.comparisons)
    of = f" (over {first.repeats} repeats)" if first.repeats > 1 else ""
    by_metric = f"by {run.settings.decides} it is better than {better} of the other {count}{of}"
    lines = [f"{first.a} is first; {by_metric}"]
    for verdict, words in (
        ("worse", "worse than these on the rows that both answer"),
        ("not distinguishable", "not distinguishable from it on these rows"),
    ):
        names = by.get(verdict, [])
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            lines.append(f"{words}: {', '.join(names[:NAMED])}{more}")
    return lines


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


def _searches(run: NumberRun) -> list[str]:
    lines = []
    for line in run.leaderboard:
        if line.chosen and not line.late:
            kinds: dict[str, dict[str, int]] = {}
            for choice in line.chosen:
                for name, value in choice.items():
                    text = figure(value) if isinstance(value, float) else str(value)
                    kinds.setdefault(name, {}).setdefault(text, 0)
                    kinds[name][text] += 1
            told = [f"{name}={_most(count)}" for name, count in kinds.items()]
            lines.append(one_line(f"{line.name} chose inside the folds: {'; '.join(told)}", 160))
    return lines


def _most(counts: dict[str, int]) -> str:
    """The values that were chosen most often."""
    return ", ".join(sorted(counts, key=lambda value: -counts[value])[:3])


def _weights(line: NumberLine) -> str:
    parts = []
    for name, weight in line.importances.items():
        columns = ", ".join(f"{c.name} {100 * c.share:.0f} %" for c in weight.columns[:3])
        parts.append(f"{name} ({columns})")
    return f"what weighs in {line.name}: {'; '.join(parts)}"


def numbers_html(run: NumberRun) -> str:
    """A table of the leaderboard for a notebook; everything from data is escaped."""
    header, rows = number_cells(run)
    lines = ["<table>", "<caption>Leaderboard, out of fold</caption>", "<thead><tr>"]
    lines += [f'<th scope="col">{escape(name)}</th>' for name in header]
    lines += ["</tr></thead>", "<tbody>"]
    for cells in rows:
        lines.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return "\n".join([*lines, "</tbody>", "</table>"])
