"""The report of runs of numbers: leaderboard, predicted against true, residuals, worst rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from headstock.heads.report.page import chart
from headstock.heads.report.page.markup import Safe, h, joined, table
from headstock.heads.report.page.settings import recorded
from headstock.heads.report.regression import ends, figure
from headstock.heads.report.rows import account_lines, hygiene_lines
from headstock.heads.report.text import held_out, undecided
from headstock.heads.run.folder import checked_file, read_any
from headstock.heads.run.numbers import NumberRun
from headstock.store.errors import HeadError, OptionError
from headstock.store.exchange.unpacked import Archive

__all__ = ["SavedNumbers", "facts_of", "number_sections", "read_saved_numbers"]

MOST = 2000
"""Points of a chart: of more rows as many are drawn, spread over all."""
BINS = 30


@dataclass(frozen=True, eq=False)
class SavedNumbers:
    """name: the folder's. ids (n,), numbers y (n,), said {system: (n,)}, NaN where it has none."""

    name: str
    run: NumberRun
    ids: np.ndarray
    y: np.ndarray
    said: dict[str, np.ndarray]


def read_saved_numbers(folders: Sequence[str | Path]) -> list[SavedNumbers] | None:
    """The runs in ``folders``, where they are of numbers; None where they are of classes. Raises
    OptionError for some of both, HeadError for what cannot be read."""
    runs = [read_any(folder) for folder in folders]
    numbers = [isinstance(run, NumberRun) for run in runs]
    if not any(numbers):
        return None
    if not all(numbers):
        what = "some of these runs are of numbers and some of classes"
        raise OptionError("report", what, "make a page of each kind")
    return [_read(Path(f), run) for f, run in zip(folders, runs) if isinstance(run, NumberRun)]


def _read(folder: Path, run: NumberRun) -> SavedNumbers:
    path = checked_file(folder, run, "oof.npz")
    if path is None:
        raise HeadError(folder / "oof.npz", "is not there", "evaluate again")
    try:
        with Archive(path) as held:
            ids, y = held.read("ids"), held.read("y")
            said = {n.removeprefix("said/"): held.read(n) for n in held.names if n[:5] == "said/"}
    except ValueError as error:
        raise HeadError(path, "cannot be read", "evaluate again") from error
    kinds = [
        ids.dtype.kind == "U",
        y.dtype.kind == "f",
        *(s.dtype.kind == "f" for s in said.values()),
    ]
    if not all(kinds) or ids.ndim != 1 or any(a.shape != ids.shape for a in (y, *said.values())):
        raise HeadError(path, "does not fit together", "evaluate again")
    if run.leaderboard[0].name not in said or not np.isfinite(y).all():
        raise HeadError(path, "does not hold the first system's answers", "evaluate again")
    return SavedNumbers(folder.resolve().name or "run", run, ids.astype(str), y, said)


def facts_of(runs: Sequence[SavedNumbers]) -> list[Safe]:
    """A line a run: its rows, folds and systems."""
    return [
        h("p", f"{one.name}: {len(one.ids):,} rows, a number each, {one.run.folds.folds} folds, "
          f"{one.run.folds.kind}, seed {one.run.folds.seed}, {len(one.run.leaderboard)} systems")
        for one in runs
    ]  # fmt: skip


def number_sections(runs: Sequence[SavedNumbers]) -> list[tuple[str, str, Safe]]:
    """(key, title, content) of each part of the page."""
    out = []
    for number, one in enumerate(runs):
        of, key = f" ({one.name})" if len(runs) > 1 else "", f"r{number}"
        first = "leaderboard" if number == 0 else f"{key}-leaderboard"
        out += [
            (first, f"Leaderboard{of}", _leaderboard(one.run, f"{key}board")),
            (f"{key}-differences", f"Which of these differ{of}", _differences(one.run)),
            (f"{key}-answers", f"Predicted and true{of}", _answers(one, key)),
            (f"{key}-worst", f"Rows that are farthest off{of}", _worst(one)),
            (f"{key}-settings", f"Settings and times{of}", recorded(one.run)),
        ]
    return out


def _number(value: float | None) -> Safe:
    return h("td", figure(value), data_value="" if value is None else value, class_="number")


def _leaderboard(run: NumberRun, name: str) -> Safe:
    """Every system with each metric, its interval by the one that decides, and seconds."""
    first, *others = run.settings.metric
    held, same = held_out(run.leaderboard), undecided(run)
    header: list[Any] = [
        *(h("th", h("button", n, type="button"), scope="col", data_sort="text")
          for n in ("Head", "On", "Fusion")),
        h("th", h("button", first, type="button"), scope="col", data_sort="number"),
        h("th", "95 % interval", scope="col"),
        *(h("th", h("button", n, type="button"), scope="col", data_sort="number")
          for n in (*others, *(split.capitalize() for split in held), "Seconds")),
        h("th", "Against the best", scope="col"),
    ]  # fmt: skip
    rows: list[list[Any]] = []
    for line in [*run.leaderboard, *([run.baseline] if run.baseline else [])]:
        known = line.metrics[first]
        scores = [line.held(split) for split in held]
        word = "not distinguishable" if line.name in same else "differs"
        rows.append([
            line.head, line.on, line.fusion or "–", _number(known.value), ends(known),
            *(_number(line.metrics[name].value) for name in others),
            *(_number(one.metrics[first].value if one else None) for one in scores),
            _number(line.seconds), "a guess" if line.seconds is None else word,
        ])  # fmt: skip
    lines = [*(account_lines(run.settings.rows, "scored") if run.settings.rows else [])]
    lines += hygiene_lines(run.hygiene)
    return joined(
        *(h("p", line, class_="hygiene") for line in lines),
        table(f"Systems, best {first} first", header, rows, name=name),
        h("p", f"{first} is out of fold, with a 95 % interval by "
          f"{'whole groups' if run.folds.grouped else 'rows'}. A system differs from the best when "
          "the paired test on the same rows, adjusted for all pairs of systems, is below 0.05. A "
          "guess is the mean of the training rows, of absolute errors their median.",
          class_="says"),
    )  # fmt: skip


