"""Results as text, from what ``metrics.json`` holds."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from headstock.heads.evaluation.checks import check_lines
from headstock.heads.evaluation.findings import findings
from headstock.heads.rows.account import account_lines
from headstock.heads.rows.hygiene import hygiene_lines
from headstock.store.errors import HeadError, OptionError, StorageError, one_line, visible
from headstock.store.jsonfile import read_json
from headstock.store.manifest.splits import HELD_OUT

__all__ = [
    "DROPPED",
    "cells_of",
    "filled",
    "held_out",
    "leaderboard_text",
    "metric_of",
    "saved_metrics",
    "shown_metrics",
    "text_table",
    "undecided",
]

DROPPED = (
    "valid 95 %", "test 95 %", "log-loss", "balanced", "valid errors", "test errors", "95 %",
    "seconds", "errors", "fusion", "on",
)  # fmt: skip
"""The order in which a leaderboard that is too wide loses columns; then long names are cut."""
NARROWEST = 40
NAMED = 2
"""Systems that are named before the others are counted."""
Line = Callable[[str], str]


def leaderboard_text(
    metrics: Mapping[str, Any], width: int | None = None, strong: Line = str
) -> str:
    """What was evaluated, then one table, the best first, held-out splits beside it.

    metrics: the content of metrics.json. Lines are at most ``width`` columns (not below 40): the
    table loses columns in the order of ``DROPPED``, other lines are wrapped. ``strong`` marks the
    lines of the systems that are not distinguishable from the first.
    """
    board, settings = metrics["leaderboard"], metrics.get("settings") or {}
    lines = _account(metrics)
    for split in held_out(board):
        count = max(r[split]["n"] for r in board if r.get(split))
        lines.append(f"{split} split, {count} rows: scored by the refit on all others")
    lines += hygiene_lines(metrics.get("hygiene") or {})
    same = {str(c["b"]) for c in _undecided(metrics)} | {str(r["name"]) for r in board[:1]}
    grouped = _grouped(metrics)
    header, rows = cells_of(metrics)
    units = [r["accuracy"]["by_group"]["groups"] for r in board if r["accuracy"].get("by_group")]
    if grouped and units:
        lines.append(f"95 %: intervals with the spread of whole groups, {max(units)} groups")
    some = len(same) < len(board)  # where all are alike none stands out
    marked = [strong if some and r["name"] in same else str for r in board]
    marked += [str] * (len(rows) - len(board))
    table = text_table(header, rows, width, (*shown_metrics(metrics)[1:], *DROPPED), marked)
    below = [*_verdicts(metrics), *findings(metrics)]
    below += [f"check {line}" for line in check_lines(metrics)]
    for row in board:
        if row.get("gate"):
            below.append(_gate_line(row))
    for doubt in (metrics.get("hygiene") or {}).get("label_doubts", []):
        name, label, likely = (one_line(doubt[key], 60) for key in ("id", "label", "likely"))
        below.append(f"label in doubt: {name} is {label}, looks like {likely}")
    noted: dict[str, list[str]] = {}
    for row in board:
        for note in row.get("notes", []):
            noted.setdefault(one_line(note, 160), []).append(str(row["name"]))
    for note, names in noted.items():
        below.append(f"note: {_some(names)}: {note}")
    for note in settings.get("notes", []):
        below.append(f"note: {one_line(note, 160)}")
    return "\n".join([*filled(lines, width), "", table, "", *filled(below, width)]).rstrip()


def _account(metrics: Mapping[str, Any]) -> list[str]:
    plan, settings = metrics.get("folds") or {}, metrics.get("settings") or {}
    board = metrics["leaderboard"]
    n = plan.get("n") or max((r.get("n", 0) for r in board), default=0)
    how = str(plan.get("kind", "of unknown kind")) + (
        f" ({plan['group']})" if plan.get("group") else ""
    )
    times = f", {plan['repeats']} times" if plan.get("repeats", 1) > 1 else ""
    classes = f"{len(settings['classes'])} classes, " if settings.get("classes") else ""
    seed = plan.get("seed", "?")
    folds = f"{plan.get('folds', '?')} folds {how}{times}, seed {seed}"
    lines = [f"{n} rows, {classes}{folds}"]
    lines += _fold_lines(metrics)
    account = settings.get("rows") or {}
    if settings.get("scored") == "valid":
        count = max((r.get("n", 0) for r in board), default=0)
        lines = [
            f"{count} rows of the valid split, {classes}the one fold: answered by the refit on {n} "
            f"training rows (inside them {folds})",
            *_fold_lines(metrics),
        ]
    return lines + account_lines(account, "scored")


def held_out(board: Sequence[Mapping[str, Any]]) -> list[str]:
    """The held-out splits that lines of a leaderboard have scores on."""
    return [split for split in HELD_OUT if any(row.get(split) for row in board)]


def _grouped(metrics: Mapping[str, Any]) -> bool:
    return (metrics.get("folds") or {}).get("group") not in (None, "duplicates")


def _fold_lines(metrics: Mapping[str, Any]) -> list[str]:
    """How many rows, rows of a class and groups the folds have, smallest to largest."""
    parts = [part for repeat in metrics.get("fold_table") or [] for part in repeat]
    if not parts:
        return []
    kinds = [
        ("rows", [part["n"] for part in parts]),
        ("of a class", [count for part in parts for count in part["classes"]]),
        ("groups", [part["groups"] for part in parts if "groups" in part]),
    ]
    told = [f"{_range(counts)} {name}" for name, counts in kinds if counts]
    return [f"a fold holds out {', '.join(told)}"]


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def cells_of(metrics: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the whole table; intervals are by groups where folds kept those of a
    column together."""
    board, grouped = metrics["leaderboard"], _grouped(metrics)
    held = held_out(board)
    names = shown_metrics(metrics)
    first = names[0] if names and names[0] != "accuracy" else None
    more = [name for name in names[1:] if name != "accuracy"]
    header = ["head", "on", "fusion"]
    header += [] if first is None else [first, f"{first} 95 %"]
    header += [*more, "accuracy", "95 %", "errors"]
    header += [f"{split}{column}" for split in held for column in ("", " 95 %", " errors")]
    header += ["balanced", "log-loss", "seconds"]
    rows = []
    guess = metrics.get("baseline")
    for row in [*board, *([guess] if guess else [])]:
        cells = [one_line(row["head"], 40), one_line(row["on"], 60), row.get("fusion") or "-"]
        if first is not None:
            cells += _by_metric(row, first)
        cells += [_number(metric_of(row, name).get("value")) for name in more]
        cells += _scored(row, grouped)
        for split in held:
            apart = row.get(split) or {}
            errors = _scored(apart, grouped)
            cells += errors if first is None else [*_by_metric(apart, first), errors[-1]]
        cells += [_number(row.get("balanced_accuracy")), _number(row.get("log_loss"))]
        cells.append("reused" if row.get("reused") else _number(row.get("seconds"), 2))
        rows.append(cells)
    for row in metrics.get("failed") or []:
        cells = [one_line(row["head"], 40), one_line(row["on"], 60), row.get("fusion") or "-"]
        rows.append([*cells, "failed", *["-"] * (len(header) - len(cells) - 1)])
    return header, rows


