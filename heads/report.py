"""Results as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstock.heads.hygiene import hygiene_lines
from headstock.store.errors import OptionError, one_line

if TYPE_CHECKING:
    from headstock.heads.evaluation import Evaluation

__all__ = ["leaderboard_text", "saved_leaderboard", "text_table"]

HEADER = ("head", "on", "fusion", "accuracy", "95 %", "errors", "balanced", "log-loss", "seconds")


def leaderboard_text(result: Evaluation, width: int | None = None) -> str:
    """What was evaluated, then a table, best accuracy first; the test split apart."""
    plan, n, k = result.folds, len(result.ids), len(result.classes)
    how = plan.kind + (f" ({plan.group})" if plan.group else "")
    times = f", {plan.repeats} times" if plan.repeats > 1 else ""
    lines = [f"{n} rows, {k} classes, {plan.folds} folds {how}{times}, seed {plan.seed}"]
    account = result.settings.get("rows", {})
    if account.get("unlabelled"):
        lines.append(f"{account['unlabelled']} rows without a label are not scored")
    if account.get("excluded_incomplete"):
        lines.append(
            f"{account['excluded_incomplete']} labelled rows lack a vector and are left out"
        )
    lines += hygiene_lines(result.hygiene)
    lines += ["", text_table(HEADER, [_cells(r, r) for r in result.leaderboard], width)]
    tested = [r for r in result.leaderboard if "test" in r]
    if tested and result.test_ids is not None:
        lines += [
            "",
            f"test split, {len(result.test_ids)} rows, scored once by the refit on all {n}:",
        ]
        lines.append(text_table(HEADER[:-1], [_cells(r, r["test"])[:-1] for r in tested], width))
    lines += _verdicts(result)
    for row in result.leaderboard:
        if "gate" in row:
            lines.append(_gate_line(row))
    for doubt in result.hygiene.get("label_doubts", []):
        name, label, likely = (one_line(doubt[key], 60) for key in ("id", "label", "likely"))
        lines.append(f"label in doubt: {name} is {label}, looks like {likely}")
    for row in result.leaderboard:
        lines += [f"note: {row['name']}: {one_line(note, 160)}" for note in row.get("notes", [])]
    return "\n".join(lines)


def _verdicts(result: Evaluation) -> list[str]:
    """What the comparisons with the first system say, in words."""
    if not result.comparisons:
        return []
    leader = result.comparisons[0]["a"]
    same = [c["b"] for c in result.comparisons if c["verdict"] != "better"]
    clear = len(result.comparisons) - len(same)
    lines = [
        "",
        f"{leader} is first; it is better than {clear} of the other {len(result.comparisons)}",
    ]
    if same:
        shown = ", ".join(same[:6]) + (f" and {len(same) - 6} more" if len(same) > 6 else "")
        lines.append(f"not distinguishable from it on these rows: {shown}")
    return lines


def _gate_line(row: dict[str, Any]) -> str:
    gate = row["gate"]
    return (
        f"{row['name']}: {gate['first']} hands its {gate['k']} least sure rows to "
        f"{gate['second']}; "
        f"{gate['first_accuracy']:.4f} alone, {gate['apparent_accuracy']:.4f} apparent, "
        f"{gate['nested_accuracy']:.4f} nested: {gate['verdict']}"
    )


def saved_leaderboard(run: str | Path) -> str:
    """The text that ``Evaluation.save`` left in a run folder. Raises OptionError when there is
    none."""
    file = Path(run) / "leaderboard.txt"
    if not file.is_file():
        raise OptionError(run, "is no run folder", "name one that `headstock evaluate -o` wrote")
    return file.read_text("utf-8").rstrip()


def _cells(row: dict[str, Any], scores: dict[str, Any]) -> list[str]:
    accuracy = scores["accuracy"]
    return [
        one_line(row["head"], 40),
        one_line(row["on"], 60),
        row["fusion"] or "-",
        f"{accuracy['value']:.4f}",
        f"{accuracy['low']:.4f}-{accuracy['high']:.4f}",
        f"{scores['errors']:g}/{scores['n']}",
        f"{scores['balanced_accuracy']:.4f}",
        f"{scores['log_loss']:.4f}",
        f"{row['seconds']:.2f}",
    ]


def text_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None
) -> str:
    """Columns padded to their widest cell; text left, numbers right. Beyond ``width`` the last
    columns are left out rather than broken."""
    sizes = [max(len(header[c]), *(len(r[c]) for r in rows), 1) for c in range(len(header))]
    keep = len(header)
    while width is not None and keep > 4 and sum(sizes[:keep]) + 2 * (keep - 1) > width:
        keep -= 1
    left = [not any(_numeric(r[c]) for r in rows) for c in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(size) if to_left else cell.rjust(size)
            for cell, size, to_left in zip(cells[:keep], sizes[:keep], left[:keep])
        ]
        return "  ".join(padded).rstrip()

    return "\n".join([line(header), "  ".join("-" * s for s in sizes[:keep]), *map(line, rows)])


def _numeric(cell: str) -> bool:
    return cell[:1].isdigit()
