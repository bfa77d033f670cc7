"""Linear heads: multinomial logistic regression, ridge, linear SVM."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from headstock.heads.codes import encode_labels, seeded_codes
from headstock.heads.kinds.strategies import Descent, Gram, Strategy
from headstock.heads.solvers.calibration import (
    UNCALIBRATED,
    held_out_folds,
    held_out_scores,
    softmax,
    temperature,
)
from headstock.heads.solvers.descent import Problems, solve, solve_positive
from headstock.heads.solvers.scaling import Standard

__all__ = ["Linear", "lengths", "linear_svm", "logistic", "ridge"]

Weights = tuple[np.ndarray, np.ndarray]
"""W (d, k) and b (k,)"""


class Linear:
    """softmax(a * (standardised X @ W + b)).

    ``solve(Z, codes, k)`` gives W and b for standardised rows Z. When ``calibrate``, the
    multiplier a is the temperature fitted on scores held out by ``inner``; otherwise it is 1.
    """

    kind = "linear"
    wants = frozenset({"inner"})
    strategy: Strategy | None = None
    """How the engine computes all training parts at once, if it can."""
    start: np.ndarray | None = None
    """theta (d + 1, k) from which an iterative ``solve`` starts."""

    def __init__(
        self,
        solve: Callable[..., Weights] | None,
        calibrate: bool,
        seed: int,
    ) -> None:
        self._solve, self.calibrate, self._seed = solve, calibrate, seed

    @property
    def unheld(self) -> str:
        return UNCALIBRATED if self.calibrate else ""

    def fit(self, X: np.ndarray, y: np.ndarray, inner: np.ndarray | None = None) -> Linear:
        self.classes_, codes = encode_labels(y)
        k = len(self.classes_)
        self.multiplier_ = 1.0
        if self.calibrate:
            if inner is None:
                inner = seeded_codes(codes, 5, self._seed)

            def scores(train: np.ndarray, test: np.ndarray) -> np.ndarray:
                out = np.full((len(test), k), np.nan)
                present, local = np.unique(codes[train], return_inverse=True)
                if len(present) > 1:
                    self._learn(X[train], local, len(present))
                    out[:, present] = self.decision_function(X[test])
                return out

            held_out = held_out_scores(scores, inner, k, held_out_folds(inner, codes))
            self.multiplier_ = temperature(held_out, codes)
        self._learn(X, codes, k)
        return self

    def _learn(self, X: np.ndarray, codes: np.ndarray, k: int) -> None:
        assert self._solve is not None
        self.scaler_ = Standard.of(X)
        given = {} if self.start is None else {"start": self.start}
        weights, self.bias_ = self._solve(self.scaler_(X), codes, k, **given)
        self.weights_ = np.ascontiguousarray(weights)  # one layout, one sum, whether fitted or read

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """(m, k) scores before calibration."""
        out = np.empty((len(X), len(self.bias_)))
        weights = self.weights_.astype(np.float32)
        for start in range(0, len(X), 4096):  # the scaled copy stays small
            part = slice(start, start + 4096)
            out[part] = self.scaler_(X[part]) @ weights + self.bias_
        return out

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return softmax(self.multiplier_ * self.decision_function(X), axis=1)

    def importances(self) -> np.ndarray:
        """(d,) length of each standardised column's weights across the classes."""
        return lengths(self.weights_)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        meta = {"multiplier": self.multiplier_}
        return meta, {
            "mean": self.scaler_.mean,
            "scale": self.scaler_.scale,
            "weights": self.weights_,
            "bias": self.bias_,
        }

    @classmethod
    def from_state(
        cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> Linear:
        head = cls(None, False, 0)
        head.multiplier_ = float(meta["multiplier"])
        head.classes_ = np.arange(k)
        head.scaler_ = Standard(arrays["mean"], arrays["scale"])
        head.weights_, head.bias_ = arrays["weights"], arrays["bias"]
        return head


def lengths(W: np.ndarray) -> np.ndarray:
    """(d,) lengths of the rows of W (d, k), less their means: what all classes share decides
    nothing."""
    return np.linalg.norm(W - W.mean(axis=1, keepdims=True), axis=1)


def one_hot(codes: np.ndarray, k: int) -> np.ndarray:
    return np.eye(k)[codes]


def logistic(seed: int, C: float = 0.1, tol: float = 1e-4) -> Linear:
    """Multinomial logistic regression on standardised columns. C: inverse L2 penalty, as in
    scikit-learn (C times the sum of losses plus half the squared weights); tol: largest entry of
    the gradient at which it ends."""
    head = Linear(_descent("softmax", C, tol), calibrate=False, seed=seed)
    head.strategy = Descent("softmax", float(C), float(tol))
    return head


def _descent(loss: str, C: float, tol: float) -> Callable[..., Weights]:
    if not C > 0 or not tol > 0:
        raise ValueError(f"C={C} and tol={tol} must be positive")

    def solve_one(
        Z: np.ndarray, codes: np.ndarray, k: int, start: np.ndarray | None = None
    ) -> Weights:
        n, d = Z.shape
        everything = np.ones((1, n), dtype=bool)
        problem = Problems(
            Z, codes, k, everything, np.zeros((1, d)), np.ones((1, d)), np.array([C]), loss
        )
        theta = solve(problem, tol, None if start is None else start[None])[0]
        return theta[:-1], theta[-1]

    return solve_one


def ridge(seed: int, alpha: float = 1.0) -> Linear:
    """Least squares onto the classes' indicators, calibrated by temperature. alpha: L2 penalty per
    training row, so it means the same at any n: the Gram matrix of n standardised rows gets
    ``alpha * n`` on its diagonal, divided by 10."""
    if not alpha > 0:
        raise ValueError("alpha must be above 0")

    def least_squares(Z: np.ndarray, codes: np.ndarray, k: int) -> Weights:
        n, d = Z.shape
        target = one_hot(codes, k)
        b = target.mean(axis=0)
        target = (target - b).astype(np.float32)
        small = Z.T @ Z if d <= n else Z @ Z.T  # the same weights from the smaller system
        gram = small.astype(np.float64)
        gram[np.diag_indices(len(gram))] += alpha * n / 10.0
        if d <= n:
            return solve_positive(gram, (Z.T @ target).astype(np.float64)), b
        W = Z.T.astype(np.float64) @ solve_positive(gram, target.astype(np.float64))
        return W, b

    head = Linear(least_squares, calibrate=True, seed=seed)
    head.strategy = Gram("ridge", float(alpha))
    return head


def linear_svm(seed: int, C: float = 0.003, tol: float = 1e-3) -> Linear:
    """One-against-rest linear SVM (squared hinge) on standardised columns, calibrated by
    temperature. C: weight of the loss, as in scikit-learn's LinearSVC, whose solver also shrinks
    the intercept; tol: largest entry of the gradient at which it ends."""
    head = Linear(_descent("hinge", C, tol), calibrate=True, seed=seed)
    head.strategy = Descent("hinge", float(C), float(tol))
    return head
