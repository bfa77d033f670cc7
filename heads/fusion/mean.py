"""Means of the systems' probabilities: equal weights, or those that fit the labels best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import logsumexp, softmax

from headstock.heads.metrics.table import Metric
from headstock.heads.statistics.measured import gained

__all__ = ["FLOOR", "Mean"]

FLOOR = 1e-6
"""Logarithms are taken of probabilities no smaller: a head's certainty is bounded evidence."""


class Mean:
    """Arithmetic or geometric mean of the systems.

    rule ``mean``: arithmetic, equal weights. ``product``: normalised geometric mean, equal weights.
    ``weighted``: softmax(sum of w_s log p_s), a product with weights w >= 0 under which the
    held-out labels are most likely (a concave likelihood: the start does not matter). It can turn a
    system down, off, or, where all are timid, up; an arithmetic mixture could only mix. With a
    metric the weights go on from there to where they are best by it, if that is clearly better.
    """

    def __init__(self, rule: str, metric: Metric | None = None) -> None:
        self.kind, self._metric = rule, metric

    def fit(
        self, P: np.ndarray, codes: np.ndarray, inner: np.ndarray, X: np.ndarray | None = None
    ) -> Mean:
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
            if self._metric is not None:
                self.weights_ = _climbed(self._metric, best.x, P, codes)
        return self

    def predict(self, P: np.ndarray, X: np.ndarray | None = None) -> np.ndarray:
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


STEPS = (0.0, 0.5, 0.8, 1.25, 2.0)
"""Factors of a weight that are tried, one weight after the other."""
ROUNDS = 3
SURE = 2.0


def _climbed(metric: Metric, weights: np.ndarray, P: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Weights from which no step on one of them is better by the metric, or ROUNDS rounds on, where
    they gain more than SURE standard errors over those that were given, else these: what only a few
    rows decide is better known from the likelihood. Their sum stays, so that what ranks rows alone
    does not make them sharp."""
    logs, total = np.log(np.maximum(P, FLOOR)), weights.sum()

    def value(w: np.ndarray) -> float:
        found = metric.sign * metric.score(softmax(np.einsum("s,nsk->nk", w, logs), axis=1), codes)
        return found if np.isfinite(found) else -np.inf

    start, best = weights, value(weights)
    for _ in range(ROUNDS):
        before = best
        for s in range(len(weights)):
            for step in STEPS:
                tried = weights.copy()
                tried[s] *= step
                if not tried.sum():
                    continue
                tried *= total / tried.sum()
                if (found := value(tried)) > best:
                    best, weights = found, tried
        if best == before:
            break
    moved, stayed = (
        softmax(np.einsum("s,nsk->nk", w, logs), axis=1)[None] for w in (weights, start)
    )
    return weights if metric.sign * gained(metric, moved, stayed, codes) > SURE else start
