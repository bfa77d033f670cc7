"""Principal components of wide sets, for heads that look at one column at a time or at distances.

A column of an embedding says little by itself; its first components say most of what there is in
few columns that do not repeat each other, and leave out the noise of all others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from headstock.heads.solvers.scaling import WIDE, inverse, moments
from headstock.store.errors import BundleError

__all__ = [
    "COMPONENTS",
    "Components",
    "OnComponents",
    "Reduced",
    "arrays_of",
    "components_from",
    "pieces",
    "wanted",
]

COMPONENTS = 96
"""Of a set of at least ``WIDE`` columns, where the user does not say."""
ROWS = 4096
"""Random training rows that the axes are found in: on one fold of the reference workload all 11,042
gave LightGBM a log-loss of .0977, 4,096 of them .0983, 2,048 .1045."""


class Components:
    """mean (d,) and axes (d, c): a row's components are (x - mean) @ axes, in the axes' precision.
    The axes are orthonormal, or those of scaled columns with the columns' factors in them."""

    def __init__(self, mean: np.ndarray, axes: np.ndarray) -> None:
        self.mean, self.axes = mean, axes

    @classmethod
    def of(
        cls, X: np.ndarray, count: int, seed: int, rows: int = ROWS, level: float = 0.0
    ) -> Components:
        """The first ``count`` (at most n - 1 and d) of X (n, d), by randomised subspace iteration
        (Halko, Martinsson, Tropp 2011; scikit-learn's) on at most ``rows`` of the rows. ``level``:
        each column is divided by that power of its standard deviation first (0: not at all, .5 is
        Pareto's scaling, 1 standardises)."""
        from sklearn.decomposition import PCA

        if len(X) > rows:
            X = X[np.sort(np.random.default_rng(seed).choice(len(X), rows, replace=False))]
        count = max(1, min(count, len(X) - 1, X.shape[1]))
        centre, scale = moments(X)
        factor = np.where(scale > 0, inverse(scale) ** level, 0.0)
        # Centred and of one size before it is rounded to float32, whose squares end at 3e38
        Z = X - centre
        Z *= factor
        unit = float(np.sqrt(np.vdot(Z, Z) / Z.size)) or 1.0
        Z *= 1.0 / unit
        Z = Z.astype(np.float32)
        with np.errstate(invalid="ignore", divide="ignore"):  # shares of no variance at all
            fitted = PCA(count, svd_solver="randomized", iterated_power=2, random_state=seed).fit(Z)
        axes = fitted.components_.T.astype(np.float64) * factor[:, None]
        return cls(centre + fitted.mean_ * unit * inverse(factor), axes)

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """(m, c) float32 of X (m, d). Summed in float64, as trees want it, whose thresholds are
        sharp, machines differ by the last rounding at most."""
        out = np.empty((len(X), self.axes.shape[1]), dtype=np.float32)
        for start in range(0, len(X), 256):
            part = slice(start, start + 256)
            out[part] = (X[part] - self.mean).astype(self.axes.dtype, copy=False) @ self.axes
        return out

    def back(self, weights: np.ndarray) -> np.ndarray:
        """(d,) what the columns have of the components' weights (c,): each component's is dealt out
        by the squares of its axis, which sum to 1."""
        return self.axes**2 @ weights


Reduced = tuple[int, Components | None, np.ndarray]
"""The width of a set, its components where it has them, and the columns (n, c) a head sees."""


class OnComponents(ABC):
    """A head that sees some sets by their components.

    ``widths_``: the columns of each set; ``components_``: its components, or None.
    """

    widths_: Sequence[int]
    components_: Sequence[Components | None]

    @abstractmethod
    def reduced(self, x: np.ndarray) -> Reduced:
        """A set's training rows (n, d) as the head is to see them."""

    @abstractmethod
    def fit_sets(self, sets: Sequence[Reduced], y: np.ndarray) -> Any:
        """Fit on what ``reduced`` made of each set, side by side."""

    def take(self, sets: Sequence[Reduced]) -> np.ndarray:
        """Keep the sets' components; the columns side by side (n, c)."""
        self.widths_ = [width for width, _, _ in sets]
        self.components_ = [found for _, found, _ in sets]
        return sets[0][2] if len(sets) == 1 else np.hstack([x for _, _, x in sets])

    @property
    def seen(self) -> list[slice]:
        """Where each set is among the columns that the head sees."""
        both = zip(self.components_, self.widths_, strict=True)
        ends = np.cumsum([0, *(w if found is None else found.axes.shape[1] for found, w in both)])
        return [slice(a, b) for a, b in pairwise(ends.tolist())]

    def columns(self, X: np.ndarray) -> np.ndarray:
        """(m, c): X (m, d) as the head sees it."""
        if not any(self.components_):
            return X
        ends = np.cumsum(self.widths_)
        return np.hstack([
            X[:, end - width : end] if found is None else found(X[:, end - width : end])
            for found, width, end in zip(self.components_, self.widths_, ends, strict=True)
        ])  # fmt: skip


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
