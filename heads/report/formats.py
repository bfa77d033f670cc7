"""A leaderboard for other programs: CSV for numbers, Markdown and LaTeX for papers and pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from headstock.heads.files import write_csv
from headstock.heads.report.text import held_out
from headstock.heads.run.run import Run
from headstock.heads.run.scores import Failed, Line, Scores
from headstock.store.errors import OptionError, one_line

__all__ = ["FORMATS", "as_csv", "as_latex", "as_markdown", "leaderboard_as"]

Boards = Mapping[str, Run]
"""Runs by their names."""
SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "brier", "calibration_error")
ENDS = ("value", "low", "high")


def leaderboard_as(form: str, boards: Boards, spreadsheet: bool = False) -> str:
    """The leaderboards of one or more runs as ``csv``, ``markdown`` or ``latex``, runs one after
    the other; ``spreadsheet`` as in ``CsvWriter``. Raises OptionError for another format."""
    if form not in FORMATS:
        raise OptionError("format", f"{form!r} is none", f"one of {', '.join(FORMATS)}")
    return as_csv(boards, True) if spreadsheet and form == "csv" else FORMATS[form](boards)


def as_csv(boards: Boards, spreadsheet: bool = False) -> str:
    """A line a system: every score with all its digits, interval ends, the same of each held-out
    split, seconds, and how they came."""
    metrics = _metrics(boards)
    header = ["run", "system", "head", "on", "fusion", "n", "errors", *_names("", metrics)]
    # a column that is always there, and one of the valid split where a run has it
    held = sorted({"test"}.union(*(held_out(run.leaderboard) for run in boards.values())))
    for split in held:
        header += [f"{split}_n", f"{split}_errors", *_names(f"{split}_", metrics)]
    header += ["seconds", "reused", "how", "members"]
    rows = []
    for name, run in boards.items():
        for line in run.leaderboard:
            cells = [name, *_system(line), *_scores(line, metrics)]
            cells += [cell for split in held for cell in _scores(line.held(split), metrics)]
            cells += [_exact(line.seconds), "yes" if line.reused else "no", line.how]
            rows.append([*cells, " ".join(line.members)])
        for one in run.failed:
            empty = [""] * (len(_scores(None, metrics)) * (1 + len(held)) + 1)
            rows.append([name, *_system(one), *empty, "no", f"no score: {one.reason}", ""])
    return write_csv(None, header, rows, spreadsheet)


def _system(line: Line | Failed) -> list[str]:
    return [line.name, line.head, line.on, line.fusion or ""]


def _metrics(boards: Boards) -> list[str]:
    """The metrics that any run was asked for beside the accuracy, what decides first."""
    every = [name for run in boards.values() for name in run.settings.metric]
    return [name for name in dict.fromkeys(every) if name != "accuracy"]


def _names(lead: str, metrics: Sequence[str]) -> list[str]:
    first, *others = SCORES
    own = [f"{name}{end}" for name in (*metrics, first) for end in ("", "_low", "_high")]
    return [f"{lead}{name}" for name in (*own, *others)]


def _scores(scores: Scores | None, metrics: Sequence[str]) -> list[str]:
    """Rows, errors and the figures of ``_names``; empty where there are none."""
    if scores is None:
        return [""] * (2 + len(_names("", metrics)))
    asked = [getattr(scores.metrics.get(name), end, None) for name in metrics for end in ENDS]
    figures = [scores.n, scores.errors, *(getattr(scores.accuracy, e) for e in ENDS)]
    others = (getattr(scores, name) for name in SCORES[1:])
    return [_exact(v) for v in [*figures[:2], *asked, *figures[2:], *others]]


def _exact(value: float | None) -> str:
    """The shortest text that reads back as the same number."""
    return "" if value is None else repr(value)


def as_markdown(boards: Boards) -> str:
    """A table in GitHub's Markdown, numbers to the right."""
    header, left, rows = _printed(boards)
    lines = [
        "| " + " | ".join(header) + " |",
        "|" + "|".join(" :-- " if to_left else " --: " for to_left in left) + "|",
    ]
    lines += ["| " + " | ".join(map(_markdown, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|~&#])", r"\\\1", one_line(text))


def as_latex(boards: Boards) -> str:
    """A tabular with the rules of booktabs; what decides of each run's first system in bold."""
    header, left, rows = _printed(boards)
    columns = "".join("l" if to_left else "r" for to_left in left)
    at = header.index(next(iter(_metrics(boards)), "accuracy"))
    first: dict[str, int] = {}
    for number, row in enumerate(rows):  # the first line of a run is its best
        first.setdefault(row[0] if len(boards) > 1 else "", number)
    lines = [
        "% needs \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        " & ".join(map(_latex, header)) + r" \\",
        "\\midrule",
    ]
    for number, row in enumerate(rows):
        cells = [_latex(cell) for cell in row]
        if number in first.values():
            cells[at] = f"\\textbf{{{cells[at]}}}"
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


_LATEX = {
    "–": "--", "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in one_line(text))


def _printed(boards: Boards) -> tuple[list[str], list[bool], list[list[str]]]:
    """Header, which columns are text, and cells as a reader wants them: four digits."""
    several = len(boards) > 1
    held = held_out(line for run in boards.values() for line in run.leaderboard)
    metrics = _metrics(boards)
    header = [*(["run"] if several else []), "head", "on", "fusion"]
    header += [c for name in metrics for c in (name, f"{name} 95 %")]
    header += ["accuracy", "95 %", "errors"]
    header += ["balanced", "log-loss", *(f"{s}{c}" for s in held for c in ("", " 95 %"))]
    rows = []
    for name, run in boards.items():
        lead = [name] if several else []
        for line in run.leaderboard:
            cells = [*lead, line.head, line.on, line.fusion or "–"]
            cells += [c for name in metrics for c in _measured(line, name)] + _interval(line)
            cells += [f"{line.errors:g}/{line.n}"]
            cells += [f"{line.balanced_accuracy:.4f}", f"{line.log_loss:.4f}"]
            rows.append([*cells, *(cell for s in held for cell in _interval(line.held(s)))])
        for one in run.failed:
            cells = [*lead, one.head, one.on, one.fusion or "–", *["–"] * (2 * len(metrics) + 2)]
            cells.append("failed")
            rows.append([*cells, *["–"] * (len(header) - len(cells))])
    text = {"run", "head", "on", "fusion"}
    return header, [name in text for name in header], rows


def _measured(scores: Scores, name: str) -> list[str]:
    found = scores.metrics.get(name)
    if found is None or found.value is None:
        return ["–", "–"]
    ends = "–" if found.low is None else f"{found.low:.4f}–{found.high:.4f}"
    return [f"{found.value:.4f}", ends]


def _interval(scores: Scores | None) -> list[str]:
    if scores is None:
        return ["–", "–"]
    accuracy = scores.accuracy
    return [f"{accuracy.value:.4f}", f"{accuracy.low:.4f}–{accuracy.high:.4f}"]


FORMATS: Mapping[str, Callable[[Boards], str]] = {
    "csv": as_csv,
    "markdown": as_markdown,
    "latex": as_latex,
}
