"""The lines of a leaderboard, before any of them has a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from headstock.heads.fusion.fusions import fusions_of
from headstock.heads.rows.labelled import Rows, parts_of
from headstock.heads.specs import CLASSES, NUMBER

__all__ = [
    "DEFAULTS",
    "Base",
    "Options",
    "System",
    "bases_of",
    "bases_of_system",
    "fused_systems",
    "patterns_of",
    "restrict",
]

Base = tuple[str, str]
"""A head and the sets it reads side by side: (``knn``, ``image+audio``)."""
Options = Mapping[str, Mapping[str, Any]]


class Defaults(NamedTuple):
    """What is tried where nothing is named."""

    heads: tuple[str, ...]
    fusions: tuple[str, ...]


DEFAULTS = {
    CLASSES: Defaults(
        ("logistic", "lda", "linear-svm", "rbf-svm", "knn", "lightgbm"),
        ("mean", "weighted", "stacked"),
    ),
    NUMBER: Defaults(("ridge", "kernel-ridge", "knn", "lightgbm"), ("mean", "stacked")),
}


@dataclass(frozen=True)
class System:
    """One line of the leaderboard: a head on one or more sets, or a fusion of such."""

    head: str
    on: str
    fusion: str | None = None
    members: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        tail = f":{self.fusion}" if self.fusion not in (None, "early") else ""
        return f"{self.head}@{self.on}{tail}"

    @property
    def function(self) -> str:
        """The table's name of the head that is fitted."""
        return "learned" if self.fusion == "learned" else self.head


def fused_systems(
    heads: Sequence[str], singles: Sequence[str], fusions: Sequence[str], target: str = CLASSES
) -> list[System]:
    """Which systems each late fusion joins, fixed before any score is known: mean, weighted and
    product join one head's answers across the single sets, stacked all heads' on all single sets
    (with one set, all heads' on it), gated does both. What a fusion then chooses it chooses anew
    inside each fold."""
    out = []
    together = "+".join(singles)
    for fusion in fusions:
        if fusions_of(target)[fusion] is None:
            continue
        if fusion == "gated" and len(heads) * len(singles) > 1 and len(heads) > 1:
            members = tuple(f"{h}@{s}" for h in heads for s in singles)
            out.append(System("all", together, fusion, members))
        if fusion == "stacked":
            members = tuple(f"{h}@{s}" for h in heads for s in singles)
            if len(members) > 1:
                out.append(System("all" if len(heads) > 1 else heads[0], together, fusion, members))
        elif len(singles) > 1:
            out += [System(h, together, fusion, tuple(f"{h}@{s}" for s in singles)) for h in heads]
    return out


def restrict(on: str, pattern: str) -> str:
    """The sets of ``on`` that ``pattern`` has, in the order of ``on``; empty where none."""
    there = parts_of(pattern)
    return "+".join(p for p in parts_of(on) if p in there)


def patterns_of(rows: Rows, test: Rows | None = None) -> list[str]:
    """Which sets the rows have, each combination that occurs once, most sets first."""
    both = [rows] if test is None else [rows, test]
    if all(r.present is None for r in both):
        return ["+".join(rows.X)]
    found = set(np.concatenate([np.unique(r.patterns()) for r in both]))
    return sorted(found, key=lambda p: (-len(parts_of(p)), p))


def bases_of(systems: Sequence[System], patterns: Sequence[str]) -> list[Base]:
    """What must be fitted to answer rows of these patterns."""
    return list(
        dict.fromkeys(b for s in systems if not s.members for b in bases_of_system(s, patterns))
    )


def bases_of_system(system: System, patterns: Sequence[str]) -> list[Base]:
    read = dict.fromkeys(restrict(system.on, pattern) for pattern in patterns)
    return [(system.function, on) for on in read if on]
