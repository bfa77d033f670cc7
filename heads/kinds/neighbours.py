"""k-nearest neighbours by cosine similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headstock.heads.codes import encode_labels
from headstock.heads.kinds.components import (
    Components,
    OnComponents,
    Reduced,
    arrays_of,
    components_from,
    pieces,
    wanted,
)
from headstock.heads.kinds.strategies import OnceReduced
from headstock.heads.solvers.dense import STRIP, Dense, dense
from headstock.heads.solvers.loops import loops
from headstock.heads.solvers.scaling import Blocks
from headstock.store.errors import BundleError

__all__ = ["Neighbours", "knn", "nearest", "votes"]

LEVEL = 0.75
"""The power of its standard deviation that a column of a wide set is divided by. On the reference
workload (one fold of 13,802 rows, 96 components) 1 gave a log-loss of .364, .75 .360, .5 .378, on
spoken digits' pictures by speaker .569, .545, .553; whole columns, as scikit-learn takes them
behind a StandardScaler, .386 and .576."""
ROWS = 2048
"""Random training rows that axes are found in; 4,096 gave .357 for .360, in twice the time."""
PIECE = 4096
"""Training rows whose similarities with ``STRIP`` rows are in memory at once."""


def nearest(
    asked: np.ndarray, theirs: Sequence[Dense], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of the rows ``theirs`` (n, d), in pieces, the ``count`` with the largest products with each
    row of ``asked`` (m, d): their numbers and the products, (m, count) each."""
    near = np.zeros((len(asked), count), dtype=np.int64)
    close = np.full((len(asked), count), -np.inf, dtype=np.float32)
    first = 0
    for piece in theirs:
        loops().nearest(piece.across(asked), first, near, close)
        first += piece.shape[0]
    return near, close


def votes(
    near: np.ndarray,
    close: np.ndarray,
    codes: np.ndarray,
    k: int,
    sharpness: float,
    prior: np.ndarray,
) -> np.ndarray:
    """(m, k) shares of the votes of each row's neighbours ``near`` (m, c), by row number, whose
    similarities are ``close`` (m, c).

    A neighbour votes with exp(sharpness * (its similarity - the nearest's)); half a vote is spread
    over the classes by ``prior`` (k,), so that no probability is zero.
    """
    close = close.astype(np.float64)
    weight = np.exp(sharpness * (close - close.max(axis=1, keepdims=True)))
    cells = np.arange(len(near))[:, None] * k + codes[near]
    cast = np.bincount(cells.ravel(), weight.ravel(), len(near) * k)
    out = cast.reshape(-1, k) + 0.5 * prior
    return out / out.sum(axis=1, keepdims=True)


class Neighbours(OnComponents):
    """Votes of the nearest training rows; similarity is the cosine of all sets' columns side by
    side, scaled so that the mean squared norm of a set's rows is 1."""

    kind = "neighbours"
    wants = frozenset({"spans"})
    parallel = True
    strategy = OnceReduced()
    device = "cpu"

    def __init__(
        self, neighbours: int, sharpness: float, components: int | str = 0, seed: int = 0
    ) -> None:
        self.neighbours, self.sharpness = neighbours, sharpness
        self._components, self._seed = components, seed

    def fit(
        self, X: np.ndarray, y: np.ndarray, spans: Mapping[str, slice] | None = None
    ) -> Neighbours:
        return self.fit_sets([self.reduced(x) for x in pieces(X, spans).values()], y)

    def reduced(self, x: np.ndarray) -> Reduced:
        """A set's training rows (n, d) as distances are to see them: its components, or its columns
        as ``Blocks`` will scale them."""
        count = wanted(self._components, x.shape[1])
        if not count:
            return x.shape[1], None, x
        found = Components.of(x, count, self._seed, rows=ROWS, level=LEVEL)
        found.axes = found.axes.astype(np.float32)
        columns = found(x)
        length = np.float32(np.sqrt(np.mean(np.einsum("ij,ij->i", columns, columns))) or 1.0)
        found.axes /= length
        columns /= length
        return x.shape[1], found, columns

    def fit_sets(self, sets: Sequence[Reduced], y: np.ndarray) -> Neighbours:
        """Keep what ``reduced`` made of each set, side by side."""
        self.classes_, self.codes_ = encode_labels(y)
        X, ends = self.take(sets), np.cumsum([x.shape[1] for _, _, x in sets])
        mean, scale = np.zeros(ends[-1]), np.ones(ends[-1])
        for (_, found, x), end in zip(sets, ends):
            if found is None:
                own = Blocks.of(x)
                mean[end - x.shape[1] : end], scale[end - x.shape[1] : end] = own.mean, own.scale
        self.scaler_ = Blocks(mean, scale, np.array([0, *ends[:-1]]))
        self.rows_ = self.unit(X)
        return self

    def unit(self, columns: np.ndarray) -> np.ndarray:
        """(m, c) rows of length 1, of what ``columns`` gives."""
        Z = self.scaler_(columns)
        Z /= np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-12)
        return Z

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        k, n = len(self.classes_), len(self.rows_)
        prior = np.bincount(self.codes_, minlength=k) / n
        pieces = [self.rows_[start : start + PIECE] for start in range(0, n, PIECE)]
        theirs = [dense(piece, self.device) for piece in pieces]
        asked, out = self.unit(self.columns(X)), np.empty((len(X), k))
        for start in range(0, len(X), STRIP):
            part = slice(start, start + STRIP)
            found = nearest(asked[part], theirs, min(self.neighbours, n))
            out[part] = votes(*found, self.codes_, k, self.sharpness, prior)
        return out

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        meta = {
            "neighbours": self.neighbours,
            "sharpness": self.sharpness,
            "widths": list(self.widths_),
        }
        return meta, {
            "mean": self.scaler_.mean,
            "scale": self.scaler_.scale,
            "starts": self.scaler_.starts,
            "rows": self.rows_,
            "codes": self.codes_,
            **{f"set_{name}": value for name, value in arrays_of(self.components_).items()},
        }

    @classmethod
    def from_state(
        cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> Neighbours:
        head = cls(int(meta["neighbours"]), float(meta["sharpness"]))
        head.widths_ = [int(width) for width in meta["widths"]]
        own = {name[4:]: value for name, value in arrays.items() if name.startswith("set_")}
        head.components_ = components_from(own, head.widths_)
        head.scaler_ = Blocks(arrays["mean"], arrays["scale"], arrays["starts"])
        head.rows_, head.codes_ = arrays["rows"], arrays["codes"]
        head.classes_ = np.arange(k)
        if head.codes_.min() < 0 or head.codes_.max() >= k or len(head.codes_) != len(head.rows_):
            raise BundleError("knn", "a neighbour's class does not exist", "fit the model again")
        return head


def knn(
    seed: int, n_neighbors: int = 10, sharpness: float = 10.0, n_components: int | str = "auto"
) -> Neighbours:
    """k-nearest neighbours by cosine, nearer ones weighing more. n_neighbors: how many vote;
    sharpness: how fast a vote falls with the distance (0: all equal); n_components: of each set
    that has more columns, which are levelled first; ``auto``: 96 from 512 columns, 0: never."""
    if not isinstance(n_neighbors, int) or n_neighbors < 1:
        raise ValueError("n_neighbors must be a whole number from 1")
    if not sharpness >= 0:
        raise ValueError("sharpness must be 0 or more")
    return Neighbours(n_neighbors, sharpness, n_components, seed)
