"""Fusion: many systems' probabilities for a row into one system's.

``early`` and ``learned`` are no functions of probabilities: they are one head on several sets, side
by side or with a branch for each. The others take P (n, s, k), the held-out probabilities of s
systems, and learn from them alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from scipy.special import logsumexp, softmax

from headstock.heads.gate import Gated
from headstock.store.errors import OptionError

__all__ = ["FUSIONS", "Fusion", "Mean", "Stacked", "cross_fuse", "fuse_on", "make_fusion"]

FLOOR = 1e-6
"""Logarithms are taken of probabilities no smaller: a head's certainty is bounded evidence."""


class Fusion(Protocol):
    """``fit`` and ``predict`` on (n, s, k); ``state`` and ``from_state`` as heads have them."""

    kind: str

    def fit(self, P: np.ndarray, codes: np.ndarray, inner: np.ndarray) -> Any: ...

    def predict(self, P: np.ndarray) -> np.ndarray:
        """(m, k), rows summing to 1."""
        ...

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]: ...


class Mean:
    """Arithmetic or geometric mean of the systems.

    rule ``mean``: arithmetic, equal weights. ``product``: normalised geometric mean, equal weights.
    ``weighted``: softmax(sum of w_s log p_s), a product with weights w >= 0 under which the
    held-out labels are most likely (a concave likelihood: the start does not matter). It can turn a
    system down, off, or, where all are timid, up; an arithmetic mixture could only mix.
    """

    def __init__(self, rule: str) -> None:
        self.kind = rule

    def fit(self, P: np.ndarray, codes: np.ndarray, inner: np.ndarray) -> Mean:
        n, s, _ = P.shape
        self.weights_ = np.full(s, 1.0 / s)
        if self.kind == "weighted":
            from scipy.optimize import minimize

            logs = np.log(np.maximum(P, FLOOR))
            own = logs[np.arange(n), :, codes]

            def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
                z = np.einsum("s,nsk->nk", w, logs)
                total = logsumexp(z, axis=1)
                expected = np.einsum("nk,nsk->ns", np.exp(z - total[:, None]), logs)
                pull = 1e-3 * (w - 1.0 / s)  # decides where the likelihood does not
                value = float((total - own @ w).mean()) + float(pull @ (w - 1.0 / s)) / 2
                return value, (expected - own).mean(axis=0) + pull

            best = minimize(
                loss, self.weights_, jac=True, method="L-BFGS-B", bounds=[(0.0, 10.0)] * s
            )
            self.weights_ = best.x
        return self

    def predict(self, P: np.ndarray) -> np.ndarray:
        if self.kind == "mean":
            out = np.einsum("s,nsk->nk", self.weights_, P)
            return out / out.sum(axis=1, keepdims=True)
        return softmax(np.einsum("s,nsk->nk", self.weights_, np.log(np.maximum(P, FLOOR))), axis=1)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {}, {"weights": self.weights_}

    @classmethod
    def from_state(
        cls, kind: str, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> Mean:
        fusion = cls(kind)
        fusion.weights_ = arrays["weights"]
        return fusion


class Stacked:
    """Multinomial logistic regression on the systems' log-probabilities."""

    kind = "stacked"

    def __init__(self, C: float = 0.1) -> None:
        self._C = C

    @staticmethod
    def _features(P: np.ndarray) -> np.ndarray:
        logs = np.log(np.maximum(P, FLOOR))
        logs -= logs.mean(axis=2, keepdims=True)  # centred log-ratios: a simplex has no zero point
        return logs.reshape(len(P), -1).astype(np.float32)

    def fit(self, P: np.ndarray, codes: np.ndarray, inner: np.ndarray) -> Stacked:
        from headstock.heads.linear import logistic

        self.k_ = P.shape[2]
        self.head_ = logistic(0, C=self._C).fit(self._features(P), codes)
        self.columns_ = np.asarray(self.head_.classes_)
        return self

    def predict(self, P: np.ndarray) -> np.ndarray:
        out = np.zeros((len(P), self.k_))
        out[:, self.columns_] = self.head_.predict_proba(self._features(P))
        return out

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        meta, arrays = self.head_.state()
        return meta, {**arrays, "columns": self.columns_}

    @classmethod
    def from_state(
        cls, kind: str, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> Stacked:
        from headstock.heads.linear import Linear

        fusion = cls()
        fusion.k_, fusion.columns_ = k, arrays["columns"]
        fusion.head_ = Linear.from_state(meta, arrays, len(fusion.columns_))
        return fusion


FUSIONS: Mapping[str, Callable[[], Fusion] | None] = {
    "early": None,
    "mean": lambda: Mean("mean"),
    "weighted": lambda: Mean("weighted"),
    "product": lambda: Mean("product"),
    "stacked": Stacked,
    "gated": Gated,
    "learned": None,
}
KINDS: Mapping[str, Any] = {
    "mean": Mean,
    "weighted": Mean,
    "product": Mean,
    "stacked": Stacked,
    "gated": Gated,
}


def make_fusion(name: str) -> Fusion:
    """A fresh late fusion. Raises OptionError that names the fusions that exist."""
    make = FUSIONS.get(name)
    if make is None:
        raise OptionError(f"fusion {name}", "is no late fusion", f"one of {', '.join(KINDS)}")
    return make()


def cross_fuse(name: str, P: np.ndarray, codes: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """(r, n, k): each row fused by a fusion that was fitted on the rows of the other folds.

    P (r, n, s, k) are out-of-fold already, so a row's fused probability never saw its label in
    the fusion. Its members did not see it either, but the members that answered the fusion's
    training rows had it among theirs: what that shares is a whole training set's knowledge, not the
    row's own answer, as in every stack scored on its own folds.
    """
    out = np.empty((P.shape[0], P.shape[1], P.shape[3]))
    for r in range(P.shape[0]):
        for fold in np.unique(folds[r]):
            test = folds[r] == fold
            train = ~test
            fusion = make_fusion(name).fit(P[r, train], codes[train], folds[r, train])
            out[r, test] = fusion.predict(P[r, test])
    return out


def fuse_on(
    name: str, P: np.ndarray, codes: np.ndarray, inner: np.ndarray, fresh: np.ndarray
) -> np.ndarray:
    """(m, k) for new rows ``fresh`` (m, s, k), by a fusion fitted on held-out P (n, s, k)."""
    return make_fusion(name).fit(P, codes, inner).predict(fresh)


def listing(match: str = "") -> list[str]:
    """The names of the table that hold ``match``."""
    return [name for name in FUSIONS if match in name]
