"""Regression on a radial kernel: ridge and the support vector machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from headstock.heads.kinds.landmarks import Landmarks
from headstock.heads.regressors.linear import Decomposed, check_alpha, chosen
from headstock.heads.solvers.scaling import Blocks
from headstock.store.errors import BundleError

__all__ = ["KernelRegressor", "kernel_ridge", "rbf", "rbf_svr"]

ALPHAS = 10.0 ** np.arange(-5, 2.5, 0.5)
"""Penalties that ``kernel_ridge`` chooses from."""
WHOLE = 2500
"""Training rows up to which their whole kernel is decomposed; beyond, landmarks."""
LANDMARKS = 1024
ROWS = 1024
"""Rows that are answered at a time."""


def rbf(Z: np.ndarray, rows: np.ndarray, gamma: float) -> np.ndarray:
    """(m, r) exp(-gamma |z - x|^2) of Z (m, d) and rows (r, d), in their precision."""
    squares = np.einsum("ij,ij->i", Z, Z)[:, None] + np.einsum("ij,ij->i", rows, rows)
    squares -= 2 * (Z @ rows.T)
    np.maximum(squares, 0, out=squares)
    squares *= -gamma
    return np.exp(squares, out=squares)


class Expansion(NamedTuple):
    """rows (r, d) and coefficients (r,) of the kernel with them, a constant, what was chosen, and
    what is to be said of how."""

    rows: np.ndarray
    coefficients: np.ndarray
    bias: float
    chosen: dict[str, Any]
    how: str = ""


class KernelRegressor:
    """A sum of radial kernels with rows that ``Blocks`` scaled, so that a set's rows have a mean
    squared norm of 1; gamma is divided by the number of sets.

    ``learn(Z, y, gamma)`` gives the rows and their coefficients from scaled rows Z (n, d) float64.
    """

    kind = "kernel-number"
    wants = frozenset({"spans"})
    parallel = True
    how_ = ""

    def __init__(self, learn: Callable[..., Expansion] | None, gamma: float) -> None:
        if not gamma > 0:
            raise ValueError("gamma must be above 0")
        self._learn, self.gamma = learn, gamma

    def fit(
        self, X: np.ndarray, y: np.ndarray, spans: Mapping[str, slice] | None = None
    ) -> KernelRegressor:
        assert self._learn is not None
        self._scaler = Blocks.of(X, spans)
        self._gamma = self.gamma / self._scaler.blocks
        found = self._learn(self._scaled(X), np.asarray(y, dtype=np.float64), self._gamma)
        self._rows, self._coefficients, self._bias, self.chosen_, self.how_ = found
        return self

    def _scaled(self, X: np.ndarray) -> np.ndarray:
        return self._scaler(X).astype(np.float64)

    def predict(self, X: np.ndarray) -> np.ndarray:
        out = np.empty(len(X))
        for start in range(0, len(X), ROWS):
            part = slice(start, start + ROWS)
            near = rbf(self._scaled(X[part]), self._rows, self._gamma)
            out[part] = near @ self._coefficients + self._bias
        return out

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        arrays = {name: getattr(self._scaler, name) for name in ("mean", "scale", "starts")}
        arrays |= {"rows": self._rows, "coefficients": self._coefficients}
        return {"gamma": self._gamma, "bias": self._bias}, arrays

    @classmethod
    def from_state(
        cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> KernelRegressor:
        head = cls(None, float(meta["gamma"]))
        head._gamma, head._bias = head.gamma, float(meta["bias"])
        head._scaler = Blocks(arrays["mean"], arrays["scale"], arrays["starts"])
        head._rows, head._coefficients = arrays["rows"], arrays["coefficients"]
        if head._rows.ndim != 2 or head._coefficients.shape != (len(head._rows),):
            raise BundleError("kernel", "its rows and coefficients differ", "fit the model again")
        return head


def kernel_ridge(seed: int, alpha: float | str = "auto", gamma: float = 1.0) -> KernelRegressor:
    """Ridge on a radial kernel, as scikit-learn's KernelRidge of centred numbers. alpha: the
    penalty, or ``auto``: that of ``ALPHAS`` whose answers on each row left out are best; gamma: of
    rows whose mean squared norm is 1. Above 2,500 training rows it stands on 1,024 of them, drawn
    at random (Nystroem)."""
    check_alpha(alpha)

    def learn(Z: np.ndarray, y: np.ndarray, gamma: float) -> Expansion:
        bias = float(y.mean())
        if len(Z) <= WHOLE:
            whole = _Kernel(rbf(Z, Z, gamma), y - bias)
            best, told = chosen(alpha, whole, ALPHAS)
            return Expansion(Z, whole.weights(best), bias, told)

        def near(A: np.ndarray, B: np.ndarray) -> np.ndarray:
            return rbf(A, B, gamma).astype(np.float32)

        marks = Landmarks(Z, lambda X: X, near, LANDMARKS, seed)
        found = Decomposed(marks.features.astype(np.float64), y - bias, 0.0)
        best, told = chosen(alpha, found, ALPHAS)
        weights = marks.coefficients(found.weights(best)[:, None])[:, 0].astype(np.float64)
        return Expansion(marks.rows, weights, bias, told, f"on {LANDMARKS:,} landmarks")

    return KernelRegressor(learn, gamma)


class _Kernel:
    """``Decomposed`` for a kernel K (n, n): the weights are those of the kernel with each row."""

    def __init__(self, K: np.ndarray, y: np.ndarray) -> None:
        from scipy.linalg import eigh

        values, self._vectors = eigh(K, check_finite=False)
        self._values, self._y = np.maximum(values, 0), y
        self._along = self._vectors.T @ y

    def loo_errors(self, alphas: np.ndarray) -> np.ndarray:
        weight = 1.0 / (self._values[:, None] + alphas)
        duals = self._vectors @ (self._along[:, None] * weight)
        return np.mean((duals / (self._vectors**2 @ weight)) ** 2, axis=0)

    def weights(self, alpha: float) -> np.ndarray:
        return self._vectors @ (self._along / (self._values + alpha))


def rbf_svr(seed: int, C: float = 1.0, epsilon: float = 0.1, gamma: float = 1.0) -> KernelRegressor:
    """Support vector regression on a radial kernel, as scikit-learn's SVR of standardised numbers.
    C: weight of the loss; epsilon: what counts as no error, in standard deviations of the numbers;
    gamma: of rows whose mean squared norm is 1."""
    if not (C > 0 and epsilon >= 0):
        raise ValueError("C must be above 0 and epsilon not below it")

    def learn(Z: np.ndarray, y: np.ndarray, gamma: float) -> Expansion:
        from sklearn.svm import SVR

        middle, scale = float(y.mean()), float(y.std()) or 1.0
        model = SVR(C=C, epsilon=epsilon, gamma=gamma, cache_size=500)
        model.fit(Z, (y - middle) / scale)
        weights, bias = model.dual_coef_[0] * scale, float(model.intercept_[0]) * scale + middle
        return Expansion(model.support_vectors_, weights, bias, {})

    return KernelRegressor(learn, gamma)
