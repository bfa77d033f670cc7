"""A run folder as ``evaluate`` wrote it, read without trust and without a complaint about parts
that an older or newer headstock does not write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstock.heads.report.run_folder import checked_file
from headstock.store.errors import HeadError, OptionError, StorageError
from headstock.store.exchange.unpacked import Archive
from headstock.store.jsonfile import read_json

__all__ = ["Run", "System", "read_runs"]


@dataclass(frozen=True)
class System:
    """A line of a run's leaderboard, with its held-out probabilities.

    row: the line as in metrics.json. proba: (n, k), or None when the run keeps none of it.
    """

    run: Run
    row: dict[str, Any]
    proba: np.ndarray | None

    @property
    def name(self) -> str:
        return str(self.row["name"])

    @property
    def accuracy(self) -> float:
        return float(self.row["accuracy"]["value"])

    @property
    def said(self) -> np.ndarray:
        """(n,) predicted class numbers."""
        assert self.proba is not None
        return self.proba.argmax(axis=1)

    @property
    def right(self) -> np.ndarray:
        """(n,) bool."""
        return self.said == self.run.codes


@dataclass(frozen=True, eq=False)
class Run:
    """name: the folder's, unique among the runs of a report. ids (n,) text, codes (n,) into
    classes (k,) text; folds (n,) fold numbers of the first repeat, or None; test_ids (m,) and
    test_labels (m,) text of the test split, m = 0 without one."""

    name: str
    folder: Path
    metrics: dict[str, Any]
    ids: np.ndarray
    codes: np.ndarray
    classes: np.ndarray
    proba: dict[str, np.ndarray]
    folds: np.ndarray | None
    test_ids: np.ndarray
    test_labels: np.ndarray

    @property
    def settings(self) -> dict[str, Any]:
        return _mapping(self.metrics.get("settings"))

    @property
    def hygiene(self) -> dict[str, Any]:
        return _mapping(self.metrics.get("hygiene"))

    @property
    def systems(self) -> list[System]:
        """The leaderboard in its order."""
        return [
            System(self, row, self.proba.get(row["name"])) for row in self.metrics["leaderboard"]
        ]

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
                best.setdefault((system.row["on"], system.row["fusion"]), system)
        return list(best.values())[:limit]


def read_runs(folders: Sequence[str | Path]) -> list[Run]:
    """The runs in ``folders``. Raises OptionError when one is no run folder, HeadError when what
    it holds cannot be read."""
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


def _read(folder: Path, name: str) -> Run:
    metrics = _json(folder / "metrics.json")
    if metrics is None:
        raise OptionError(folder, "is no run folder", "name a folder that evaluate -o wrote")
    board = metrics.get("leaderboard")
    if not isinstance(board, list) or not board or not all(_is_row(row) for row in board):
        raise HeadError(folder / "metrics.json", "has no leaderboard", "evaluate again")
    for row in board:
        row.setdefault("fusion", None)
        row.setdefault("name", "@".join((row["head"], row["on"])))
    held = checked_file(folder, metrics, "oof.npz") or folder / "oof.npz"
    ids, codes, classes, proba = _arrays(held)
    test = checked_file(folder, metrics, "test.npz")
    test_ids, test_codes, test_classes, _ = _arrays(test) if test else (*_NOTHING, {})
    plan = checked_file(folder, metrics, "folds.json")
    folds = _folds((_json(plan) if plan else None) or {}, ids)
    test_labels = test_classes[test_codes]
    return Run(name, folder, metrics, ids, codes, classes, proba, folds, test_ids, test_labels)


KINDS = {("U", "i", "U"), ("U", "u", "U")}
_NOTHING = (np.empty(0, dtype=str), np.empty(0, dtype=np.int64), np.empty(0, dtype=str))


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """ids (n,), codes (n,), classes (k,) and {system: (n, k)} of an npz that fits together."""
    try:
        with Archive(path) as held:
            ids, codes, classes = (held.read(name) for name in ("ids", "codes", "classes"))
            proba = {k[len("proba/") :]: held.read(k) for k in held.names if k.startswith("proba/")}
    except FileNotFoundError as error:
        raise HeadError(path, "is not there", "evaluate again") from error
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


def _is_row(row: object) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("accuracy"), dict):
        return False
    numbers = [row["accuracy"].get(k) for k in ("value", "low", "high")]
    named = all(isinstance(row.get(k), str) for k in ("head", "on"))
    named = named and isinstance(row.get("name", ""), str)
    return named and all(isinstance(v, int | float) for v in numbers)


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = read_json(path, "evaluate again")
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    except ValueError as error:
        raise HeadError(path, "cannot be read", "evaluate again") from error
    return value if isinstance(value, dict) else None


def _folds(plan: dict[str, Any], ids: np.ndarray) -> np.ndarray | None:
    """(n,) the fold that held each row out in the first repeat."""
    if plan.get("ids") != ids.tolist() or not plan.get("held_out"):
        return None
    codes = np.full(len(ids), -1)
    for fold, rows in enumerate(plan["held_out"][0]):
        codes[np.asarray(rows, dtype=np.int64)] = fold
    return codes
