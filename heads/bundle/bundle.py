"""A fitted model: heads, what joins them, and what the vectors they read must be."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstock.heads.bundle.members import Member, Pattern
from headstock.heads.bundle.modelfile import read_model, write_model
from headstock.heads.bundle.predictions import NumberPredictions, Predictions
from headstock.heads.metrics.cost import COSTS
from headstock.heads.outoffold.answer import answers_of
from headstock.heads.rows.labelled import parts_of
from headstock.heads.specs import CLASSES, NUMBER
from headstock.store.errors import BundleError, IncompleteSet, RecipeMismatch
from headstock.store.progress import Report, unheard
from headstock.store.recipe import Recipe

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = ["Bundle"]

PROMISE = "promise"
"""Where the settings of a model say what it was fitted to hold (``coverage.promise``)."""
BLOCK = 1 << 16
"""Rows predicted at a time: a store may hold more than memory does."""


@dataclass
class Bundle:
    """Fitted heads, the fusion that joins them (None for a single head), class names (k,), none of
    a model of numbers, and what the vectors they read must be: recipe and width of each set.

    patterns: for a model of rows that may lack a set, what answers rows that have these sets and no
    more: {"image+audio": ..., "image": ...}, most sets first; ``fusion`` is None then.
    """

    members: list[Member]
    fusion: Any
    classes: np.ndarray
    recipes: dict[str, Recipe]
    widths: dict[str, int]
    provenance: dict[str, dict[str, Any]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    patterns: dict[str, Pattern] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """``classes`` or ``number``."""
        return CLASSES if len(self.classes) else NUMBER

    @property
    def halves(self) -> Mapping[str, float]:
        """{pattern: half of the width of a prediction's interval}, of a model of numbers that was
        fitted with a coverage."""
        return (self.settings.get(PROMISE) or {}).get("half") or {}

    @property
    def least(self) -> Mapping[str, Sequence[float]]:
        """{pattern: (k,) the least probability at which each class belongs to a prediction's set},
        of a model of classes that was fitted with a coverage."""
        return (self.settings.get(PROMISE) or {}).get("least") or {}

    @property
    def costs(self) -> np.ndarray | None:
        """(k, k) what it costs to answer a row of each class (line) by each class (column), of a
        model whose answers are to be cheapest."""
        found = self.settings.get(COSTS)
        return None if found is None else np.array(found, dtype=float)

    def pattern(self, sets: Collection[str]) -> str | None:
        """What answers rows that have ``sets``: the pattern with most of them, or None."""
        whole = list(self.patterns) or ["+".join(self.widths)]
        return next((name for name in whole if set(parts_of(name)) <= set(sets)), None)

    def predict_arrays(self, X: Mapping[str, np.ndarray]) -> np.ndarray:
        """(m, k) probabilities, or (m, 1) numbers, from {set: (m, d) float32}; a model for rows
        that may lack a set takes those that are there. Raises BundleError for a wrong width."""
        name = self.pattern(X)
        for set_name in self.widths if name is None else parts_of(name):
            width = self.widths[set_name]
            if set_name not in X or X[set_name].ndim != 2 or X[set_name].shape[1] != width:
                got = X[set_name].shape if set_name in X else "nothing"
                raise BundleError(f"set {set_name}", f"the model reads {width} columns, got {got}")
        assert name is not None
        how = self.patterns.get(name) or Pattern(list(range(len(self.members))), self.fusion)
        said = []
        for member in (self.members[number] for number in how.members):
            matrix = _beside(X, parts_of(member.on))
            with np.errstate(all="ignore"):  # an answer that overflows is refused, in one line
                given = member.fitted, member.head, matrix, len(self.classes), self.target
                said.append(answers_of(*given))
        if how.fusion is None:
            return said[0]
        if getattr(how.fusion, "wants_features", False):
            return how.fusion.predict(np.stack(said, axis=1), _beside(X, how.fusion.reads))
        return how.fusion.predict(np.stack(said, axis=1))

    def predict(
        self, store: StoreReader, rows: np.ndarray | None = None, progress: Report = unheard
    ) -> Predictions:
        """Predict a store's rows (row numbers or a mask; all by default).

        Raises MissingSet, RecipeMismatch with the differing fields, and IncompleteSet when a wanted
        row lacks a vector; of a model for rows that may lack a set, when it has none.
        """
        there = self._there(store)
        chosen = np.arange(len(store.items)) if rows is None else np.asarray(rows)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        names, by = self._answering(there, chosen)
        lacking = chosen[by < 0]
        if len(lacking):
            raise IncompleteSet(
                store.path,
                f"{len(lacking)} of {len(chosen)} rows have no vector in "
                f"{' or '.join(self.recipes)} (first: {store.items.id[lacking[0]]})",
                "extract them, or predict the complete rows only",
            )
        proba, done = np.empty((len(chosen), len(self.classes) or 1)), 0
        for number in np.unique(by):
            answered = np.flatnonzero(by == number)
            for start in range(0, len(answered), BLOCK):
                mine = answered[start : start + BLOCK]
                X = {n: store.feature_set(n).x(chosen[mine]) for n in parts_of(names[number])}
                progress(done, len(chosen), "predicting")
                proba[mine] = self.predict_arrays(X)
                done += len(mine)
        answered_by = np.array(names, dtype=object)[by] if self.patterns else None
        ids = store.items.id[chosen]
        if self.target == CLASSES:
            least = np.array([self.least[name] for name in names])[by] if self.least else None
            return Predictions(ids, self.classes, proba, answered_by, least, self.costs)
        half = np.array([self.halves[name] for name in names])[by] if self.halves else None
        return NumberPredictions(ids, self.classes, proba, answered_by, half=half)

    def ready(self, store: StoreReader) -> np.ndarray:
        """(n,) bool: the rows of a store that have what the model needs. Raises as ``predict``."""
        return self._answering(self._there(store), np.arange(len(store.items)))[1] >= 0

    def _there(self, store: StoreReader) -> dict[str, np.ndarray]:
        """{set: (n,) bool}: which rows have a vector that was made the model's way."""
        out = {}
        for name, recipe in self.recipes.items():
            if self.patterns and name not in store.sets:
                out[name] = np.zeros(len(store.items), dtype=bool)
                continue
            found = store.feature_set(name).recipe
            if found != recipe:
                raise RecipeMismatch(
                    f"set {name}",
                    "was made another way than the model's: "
                    + "; ".join(recipe.difference(found)[:6]),
                    "extract with the model's recipe",
                )
            out[name] = np.asarray(store.complete([name]), dtype=bool)
        return out

    def _answering(
        self, there: Mapping[str, np.ndarray], chosen: np.ndarray
    ) -> tuple[list[str], np.ndarray]:
        """Names of patterns, and for each chosen row (m,) the number of its own, -1 for none."""
        has = np.stack([own[chosen] for own in there.values()], axis=1)
        names = list(self.patterns) or ["+".join(self.widths)]
        by = np.full(len(chosen), -1)
        for kind in np.unique(has, axis=0):
            name = self.pattern([n for n, own in zip(there, kind) if own])
            if name is not None:
                by[(has == kind).all(axis=1)] = names.index(name)
        return names, by

    def save(self, path: str | Path) -> None:
        """Write the file whole. Raises BundleError for a head that cannot say its state,
        StorageError."""
        write_model(self, path)

    @classmethod
    def load(cls, path: str | Path, head_files: Sequence[str | Path] = ()) -> Bundle:
        """Read a file that ``save`` wrote; nothing in it is run. A model with a head of your own
        needs the file that made it, named in ``head_files``: that file is run.

        Raises BundleError for any other file, or a head's file that is not named or has changed,
        VersionError for a newer one, UnsafeInput for a model text that would harm the library that
        parses it.
        """
        return read_model(cls, path, head_files)


def _beside(X: Mapping[str, np.ndarray], parts: Sequence[str]) -> np.ndarray:
    return X[parts[0]] if len(parts) == 1 else np.hstack([X[p] for p in parts])