def shown_metrics(metrics: Mapping[str, Any]) -> list[str]:
    """The metric that decides and those that are shown beside it; none where the accuracy decides
    alone, which has a place of its own."""
    names = [str(name) for name in (metrics.get("settings") or {}).get("metric") or ()]
    return [] if names == ["accuracy"] else names


def metric_of(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """``value``, ``low`` and ``high`` of a metric in a line of a leaderboard."""
    return (row if name == "accuracy" else row.get("metrics") or {}).get(name) or {}


def _by_metric(row: Mapping[str, Any], name: str) -> list[str]:
    found = metric_of(row, name)
    if found.get("low") is None:
        return [_number(found.get("value")), "-"]
    return [_number(found["value"]), f"{found['low']:.4f}-{found['high']:.4f}"]


def _some(names: Sequence[str]) -> str:
    """The first of the names, and how many more."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def _scored(scores: Mapping[str, Any], grouped: bool = False) -> list[str]:
    accuracy = scores.get("accuracy")
    if not accuracy:
        return ["-", "-", "-"]
    interval = (accuracy.get("by_group") if grouped else None) or accuracy
    return [
        _number(accuracy["value"]),
        f"{interval['low']:.4f}-{interval['high']:.4f}",
        f"{scores.get('errors', 0):g}/{scores.get('n', '?')}",
    ]


def _number(value: Any, digits: int = 4) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "-"


def _undecided(metrics: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [c for c in metrics.get("comparisons") or [] if c["verdict"] == "not distinguishable"]


def undecided(metrics: Mapping[str, Any]) -> list[str]:
    """The systems that cannot be told from the first on these rows, by name."""
    return [str(c["b"]) for c in _undecided(metrics)]


def _verdicts(metrics: Mapping[str, Any]) -> list[str]:
    """What the comparisons with the first system say, in words."""
    comparisons = metrics.get("comparisons") or []
    if not comparisons:
        return []
    leader = comparisons[0]["a"]
    by: dict[str, list[str]] = {}
    for line in comparisons:
        by.setdefault(line["verdict"], []).append(str(line["b"]))
    better = len(by.get("better", ()))
    repeats = comparisons[0].get("repeats", 1)
    name = comparisons[0].get("difference", {}).get("metric")
    of = f" by {name}" if name else ""
    of += f" (over {repeats} repeats)" if repeats > 1 else ""
    lines = [f"{leader} is first; it is better than {better} of the other {len(comparisons)}{of}"]
    for verdict, words in (
        ("worse", "worse than these on the rows that both answer"),
        ("not distinguishable", "not distinguishable from it on these rows"),
    ):
        names = by.get(verdict, [])
        if names:
            more = f" and {len(names) - 6} more" if len(names) > 6 else ""
            lines.append(f"{words}: {', '.join(names[:6])}{more}")
    return lines


def _gate_line(row: Mapping[str, Any]) -> str:
    gate = row["gate"]
    return (
        f"{row['name']}: {gate['first']} hands its {gate['k']} least sure rows to "
        f"{gate['second']}; {_best_alone(gate)}, {gate['apparent_accuracy']:.4f} apparent, "
        f"{gate['nested_accuracy']:.4f} nested: {gate['verdict']}"
    )


def _best_alone(gate: Mapping[str, Any]) -> str:
    best = gate.get("best", gate["first"])  # runs of older versions tell of the first alone
    if best == gate["first"]:
        return f"{gate['first_accuracy']:.4f} alone"
    return f"{gate['first_accuracy']:.4f} alone (best alone: {best} {gate['best_accuracy']:.4f})"


def saved_metrics(run: str | Path) -> dict[str, Any]:
    """What ``Evaluation.save`` left in a run folder. Raises OptionError when there is none,
    HeadError when it does not read as one."""
    file = Path(run) / "metrics.json"
    try:
        metrics = read_json(file, "evaluate again")
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            fix = "name one that `headstock evaluate -o` wrote"
            raise OptionError(run, "is no run folder", fix) from None
        raise
    except ValueError as error:
        raise HeadError(file, f"cannot be read ({error})", "evaluate again") from error
    try:
        if not metrics["leaderboard"]:
            raise ValueError("it has no line")
        for row in metrics["leaderboard"]:
            row.setdefault("name", f"{row['head']}@{row['on']}")
            if not all(isinstance(row[key], str) for key in ("head", "on", "name")):
                raise TypeError("a name is no text")
        leaderboard_text(metrics)
    except (LookupError, ArithmeticError, TypeError, AttributeError, ValueError) as error:
        raise HeadError(file, f"is no leaderboard ({error!r})", "evaluate again") from error
    return metrics


def text_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None = None,
    drop: Sequence[str] = (),
    mark: Sequence[Line] = (),
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
