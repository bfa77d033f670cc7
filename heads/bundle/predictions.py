"""What a bundle says of rows, and the files made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstock.heads.report.tables import write_csv
from headstock.store.disk.outputs import refuse_other
from headstock.store.errors import OptionError

__all__ = ["Predictions"]


@dataclass(frozen=True)
class Predictions:
    """ids (m,), classes (k,) text and proba (m, k). answered_by: (m,) text, which sets of a row the
    model read, or None of a model that always reads all."""

    ids: np.ndarray
    classes: np.ndarray
    proba: np.ndarray
    answered_by: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labels(self) -> np.ndarray:
        """(m,) the most likely class of each row."""
        return self.classes[self.proba.argmax(axis=1)]

    @property
    def confidence(self) -> np.ndarray:
        """(m,) its probability."""
        return self.proba.max(axis=1)

    def to_csv(self, path: str | Path | None = None, spreadsheet: bool = False) -> str:
        """Write ``id,prediction,confidence,p_<class>...``, and last ``answered_by`` of a model that
        answers rows by what they have; without a path, return it as text. Ids and classes are
        written as they are; ``spreadsheet`` as in ``CsvWriter``. Raises StorageError."""
        header = ["id", "prediction", "confidence", *(f"p_{c}" for c in self.classes)]
        by: list[list[str]] = [[]] * len(self)
        if self.answered_by is not None:
            header = [*header, "answered_by"]
            by = [[str(a)] for a in self.answered_by]
        rows = (
            [str(i), str(label), f"{c:.6g}", *(f"{v:.6g}" for v in p), *a]
            for i, label, c, p, a in zip(self.ids, self.labels, self.confidence, self.proba, by)
        )
        if path is not None:
            refuse_other(path, "predictions")
        return write_csv(path, header, rows, spreadsheet)

    def to_json(self) -> list[dict[str, Any]]:
        """A dict a row: id, prediction, confidence, ``p``, the probability of each class, and
        answered_by where there is one."""
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
        return out

    def submission(self, path: str | Path | None = None, header: str = "Id,CLASS") -> str:
        """Write two columns, the id and the class, under ``header``; without a path, return them as
        text. Raises StorageError, and OptionError for a header that is not two names."""
        names = [name.strip() for name in header.split(",")]
        if len(names) != 2 or not all(names):
            raise OptionError(
                "submission", f"{header!r} is not two column names", "write it as Id,CLASS"
            )
        if path is not None:
            refuse_other(path, "submission", write_csv(None, names, []))
        return write_csv(path, names, ([str(i), str(c)] for i, c in zip(self.ids, self.labels)))
