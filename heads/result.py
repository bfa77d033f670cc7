"""What an evaluation gives back, and the run folder it writes."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstock.heads.evaluation.ledger import saved_as
from headstock.heads.files import write_csv
from headstock.heads.metrics.labels import confusion
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.run.as_json import plain
from headstock.heads.run.folder import body_of, write_run
from headstock.heads.run.numbers import NumberRun
from headstock.heads.run.run import Run
from headstock.heads.run.scores import Line

__all__ = ["Evaluation", "HeldOut", "Result", "Views", "answers_npz"]


@dataclass(frozen=True)
class HeldOut:
    """m rows of one split that nothing learned from: ids (m,), codes (m,) into the classes, proba
    {system name: (m, k)} of the refits on all training rows."""

    ids: np.ndarray
    codes: np.ndarray
    proba: dict[str, np.ndarray]


class Views:
    """What can be done with a run, of classes or of numbers."""

    run: Run | NumberRun

    def to_json(self) -> dict[str, Any]:
        """The content of metrics.json."""
        return body_of(self.run)

    def text(self, width: int | None = None, strong: Callable[[str], str] = str) -> str:
        """The leaderboard as text, at most ``width`` columns wide where it can; ``strong`` marks
        lines that are not distinguishable from the first."""
        from headstock.heads.report.regression import any_text

        return any_text(self.run, width, strong)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from headstock.heads.report.notebook import leaderboard_html

        return leaderboard_html(self.run)

    def save(self, run_dir: str | Path, more: Mapping[str, str] | None = None) -> None:
        """Write the run folder: metrics.json, settings.json, leaderboard.txt, what ``files`` gives
        and ``more``. It holds all of this run or what was there before. Raises StorageError."""
        files: dict[str, bytes | str] = {
            "settings.json": json.dumps(plain(self.run.settings), indent=1, allow_nan=False),
            "leaderboard.txt": self.text() + "\n",
        }
        write_run(run_dir, self.run, {**files, **self.files(), **(more or {})})
        if self.run.hygiene.looks:
            saved_as(self.run.hygiene.looks, run_dir)

    def files(self) -> dict[str, bytes | str]:
        """What else lies in the run folder."""
        return {}


@dataclass
class Result(Views):
    """A run of classes and its views."""

    run: Run

    @property
    def leaderboard(self) -> tuple[Line, ...]:
        """The best by the metric that decides first, by default the most accurate."""
        return self.run.leaderboard


@dataclass
class Evaluation(Result):
    """What ``evaluate`` gives back.

    run: the figures, as in metrics.json. ids (n,), codes (n,) into classes (k,); proba: {system
    name: (n, k)} out-of-fold, NaN where a system has nothing to read. held: {split: its rows and
    the refits' answers} of the splits ``valid`` and ``test`` that have any. Where the valid split
    is the one fold, ids, codes and proba are its own.
    """

    ids: np.ndarray
    codes: np.ndarray
    classes: np.ndarray
    folds: FoldPlan
    proba: dict[str, np.ndarray]
    held: dict[str, HeldOut]

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

    def files(self) -> dict[str, bytes | str]:
        """folds.json; oof.npz, valid.npz and test.npz with ids and probabilities; and
        confusion/SYSTEM.csv."""
        files: dict[str, bytes | str] = {
            "folds.json": json.dumps(self.folds.to_json()),
            "oof.npz": self._npz(self.ids, self.codes, self.proba),
        }
        for split, held in self.held.items():
            files[f"{split}.npz"] = self._npz(held.ids, held.codes, held.proba)
        for name, proba in self.proba.items():
            there = ~np.isnan(proba[:, 0])
            table = confusion(proba[there].argmax(axis=1), self.codes[there], len(self.classes))
            file = re.sub(r"[^A-Za-z0-9@+:_-]+", "_", name).replace(":", "-")
            files[f"confusion/{file}.csv"] = write_csv(
                None,
                ["true \\ predicted", *map(str, self.classes)],
                [[str(c), *row.tolist()] for c, row in zip(self.classes, table)],
            )
        return files

    def _npz(self, ids: np.ndarray, codes: np.ndarray, proba: Mapping[str, np.ndarray]) -> bytes:
        classes = np.asarray(self.classes, dtype=str)
        return answers_npz(ids, "proba", proba, codes=codes, classes=classes)


def answers_npz(
    ids: np.ndarray, kind: str, answers: Mapping[str, np.ndarray], **labels: np.ndarray
) -> bytes:
    """ids (n,), labels and the answers of systems, as ``kind``/NAME, in one file."""
    buffer = io.BytesIO()
    said = {f"{kind}/{name}": value for name, value in answers.items()}
    arrays: dict[str, Any] = {"ids": np.asarray(ids, dtype=str), **labels, **said}
    np.savez(buffer, **arrays)
    return buffer.getvalue()
