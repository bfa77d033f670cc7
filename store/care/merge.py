"""``store merge``: bring the rows and vectors of other stores into one, without computing any."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from headstock.store.disk.batch import Batch
from headstock.store.disk.declared import ABSENT, FAILED, OK
from headstock.store.errors import OptionError
from headstock.store.features import FeatureStore
from headstock.store.progress import Report, unheard

__all__ = ["Merged", "merge"]

ROWS = 512  # in a batch: the memory that merging takes


@dataclass
class Merged:
    """Counts: ``rows`` new to the target; by set ``taken``, and ``differ``: ids that both have with
    other content, of which the target's stay."""

    path: Path
    rows: int = 0
    taken: dict[str, int] = field(default_factory=dict)
    differ: dict[str, list[str]] = field(default_factory=dict)

    def text(self) -> str:
        lines = [f"{self.path}: {self.rows} new rows"]
        lines += [f"set {name}: {count} vectors taken" for name, count in self.taken.items()]
        for name, ids in self.differ.items():
            shown = ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
            lines.append(
                f"set {name}: {len(ids)} rows have other content there, kept ours: {shown}"
            )
        return "\n".join(lines)


def merge(
    target: str | os.PathLike[str],
    sources: Sequence[str | os.PathLike[str]],
    *,
    sets: Sequence[str] | None = None,
    progress: Report = unheard,
) -> Merged:
    """Add the rows and the vectors of ``sources`` to ``target`` (made when missing), and compact.

    A row that the target has stays as it is; labels and the like of the sources fill empty cells
    and, as in a registration, replace others. Failed rows come with their reason. An interrupted
    merge goes on where it stopped. Raises RecipeMismatch when a set was made another way,
    MissingSet, OptionError.
    """
    told = Merged(Path(target))
    for source in sources:
        if os.path.realpath(source) == os.path.realpath(target):
            raise OptionError(source, "is the store to merge into", "name other stores")
    with FeatureStore.open(target, "a") as store:
        for source in sources:
            with FeatureStore.open(source) as other:
                names = list(sets or other.sets)
                for name in names:  # refuse before anything is changed
                    store.agrees(other.declared(name))
                told.rows += store.register(other.items).added
                for name in names:
                    _take(store, other, name, told, progress)
        store.compact(progress=progress)
    return told


def _take(
    store: FeatureStore, other: FeatureStore, name: str, told: Merged, progress: Report
) -> None:
    given = other.declared(name)
    store.declare(name, given.recipe, given.dim, given.dtype, given.feature_names, given.provenance)
    ids = other.items.id
    theirs, ours = other.progress(name), store.progress(name, ids.tolist())
    both = (theirs.status == OK) & (ours.status == OK)
    differ = both & (theirs.digest != ours.digest).any(axis=1)
    if differ.any():
        told.differ.setdefault(name, []).extend(ids[differ].tolist())
    wanted = np.flatnonzero(
        ((theirs.status == OK) & (ours.status != OK))
        | ((theirs.status == FAILED) & (ours.status == ABSENT))
    )
    reasons = {error.id: (error.code, error.line) for error in other.errors(name)}
    for start in range(0, len(wanted), ROWS):
        progress(start, len(wanted), f"{name} of {other.path.name}")
        rows = wanted[start : start + ROWS]
        ok = theirs.status[rows] == OK
        x = np.zeros((len(rows), given.dim), dtype=np.float32)
        x[ok] = other.feature_set(name).x(rows[ok])
        picked = ids[rows].tolist()
        store.commit(
            name,
            Batch(
                ids=picked,
                digest=theirs.digest[rows],
                stat=np.full((len(rows), 2), -1, dtype=np.int64),  # another machine's files
                x=x,
                status=theirs.status[rows],
                errors=[(i, *reasons[i]) for i in picked if i in reasons],
            ),
        )
    told.taken[name] = told.taken.get(name, 0) + int((theirs.status[wanted] == OK).sum())
