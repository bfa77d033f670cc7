"""Automatic checks of a run: what is easily overlooked, each with a code and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headstock.heads.evaluation.rules import RULES
from headstock.store.errors import one_line

__all__ = ["CHECKS", "Check", "check_lines", "run_checks"]

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Check:
    """``look`` says what it found in the content of metrics.json, or nothing. means, do: as on the
    page of checks (docs/checks.md)."""

    code: str
    title: str
    means: str
    do: str
    look: Callable[[Metrics], str | None]


CHECKS: Sequence[Check] = tuple(Check(*rule) for rule in RULES)


def run_checks(metrics: Metrics) -> list[dict[str, str]]:
    """What the checks find in the content of metrics.json: ``code``, ``title``, ``found``, ``do``.
    A check whose part of the run is absent stays silent."""
    return list(_found(metrics))


def _found(metrics: Metrics) -> Iterator[dict[str, str]]:
    for check in CHECKS:
        found = check.look(metrics)
        if found:
            yield {"code": check.code, "title": check.title, "found": found, "do": check.do}


def check_lines(metrics: Metrics) -> list[str]:
    """The checks that a run recorded, a line each."""
    return [
        f"{one_line(one['code'], 10)}, {one_line(one['title'], 80)}: "
        f"{one_line(one['found'], 300)}; {one_line(one['do'], 200)}"
        for one in metrics.get("checks") or []
    ]
