"""Linear heads, small networks and nearest neighbours as graphs."""

from __future__ import annotations

import numpy as np

from headstock.heads.kinds.linear import Linear
from headstock.heads.kinds.neighbours import Neighbours
from headstock.heads.kinds.neural import Network
from headstock.heads.onnx.graph import Graph

__all__ = ["linear", "neighbours", "network"]


def linear(g: Graph, x: str, head: Linear) -> str:
    """(n, c) of softmax(a * (standardised X @ W + b))."""
    product = g("MatMul", g.scaled(x, head.scaler_), g.constant(head.weights_, np.float32))
    scores = g("Add", g.cast(product, np.float64), g.constant(head.bias_, np.float64))
    sharp = g("Mul", scores, g.constant(head.multiplier_, np.float64))
    return g("Softmax", sharp, axis=1)


def network(g: Graph, x: str, head: Network) -> str:
    """(n, c) of the branches' hidden layers, the joining one where there is one, and softmax."""
    z, branches = g.scaled(x, head.scaler_), len(head.cuts_) - 1
    axis = g.constant([1], np.int64)

    def layer(value: str, number: int) -> str:
        product = g("MatMul", value, g.constant(head.weights_[number], np.float32))
        return g("Add", product, g.constant(head.biases_[number], np.float32))

    hidden = []
    for number, (a, b) in enumerate(zip(head.cuts_[:-1], head.cuts_[1:])):
        ends = g.constant([int(a)], np.int64), g.constant([int(b)], np.int64)
        hidden.append(g("Relu", layer(g("Slice", z, *ends, axis), number)))
    joined = g("Concat", *hidden, axis=1)
    for number in range(branches, len(head.weights_) - 1):
        joined = g("Relu", layer(joined, number))
    scores = layer(joined, len(head.weights_) - 1)
    return g("Softmax", g.cast(scores, np.float64), axis=1)


def neighbours(g: Graph, x: str, head: Neighbours) -> str:
    """(n, c) of the votes of the nearest rows, each weighing by its distance to the nearest."""
    z, k = g.scaled(g.seen(x, head), head.scaler_), len(head.classes_)
    length = g("Max", g("ReduceL2", z, g.constant([1], np.int64)), g.constant(1e-12, np.float32))
    unit = g("Div", z, length)
    similarity = g("MatMul", unit, g.constant(head.rows_.T, np.float32))
    count = min(head.neighbours, len(head.rows_))
    near, which = g.several("TopK", similarity, g.constant([count], np.int64), outputs=2, axis=1)
    wide = g.cast(near, np.float64)
    behind = g("Sub", wide, g.total(wide, 1, "ReduceMax"))
    weight = g("Exp", g("Mul", behind, g.constant(head.sharpness, np.float64)))
    codes = g("Gather", g.constant(head.codes_, np.int64), which, axis=0)
    ballots = g("Gather", g.constant(np.eye(k)), codes, axis=0)  # (n, count, c)
    counted = g("Mul", ballots, g("Unsqueeze", weight, g.constant([2], np.int64)))
    votes = g("ReduceSum", counted, g.constant([1], np.int64), keepdims=0)
    prior = 0.5 * np.bincount(head.codes_, minlength=k) / len(head.codes_)
    return g.shares(g("Add", votes, g.constant(prior[None, :], np.float64)))
