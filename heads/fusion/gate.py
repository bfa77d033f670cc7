"""Confidence gate: rows the first system is least sure of are answered by the second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headstock.heads.metrics.table import Metric
from headstock.heads.statistics.compare import compare
from headstock.heads.statistics.familywise import adjusted
from headstock.heads.statistics.intervals import LEVEL

__all__ = ["Gated", "gate_report", "gate_verdicts"]


CANDIDATES = 5
SHARES = np.linspace(0.02, 0.6, 16)


class Gated:
    """Which system answers first, which second, and below which confidence: the choice with the
    most right answers on the held-out rows P (n, s, k) it is fitted on. Never handing over is among
    the choices, and of equal ones that which hands over least is taken."""

    kind = "gated"

    def __init__(self, metric: Metric | None = None) -> None:
        self._metric = metric

    def fit(
        self, P: np.ndarray, codes: np.ndarray, inner: np.ndarray, X: np.ndarray | None = None
    ) -> Gated:
        if self._metric is not None:
            return self._by_metric(self._metric, P, codes)
        n, s, _ = P.shape
        right = (P.argmax(axis=2) == codes[:, None]).astype(np.int64)
        best = (-1, 0)
        for first in range(s):
            order, confidence = hand_over_order(P[:, first])
            cut = np.append(np.flatnonzero(np.diff(confidence) > 0) + 1, n)  # ties go together
            for second in range(s):
                gain = np.cumsum(right[order, second] - right[order, first])[cut - 1]
                k = int(cut[gain.argmax()]) if second != first and gain.max() > 0 else 0
                score = (int(right[:, first].sum()) + (int(gain.max()) if k else 0), -k)
                if score > best:
                    best = score
                    self.first_, self.second_, self.handed_ = first, second, k
                    # half way to the next row's confidence; outside 0 to 1 for none and all
                    self.threshold_ = -1.0 if k == 0 else 2.0
                    if 0 < k < n:
                        self.threshold_ = float(confidence[k - 1] + confidence[k]) / 2
        return self

    def _by_metric(self, metric: Metric, P: np.ndarray, codes: np.ndarray) -> Gated:
        """The same choice by another metric: among the CANDIDATES systems that are best alone, at
        SHARES of the rows handed over."""
        alone = np.array([metric.sign * metric.score(one, codes) for one in P.swapaxes(0, 1)])
        alone = np.where(np.isfinite(alone), alone, -np.inf)
        able = np.argsort(-alone, kind="stable")[:CANDIDATES].tolist()
        self.first_, self.second_, self.handed_, self.threshold_ = able[0], able[0], 0, -1.0
        best = alone[able[0]]
        for first in able:
            confidence = P[:, first].max(axis=1)
            for threshold in [*np.unique(np.quantile(confidence, SHARES)), 2.0]:
                unsure = confidence < threshold
                for second in able if unsure.any() else ():
                    if second == first:
                        continue
                    joined = np.where(unsure[:, None], P[:, second], P[:, first])
                    found = metric.sign * metric.score(joined, codes)
                    if found > best:
                        best, self.first_, self.second_ = found, first, second
                        self.handed_, self.threshold_ = int(unsure.sum()), float(threshold)
        return self

    def predict(self, P: np.ndarray, X: np.ndarray | None = None) -> np.ndarray:
        out = P[:, self.first_].copy()
        unsure = out.max(axis=1) < self.threshold_
        out[unsure] = P[unsure, self.second_]
        return out

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        choice = np.array([self.first_, self.second_, self.threshold_], dtype=np.float64)
        return {}, {"choice": choice}

    @classmethod
    def from_state(
        cls, kind: str, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> Gated:
        fusion = cls()
        first, second, threshold = arrays["choice"]
        fusion.first_, fusion.second_, fusion.threshold_ = int(first), int(second), float(threshold)
        return fusion


def hand_over_order(first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the first system's (n, k) probabilities, least sure first, and their confidences."""
    confidence = first.max(axis=1)
    order = np.argsort(confidence, kind="stable")
    return order, confidence[order]


def gate_report(
    P: np.ndarray,
    nested: np.ndarray,
    codes: np.ndarray,
    members: Sequence[str],
    groups: np.ndarray | None = None,
    metric: Metric | None = None,
) -> dict[str, Any]:
    """What the gate does, as plain data. With a ``metric`` its choice aims at that; the figures
    count right answers all the same.

    ``curve``: [k, accuracy] when the k least sure rows are handed over, for the choice made on all
    held-out rows of the first repeat of P (r, n, s, k). Its best point is ``apparent_accuracy`` and
    flatters itself, for k was chosen to make it. ``nested_accuracy`` is of ``nested`` (r, n, k),
    where each fold's rows were gated by a choice made on the others: the figure to believe.
    ``best`` is the best of its systems alone, chosen on these rows too, so that ``against_best``
    rather spares the system than the gate. The verdict is that of ``gate_verdicts``.
    """
    gate = Gated(metric).fit(P[0], codes, codes)
    right = P[0].argmax(axis=2) == codes[:, None]
    order, _ = hand_over_order(P[0, :, gate.first_])
    n = len(codes)
    first = int(right[:, gate.first_].sum())
    # with the gate off there is no second: the curve shows what the best other would do
    others = [i for i in range(P.shape[2]) if i != gate.first_]
    second = gate.second_ if gate.handed_ else max(others, key=lambda i: right[:, i].sum())
    gain = np.cumsum(right[order, second].astype(int) - right[order, gate.first_])
    points = sorted({0, gate.handed_, n, *np.unique(np.geomspace(1, n, 60).astype(int)).tolist()})
    curve = [[int(k), (first + (int(gain[k - 1]) if k else 0)) / n] for k in points]
    alone = (P.argmax(axis=3) == codes[:, None]).mean(axis=(0, 1))
    best = int(alone.argmax())
    return {
        "first": members[gate.first_],
        "second": members[second],
        "k": gate.handed_,
        "share": gate.handed_ / n,
        "threshold": gate.threshold_,
        "first_accuracy": first / n,
        "best": members[best],
        "best_accuracy": float(alone[best]),
        "apparent_accuracy": (first + (int(gain[gate.handed_ - 1]) if gate.handed_ else 0)) / n,
        "nested_accuracy": float((nested.argmax(axis=2) == codes).mean()),
        "against_best": compare(nested, P[:, :, best], codes, groups),
        "curve": curve,
    }


def gate_verdicts(
    reports: Sequence[dict[str, Any]],
    right: np.ndarray,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> None:
    """Write ``adjusted_p`` and ``verdict`` into each report: whether the gate is better than the
    best of its systems alone, adjusted for the number of gates, whole groups (n,) kept together.

    right (n, 2 g): how often each gate, and then the best of its systems, has each row right; NaN
    where it does not answer.
    """
    pairs = np.arange(2 * len(reports)).reshape(-1, 2)
    for report, p in zip(reports, adjusted(right, pairs, groups, seed).tolist(), strict=True):
        against = report["against_best"]
        gained = against.accuracy_difference.value
        if against.repeats == 1:
            p = max(p, against.mcnemar_p)
        if gained > 0 and p < LEVEL:
            verdict = "the gate helps"
        elif gained > 0:
            verdict = f"the gate may help: not distinguishable from {report['best']} alone"
        elif report["apparent_accuracy"] > report["best_accuracy"]:
            verdict = "the gate does not help: what it gained was gained by choosing k"
        else:
            verdict = "the gate does not help"
        report |= {"adjusted_p": p, "verdict": verdict}
