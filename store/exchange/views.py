"""A store as other libraries want it: NumPy arrays, a pandas table, a Hugging Face dataset.

Rows that lack a vector are left out and counted, or refused; they are never filled with zeros.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstock.store.errors import OptionError
from headstock.store.manifest.splits import in_split
from headstock.store.reader import StoreReader

if TYPE_CHECKING:
    import pandas

__all__ = ["Arrays", "as_arrays", "as_dataset", "as_frame", "feature_columns"]

TEXT = ("id", "label", "split", "group")


@dataclass(frozen=True)
class Arrays:
    """m rows: ids (m,) text, X {set: (m, d) float32}, label, split and group (m,) text, ``""``
    where there is none; rows (m,) their numbers in the store; ``left_out``: rows without a vector
    in one of the sets."""

    ids: np.ndarray
    X: dict[str, np.ndarray]
    label: np.ndarray
    split: np.ndarray
    group: np.ndarray
    rows: np.ndarray
    left_out: int


def _chosen(
    store: StoreReader, sets: Sequence[str] | None, split: str | None
) -> tuple[list[str], np.ndarray, int]:
    """Names of the sets, the complete rows, and how many are not complete."""
    names = list(sets or store.sets)
    if not names:
        raise OptionError(store.path, "has no feature set", "run `headstock extract` first")
    wanted = np.ones(store.n, dtype=bool)
    if split is not None:
        wanted = in_split(store.items.split, split)
        if not wanted.any():
            have = ", ".join(sorted({s for s in store.items.split if s})) or "none"
            raise OptionError(store.path, f"no row of split {split!r}", f"it has: {have}")
    complete = store.complete(names)
    return names, np.flatnonzero(wanted & complete), int((wanted & ~complete).sum())


def as_arrays(
    store: StoreReader, sets: Sequence[str] | None = None, split: str | None = None
) -> Arrays:
    """The complete rows of ``sets`` (all by default), of one ``split`` or all of them.

    Raises OptionError, MissingSet, StoreDamaged. Memory: m x d x 4 bytes a set.
    """
    names, rows, left = _chosen(store, sets, split)
    items = store.items.take(rows)
    X = {name: np.asarray(store.feature_set(name).x(rows)) for name in names}
    return Arrays(items.id, X, items.label, items.split, items.group, rows, left)


def feature_columns(
    store: StoreReader, sets: Sequence[str], taken: Collection[str] = TEXT
) -> list[str]:
    """A name for each column of the sets side by side: the feature's own, or ``<set>_<k>``; a name
    that comes twice or is ``taken`` gets its position after it. They differ as a table's header
    must: without blanks around them, in one Unicode form."""
    out: list[str] = []
    for name in sets:
        declared = store.declared(name)
        names = declared.feature_names or [""] * declared.dim
        plain = (unicodedata.normalize("NFC", one.strip()) for one in names)
        out += [one or f"{name}_{k}" for k, one in enumerate(plain)]
    counts = Counter(out)
    used = {*taken, *(name for name in out if counts[name] == 1)}
    for k, name in enumerate(out):
        if counts[name] > 1 or name in taken:
            number = k
            while f"{name}_{number}" in used:
                number += len(out)
            out[k] = f"{name}_{number}"
            used.add(out[k])
    return out


def as_frame(
    store: StoreReader, sets: Sequence[str] | None = None, split: str | None = None
) -> pandas.DataFrame:
    """A pandas table: the id is its index, then ``label``, ``split``, ``group``, the manifest's
    other text columns, and a float32 column for each feature. ``attrs["left_out"]`` counts rows
    without a vector. Raises OptionError, also where pandas is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise OptionError(
            "a pandas table", "pandas is not installed", "pip install pandas"
        ) from error
    names, rows, left = _chosen(store, sets, split)
    items = store.items.take(rows)
    columns = feature_columns(store, names)
    X, _ = store.matrix(names, rows)
    index = pandas.Index(items.id.astype(str), name="id")
    texts = {"label": items.label, "split": items.split, "group": items.group}
    texts |= {name: cells for name, cells in items.extra.items() if name not in (*TEXT, *columns)}
    about = pandas.DataFrame({k: v.astype(str) for k, v in texts.items()}, index=index)
    numbers = pandas.DataFrame(np.asarray(X), index=index, columns=columns)
    frame = pandas.concat([about, numbers], axis=1)
    frame.attrs["left_out"] = left
    return frame


def as_dataset(
    store: StoreReader, sets: Sequence[str] | None = None, split: str | None = None
) -> Any:
    """A Hugging Face ``datasets.Dataset``: ``id``, ``label`` (a ClassLabel where rows have labels),
    ``split``, ``group``, and a column of float32 vectors for each set.

    It is held in memory (``save_to_disk`` writes it). Raises OptionError, also where ``datasets``
    is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise OptionError(
            "a Hugging Face dataset", "datasets is not installed", "pip install datasets"
        ) from error
    names, rows, _ = _chosen(store, sets, split)
    clash = [name for name in names if name in TEXT]
    if clash:
        raise OptionError(store.path, f"the set {clash[0]!r} has a column's name", "leave it out")
    labels = sorted({label for label in store.items.label[rows] if label})
    kinds: dict[str, Any] = {key: datasets.Value("string") for key in TEXT}
    if labels:
        kinds["label"] = datasets.ClassLabel(names=labels)
    for name in names:
        dim = store.declared(name).dim
        kinds[name] = datasets.Sequence(datasets.Value("float32"), length=dim)
    number = {label: k for k, label in enumerate(labels)}
    items = store.items.take(rows)
    columns: dict[str, Any] = {
        "id": items.id.tolist(),
        "label": [number.get(v) for v in items.label] if labels else items.label.tolist(),
        "split": items.split.tolist(),
        "group": items.group.tolist(),
    }
    for name in names:
        columns[name] = np.asarray(store.feature_set(name).x(rows))
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
