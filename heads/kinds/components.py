"""Principal components of wide sets, for heads that look at one column at a time.

A column of an embedding says little by itself; its first components say most of what there is in
few columns that do not repeat each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from headstock.heads.kinds.scaling import WIDE
from headstock.store.errors import BundleError

__all__ = ["COMPONENTS", "Components", "arrays_of", "components_from", "pieces", "wanted"]

COMPONENTS = 96
"""Of a set of at least ``WIDE`` columns, where the user does not say."""
ROWS = 4096
"""Random training rows that the axes are found in: on one fold of the reference workload all 11,042
gave LightGBM a log-loss of .0977, 4,096 of them .0983, 2,048 .1045."""


class Components:
    """mean (d,) and axes (d, c) float64, orthonormal: a row's components are (x - mean) @ axes."""

    def __init__(self, mean: np.ndarray, axes: np.ndarray) -> None:
        self.mean, self.axes = mean, axes

    @classmethod
    def of(cls, X: np.ndarray, count: int, seed: int) -> Components:
        """The first ``count`` (at most n - 1 and d) of X (n, d), by randomised subspace iteration
        (Halko, Martinsson, Tropp 2011; scikit-learn's) on at most ``ROWS`` of the rows."""
        from sklearn.decomposition import PCA

        if len(X) > ROWS:
            X = X[np.sort(np.random.default_rng(seed).choice(len(X), ROWS, replace=False))]
        count = max(1, min(count, len(X) - 1, X.shape[1]))
        with np.errstate(invalid="ignore", divide="ignore"):  # shares of no variance at all
            fitted = PCA(count, svd_solver="randomized", iterated_power=2, random_state=seed).fit(X)
        return cls(fitted.mean_.astype(np.float64), fitted.components_.T.astype(np.float64))

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """(m, c) float32 of X (m, d), summed in float64: machines then differ by the last rounding
        at most."""
        out = np.empty((len(X), self.axes.shape[1]), dtype=np.float32)
        for start in range(0, len(X), 1024):
            part = slice(start, start + 1024)
            out[part] = (X[part] - self.mean) @ self.axes
        return out

    def back(self, weights: np.ndarray) -> np.ndarray:
        """(d,) what the columns have of the components' weights (c,): each component's is dealt out
        by the squares of its axis, which sum to 1."""
        return self.axes**2 @ weights


def wanted(components: int | str, width: int) -> int:
    """How many components a set of ``width`` columns is turned into; 0: its columns stay."""
    if components == "auto":
        return COMPONENTS if width >= WIDE else 0
    return int(components) if width > int(components) else 0


def pieces(X: np.ndarray, spans: Mapping[str, slice] | None) -> dict[str, np.ndarray]:
    """The sets of X (n, d) by name, in the order of their columns, each in one piece."""
    order = sorted((spans or {"all": slice(0, X.shape[1])}).items(), key=lambda each: each[1].start)
    return {name: np.ascontiguousarray(X[:, span]) for name, span in order}


def arrays_of(found: Sequence[Components | None]) -> dict[str, np.ndarray]:
    """Arrays of a model file, by the number of the set."""
    kept = {number: c for number, c in enumerate(found) if c is not None}
    return {f"{name}{n}": getattr(c, name) for n, c in kept.items() for name in ("mean", "axes")}


def components_from(
    arrays: Mapping[str, np.ndarray], widths: Sequence[int]
) -> list[Components | None]:
    """What ``arrays_of`` made, for sets of ``widths`` columns. Raises BundleError."""
    out: list[Components | None] = []
    for number, width in enumerate(widths):
        mean, axes = (arrays.get(f"{name}{number}") for name in ("mean", "axes"))
        if mean is None or axes is None:
            out.append(None)
            continue
        if mean.shape != (width,) or axes.ndim != 2 or len(axes) != width:
            raise BundleError("model", "its axes have another width", "fit the model again")
        out.append(Components(mean, axes))
    return out
