"""Linear regression: ridge, its penalty chosen by leaving out one row, and the elastic net."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from headstock.heads.solvers.scaling import FAR, inverse, moments
from headstock.store.errors import BundleError

__all__ = [
    "ALPHAS", "Decomposed", "LinearRegressor", "check_alpha", "chosen", "elastic_net", "ridge",
]  # fmt: skip

ALPHAS = 10.0 ** np.arange(-2, 6.5, 0.5)
"""Penalties that ``ridge`` chooses from; the columns are standardised, so they mean the same
everywhere."""
ROWS = 1 << 16
"""Rows that are answered at a time."""


class Decomposed:
    """Least squares of centred numbers y (n,) on centred columns Z (n, d) at any penalty, from one
    decomposition of the smaller of their two Gram matrices.

    leverage: (n,) of the intercept, 1 / n, where Z and y are centred with it, else 0.
    """

    def __init__(self, Z: np.ndarray, y: np.ndarray, leverage: float) -> None:
        from scipy.linalg import eigh

        self._Z, self._y, self._leverage = Z, y, leverage
        self._dual = Z.shape[0] <= Z.shape[1]
        values, vectors = eigh(Z @ Z.T if self._dual else Z.T @ Z, check_finite=False)
        kept = values > max(values[-1], 0) * len(values) * np.finfo(Z.dtype).eps
        self._values, self._vectors = values[kept], vectors[:, kept]
        self._scores = self._vectors * np.sqrt(self._values) if self._dual else Z @ self._vectors
        self._along = self._scores.T @ y

    def loo_errors(self, alphas: np.ndarray) -> np.ndarray:
        """(a,) mean squared errors of each row answered without it (Allen's PRESS, 1974; in closed
        form as Rifkin and Lippert 2007)."""
        weight = 1.0 / (self._values[:, None] + alphas)
        rest = self._y[:, None] - self._scores @ (self._along[:, None] * weight)
        kept = 1.0 - self._leverage - self._scores**2 @ weight
        return np.mean((rest / np.maximum(kept, 1e-9)) ** 2, axis=0)

    def weights(self, alpha: float) -> np.ndarray:
        """(d,) at one penalty."""
        inner = self._along / (self._values + alpha)
        if not self._dual:
            return self._vectors @ inner
        return self._Z.T @ (self._vectors @ (inner / np.sqrt(self._values)))


class Learned(NamedTuple):
    """Weights (d,) of standardised columns, and what was chosen."""

    weights: np.ndarray
    chosen: dict[str, Any]


class LinearRegressor:
    """Standardised columns times weights, plus a constant.

    ``learn(Z, y, inner)`` gives the weights for standardised columns Z (n, d) float64 and centred
    numbers y (n,).
    """

    kind = "linear-number"
    wants = frozenset({"inner"})
    parallel = True

    def __init__(self, learn: Callable[..., Learned] | None) -> None:
        self._learn = learn

    def fit(self, X: np.ndarray, y: np.ndarray, inner: np.ndarray | None = None) -> LinearRegressor:
        assert self._learn is not None
        self._mean, self._scale = moments(X)
        self._bias = float(np.mean(y))
        learned = self._learn(self._standardised(X), np.asarray(y, float) - self._bias, inner)
        self.weights_, self.chosen_ = learned
        return self

    def _standardised(self, X: np.ndarray) -> np.ndarray:
        Z = X.astype(np.float64)
        Z -= self._mean
        Z *= inverse(self._scale)
        return np.clip(Z, -FAR, FAR, out=Z)

    def predict(self, X: np.ndarray) -> np.ndarray:
        out = np.empty(len(X))
        for start in range(0, len(X), ROWS):
            part = slice(start, start + ROWS)
            out[part] = self._standardised(X[part]) @ self.weights_ + self._bias
        return out

    def importances(self) -> np.ndarray:
        """(d,) sizes of the standardised columns' weights."""
        return np.abs(self.weights_)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        arrays = {"mean": self._mean, "scale": self._scale, "weights": self.weights_}
        return {"bias": self._bias}, arrays

    @classmethod
    def from_state(
        cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> LinearRegressor:
        head = cls(None)
        head._bias = float(meta["bias"])
        head._mean, head._scale = arrays["mean"], arrays["scale"]
        head.weights_ = arrays["weights"]
        if not head._mean.shape == head._scale.shape == head.weights_.shape:
            raise BundleError("ridge", "its weights have another width", "fit the model again")
        return head


def check_alpha(alpha: float | str) -> None:
    """Raises ValueError for what is neither a penalty nor ``auto``."""
    if alpha != "auto" and not (isinstance(alpha, int | float) and alpha > 0):
        raise ValueError("alpha must be above 0, or auto")


def chosen(alpha: float | str, found: Any, among: np.ndarray) -> tuple[float, dict[str, Any]]:
    """The penalty, for ``auto`` that of ``among`` whose answers on each row left out are best; and
    what there is to tell of the choice."""
    if alpha != "auto":
        return float(alpha), {}
    best = float(among[np.argmin(found.loo_errors(among))])
    return best, {"alpha": best}


def ridge(seed: int, alpha: float | str = "auto") -> LinearRegressor:
    """Least squares with a penalty on standardised columns, as scikit-learn's Ridge behind a
    StandardScaler. alpha: the penalty, or ``auto``: that of ``ALPHAS`` whose answers on each row
    left out are best, as RidgeCV."""
    check_alpha(alpha)

    def learn(Z: np.ndarray, y: np.ndarray, inner: np.ndarray | None) -> Learned:
        found = Decomposed(Z, y, 1.0 / len(y))
        best, told = chosen(alpha, found, ALPHAS)
        return Learned(found.weights(best), told)

    return LinearRegressor(learn)


def elastic_net(
    seed: int, alpha: float | str = "auto", l1_ratio: float = 0.5, max_iter: int = 5000
) -> LinearRegressor:
    """Least squares with a penalty that leaves columns out, as scikit-learn's ElasticNet behind a
    StandardScaler. alpha: the penalty, or ``auto``: the best of a path of 100 on rows held out, as
    ElasticNetCV; l1_ratio: the share of the penalty that is of absolute weights (1: the lasso)."""
    check_alpha(alpha)
    if not 0 < l1_ratio <= 1:
        raise ValueError("l1_ratio must be above 0 and at most 1")

    def learn(Z: np.ndarray, y: np.ndarray, inner: np.ndarray | None) -> Learned:
        from sklearn.linear_model import ElasticNet, ElasticNetCV
        from sklearn.model_selection import PredefinedSplit

        if alpha != "auto":
            model = ElasticNet(alpha=float(alpha), l1_ratio=l1_ratio, max_iter=max_iter)
            return Learned(model.fit(Z, y).coef_, {})
        folds: Any = 5
        if inner is not None and len(np.unique(inner)) > 1:
            folds = PredefinedSplit(np.unique(inner, return_inverse=True)[1].ravel())
        search = ElasticNetCV(l1_ratio=l1_ratio, cv=folds, max_iter=max_iter).fit(Z, y)
        return Learned(search.coef_, {"alpha": float(search.alpha_)})

    return LinearRegressor(learn)
