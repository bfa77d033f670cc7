"""What an evaluation found out, and the run folder it writes."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headstock.heads.evaluation.checks import run_checks
from headstock.heads.evaluation.ledger import saved_as
from headstock.heads.files import write_csv
from headstock.heads.metrics.labels import confusion
from headstock.heads.report.run_folder import write_run
from headstock.heads.rows.folds import FoldPlan

__all__ = ["Evaluation", "HeldOut"]


@dataclass(frozen=True)
class HeldOut:
    """m rows of one split that nothing learned from: ids (m,), codes (m,) into the classes, proba
    {system name: (m, k)} of the refits on all training rows."""

    ids: np.ndarray
    codes: np.ndarray
    proba: dict[str, np.ndarray]


@dataclass
class Evaluation:
    """What ``evaluate`` found out.

    ids (n,), codes (n,) into classes (k,); proba: {system name: (n, k)} out-of-fold, NaN where a
    system has nothing to read; leaderboard: rows as in metrics.json, best accuracy first. held:
    {split: its rows and the refits' answers} of the splits ``valid`` and ``test`` that have any.
    Where the valid split is the one fold, ids, codes and proba are its own.
    """

    ids: np.ndarray
    codes: np.ndarray
    classes: np.ndarray
    folds: FoldPlan
    leaderboard: list[dict[str, Any]]
    proba: dict[str, np.ndarray]
    settings: dict[str, Any]
    failed: list[dict[str, str | None]] = field(default_factory=list)
    """Systems without an answer: head, on, fusion, name and the reason."""
    baseline: dict[str, Any] = field(default_factory=dict)
    """A line as in the leaderboard, of guessing by how frequent the classes are."""
    fold_table: list[list[dict[str, Any]]] = field(default_factory=list)
    """Of each repeat and fold: rows, rows of each class, groups."""
    recipes: dict[str, Any] = field(default_factory=dict)
    hygiene: dict[str, Any] = field(default_factory=dict)
    comparisons: list[dict[str, Any]] = field(default_factory=list)
    selection: dict[str, Any] | None = None
    learning_curve: list[dict[str, Any]] = field(default_factory=list)
    held: dict[str, HeldOut] = field(default_factory=dict)

    @property
    def test_ids(self) -> np.ndarray | None:
        """(m,) of the test split; None without one."""
        return self.held["test"].ids if "test" in self.held else None

    @property
    def test_codes(self) -> np.ndarray | None:
        """(m,) into classes."""
        return self.held["test"].codes if "test" in self.held else None

    @property
    def test_proba(self) -> dict[str, np.ndarray]:
        """{system name: (m, k)} of the refits."""
        return self.held["test"].proba if "test" in self.held else {}

    def to_json(self) -> dict[str, Any]:
        """The content of metrics.json."""
        more = {
            "failed": self.failed,
            "baseline": self.baseline,
            "fold_table": self.fold_table,
            "selection": self.selection,
            "learning_curve": self.learning_curve,
        }
        metrics = {
            "leaderboard": self.leaderboard,
            "folds": self.folds.summary(),
            "settings": self.settings,
            "recipes": self.recipes,
            "hygiene": self.hygiene,
            "comparisons": self.comparisons,
            **{name: value for name, value in more.items() if value},
        }
        checks = run_checks(metrics)
        return {**metrics, "checks": checks} if checks else metrics

    def text(self, width: int | None = None, strong: Callable[[str], str] = str) -> str:
        """The leaderboard as text, at most ``width`` columns wide where it can; ``strong`` marks
        lines that are not distinguishable from the first."""
        from headstock.heads.report.text import leaderboard_text

        return leaderboard_text(self.to_json(), width, strong)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from headstock.heads.report.notebook import leaderboard_html

        return leaderboard_html(self.to_json())

    def save(self, run_dir: str | Path, more: Mapping[str, str] | None = None) -> None:
        """Write the run folder: metrics.json, folds.json, settings.json, leaderboard.txt, oof.npz
        (and valid.npz, test.npz) with ids and probabilities, confusion/SYSTEM.csv, and the files of
        ``more``. It holds all of this run or what was there before. Raises StorageError."""
        files: dict[str, bytes | str] = {
            "settings.json": json.dumps(self.settings, indent=1, allow_nan=False),
            "leaderboard.txt": self.text() + "\n",
            "folds.json": json.dumps(self.folds.to_json()),
            "oof.npz": _npz(self.ids, self.codes, self.classes, self.proba),
            **(more or {}),
        }
        for split, held in self.held.items():
            files[f"{split}.npz"] = _npz(held.ids, held.codes, self.classes, held.proba)
        for name, proba in self.proba.items():
            there = ~np.isnan(proba[:, 0])
            table = confusion(proba[there].argmax(axis=1), self.codes[there], len(self.classes))
            file = re.sub(r"[^A-Za-z0-9@+:_-]+", "_", name).replace(":", "-")
            files[f"confusion/{file}.csv"] = write_csv(
                None,
                ["true \\ predicted", *map(str, self.classes)],
                [[str(c), *row.tolist()] for c, row in zip(self.classes, table)],
            )
        write_run(run_dir, self.to_json(), files)
        if looks := self.hygiene.get("looks"):
            saved_as(looks, Path(run_dir))


def _npz(
    ids: np.ndarray, codes: np.ndarray, classes: np.ndarray, proba: Mapping[str, np.ndarray]
) -> bytes:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"proba/{name}": value for name, value in proba.items()}
    np.savez(
        buffer,
        ids=np.asarray(ids, dtype=str),
        codes=codes,
        classes=np.asarray(classes, dtype=str),
        **arrays,
    )
    return buffer.getvalue()
