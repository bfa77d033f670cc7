"""What the heads weigh: the share of each feature set and its heaviest columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstock.heads.report.page.board import percent
from headstock.heads.report.page.markup import Safe, h, joined, table
from headstock.heads.report.page.runs import Run, System

__all__ = ["weights"]

MOST = 12
"""Columns shown of a system, over all its sets."""
SYSTEMS = 4


def weights(run: Run) -> Safe | None:
    """The best system that says what it weighs on each choice of feature sets, four at most; None
    when no system of the run says."""
    best: dict[str, tuple[System, dict[str, Any]]] = {}
    for system in run.systems:
        told = _told(system)
        if told:
            best.setdefault(str(system.row["on"]), (system, told))
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
        h("div", *(_of_system(system, told) for system, told in shown), class_="figures"),
    )


def _told(system: System) -> dict[str, Any]:
    """The sets of a system's importances that can be read."""
    told = system.row.get("importances")
    return {
        str(name): one
        for name, one in (told.items() if isinstance(told, dict) else ())
        if isinstance(one, dict)
        and _is_share(one.get("share"))
        and isinstance(one.get("columns"), list)
    }


def _of_system(system: System, told: Mapping[str, Any]) -> Safe:
    sets = sorted(told.items(), key=lambda item: -item[1]["share"])
    columns, several = _columns(sets), len(sets) > 1
    most = max((share for _, _, share, _ in columns), default=0.0) or 1.0
    heaviest = [
        [name, *([of] if several else []), _bar(share, sd, most)] for of, name, share, sd in columns
    ]
    header = ["Column", *(["Set"] if several else []), "Weight"]
    return h(
        "figure",
        h("figcaption", f"Weights of {system.name}"),
        _of_sets(system, sets) if several else None,
        table(f"Heaviest columns of {system.name}", header, heaviest, class_="weights")
        if heaviest
        else None,
    )


def _of_sets(system: System, sets: list[tuple[str, Any]]) -> Safe:
    """Each set's share of the weight, beside its share of the columns where that is known."""
    widths = [one.get("width") for _, one in sets]
    known = all(isinstance(width, int) and width > 0 for width in widths)
    rows = [
        [
            name,
            *([h("td", f"{width:,}, {_percent(width / sum(widths))}", class_="number")]
              if known else []),
            _bar(one["share"], one.get("sd"), 1.0),
        ]
        for (name, one), width in zip(sets, widths)
    ]  # fmt: skip
    header = ["Set", *(["Columns"] if known else []), "Weight"]
    return table(f"Feature sets of {system.name}", header, rows, class_="weights")


def _columns(sets: list[tuple[str, Any]]) -> list[tuple[str, str, float, float | None]]:
    """(set, column, share, deviation) of the heaviest columns of all ``sets``."""
    out = []
    for of, one in sets:
        for entry in one["columns"]:
            if isinstance(entry, list) and len(entry) > 1 and _is_share(entry[1]):
                sd = entry[2] if len(entry) > 2 and _is_share(entry[2]) else None
                name = f"column {entry[0]}" if isinstance(entry[0], int) else str(entry[0])
                out.append((of, name, float(entry[1]), sd))
    return sorted(out, key=lambda column: -column[2])[:MOST]


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _percent(share: float) -> str:
    return percent(share, 2 if share < 0.01 else 1)


def _bar(share: float, sd: object, most: float) -> Safe:
    apart = f" ± {_percent(float(sd))}" if isinstance(sd, int | float) else ""
    line = h("span", class_="weight", aria_hidden="true", style=f"--v:{share / most:.4f}")
    return h("td", f"{_percent(share)}{apart}", line, class_="number")
