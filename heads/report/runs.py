"""Earlier runs: what lies in a folder of them, and which differences between them are real."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headstock.heads.report.page.contest import Against, Contest
from headstock.heads.report.page.runs import Run, System, read_runs
from headstock.heads.report.text import filled, leaderboard_text, saved_metrics, text_table
from headstock.store.errors import HeadstockError, OptionError, one_line
from headstock.store.progress import Report, unheard

__all__ = ["Entry", "Listing", "Single", "Standing", "list_runs", "look", "standing", "the_runs"]

DROPPED = ("store", "seconds", "test", "95 %", "systems", "errors", "made")
"""The order in which a table that is too wide loses columns."""
SHOWN = 20
LEFT_OUT = ("when", "rows", "reuse", "classes", "store_uuid")
"""Settings that nobody chose."""
Line = Callable[[str], str]


def the_runs(places: Sequence[str | Path]) -> list[Path]:
    """The run folders among ``places`` and those that lie in them, in the order of their names.

    Raises OptionError when there is none.
    """
    found: list[Path] = []
    for place in map(Path, places):
        inside = [place] if (place / "metrics.json").is_file() else []
        if not inside and place.is_dir():
            inside = sorted(path.parent for path in place.glob("*/metrics.json"))
        if not inside:
            fix = "make one: headstock evaluate STORE -o runs/first"
            raise OptionError(place, "is no run folder and holds none", fix)
        found += [path for path in inside if path not in found]
    return found


@dataclass(frozen=True)
class Entry:
    """One run in a listing. ``rows``: a digest of its ids and labels, whatever their order."""

    folder: Path
    metrics: dict[str, Any]
    rows: str

    @property
    def best(self) -> dict[str, Any]:
        return dict(self.metrics["leaderboard"][0])

    @property
    def made(self) -> str:
        """When: as the run says, else the file's time."""
        told = (self.metrics.get("settings") or {}).get("when")
        if isinstance(told, str):
            return one_line(told, 19).replace("T", " ")[:16]
        time = (self.folder / "metrics.json").stat().st_mtime
        return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M}"


@dataclass(frozen=True)
class Listing:
    """The runs of some folders, oldest first. ``alike``: runs whose rows and labels are the same,
    each group with the paired tests between their best systems; ``unread``: a line for each run
    that could not be read."""

    lines: list[Entry]
    alike: list[Standing] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def text(self, width: int | None = None, strong: Line = str) -> str:
        """A table, then what the tests say of runs on the same rows."""
        letters = _letters([line.rows for line in self.lines])
        header = ["run", "made", "store", "rows", "systems", "best", "accuracy", "95 %", "errors"]
        header += ["test", "seconds"]
        rows = []
        for line in self.lines:
            best, settings = line.best, line.metrics.get("settings") or {}
            accuracy, test = best["accuracy"], (best.get("test") or {}).get("accuracy") or {}
            board = line.metrics["leaderboard"]
            spent = sum(r.get("seconds") or 0 for r in board if not r.get("reused"))
            rows.append(
                [
                    one_line(line.folder.name, 40),
                    line.made,
                    one_line(Path(str(settings.get("store", "-"))).name, 40),
                    f"{best.get('n', '?')} {letters[line.rows]}",
                    str(len(board)),
                    one_line(best["name"], 60),
                    f"{accuracy['value']:.4f}",
                    f"{accuracy['low']:.4f}-{accuracy['high']:.4f}",
                    f"{best.get('errors', 0):g}",
                    f"{test['value']:.4f}" if test else "-",
                    f"{spent:.1f}",
                ]
            )
        out = [text_table(header, rows, width, DROPPED)] if rows else []
        for group in self.alike:
            letter = letters[_rows_of(group.runs[0])]
            out += ["", f"{letter}: the same {len(group.contest.ids)} rows and labels"]
            out += group.verdicts(width)
        return "\n".join([*out, *self.unread])

    def to_json(self) -> dict[str, Any]:
        """``runs`` (folder, made, rows, best ...), ``comparisons`` and ``unread``."""
        runs = []
        for line in self.lines:
            settings = line.metrics.get("settings") or {}
            runs.append(
                {
                    "folder": str(line.folder),
                    "made": line.made,
                    "store": settings.get("store"),
                    "rows": line.rows,
                    "systems": len(line.metrics["leaderboard"]),
                    "best": line.best,
                }
            )
        told = [c for group in self.alike for c in group.to_json()["comparisons"]]
        return {"runs": runs, "comparisons": told, "unread": self.unread}


