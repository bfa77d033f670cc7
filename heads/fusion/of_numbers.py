"""Fusions of numbers: several systems' answers for a row into one number.

They take P (n, s, 1), the held-out answers of s systems, and learn from them, as those of
probabilities do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headstock.heads.head import make_head, value_of
from headstock.heads.specs import KINDS, NUMBER, class_of
from headstock.store.errors import BundleError, OptionError

__all__ = ["MeanOfNumbers", "StackedNumbers"]


class MeanOfNumbers:
    """The mean of the systems' answers."""

    kind = "mean-number"

    def fit(
        self, P: np.ndarray, y: np.ndarray, inner: np.ndarray, X: np.ndarray | None = None
    ) -> MeanOfNumbers:
        return self

    def predict(self, P: np.ndarray, X: np.ndarray | None = None) -> np.ndarray:
        """(m, 1)."""
        return P.mean(axis=1)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {}, {}

    @classmethod
    def from_state(
        cls, kind: str, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> MeanOfNumbers:
        return cls()


class StackedNumbers:
    """A head for numbers on the systems' answers, as scikit-learn's StackingRegressor.

    meta: its name, ``ridge`` by default; features: whether it reads the feature sets beside the
    systems' answers; further options are the head's own.
    """

    kind = "stacked-number"
    plain = False
    """It is not in the first version of the model file."""

    def __init__(
        self, seed: int = 0, meta: str = "ridge", features: bool = False, **options: Any
    ) -> None:
        wants = value_of(features)
        if not isinstance(wants, bool):
            raise OptionError("fusion stacked", f"features={wants!r}", "true or false")
        self.wants_features = wants
        self.reads: tuple[str, ...] = ()
        """The sets whose columns it was fitted on, for whoever saves it."""
        self.head_: Any = make_head(str(meta), seed, options, NUMBER)

    def _columns(self, P: np.ndarray, X: np.ndarray | None) -> np.ndarray:
        if self.wants_features and X is None:
            raise ValueError("this stack reads features and was given none")
        said = P[:, :, 0]  # float64: numbers may be large and differ by little
        return np.hstack([said, X]) if self.wants_features and X is not None else said

    def fit(
        self, P: np.ndarray, y: np.ndarray, inner: np.ndarray, X: np.ndarray | None = None
    ) -> StackedNumbers:
        from headstock.heads.outoffold.answer import fit_head

        Z, systems = self._columns(P, X), P.shape[1]
        spans = {"systems": slice(0, systems)}
        if Z.shape[1] > systems:
            spans["features"] = slice(systems, Z.shape[1])
        fit_head(self.head_, "stacked", Z, y, inner, spans)
        return self

    def predict(self, P: np.ndarray, X: np.ndarray | None = None) -> np.ndarray:
        """(m, 1)."""
        return np.asarray(self.head_.predict(self._columns(P, X)), dtype=np.float64)[:, None]

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        kind = getattr(self.head_, "kind", None)
        if kind not in KINDS:
            what = "its head is a file's own and cannot be saved"
            raise BundleError("fusion stacked", what, "name one of the table")
        meta, arrays = self.head_.state()
        told = {"meta_kind": kind, "features": self.wants_features, "reads": list(self.reads)}
        return {**meta, **told}, arrays

    @classmethod
    def from_state(
        cls, kind: str, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> StackedNumbers:
        fusion = cls(features=bool(meta["features"]))
        fusion.reads = tuple(str(name) for name in meta["reads"])
        fusion.head_ = class_of(meta["meta_kind"]).from_state(meta, arrays, 1)
        return fusion
