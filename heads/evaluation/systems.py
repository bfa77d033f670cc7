"""The lines of a leaderboard, before any of them has a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headstock.heads.fusion.fusions import FUSIONS

__all__ = ["System", "fused_systems"]


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
    heads: Sequence[str], singles: Sequence[str], fusions: Sequence[str]
) -> list[System]:
    """Which systems each late fusion joins, fixed before any score is known: mean, weighted and
    product join one head's answers across the single sets, stacked all heads' on all single sets
    (with one set, all heads' on it), gated does both. What a fusion then chooses it chooses anew
    inside each fold."""
    out = []
    together = "+".join(singles)
    for fusion in fusions:
        if FUSIONS[fusion] is None:
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