def _letters(values: Sequence[str]) -> dict[str, str]:
    """A, B, C ... for each value that differs; a question mark for what is not known."""
    out = {"": "?"}
    for value in values:
        number = len(out) - 1
        letter = chr(ord("A") + number % 26) + (str(number // 26) if number >= 26 else "")
        out.setdefault(value, letter)
    return out


def list_runs(places: Sequence[str | Path], progress: Report = unheard) -> Listing:
    """The runs among and in ``places``. Runs on the same rows with the same labels are compared:
    the best system of each against that of the best run. Raises OptionError when there is none."""
    lines, unread, groups = [], [], {}  # type: ignore[var-annotated]
    folders = the_runs(places)
    for done, folder in enumerate(folders):
        progress(done, len(folders), folder.name)
        try:
            lines.append(Entry(folder, saved_metrics(folder), _digest(folder)))
        except HeadstockError as error:
            unread.append(str(error))
    lines.sort(key=lambda line: (line.made, line.folder.name))
    for line in lines:
        groups.setdefault(line.rows, []).append(line.folder)
    alike = []
    for same in groups.values():
        if len(same) > 1 and all((folder / "oof.npz").is_file() for folder in same):
            try:
                alike.append(standing(same))
            except HeadstockError as error:
                unread.append(str(error))
    return Listing(lines, alike, unread)


def _digest(folder: Path) -> str:
    """sha256 of a run's ids and labels, in the order of the ids; "" where the run kept none, as one
    that was read by blocks."""
    return _rows_of(read_runs([folder])[0]) if (folder / "oof.npz").is_file() else ""


def _rows_of(run: Run) -> str:
    pairs = sorted(zip(run.ids.tolist(), run.labels.tolist(), strict=True))
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


@dataclass(frozen=True)
class Standing:
    """Runs held against each other on the rows that all of them share."""

    runs: list[Run]
    contest: Contest
    against: dict[str, tuple[System, Against]]
    """By run: its best system, and its test against the best of all (of the first run: itself)."""
    first: System

    @property
    def whole(self) -> bool:
        """Whether every run has the same rows and labels."""
        return all(len(run.ids) == len(self.contest.ids) for run in self.runs)

    def accuracy(self, system: System) -> float:
        """On the shared rows."""
        number = self.contest.systems.index(system)
        return float(self.contest.right[number].mean())

    def verdicts(self, width: int | None = None) -> list[str]:
        """A line for each other run: can its best system be told from the best of all?"""
        n = len(self.contest.ids)
        first, top = self.first, self.accuracy(self.first)
        lines = [f"{first.run.name}, {first.name} is first: {top:.4f} of {n} rows right"]
        for name, (system, test) in self.against.items():
            said = "worse than it" if test.differs else "not distinguishable from it"
            gap = "" if test.gap is None else f", {test.gap[1]:+.4f} to {test.gap[2]:+.4f} by group"
            lines.append(
                f"{name}, {system.name}: {self.accuracy(system):.4f}, {said} (right alone on "
                f"{test.test.only_b} rows against {test.test.only_a}, p {test.p:.2g}{gap})"
            )
        return filled(lines, width)

    def text(self, width: int | None = None, strong: Line = str) -> str:
        """Which rows are shared, all systems on them, the verdicts, and what was set otherwise."""
        sizes = {run.name: len(run.ids) for run in self.runs}
        n = len(self.contest.ids)
        lines = [f"{n} rows with the same labels are in each of {len(self.runs)} runs"]
        if not self.whole:
            told = ", ".join(f"{name} {size}" for name, size in sizes.items())
            lines.append(f"these are not all rows ({told}): the scores here are of the shared ones")
        rows = []
        for number, system in enumerate(self.contest.systems):
            right = self.contest.right[number]
            wrong = int((~right).sum())
            seconds = system.row.get("seconds")
            spent = "reused" if system.row.get("reused") else f"{seconds or 0:.2f}"
            cells = [system.run.name, system.name, f"{right.mean():.4f}", f"{wrong}/{n}", spent]
            rows.append([one_line(cell, 60) for cell in cells])
        order = sorted(range(len(rows)), key=lambda r: -self.contest.right[r].mean())
        header = ["run", "system", "accuracy", "errors", "seconds"]
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
                told = f"{base.get(key, 'unset')} -> {mine.get(key, 'unset')}"
                lines.append(one_line(f"{run.name} differs: {key}: {told}", 160))
            if len(keys) > SHOWN:
                lines.append(f"{run.name} differs in {len(keys) - SHOWN} more settings")
        return lines

    def to_json(self) -> dict[str, Any]:
        """``rows`` shared, ``whole``, ``systems``, ``comparisons`` and ``differences``."""
        systems = [
            {"run": s.run.name, "name": s.name, "accuracy": self.accuracy(s), "row": s.row}
            for s in self.contest.systems
        ]
        comparisons = [
            {
                "a": {"run": self.first.run.name, "name": self.first.name},
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
    """Two or more runs on the rows they share: the best system of each against the best of all,
    adjusted for all pairs of all their systems, since the best of many leads by chance too; where
    folds kept groups together and the store is still there, whole groups are tested.

    Raises HeadError for a run that cannot be read, OptionError when no row is shared.
    """
    runs = read_runs(folders)
    contest = Contest.of(runs, _groups(runs))
    if not len(contest.ids) or not contest.systems:
        names = ", ".join(run.name for run in runs)
        raise OptionError(names, "share no row with the same label", "compare runs on one store")
    best: dict[str, int] = {}
    for number, system in enumerate(contest.systems):
        score = contest.right[number].mean()
        held = best.get(system.run.name)
        if held is None or score > contest.right[held].mean():
            best[system.run.name] = number
    top, *others = sorted(best.values(), key=lambda s: -contest.right[s].mean())
    tests = contest.tests([(top, other) for other in others])
    against = {
        contest.systems[other].run.name: (contest.systems[other], test)
        for other, test in zip(others, tests, strict=True)
    }
    return Standing(runs, contest, against, contest.systems[top])


def _groups(runs: Sequence[Run]) -> dict[str, str]:
    """Each id's group, where the folds kept those of a column together and the store is there."""
    from headstock.heads.report.stores import open_recorded

    for run in runs:
        column = (run.metrics.get("folds") or {}).get("group")
        if not column or column == "duplicates":
            continue
        try:
            store = open_recorded(run.folder, run.settings)
            if store is None:
                continue
            with store as opened:
                ids, groups = opened.items.id, opened.items.column(column)
                return dict(zip(ids.tolist(), groups.tolist(), strict=True))
        except (HeadstockError, KeyError):
            continue
    return {}


def _settings(run: Run) -> dict[str, Any]:
    """What a reader chose: settings, folds and recipes, without what follows from the rows."""
    told = {k: v for k, v in run.settings.items() if k not in LEFT_OUT}
    recipes = run.metrics.get("recipes") or {}
    prints = {name: (r or {}).get("fingerprint", "?")[:12] for name, r in recipes.items()}
    return {**told, "folds": run.metrics.get("folds") or {}, "recipe": prints}


def _flat(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(inner, Mapping) and inner:
            yield from _flat(inner, name)
        else:
            yield name, inner


@dataclass(frozen=True)
class Single:
    """One run's own leaderboard."""

    metrics: dict[str, Any]

    def text(self, width: int | None = None, strong: Line = str) -> str:
        return leaderboard_text(self.metrics, width, strong)

    def to_json(self) -> dict[str, Any]:
        return self.metrics


def look(places: Sequence[str | Path], progress: Report = unheard) -> Listing | Standing | Single:
    """What there is to say of ``places``: a folder's listing, one run's leaderboard, or several
    runs held against each other. Raises what reading them raises."""
    folders = the_runs(places)
    if len(places) == 1 and folders != [Path(places[0])]:
        return list_runs(places, progress)
    return Single(saved_metrics(folders[0])) if len(folders) == 1 else standing(folders)
