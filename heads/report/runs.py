"""Earlier runs: what lies in a folder of them, and which differences between them are real."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headstock.heads.report.regression import any_text
from headstock.heads.report.saved import Saved, read_saved
from headstock.heads.report.standing import Standing, standing
from headstock.heads.report.text import Mark, text_table
from headstock.heads.run.as_json import plain
from headstock.heads.run.folder import METRICS, body_of, read_any, read_run
from headstock.heads.run.numbers import NumberRun
from headstock.heads.run.run import Run
from headstock.heads.run.scores import Line
from headstock.store.errors import HeadstockError, OptionError, one_line
from headstock.store.progress import Report, unheard

__all__ = ["Entry", "Listing", "Single", "list_runs", "look", "the_runs"]

DROPPED = ("store", "seconds", "test", "95 %", "systems", "errors", "made")
"""The order in which a table that is too wide loses columns."""


def the_runs(places: Sequence[str | Path]) -> list[Path]:
    """The run folders among ``places`` and those that lie in them, in the order of their names.

    Raises OptionError when there is none.
    """
    found: list[Path] = []
    for place in map(Path, places):
        inside = [place] if (place / METRICS).is_file() else []
        if not inside and place.is_dir():
            inside = sorted(path.parent for path in place.glob(f"*/{METRICS}"))
        if not inside:
            fix = "make one: headstock evaluate STORE -o runs/first"
            raise OptionError(place, "is no run folder and holds none", fix)
        found += [path for path in inside if path not in found]
    return found


@dataclass(frozen=True)
class Entry:
    """One run in a listing. ``rows``: a digest of its ids and labels, whatever their order."""

    folder: Path
    run: Run
    rows: str

    @property
    def best(self) -> Line:
        return self.run.leaderboard[0]

    @property
    def made(self) -> str:
        """When: as the run says, else the file's time."""
        if self.run.settings.when:
            return one_line(self.run.settings.when, 19).replace("T", " ")[:16]
        time = (self.folder / METRICS).stat().st_mtime
        return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M}"


@dataclass(frozen=True)
class Listing:
    """The runs of some folders, oldest first. ``alike``: runs whose rows and labels are the same,
    each group with the paired tests between their best systems; ``unread``: a line for each run
    that could not be read."""

    lines: list[Entry]
    alike: list[Standing] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def text(self, width: int | None = None, strong: Mark = str) -> str:
        """A table, then what the tests say of runs on the same rows."""
        letters = _letters([line.rows for line in self.lines])
        others = any(line.run.settings.decides != "accuracy" for line in self.lines)
        header = ["run", "made", "store", "rows", "systems", "best", *(["by"] if others else [])]
        header += ["accuracy", "95 %", "errors", "test", "seconds"]
        rows = []
        for line in self.lines:
            best, board = line.best, line.run.leaderboard
            spent = sum(one.seconds or 0 for one in board if not one.reused)
            rows.append(
                [
                    one_line(line.folder.name, 40),
                    line.made,
                    one_line(Path(line.run.settings.store or "-").name, 40),
                    f"{best.n} {letters[line.rows]}",
                    str(len(board)),
                    one_line(best.name, 60),
                    *([_by(line.run)] if others else []),
                    f"{best.accuracy.value:.4f}",
                    f"{best.accuracy.low:.4f}-{best.accuracy.high:.4f}",
                    f"{best.errors:g}",
                    f"{best.test.accuracy.value:.4f}" if best.test else "-",
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
        runs = [
            {
                "folder": str(line.folder),
                "made": line.made,
                "store": line.run.settings.store,
                "rows": line.rows,
                "systems": len(line.run.leaderboard),
                "best": plain(line.best),
            }
            for line in self.lines
        ]
        compared = [c for group in self.alike for c in group.to_json()["comparisons"]]
        return {"runs": runs, "comparisons": compared, "unread": self.unread}


def _by(run: Run) -> str:
    """What decides in a run, and the first system's value."""
    name = run.settings.decides
    value = run.leaderboard[0].figure(name)
    return f"{one_line(name, 40)}{'' if value is None else f' {value:.4f}'}"


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
            lines.append(Entry(folder, read_run(folder), _digest(folder)))
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
    return _rows_of(read_saved([folder])[0]) if (folder / "oof.npz").is_file() else ""


def _rows_of(run: Saved) -> str:
    pairs = sorted(zip(run.ids.tolist(), run.labels.tolist(), strict=True))
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


@dataclass(frozen=True)
class Single:
    """One run's own leaderboard."""

    run: Run | NumberRun

    def text(self, width: int | None = None, strong: Mark = str) -> str:
        return any_text(self.run, width, strong)

    def to_json(self) -> dict[str, Any]:
        return body_of(self.run)


def look(places: Sequence[str | Path], progress: Report = unheard) -> Listing | Standing | Single:
    """What there is to say of ``places``: a folder's listing, one run's leaderboard, or several
    runs held against each other. Raises what reading them raises."""
    folders = the_runs(places)
    if len(places) == 1 and folders != [Path(places[0])]:
        return list_runs(places, progress)
    return Single(read_any(folders[0])) if len(folders) == 1 else standing(folders)
