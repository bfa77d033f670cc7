"""What the heads weigh: the share of each feature set and its heaviest columns."""

from __future__ import annotations

from headstock.heads.report.page.board import percent
from headstock.heads.report.page.markup import Safe, h, joined, table
from headstock.heads.run.run import Run
from headstock.heads.run.scores import Column, Line, Weight

__all__ = ["weights"]

MOST = 12
"""Columns shown of a system, over all its sets."""
SYSTEMS = 4


def weights(run: Run) -> Safe | None:
    """The best system that says what it weighs on each choice of feature sets, four at most; None
    when no system of the run says."""
    best: dict[str, Line] = {}
    for line in run.leaderboard:
        if line.importances:
            best.setdefault(line.on, line)
    if not best:
        return None
    shown = list(best.values())[:SYSTEMS]
    return joined(
        h(
            "p",
            "Shares of the whole weight that a head puts on its columns: the length of a linear "
            "head's weights, the gain or the purity that a tree's splits win, as a mean over the "
            "folds with its standard deviation. Columns that say the same share their weight: "
            "none is important by itself.",
            class_="says",
        ),
        h("div", *map(_of_system, shown), class_="figures"),
    )


def _of_system(line: Line) -> Safe:
    sets = sorted(line.importances.items(), key=lambda item: -item[1].share)
    columns, several = _columns(sets), len(sets) > 1
    most = max((column.share for _, column in columns), default=0.0) or 1.0
    heaviest = [
        [
            f"column {column.name}" if isinstance(column.name, int) else column.name,
            *([of] if several else []),
            _bar(column.share, column.sd, most),
        ]
        for of, column in columns
    ]
    header = ["Column", *(["Set"] if several else []), "Weight"]
    return h(
        "figure",
        h("figcaption", f"Weights of {line.name}"),
        _of_sets(line, sets) if several else None,
        table(f"Heaviest columns of {line.name}", header, heaviest, class_="weights")
        if heaviest
        else None,
    )


def _of_sets(line: Line, sets: list[tuple[str, Weight]]) -> Safe:
    """Each set's share of the weight, beside its share of the columns."""
    total = max(sum(weight.width for _, weight in sets), 1)
    rows = [
        [
            name,
            h("td", f"{weight.width:,}, {_percent(weight.width / total)}", class_="number"),
            _bar(weight.share, weight.sd, 1.0),
        ]
        for name, weight in sets
    ]
    return table(
        f"Feature sets of {line.name}", ["Set", "Columns", "Weight"], rows, class_="weights"
    )


def _columns(sets: list[tuple[str, Weight]]) -> list[tuple[str, Column]]:
    """The heaviest columns of all ``sets``, each with its set."""
    columns = [(name, column) for name, weight in sets for column in weight.columns]
    return sorted(columns, key=lambda one: -one[1].share)[:MOST]


def _percent(share: float) -> str:
    return percent(share, 2 if share < 0.01 else 1)


def _bar(share: float, sd: float | None, most: float) -> Safe:
    apart = "" if sd is None else f" ± {_percent(sd)}"
    line = h("span", class_="weight", aria_hidden="true", style=f"--v:{share / most:.4f}")
    return h("td", f"{_percent(share)}{apart}", line, class_="number")
