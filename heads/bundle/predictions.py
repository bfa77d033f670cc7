"""What a bundle says of rows, and the files made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from headstock.heads.files import write_csv
from headstock.heads.metrics.cost import cheapest
from headstock.store.disk.outputs import refuse_other
from headstock.store.errors import OptionError
from headstock.store.items import text_column
from headstock.store.manifest.target import number_of

__all__ = ["NumberPredictions", "Predictions", "answered"]


def answered(proba: np.ndarray, costs: np.ndarray | None) -> np.ndarray:
    """(n,) the class that answers probabilities (n, k): the most likely, or the cheapest."""
    return proba.argmax(axis=1) if costs is None else cheapest(proba, costs)


@dataclass(frozen=True)
class Predictions:
    """ids (m,), classes (k,) text and proba (m, k). answered_by: (m,) text, which sets of a row the
    model read, or None of a model that always reads all. least: (m, k) the least probability at
    which a class belongs to the row's set, of a model that was fitted with a coverage. costs:
    (k, k), of a model whose answers are the cheapest ones (``metrics.cost``)."""

    ids: np.ndarray
    classes: np.ndarray
    proba: np.ndarray
    answered_by: np.ndarray | None = None
    least: np.ndarray | None = None
    costs: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labels(self) -> np.ndarray:
        """(m,) the most likely class of each row, or the cheapest answer."""
        return self.classes[self._answers]

    @property
    def confidence(self) -> np.ndarray:
        """(m,) its probability."""
        return self.proba[np.arange(len(self)), self._answers]

    @property
    def _answers(self) -> np.ndarray:
        return answered(self.proba, self.costs)

    @property
    def sets(self) -> list[list[str]] | None:
        """Of each row the classes that are likely enough, the likeliest first: one, several, or
        none where the row is like no class. None of a model without a coverage."""
        if self.least is None:
            return None
        order = np.argsort(-self.proba, axis=1, kind="stable")
        inside = np.take_along_axis(self.proba >= self.least, order, axis=1)
        names = self.classes.astype(str)
        return [names[own[kept]].tolist() for own, kept in zip(order, inside)]

    def named(self, names: Mapping[str, str]) -> Predictions:
        """The same, each row by the name that ``names`` has for its id: a store may know a table's
        row by another."""
        ids = [names.get(str(i), str(i)) for i in self.ids]
        return replace(self, ids=text_column(ids))

    def to_csv(self, path: str | Path | None = None, spreadsheet: bool = False) -> str:
        """Write ``id,prediction,confidence,p_<class>...``, before the probabilities the ``set``
        of a model with a coverage, its classes joined by ``|``, and last ``answered_by`` of a model
        that answers rows by what they have; without a path, return it as text. Ids and classes are
        written as they are; ``spreadsheet`` as in ``CsvWriter``. Raises StorageError."""
        columns: dict[str, Iterable[Any]] = {"id": self.ids, "prediction": self.labels}
        columns["confidence"] = [f"{c:.6g}" for c in self.confidence]
        if self.sets is not None:
            columns["set"] = ["|".join(own) for own in self.sets]
        last = {} if self.answered_by is None else {"answered_by": self.answered_by}
        header = [*columns, *(f"p_{c}" for c in self.classes), *last]
        rows = (
            [*map(str, first), *(f"{v:.6g}" for v in p), *map(str, by)]
            for first, p, by in zip(
                zip(*columns.values()),
                self.proba,
                zip(*last.values()) if last else [()] * len(self),
            )
        )
        if path is not None:
            refuse_other(path, "predictions")
        return write_csv(path, header, rows, spreadsheet)

    def to_json(self) -> list[dict[str, Any]]:
        """A dict a row: id, prediction, confidence, ``p``, the probability of each class, and
        answered_by and ``set``, a list of classes, where there are such."""
        names = [str(c) for c in self.classes]
        out: list[dict[str, Any]] = [
            {
                "id": str(i),
                "prediction": str(label),
                "confidence": float(c),
                "p": dict(zip(names, p.tolist())),
            }
            for i, label, c, p in zip(self.ids, self.labels, self.confidence, self.proba)
        ]
        if self.answered_by is not None:
            for line, sets in zip(out, self.answered_by):
                line["answered_by"] = str(sets)
        for line, own in zip(out, self.sets or []):
            line["set"] = own
        return out

    def filled(self, ids: Sequence[str], fill: str) -> Predictions:
        """The rows of ``ids`` in that order; those that are not here are answered by ``fill``: a
        class, or a number, or ``mean``, the mean answer of the rows that are. Raises
        OptionError."""
        proba = self._fill(fill)
        known = {str(i): row for row, i in enumerate(self.ids)}
        rows = np.array([known.get(i, -1) for i in ids])
        answered_by = None
        if self.answered_by is not None:
            answered_by = np.where(rows < 0, "fill", self.answered_by[rows]).astype(object)
        full = np.where(rows[:, None] < 0, proba, self.proba[rows])
        more: dict[str, Any] = {}
        if isinstance(self, NumberPredictions) and self.half is not None:
            more["half"] = np.where(rows < 0, np.inf, self.half[rows])  # of a fill nothing is known
        if self.least is not None:
            more["least"] = np.where(
                rows[:, None] < 0, 0.0, self.least[rows]
            )  # any class may be it
        names = np.array(list(ids), dtype=object)
        return replace(self, ids=names, proba=full, answered_by=answered_by, **more)

    def _fill(self, fill: str) -> np.ndarray:
        """(k,) what rows that are not here are answered by."""
        names = [str(c) for c in self.classes]
        if fill in names:
            return np.eye(len(names))[names.index(fill)]
        if fill == "mean":
            return self.proba.mean(axis=0)
        raise OptionError("--fill", f"{fill!r} is no class", f"mean, {', '.join(names[:20])}")

    def submission(self, path: str | Path | None = None, header: str | Path = "Id,CLASS") -> str:
        """Write a competition's file by its header or its sample (see ``submission``); without a
        path, return it as text. Raises StorageError, OptionError, ManifestError."""
        from headstock.heads.bundle.submission import Submission

        return Submission.of(header, self.classes.tolist()).write(self, path)


@dataclass(frozen=True)
class NumberPredictions(Predictions):
    """Of a model of numbers: ids (m,), no classes, and its answers as ``proba`` (m, 1). half: (m,)
    of the width of their intervals, of a model that has such."""

    half: np.ndarray | None = None

    @property
    def numbers(self) -> np.ndarray:
        """(m,) float64."""
        return self.proba[:, 0]

    @property
    def labels(self) -> np.ndarray:
        """(m,) text, as files hold it."""
        return _texts(self.numbers)

    @property
    def confidence(self) -> np.ndarray:
        raise AttributeError("a number has no confidence")

    def to_csv(self, path: str | Path | None = None, spreadsheet: bool = False) -> str:
        """Write ``id,prediction``, ``low,high`` of a model with intervals, and last
        ``answered_by``; see ``Predictions.to_csv``."""
        columns = {"id": self.ids, "prediction": self.labels}
        if self.half is not None:
            columns["low"] = _texts(self.numbers - self.half)
            columns["high"] = _texts(self.numbers + self.half)
        if self.answered_by is not None:
            columns["answered_by"] = self.answered_by
        if path is not None:
            refuse_other(path, "predictions")
        rows = ([str(cell) for cell in row] for row in zip(*columns.values()))
        return write_csv(path, list(columns), rows, spreadsheet)

    def to_json(self) -> list[dict[str, Any]]:
        """A dict a row: id, prediction, low and high, and answered_by where there are such."""
        pairs = zip(self.ids, self.numbers.tolist())
        out: list[dict[str, Any]] = [{"id": str(i), "prediction": number} for i, number in pairs]
        for line, half in zip(out, [] if self.half is None else self.half.tolist()):
            line |= {"low": line["prediction"] - half, "high": line["prediction"] + half}
        if self.answered_by is not None:
            for line, sets in zip(out, self.answered_by):
                line["answered_by"] = str(sets)
        return out

    def _fill(self, fill: str) -> np.ndarray:
        value = self.numbers.mean() if fill == "mean" else number_of(fill)
        if np.isnan(value):
            raise OptionError("--fill", f"{fill!r} is no number", "a number, or mean")
        return np.array([value])


def _texts(numbers: np.ndarray) -> np.ndarray:
    """(m,) text with nine digits."""
    return np.array([f"{number:.9g}" for number in numbers], dtype=object)
