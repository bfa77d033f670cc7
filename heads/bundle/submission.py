"""The file that a competition takes: its columns, its ids in its order, classes or probabilities.

``--submission`` is a header (``Id,CLASS``; ``id,cat,dog`` for a probability a class) or the sample
that the competition gives, whose header, ids and order are taken.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headstock.heads.files import write_csv
from headstock.store.disk.outputs import refuse_other
from headstock.store.errors import ManifestError, OptionError
from headstock.store.manifest.table import read_table

if TYPE_CHECKING:
    from headstock.heads.bundle.predictions import Predictions

__all__ = ["Submission"]

SHOWN = 3


@dataclass(frozen=True)
class Submission:
    """``header``: the id's column and k others. ``ids``: those of the sample, in its order; None:
    the rows as they were predicted. ``columns``: the number of the class whose probability each
    column holds; None: one column of class names."""

    source: str
    header: list[str]
    ids: list[str] | None = None
    columns: list[int] | None = None

    @classmethod
    def of(cls, word: str | Path, classes: Sequence[str]) -> Submission:
        """From a header or the path of a sample. Raises OptionError for columns that are none of
        the model's ``classes``, or more than one where it has none, since it answers with a number,
        and what reading a table raises."""
        names = [str(c) for c in classes]
        text = os.fspath(word)
        if os.path.isfile(text):
            table = read_table(text)
            header, ids = table.header, [row[0] for row in table.rows]
            if len(set(ids)) < len(ids):
                twice = next(i for k, i in enumerate(ids) if i in ids[:k])
                raise ManifestError(text, f"the id {twice!r} comes twice", "give every id once")
            cells = [row[1] for row in table.rows if len(header) == 2]
            return cls(text, header, ids, _columns(text, header[1:], names, cells))
        header = [name.strip() for name in text.split(",")]
        if len(header) < 2 or not all(header):
            what = f"{text!r} is no sample file and no header"
            raise OptionError("submission", what, "write Id,CLASS, or name the sample")
        return cls("--submission", header, None, _columns("--submission", header[1:], names, []))

    @property
    def kind(self) -> tuple[str, str]:
        """What ``refuse_other`` is to hold an existing file against."""
        return "submission", write_csv(None, self.header, [])

    def write(self, predictions: Predictions, path: str | Path | None = None) -> str:
        """Write the file; without a path, return it as text. Raises OptionError for an id of the
        sample that was not predicted, StorageError."""
        rows = np.arange(len(predictions)) if self.ids is None else self._rows(predictions)[0]
        ids = [str(i) for i in predictions.ids] if self.ids is None else self.ids
        if self.columns is None:
            cells = [[str(c)] for c in predictions.labels[rows]]
        else:
            cells = [[f"{p:.6g}" for p in row] for row in predictions.proba[rows][:, self.columns]]
        if path is not None:
            refuse_other(path, *self.kind)
            if (
                self.ids is not None
                and os.path.exists(path)
                and os.path.samefile(path, self.source)
            ):
                raise OptionError(path, "is the sample itself", "name another output")
        return write_csv(path, self.header, ([i, *row] for i, row in zip(ids, cells)))

    def notes(self, predictions: Predictions) -> list[str]:
        """How ids were understood, and which rows are none of the sample's."""
        if self.ids is None:
            return []
        rows, way = self._rows(predictions)
        extra = sorted(set(range(len(predictions))) - set(rows.tolist()))
        lines = [f"ids of {self.source} are {way}"] if way else []
        if extra:
            told = f"{len(extra):,} rows are not in {self.source} and left out"
            lines.append(f"{told}: {_some([str(predictions.ids[k]) for k in extra])}")
        return lines

    def _rows(self, predictions: Predictions) -> tuple[np.ndarray, str]:
        """(m,) the row that answers each id of the sample, and how its ids differ from the rows'.
        Raises OptionError when one is not there."""
        assert self.ids is not None
        ways = {
            "": lambda i: i,
            "file names without their folder": os.path.basename,
            "file names without folder and ending": lambda i: Path(i).stem,
        }
        best: list[str] = list(self.ids)
        for way, short in ways.items():
            named: dict[str, list[int]] = {}
            for row, identity in enumerate(predictions.ids):
                named.setdefault(short(str(identity)), []).append(row)
            lacking = [i for i in self.ids if len(named.get(i, [])) != 1]
            if not lacking:
                return np.array([named[i][0] for i in self.ids], dtype=np.int64), way
            best = min(best, lacking, key=len)
        what = f"{len(best):,} of {len(self.ids):,} ids have no prediction: {_some(best)}"
        fix = "give the table of these rows; --fill answers rows that cannot be read"
        raise OptionError(self.source, what, fix)


def _columns(
    where: str, header: Sequence[str], classes: list[str], cells: Sequence[str]
) -> list[int] | None:
    """Which class each column holds the probability of; None for a column of class names, or of
    numbers."""
    if not classes:
        if len(header) > 1:
            what = f"{len(header)} columns, and the model answers with one number"
            raise OptionError(where, what, f"take one, as Id,{header[0]}")
        return None
    if len(header) == 1:
        name, named = header[0], set(classes)
        if not any(cells) or all(cell in named for cell in cells):
            return None
        if all(_is_share(cell) for cell in cells):
            if name in named:
                return [classes.index(name)]
            if sorted(classes) in (["0", "1"], ["False", "True"]):
                return [classes.index(max(classes))]
            what = f"{name} holds a probability, and of which class is not said"
            raise OptionError(where, what, f"call it by its class: {_some(classes)}")
        other = next(cell for cell in cells if cell not in named)
        raise OptionError(where, f"{other!r} in {name} is no class of the model", _some(classes))
    unknown = [name for name in header if name not in classes]
    lacking = [name for name in classes if name not in header]
    if unknown or lacking:
        parts = [f"{_some(unknown)} is no class of the model"] if unknown else []
        parts += [f"no column for {_some(lacking)}"] if lacking else []
        raise OptionError(where, "; ".join(parts), f"its classes: {_some(classes)}")
    return [classes.index(name) for name in header]


def _is_share(cell: str) -> bool:
    try:
        return 0 <= float(cell) <= 1
    except ValueError:
        return False


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
