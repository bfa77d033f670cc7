"""Late fusions as graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from headstock.heads.fusion.gate import Gated
from headstock.heads.fusion.mean import FLOOR, Mean
from headstock.heads.fusion.stacking import Stacked
from headstock.heads.onnx.graph import Graph
from headstock.heads.onnx.kinds import head_graph

__all__ = ["gated", "mean", "stacked"]

Beside = Callable[[Sequence[str]], str]
"""Names of sets -> their columns side by side."""


def mean(g: Graph, members: list[str], fusion: Mean, k: int, beside: Beside) -> str:
    """(n, k): weighted mean of probabilities, or softmax of the weighted sum of logarithms."""
    weights = np.asarray(fusion.weights_, dtype=np.float64)
    logs = fusion.kind != "mean"
    parts = [
        g("Mul", _log(g, p) if logs else p, g.constant(w)) for p, w in zip(members, weights)
    ]  # fmt: skip
    total = g("Sum", *parts)
    return g("Softmax", total, axis=1) if logs else g.shares(total)


def stacked(g: Graph, members: list[str], fusion: Stacked, k: int, beside: Beside) -> str:
    """(n, k): a head on centred log-probabilities, and on the features where it reads them."""
    if fusion.weighted_ is not None:
        return mean(g, members, fusion.weighted_, k, beside)
    parts = []
    for p in members:
        logs = _log(g, p)
        parts.append(g("Sub", logs, g.total(logs, 1, "ReduceMean")))
    x = g.cast(g("Concat", *parts, axis=1), np.float32)
    if fusion.wants_features:
        x = g("Concat", x, beside(fusion.reads), axis=1)
    return g.spread(head_graph(g, x, fusion.head_, "fusion stacked"), fusion.columns_, k)


def gated(g: Graph, members: list[str], fusion: Gated, k: int, beside: Beside) -> str:
    """(n, k): the second system's answer where the first is less sure than the threshold."""
    first, second = members[fusion.first_], members[fusion.second_]
    unsure = g("Less", g.total(first, 1, "ReduceMax"), g.constant(fusion.threshold_, np.float64))
    return g("Where", unsure, second, first)


def _log(g: Graph, proba: str) -> str:
    return g("Log", g("Max", proba, g.constant(FLOOR, np.float64)))
