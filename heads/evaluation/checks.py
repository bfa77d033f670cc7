"""Automatic checks of a run: what is easily overlooked, each with a code and what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from headstock.heads.evaluation.rules import RULES
from headstock.heads.run.run import Finding, Run

__all__ = ["CHECKS", "Check", "checked"]


@dataclass(frozen=True)
class Check:
    """``look`` says what it found in a run, or nothing. means, do: as on the page of checks
    (docs/checks.md)."""

    code: str
    title: str
    means: str
    do: str
    look: Callable[[Run], str | None]


CHECKS: Sequence[Check] = tuple(Check(*rule) for rule in RULES)


def checked(run: Run) -> Run:
    """With what the checks find in it. A check whose part of the run is absent stays silent."""
    found = ((check, check.look(run)) for check in CHECKS)
    return replace(
        run,
        checks=tuple(
            Finding(code=check.code, title=check.title, found=words, do=check.do)
            for check, words in found
            if words
        ),
    )
