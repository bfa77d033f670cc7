"""What a model promises of new rows: an interval of each number, or a set of classes of each row.

Conformal prediction with out-of-fold answers (Vovk, Gammerman and Shafer 2005): the held-out
answers of the very system say how wide an interval must be, or how unlikely a class may be and
still belong to the set (Sadinle, Lei and Wasserman 2019), to hold the truth so often. Rows of one
group count as one (Dunn, Wasserman and Ramdas 2023): what is promised is of a row of a new group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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

__all__ = ["Coverage", "conformal_quantile", "held_out", "promise"]


@dataclass(frozen=True)
class Coverage:
    """share: of new rows, above 0 and below 1, whose interval or set holds the truth. per_class: of
    the rows of each class. Raises OptionError for no share."""

    share: float
    per_class: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise OptionError("coverage", f"{self.share} is no share", "0.95, for example")

    @classmethod
    def asked(cls, share: float | None, per_class: bool, target: str) -> Coverage | None:
        """Raises OptionError for classes of numbers, and for those of no share."""
        if per_class and (share is None or target == NUMBER):
            what = "needs a coverage" if share is None else "is of classes, and these are numbers"
            raise OptionError("coverage_per_class", what, "add --coverage 0.95, or leave it away")
        return None if share is None else cls(share, per_class)


def conformal_quantile(
    scores: np.ndarray, coverage: float, groups: np.ndarray | None = None
) -> float:
    """The smallest score that ``coverage`` of the rows, or groups, do not exceed when one more has
    a larger score than all: scores (n,), groups (n,).

    Raises HeadError when there are too few.
    """
    keys = unit_codes(len(scores), groups)
    weight, units = 1.0 / np.bincount(keys)[keys], int(keys.max(initial=-1)) + 1
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(weight[order]) >= coverage * (units + 1) - 1e-9
    if not reached.any():
        what = f"{units} {'rows' if groups is None else 'groups'} promise no {coverage:g}"
        least = int(np.ceil(coverage / (1 - coverage) - 1e-9))
        raise HeadError("coverage", what, f"{least} are needed, or ask for less")
    return float(scores[order][np.argmax(reached)])


def held_out(
    rows: Rows, plan: FoldPlan, patterns: Sequence[str],
    members: Sequence[tuple[str, str]], fusion: str | None, given: Mapping[str, Any],
) -> Iterator[tuple[str, Rows, FoldPlan, np.ndarray]]:  # fmt: skip
    """For rows that have the sets of each pattern, by all rows that have them and maybe others: the
    pattern, those rows, their folds and the out-of-fold answers (n, k) of the system. members: the
    heads and their sets; given: options, seed and metric."""
    for pattern in patterns:
        sets = parts_of(pattern)
        mine, which = rows.only(sets), np.flatnonzero(rows.having(sets))
        cut = plan if len(which) == len(rows) else plan.take(which)
        pairs = dict.fromkeys((h, p) for h, o in members if (p := restrict(o, pattern)))
        systems = [System(h, o, "early" if "+" in o else None) for h, o in pairs]
        if fusions_of(rows.target).get(str(fusion)) is not None and len(systems) > 1:
            names = tuple(system.name for system in systems)
            systems.append(System("all", pattern, fusion, names))
        answers = answer_systems(systems, mine, cut, How(**given))
        yield pattern, mine, cut, answers.by_name[systems[-1].name].proba[0]


def promise(
    answers: Iterator[tuple[str, Rows, FoldPlan, np.ndarray]], coverage: Coverage
) -> dict[str, Any]:
    """What a model keeps of ``held_out`` answers. Of numbers ``half``, {pattern: half of the width
    of an interval}; of classes ``least``, {pattern: (k,) the least probability at which each class
    belongs to a set}, and ``measured`` of the pattern with most sets. Raises HeadError when there
    are too few rows."""
    out: dict[str, Any] = {"coverage": coverage.share}
    for pattern, mine, cut, said in answers:
        if mine.target == NUMBER:
            off = np.abs(said[:, 0] - mine.y)
            half = conformal_quantile(off, coverage.share, mine.groups)
            out.setdefault("half", {})[pattern] = half
            continue
        least = _least(said, mine.codes, mine.groups, coverage)
        out.setdefault("least", {})[pattern] = least.tolist()
        if "measured" not in out:
            out["per_class"] = coverage.per_class
            out["measured"] = _measured(said, mine, cut.codes[0], coverage)
    return out


def _least(
    proba: np.ndarray, codes: np.ndarray, groups: np.ndarray | None, coverage: Coverage
) -> np.ndarray:
    """(k,); 0, so that it belongs to every set, for a class with too few rows to promise."""
    k = proba.shape[1]
    right = -proba[np.arange(len(codes)), codes]
    if not coverage.per_class:
        return np.full(k, -conformal_quantile(right, coverage.share, groups))
    out = np.zeros(k)
    for code in range(k):
        mine = codes == code
        some = None if groups is None else groups[mine]
        try:
            out[code] = -conformal_quantile(right[mine], coverage.share, some)
        except HeadError:
            continue
    return out


def _measured(
    proba: np.ndarray, rows: Rows, folds: np.ndarray, coverage: Coverage
) -> dict[str, Any] | None:
    """How often the sets of each fold hold the class, made by the answers to the other folds; None
    where these are too few."""
    n, k = proba.shape
    inside = np.zeros((n, k), dtype=bool)
    for fold in np.unique(folds):
        own = folds == fold
        groups = None if rows.groups is None else rows.groups[~own]
        try:
            least = _least(proba[~own], rows.codes[~own], groups, coverage)
        except HeadError:
            return None
        inside[own] = proba[own] >= least
    held, size = inside[np.arange(n), rows.codes], inside.sum(axis=1)
    count = np.bincount(rows.codes, minlength=k)
    by_class = np.bincount(rows.codes, held, minlength=k) / np.maximum(count, 1)
    return {
        "rows": n,
        "held": float(held.mean()),
        "size": float(size.mean()),
        "one": float((size == 1).mean()),
        "none": float((size == 0).mean()),
        "by_class": by_class.tolist(),
    }
