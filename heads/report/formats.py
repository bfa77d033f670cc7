"""A leaderboard for other programs: CSV for numbers, Markdown and LaTeX for papers and pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from headstock.heads.files import write_csv
from headstock.heads.report.text import held_out
from headstock.store.errors import OptionError, one_line

__all__ = ["FORMATS", "as_csv", "as_latex", "as_markdown", "leaderboard_as"]

Boards = Mapping[str, Mapping[str, Any]]
"""The content of metrics.json of each run, by the run's name."""
SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "brier", "calibration_error")


def leaderboard_as(form: str, boards: Boards, spreadsheet: bool = False) -> str:
    """The leaderboards of one or more runs as ``csv``, ``markdown`` or ``latex``, runs one after
    the other; ``spreadsheet`` as in ``CsvWriter``. Raises OptionError for another format."""
    if form not in FORMATS:
        raise OptionError("format", f"{form!r} is none", f"one of {', '.join(FORMATS)}")
    return as_csv(boards, True) if spreadsheet and form == "csv" else FORMATS[form](boards)


def as_csv(boards: Boards, spreadsheet: bool = False) -> str:
    """A line a system: every score with all its digits, interval ends, the same of each held-out
    split, seconds, and how they came."""
    header = ["run", "system", "head", "on", "fusion", "n", "errors", *_names("")]
    # a column that is always there, and one of the valid split where a run has it
    held = sorted({"test"}.union(*(held_out(m["leaderboard"]) for m in boards.values())))
    for split in held:
        header += [f"{split}_n", f"{split}_errors", *_names(f"{split}_")]
    header += ["seconds", "reused", "how", "members"]
    rows = []
    for run, metrics in boards.items():
        for row in _lines(metrics):
            cells = [run, row["name"], row["head"], row["on"], row.get("fusion") or ""]
            cells += [row.get("n", ""), row.get("errors", ""), *_scores(row)]
            for split in held:
                apart = row.get(split) or {}
                cells += [apart.get("n", ""), apart.get("errors", ""), *_scores(apart)]
            reused = "yes" if row.get("reused") else "no"
            how = row.get("how", "") or f"no score: {row['reason']}"
            cells += [_exact(row.get("seconds")), reused, how]
            rows.append([*cells, " ".join(row.get("members", []))])
    return write_csv(None, header, rows, spreadsheet)


def _lines(metrics: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The systems with a score, then those without."""
    return [*metrics["leaderboard"], *(metrics.get("failed") or [])]


def _names(lead: str) -> list[str]:
    first, *others = SCORES
    return [f"{lead}{n}" for n in (first, f"{first}_low", f"{first}_high", *others)]


def _scores(scores: Mapping[str, Any]) -> list[str]:
    accuracy = scores.get("accuracy") or {}
    own = [_exact(accuracy.get(k)) for k in ("value", "low", "high")]
    return [*own, *(_exact(scores.get(name)) for name in SCORES[1:])]


def _exact(value: Any) -> str:
    """The shortest text that reads back as the same number."""
    return repr(value) if isinstance(value, int | float) else ""


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
    """A tabular with the rules of booktabs; the accuracy of each run's first system in bold."""
    header, left, rows = _printed(boards)
    columns = "".join("l" if to_left else "r" for to_left in left)
    at = header.index("accuracy")
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
    held = held_out([row for metrics in boards.values() for row in metrics["leaderboard"]])
    header = [*(["run"] if several else []), "head", "on", "fusion", "accuracy", "95 %", "errors"]
    header += ["balanced", "log-loss", *(f"{s}{c}" for s in held for c in ("", " 95 %"))]
    rows = []
    for run, metrics in boards.items():
        for row in _lines(metrics):
            cells = [run] if several else []
            cells += [row["head"], row["on"], row.get("fusion") or "–"]
            errors = (
                "failed" if row.get("reason") else f"{row.get('errors', 0):g}/{row.get('n', '?')}"
            )
            cells += [*_interval(row), errors]
            cells += [_short(row.get("balanced_accuracy")), _short(row.get("log_loss"))]
            apart = [cell for split in held for cell in _interval(row.get(split) or {})]
            rows.append([*cells, *apart])
    text = {"run", "head", "on", "fusion"}
    return header, [name in text for name in header], rows


def _interval(scores: Mapping[str, Any]) -> list[str]:
    accuracy = scores.get("accuracy")
    if not accuracy:
        return ["–", "–"]
    return [_short(accuracy["value"]), f"{accuracy['low']:.4f}–{accuracy['high']:.4f}"]


def _short(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "–"


FORMATS: Mapping[str, Callable[[Boards], str]] = {
    "csv": as_csv,
    "markdown": as_markdown,
    "latex": as_latex,
}
