"""A run folder with its held-out answers, read without trust."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstock.heads.rows.folds import FoldPlan
from headstock.heads.run.folder import checked_file, read_run
from headstock.heads.run.run import Run
from headstock.heads.run.scores import Line
from headstock.store.errors import HeadError, OptionError
from headstock.store.exchange.unpacked import Archive

__all__ = ["Saved", "System", "read_saved"]


@dataclass(frozen=True)
class System:
    """A line of a saved run's leaderboard with its held-out probabilities (n, k), or None when the
    run keeps none of it that answer every row."""

    saved: Saved
    line: Line
    proba: np.ndarray | None

    @property
    def name(self) -> str:
        return self.line.name

    @property
    def predicted(self) -> np.ndarray:
        """(n,) class numbers."""
        assert self.proba is not None
        return self.proba.argmax(axis=1)

    @property
    def right(self) -> np.ndarray:
        """(n,) bool."""
        return self.predicted == self.saved.codes


@dataclass(frozen=True, eq=False)
class Saved:
    """name: the folder's, unique among the runs of a report. ids (n,) text, codes (n,) into
    classes (k,) text; folds (n,) fold numbers of the first repeat, or None; test_ids (m,) and
    test_labels (m,) text of the test split, m = 0 without one."""

    name: str
    folder: Path
    run: Run
    ids: np.ndarray
    codes: np.ndarray
    classes: np.ndarray
    proba: dict[str, np.ndarray]
    folds: np.ndarray | None
    test_ids: np.ndarray
    test_labels: np.ndarray

    @property
    def systems(self) -> list[System]:
        """The leaderboard in its order."""
        return [System(self, line, self.proba.get(line.name)) for line in self.run.leaderboard]

    @property
    def labels(self) -> np.ndarray:
        """(n,) text."""
        return self.classes[self.codes]

    def detailed(self, limit: int) -> list[System]:
        """At most ``limit`` systems that are worth a closer look: the best of each feature set and
        fusion, in the leaderboard's order."""
        best: dict[tuple[str, str | None], System] = {}
        for system in self.systems:
            if system.proba is not None:
                best.setdefault((system.line.on, system.line.fusion), system)
        return list(best.values())[:limit]


def read_saved(folders: Sequence[str | Path]) -> list[Saved]:
    """The runs in ``folders``. Raises what ``read_run`` does, OptionError when none is named,
    HeadError when what one holds cannot be read."""
    if not folders:
        raise OptionError("report", "no run is named", "name a folder that evaluate -o wrote")
    names = _names([Path(f) for f in folders])
    return [_read(Path(folder), name) for folder, name in zip(folders, names)]


def _names(folders: list[Path]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for folder in folders:
        name = folder.resolve().name or "run"
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name} ({seen[name]})"


def _read(folder: Path, name: str) -> Saved:
    run = read_run(folder)
    held = checked_file(folder, run, "oof.npz")
    if held is None:
        what = "its rows were read by blocks, and it keeps no answers"
        raise HeadError(folder / "oof.npz", what, "evaluate without --stream")
    ids, codes, classes, proba = _arrays(held)
    test = checked_file(folder, run, "test.npz")
    test_ids, test_codes, test_classes, _ = _arrays(test) if test else (*_NOTHING, {})
    test_labels = test_classes[test_codes]
    plan = checked_file(folder, run, "folds.json")
    folds = None if plan is None else _folds(FoldPlan.load(plan), ids)
    return Saved(name, folder, run, ids, codes, classes, proba, folds, test_ids, test_labels)


KINDS = {("U", "i", "U"), ("U", "u", "U")}
_NOTHING = (np.empty(0, dtype=str), np.empty(0, dtype=np.int64), np.empty(0, dtype=str))


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """ids (n,), codes (n,), classes (k,) and {system: (n, k)} of an npz that fits together."""
    try:
        with Archive(path) as held:
            ids, codes, classes = (held.read(name) for name in ("ids", "codes", "classes"))
            proba = {k[len("proba/") :]: held.read(k) for k in held.names if k.startswith("proba/")}
    except ValueError as error:
        raise HeadError(path, "cannot be read", "evaluate again") from error
    kinds = (ids.dtype.kind, codes.dtype.kind, classes.dtype.kind)
    if kinds not in KINDS or ids.ndim != 1 or any(p.dtype.kind != "f" for p in proba.values()):
        raise HeadError(path, "holds arrays of another kind", "evaluate again")
    ids = ids.astype(str)
    shape = (len(ids), len(classes))
    inside = codes.shape == shape[:1] and not (codes < 0).any() and not (codes >= shape[1]).any()
    if not inside or any(p.shape != shape for p in proba.values()):
        raise HeadError(path, "does not fit together", "evaluate again")
    # a system that leaves rows unanswered (NaN) cannot stand beside the others row by row
    whole = {name: p for name, p in proba.items() if not np.isnan(p).any()}
    return ids, codes, classes.astype(str), whole


def _folds(plan: FoldPlan, ids: np.ndarray) -> np.ndarray | None:
    """(n,) the fold that held each row out in the first repeat; None for a plan of other rows."""
    return plan.codes[0] if plan.ids == tuple(ids.tolist()) else None
