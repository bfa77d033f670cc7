"""A stack: a head that learns from what other systems say, and if asked from the features too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headstock.heads.fusion.mean import FLOOR, Mean
from headstock.heads.head import make_head, value_of
from headstock.heads.specs import KINDS, class_of
from headstock.store.errors import BundleError, OptionError

__all__ = ["MOST_CLASSES", "Stacked"]

MOST_CLASSES = 64
"""Above, the logistic stack has one weight a system: of k classes and s systems it would fit s k^2
coefficients, a million a system at k = 1,000, from rows that are a few a class."""


class Stacked:
    """A head of the table on the systems' log-probabilities.

    meta: its name, ``logistic`` by default; features: whether it reads the feature sets beside the
    systems' answers; further options are the head's own (``C=0.1`` for the logistic one).
    """

    kind = "stacked"

    def __init__(
        self, seed: int = 0, meta: str = "logistic", features: bool = False, **options: Any
    ) -> None:
        if meta == "logistic":
            options = {"C": 0.1, **options}
        wants = value_of(features)
        if not isinstance(wants, bool):
            raise OptionError("fusion stacked", f"features={wants!r}", "true or false")
        self.wants_features = wants
        self.reads: tuple[str, ...] = ()
        """The sets whose columns it was fitted on, for whoever saves it."""
        self.head_: Any = make_head(str(meta), seed, options)
        self.weighted_: Mean | None = None
        """What it is with many classes."""
        self._pools = meta == "logistic" and not wants

    def notes(self, k: int) -> list[str]:
        """What it does otherwise with k classes than with few."""
        return [f"{k:,} classes: a weight a member, as weighted"] if self._many(k) else []

    def _many(self, k: int) -> bool:
        return k > MOST_CLASSES and self._pools

    @staticmethod
    def _columns(P: np.ndarray, X: np.ndarray | None) -> np.ndarray:
        logs = np.log(np.maximum(P, FLOOR))
        logs -= logs.mean(axis=2, keepdims=True)  # centred log-ratios: a simplex has no zero point
        flat = logs.reshape(len(P), -1).astype(np.float32)
        return flat if X is None else np.hstack([flat, X])

    def _inputs(self, P: np.ndarray, X: np.ndarray | None) -> np.ndarray:
        if self.wants_features and X is None:
            raise ValueError("this stack reads features and was given none")
        return self._columns(P, X if self.wants_features else None)

    def fit(
        self, P: np.ndarray, codes: np.ndarray, inner: np.ndarray, X: np.ndarray | None = None
    ) -> Stacked:
        from headstock.heads.outoffold.answer import fit_head

        self.k_ = P.shape[2]
        if self._many(self.k_):
            self.weighted_ = Mean("weighted").fit(P, codes, inner)
            return self
        Z = self._inputs(P, X)
        spans = {"systems": slice(0, P.shape[1] * P.shape[2])}
        if Z.shape[1] > spans["systems"].stop:
            spans["features"] = slice(spans["systems"].stop, Z.shape[1])
        fit_head(self.head_, "stacked", Z, codes, inner, spans)
        self.columns_ = np.asarray(self.head_.classes_)
        return self

    def predict(self, P: np.ndarray, X: np.ndarray | None = None) -> np.ndarray:
        if self.weighted_ is not None:
            return self.weighted_.predict(P)
        out = np.zeros((len(P), self.k_))
        out[:, self.columns_] = self.head_.predict_proba(self._inputs(P, X))
        return out

    @property
    def plain(self) -> bool:
        """Whether the first version of the model file can hold it."""
        linear = getattr(self.head_, "kind", "") == "linear"
        return linear and not self.wants_features and self.weighted_ is None

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        if self.weighted_ is not None:
            return {"many_classes": True}, self.weighted_.state()[1]
        if getattr(self.head_, "kind", None) not in KINDS:
            raise BundleError(
                "fusion stacked",
                "its head is a file's own and cannot be saved",
                "name one of the table",
            )
        meta, arrays = self.head_.state()
        if not self.plain:
            meta = {**meta, "meta_kind": self.head_.kind, "features": self.wants_features}
            meta["reads"] = list(self.reads)
        return meta, {**arrays, "columns": self.columns_}

    @classmethod
    def from_state(
        cls, kind: str, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> Stacked:
        fusion = cls()
        fusion.k_ = k
        if meta.get("many_classes"):
            fusion.weighted_ = Mean.from_state("weighted", meta, arrays, k)
            return fusion
        fusion.columns_ = arrays["columns"]
        fusion.wants_features = bool(meta.get("features", False))
        fusion.reads = tuple(str(name) for name in meta.get("reads", ()))
        head = class_of(meta.get("meta_kind", "linear"))
        own = {name: value for name, value in arrays.items() if name != "columns"}
        fusion.head_ = head.from_state(meta, own, len(fusion.columns_))
        return fusion
