"""Runs held against each other on the rows that all of them share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstock.heads.report.contest import Against, Contest
from headstock.heads.report.saved import Saved, System, read_saved
from headstock.heads.report.text import Mark, filled, text_table
from headstock.heads.run.as_json import plain
from headstock.store.errors import HeadstockError, OptionError, one_line

__all__ = ["Standing", "standing"]

SHOWN = 20
LEFT_OUT = ("when", "rows", "reuse", "classes", "store_uuid")
"""Settings that nobody chose."""


@dataclass(frozen=True)
class Standing:
    """Runs held against each other on the rows that all of them share."""

    runs: list[Saved]
    contest: Contest
    against: dict[str, tuple[System, Against]]
    """By run: its best system, and its test against the best of all (of the first run: itself)."""
    first: System

    @property
    def whole(self) -> bool:
        """Whether every run has the same rows and labels."""
        return all(len(run.ids) == len(self.contest.ids) for run in self.runs)

    def value(self, system: System) -> float:
        """What decides, on the shared rows."""
        return float(self.contest.values[self.contest.systems.index(system)])

    def accuracy(self, system: System) -> float:
        """On the shared rows."""
        number = self.contest.systems.index(system)
        return float(self.contest.right[number].mean())

    def verdicts(self, width: int | None = None) -> list[str]:
        """A line for each other run: can its best system be told from the best of all?"""
        n = len(self.contest.ids)
        first, top, name = self.first, self.value(self.first), self.contest.decides
        score = f"{top:.4f} of {n} rows right" if name == "accuracy" else f"{name} {top:.4f}"
        lines = [f"{first.saved.name}, {first.name} is first: {score}"]
        for name, (system, test) in self.against.items():
            words = "worse than it" if test.differs else "not distinguishable from it"
            by = "" if self.contest.groups is None else " by group"
            gap = "" if test.gap is None else f", {test.gap[1]:+.4f} to {test.gap[2]:+.4f}{by}"
            lines.append(
                f"{name}, {system.name}: {self.value(system):.4f}, {words} (right alone on "
                f"{test.test.only_b} rows against {test.test.only_a}, p {test.p:.2g}{gap})"
            )
        return filled(lines, width)

    def text(self, width: int | None = None, strong: Mark = str) -> str:
        """Which rows are shared, all systems on them, the verdicts, and what was set otherwise."""
        sizes = {run.name: len(run.ids) for run in self.runs}
        n = len(self.contest.ids)
        lines = [f"{n} rows with the same labels are in each of {len(self.runs)} runs"]
        if not self.whole:
            each = ", ".join(f"{name} {size}" for name, size in sizes.items())
            lines.append(f"these are not all rows ({each}): the scores here are of the shared ones")
        rows, decides = [], self.contest.decides
        for number, system in enumerate(self.contest.systems):
            right = self.contest.right[number]
            wrong = int((~right).sum())
            spent = "reused" if system.line.reused else f"{system.line.seconds or 0:.2f}"
            other = [] if decides == "accuracy" else [f"{self.contest.values[number]:.4f}"]
            cells = [system.saved.name, system.name, *other, f"{right.mean():.4f}", f"{wrong}/{n}"]
            rows.append([one_line(cell, 60) for cell in (*cells, spent)])
        order = list(range(len(rows)))
        if decides == "accuracy":
            order.sort(key=lambda r: -self.contest.right[r].mean())
        header = ["run", "system", *([] if decides == "accuracy" else [decides])]
        header += ["accuracy", "errors", "seconds"]
        table = text_table(header, [rows[r] for r in order], width, ("seconds", "errors"))
        return "\n".join([*lines, "", table, "", *self.verdicts(width), *self.differences()])

    def differences(self) -> list[str]:
        """What was set otherwise than in the first run, a setting a line."""
        lines = []
        base = dict(_flat(_settings(self.runs[0])))
        for run in self.runs[1:]:
            mine = dict(_flat(_settings(run)))
            keys = [k for k in {**base, **mine} if base.get(k) != mine.get(k)]
            for key in keys[:SHOWN]:
                change = f"{base.get(key, 'unset')} -> {mine.get(key, 'unset')}"
                lines.append(one_line(f"{run.name} differs: {key}: {change}", 160))
            if len(keys) > SHOWN:
                lines.append(f"{run.name} differs in {len(keys) - SHOWN} more settings")
        return lines

    def to_json(self) -> dict[str, Any]:
        """``rows`` shared, ``whole``, ``systems``, ``comparisons`` and ``differences``."""
        decides = self.contest.decides
        systems = [
            {
                "run": s.saved.name,
                "name": s.name,
                "accuracy": self.accuracy(s),
                **({} if decides == "accuracy" else {decides: self.value(s)}),
                "row": plain(s.line),
            }
            for s in self.contest.systems
        ]
        comparisons = [
            {
                "a": {"run": self.first.saved.name, "name": self.first.name},
                "b": {"run": name, "name": system.name},
                "n": len(self.contest.ids),
                "only_a_right": test.test.only_a,
                "only_b_right": test.test.only_b,
                "mcnemar_p": test.test.p,
                "adjusted_p": test.p,
                "verdict": "better" if test.differs else "not distinguishable",
            }
            for name, (system, test) in self.against.items()
        ]
        return {
            "rows": len(self.contest.ids),
            "whole": self.whole,
            "systems": systems,
            "comparisons": comparisons,
            "differences": self.differences(),
        }


def standing(folders: Sequence[str | Path]) -> Standing:
    """Two or more runs on the rows they share, by the metric that decides in all of them, else by
    the accuracy: the best system of each against the best of all,
    adjusted for all pairs of all their systems, since the best of many leads by chance too; where
    folds kept groups together and the store is still there, whole groups are tested.

    Raises HeadError for a run that cannot be read, OptionError when no row is shared.
    """
    runs = read_saved(folders)
    contest = Contest.of(runs, _groups(runs))
    if not len(contest.ids) or not contest.systems:
        names = ", ".join(run.name for run in runs)
        raise OptionError(names, "share no row with the same label", "compare runs on one store")
    best: dict[str, int] = {}
    sign = 1 if contest.metric is None else contest.metric.sign
    score = np.nan_to_num(sign * contest.values, nan=-np.inf)
    for number, system in enumerate(contest.systems):
        held = best.get(system.saved.name)
        if held is None or score[number] > score[held]:
            best[system.saved.name] = number
    top, *others = sorted(best.values(), key=lambda s: -score[s])
    tests = contest.tests([(top, other) for other in others])
    against = {
        contest.systems[other].saved.name: (contest.systems[other], test)
        for other, test in zip(others, tests, strict=True)
    }
    return Standing(runs, contest, against, contest.systems[top])


def _groups(runs: Sequence[Saved]) -> dict[str, str]:
    """Each id's group, where the folds kept those of a column together and the store is there."""
    from headstock.heads.report.stores import open_recorded

    for run in runs:
        column = run.run.folds.group
        if column is None or not run.run.folds.grouped:
            continue
        try:
            store = open_recorded(run.folder, run.run.settings)
            if store is None:
                continue
            with store as opened:
                ids, groups = opened.items.id, opened.items.column(column)
                return dict(zip(ids.tolist(), groups.tolist(), strict=True))
        except (HeadstockError, KeyError):
            continue
    return {}


def _settings(run: Saved) -> dict[str, Any]:
    """What a reader chose: settings, folds and recipes, without what follows from the rows."""
    settings = {k: v for k, v in plain(run.run.settings).items() if k not in LEFT_OUT}
    prints = {name: recipe.fingerprint[:12] for name, recipe in run.run.recipes.items()}
    return {**settings, "folds": plain(run.run.folds), "recipe": prints}


def _flat(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(inner, Mapping) and inner:
            yield from _flat(inner, name)
        else:
            yield name, inner
