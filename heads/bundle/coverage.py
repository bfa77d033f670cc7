"""How far a model of numbers is off, so that its answers come with an interval.

Conformal prediction (Vovk, Gammerman and Shafer 2005) with out-of-fold residuals: the interval is
as wide as so many of the held-out answers of the very system were off. Rows of one group count as
one (Dunn, Wasserman and Ramdas 2023): what is promised is of a row of a new group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headstock.heads.evaluation.answers import How, answer_systems
from headstock.heads.evaluation.systems import System, restrict
from headstock.heads.fusion.fusions import fusions_of
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows, parts_of
from headstock.heads.specs import NUMBER
from headstock.heads.statistics.intervals import unit_codes
from headstock.store.errors import HeadError, OptionError

__all__ = ["asked", "half_width", "halves"]


def asked(coverage: float | None, target: str) -> None:
    """Raises OptionError for a coverage that is no share, or is asked of classes."""
    if coverage is None:
        return
    if target != NUMBER:
        raise OptionError("coverage", "is of numbers, and these are classes", "leave it away")
    if not 0 < coverage < 1:
        raise OptionError("coverage", f"{coverage} is no share", "0.95, for example")


def half_width(residuals: np.ndarray, coverage: float, groups: np.ndarray | None = None) -> float:
    """The smallest distance within which ``coverage`` of the rows, or groups, lie when one more is
    farther off than all: residuals (n,), groups (n,).

    Raises HeadError when there are too few.
    """
    off = np.abs(residuals)
    keys = unit_codes(len(off), groups)
    weight, units = 1.0 / np.bincount(keys)[keys], int(keys.max(initial=-1)) + 1
    order = np.argsort(off, kind="stable")
    reached = np.cumsum(weight[order]) >= coverage * (units + 1) - 1e-9
    if not reached.any():
        what = f"{units} {'rows' if groups is None else 'groups'} promise no {coverage:g}"
        least = int(np.ceil(coverage / (1 - coverage) - 1e-9))
        raise HeadError("coverage", what, f"{least} are needed, or ask for less")
    return float(off[order][np.argmax(reached)])


def halves(
    rows: Rows, plan: FoldPlan, patterns: Sequence[str],
    members: Sequence[tuple[str, str]], fusion: str | None, coverage: float,
    given: Mapping[str, Any],
) -> dict[str, float]:  # fmt: skip
    """{pattern: half of the width} for rows that have these sets, by all rows that have them and
    maybe others. members: the heads and their sets; given: options and seed."""
    out = {}
    for pattern in patterns:
        sets = parts_of(pattern)
        mine, which = rows.only(sets), np.flatnonzero(rows.having(sets))
        cut = plan if len(which) == len(rows) else plan.take(which)
        pairs = dict.fromkeys((h, p) for h, o in members if (p := restrict(o, pattern)))
        systems = [System(h, o, "early" if "+" in o else None) for h, o in pairs]
        if fusions_of(NUMBER).get(str(fusion)) is not None and len(systems) > 1:
            names = tuple(system.name for system in systems)
            systems.append(System("all", pattern, fusion, names))
        answers = answer_systems(systems, mine, cut, How(**given))
        off = answers.by_name[systems[-1].name].proba[0, :, 0] - mine.y
        out[pattern] = half_width(off, coverage, mine.groups)
    return out
