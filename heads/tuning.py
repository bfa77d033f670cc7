"""Options chosen inside the training rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from headstock.heads.metrics import log_loss

__all__ = ["GRIDS", "Tuned", "grid_points", "with_grids"]

GRIDS: Mapping[str, Mapping[str, list[Any]]] = {
    "logistic": {"C": [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0]},
    "linear-svm": {"C": [1e-4, 1e-3, 1e-2, 0.1]},
    "ridge": {"alpha": [0.01, 0.1, 1.0, 10.0]},
    "lda": {"shrinkage": ["auto", 0.05, 0.2, 0.5, 0.9]},
    "rbf-svm": {"C": [1.0, 10.0], "gamma": [0.3, 1.0, 3.0]},
    "poly-svm": {"C": [1.0, 10.0], "degree": [2, 3]},
    "knn": {"neighbours": [1, 5, 10, 20, 40]},
    "lightgbm": {"leaves": [7, 15, 31]},
    "xgboost": {"depth": [3, 4, 6]},
    "tree": {"depth": [4, 6, 8, 12, 16], "min_split": [2, 5, 10, 20]},
    "forest": {"min_leaf": [1, 3, 10]},
    "extra-trees": {"min_leaf": [1, 3, 10]},
    "bagging": {"depth": [8, None]},
    "mlp": {"hidden": [64, 256]},
}
"""What is tried where a head is to be tuned and nobody says among which values."""


def grid_points(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the options that are lists; one point where none is."""
    names = list(options)
    values = [list(v) if isinstance(v, list | tuple) else [v] for v in options.values()]
    return [dict(zip(names, point)) for point in itertools.product(*values)]


def with_grids(
    tune: Sequence[str], options: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """``options`` with the default grid of each head in ``tune``; what is set stays so."""
    out = {name: dict(own) for name, own in options.items()}
    for name in tune:
        out[name] = {**GRIDS.get(name, {}), **out.get(name, {})}
    return out


class Tuned:
    """A head whose options are those with the smallest log-loss on rows held out by ``inner``.

    The choice is part of fitting, so that in an evaluation it is made anew inside each fold, and
    the score is a nested estimate. ``chosen_`` says what was taken.
    """

    wants = frozenset({"inner", "spans"})

    def __init__(self, make: Callable[[Mapping[str, Any]], Any], points: list[dict[str, Any]]):
        self._make, self.points = make, points
        heads = [make(point) for point in points]  # a wrong value anywhere shows now
        self.head_ = heads[0]
        self.parallel = bool(getattr(self.head_, "parallel", False))

    @property
    def fast(self) -> dict[str, Any] | None:
        """For logistic regression tuned over C alone: how all folds are tuned at once."""
        own = getattr(self.head_, "fast", None) or {}
        fixed = {k: v for k, v in self.points[0].items() if k != "C"}
        if own.get("loss") != "softmax" or any(
            {**p, "C": 0} != {**fixed, "C": 0} for p in self.points
        ):
            return None
        strengths = [float(p["C"]) for p in self.points]
        return {"how": "grid", "strengths": strengths, "tol": own["tol"], "fixed": fixed}

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        inner: np.ndarray | None = None,
        spans: Mapping[str, slice] | None = None,
    ) -> Tuned:
        from headstock.heads.head import encode_labels, seeded_codes

        self.classes_, codes = encode_labels(y)
        if inner is None:
            inner = seeded_codes(codes, 5, 0)
        fast = self.fast
        if fast is not None:
            from headstock.heads.fastlinear import best_strength

            C, start = best_strength(X, codes, inner, fast["strengths"], fast["tol"])
            self.chosen_ = {**fast["fixed"], "C": C}
            self.head_ = self._make(self.chosen_)
            self.head_.start = start
            self.head_.fit(X, y)
            return self
        else:
            losses = [self._loss(point, X, codes, inner, spans) for point in self.points]
            self.chosen_ = self.points[int(np.argmin(losses))]
        self.head_ = self._fit(self.chosen_, X, y, inner, spans)
        return self

    def _fit(self, point: Mapping[str, Any], X: Any, y: Any, inner: Any, spans: Any) -> Any:
        head = self._make(point)
        wants = getattr(head, "wants", ())
        head.fit(X, y, **{k: v for k, v in (("inner", inner), ("spans", spans)) if k in wants})
        return head

    def _loss(
        self,
        point: Mapping[str, Any],
        X: np.ndarray,
        codes: np.ndarray,
        inner: np.ndarray,
        spans: Mapping[str, slice] | None,
    ) -> float:
        proba = np.zeros((len(X), len(self.classes_)))
        for fold in np.unique(inner):
            train, test = inner != fold, inner == fold
            if len(np.unique(codes[train])) < 2:
                proba[test] = 1.0 / proba.shape[1]
                continue
            head = self._fit(point, X[train], codes[train], inner[train], spans)
            proba[np.ix_(test, head.classes_)] = head.predict_proba(X[test])
        return log_loss(np.clip(proba, 1e-7, 1.0), codes)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return self.head_.predict_proba(X)

    def __getattr__(self, name: str) -> Any:
        # what a fitted head can say of itself, for bundles and reports
        if name in ("kind", "state", "importances"):
            return getattr(self.head_, name)
        raise AttributeError(name)