def _differences(run: NumberRun) -> Safe:
    if not run.comparisons:
        return h("p", "There is one system.")
    rows: list[list[Any]] = []
    for one in run.comparisons:
        gap = one.difference
        between = "–" if gap.low is None else f"{figure(gap.low)} to {figure(gap.high)}"
        p = figure(one.adjusted_p)
        rows.append([one.b, str(one.n), _number(gap.value), between, p, one.verdict])
    first = run.comparisons[0].a
    header = ["System", "Rows", f"{first} less it, {run.settings.decides}", "95 % interval",
              "Adjusted p", "Verdict"]  # fmt: skip
    return table(f"{first} against each other system", header, rows)


def _answers(one: SavedNumbers, key: str) -> Safe:
    name = one.run.leaderboard[0].name
    there = np.flatnonzero(np.isfinite(one.said[name]))
    shown = there[np.linspace(0, len(there) - 1, min(MOST, len(there))).astype(int)]
    y, said = one.y[shown], one.said[name][shown]
    rest = one.said[name][there] - one.y[there]
    pictures = (
        _against(name, y, said, f"{key}true"),
        _residuals(name, said, said - y, f"{key}rest"),
        _histogram(name, rest, f"{key}hist"),
    )
    return h("div", *pictures, class_="figures")


def _against(name: str, y: np.ndarray, said: np.ndarray, key: str) -> Safe:
    low, high = float(min(y.min(), said.min())), float(max(y.max(), said.max()))

    def draw(axes: Any) -> None:
        axes.plot([low, high], [low, high], color=chart.FAINT, linewidth=1)
        axes.plot(y, said, ".", markersize=3, alpha=0.5, color=chart.colour(0))
        axes.set_xlabel("true")
        axes.set_ylabel("predicted")
        axes.grid(True)

    edges = np.quantile(y, np.linspace(0, 1, 6))
    rows: list[list[Any]] = []
    for a, b in pairwise(edges):
        mine = (y >= a) & ((y < b) | (b == edges[-1]))
        if mine.any():
            part = f"{figure(float(a))} to {figure(float(b))}"
            rows.append([part, str(int(mine.sum())), figure(float(said[mine].mean())),
                         figure(float(y[mine].mean()))])  # fmt: skip
    says = f"{name} out of fold; on the line predicted and true are equal."
    header = ["True", "Rows", "Mean predicted", "Mean true"]
    return chart.figure("Predicted against true", chart.svg(draw, key), says, header, rows)


def _residuals(name: str, said: np.ndarray, rest: np.ndarray, key: str) -> Safe:
    def draw(axes: Any) -> None:
        axes.axhline(0, color=chart.FAINT, linewidth=1)
        axes.plot(said, rest, ".", markersize=3, alpha=0.5, color=chart.colour(0))
        axes.set_xlabel("predicted")
        axes.set_ylabel("predicted less true")
        axes.grid(True)

    order = np.array_split(np.argsort(said, kind="stable"), min(5, len(said)))
    rows: list[list[Any]] = [
        [f"{figure(float(said[p].min()))} to {figure(float(said[p].max()))}", str(len(p)),
         figure(float(rest[p].mean())), figure(float(rest[p].std()))]
        for p in order
    ]  # fmt: skip
    says = f"Residuals of {name}: around 0 and as wide everywhere, where nothing is left to learn."
    header = ["Predicted", "Rows", "Mean residual", "Standard deviation"]
    return chart.figure("Residuals", chart.svg(draw, key), says, header, rows)


def _histogram(name: str, rest: np.ndarray, key: str) -> Safe:
    counts, edges = np.histogram(rest, bins=min(BINS, max(5, len(rest) // 10)))

    def draw(axes: Any) -> None:
        axes.stairs(counts, edges, fill=True, color=chart.colour(0), alpha=0.6)
        axes.set_xlabel("predicted less true")
        axes.set_ylabel("rows")

    shares = (0.05, 0.25, 0.5, 0.75, 0.95)
    rows: list[list[Any]] = [
        [f"{100 * share:g} %", figure(float(value))]
        for share, value in zip(shares, np.quantile(rest, shares))
    ]
    says = f"How far {name} is off; half of the rows lie between the quartiles."
    picture = chart.svg(draw, key)
    return chart.figure("How far answers are off", picture, says, ["Quantile", "Residual"], rows)


def _worst(one: SavedNumbers) -> Safe:
    rows: list[list[Any]] = [
        [row.id, _number(row.true), _number(row.predicted), _number(row.predicted - row.true)]
        for row in one.run.worst
    ]
    header = ["Row", "True", "Predicted", "Off by"]
    return table(f"Of {one.run.leaderboard[0].name}, the worst first", header, rows)
