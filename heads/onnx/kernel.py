"""Kernel support vector machines as graphs: kernel, sigmoids, pairwise coupling."""

from __future__ import annotations

from typing import Any

import numpy as np

from headstock.heads.kinds.svm import KernelSVM, class_pairs
from headstock.heads.onnx.graph import Graph

__all__ = ["kernel_svm"]


def kernel_svm(g: Graph, x: str, head: KernelSVM) -> str:
    """(n, c) probabilities coupled from those of c(c-1)/2 calibrated two-class machines."""
    kernel = _kernel(g, g.scaled(x, head.scaler_), head)
    kind = head.coefficients_.dtype
    kernel = kernel if kind == np.float32 else g.cast(kernel, kind)
    margins = g("MatMul", kernel, g.constant(head.coefficients_))
    margins = g("Add", g.cast(margins, np.float64), g.constant(head.bias_, np.float64))
    if not len(head.sigmoids_):  # a machine for each class, not for each pair
        sharp = g("Mul", margins, g.constant(head.multiplier_, np.float64))
        return g("Softmax", sharp, axis=1)
    slope, shift = np.ascontiguousarray(head.sigmoids_.T, dtype=np.float64)
    turned = g("Add", g("Mul", margins, g.constant(slope)), g.constant(shift))
    said = _coupled(g, g("Sigmoid", turned), len(head.classes_))
    sharp = g("Mul", g("Log", said), g.constant(head.multiplier_, np.float64))
    return g("Softmax", sharp, axis=1)


def _kernel(g: Graph, z: str, head: KernelSVM) -> str:
    """(n, s) float32 of scaled rows against the support vectors."""
    gamma = np.float32(head.gamma / head.scaler_.blocks)
    vectors = np.asarray(head.vectors_, dtype=np.float32)
    products = g("MatMul", z, g.constant(vectors.T))
    if head.kernel == "poly":
        grown = g("Add", g("Mul", products, g.constant(gamma)), g.constant(1, np.float32))
        return g("Pow", grown, g.constant(head.degree, np.float32))
    own = g("ReduceSumSquare", z, g.constant([1], np.int64))
    both = g("Add", own, g.constant(np.einsum("ij,ij->i", vectors, vectors)[None, :]))
    apart = g("Sub", both, g("Mul", products, g.constant(2, np.float32)))
    return g("Exp", g("Mul", g("Relu", apart), g.constant(-gamma)))


def _coupled(g: Graph, pairwise: str, k: int) -> str:
    """(n, k) from (n, k(k-1)/2), the same minimum as ``calibration.couple``.

    ONNX has no solver. With Q of Wu, Lin and Weng (2004), the minimum under sum p = 1 is where
    (Q + 11') p is the same for all classes; that matrix is positive definite (only a p whose
    entries share a sign can have Qp = 0), so Gauss-Jordan elimination needs no pivoting.
    """
    low, high = g.constant(1e-7, np.float64), g.constant(1 - 1e-7, np.float64)
    first = g("Clip", pairwise, low, high)
    one = g.constant(1.0, np.float64)
    flat = g("Concat", first, g("Sub", one, first), axis=1)
    nothing = g("Mul", g.total(first, 1), g.constant(0.0, np.float64))
    pairs = class_pairs(k)
    where = np.full((k, k), 2 * len(pairs), dtype=np.int64)
    for p, (i, j) in enumerate(pairs):
        where[i, j], where[j, i] = p, len(pairs) + p
    padded = g("Concat", flat, nothing, axis=1)
    r = g("Gather", padded, g.constant(where), axis=1)  # (n, k, k), 0 on the diagonal
    eye = g.constant(np.eye(k))
    products = g("Mul", g("Transpose", r, perm=[0, 2, 1]), r)
    squares = g("ReduceSumSquare", r, g.constant([1], np.int64))  # (n, 1, k): sums over j of r_ji^2
    system = g("Add", g("Sub", g("Mul", squares, eye), products), one)
    ones = g("Mul", g.total(system, 2), g.constant(0.0, np.float64))
    solved = _solved(g, g("Concat", system, g("Add", ones, one), axis=2), eye, k)
    floor = g.constant(1e-12, np.float64)
    return g.shares(g("Max", g.shares(solved), floor))


def _solved(g: Graph, system: str, eye: str, k: int) -> str:
    """(n, k) solutions of the k x k systems whose right sides are the last columns of (n, k, k+1).

    Step i divides row i by its pivot and takes it from every other row: A - (A_i - e_i) a_i', with
    A_i the column and a_i the row so divided.
    """
    from onnx import TensorProto, helper

    inner = Graph()
    inner._count = 1_000_000 + g._count  # names inside a loop may not hide those outside
    i, going, a = "/loop/i", "/loop/going", "/loop/a"
    row = inner("Gather", a, i, axis=1)
    pivot = inner("Unsqueeze", inner("Gather", row, i, axis=1), inner.constant([1], np.int64))
    divided = inner("Div", row, pivot)
    column = inner("Sub", inner("Gather", a, i, axis=2), inner("Gather", eye, i, axis=0))
    taken = inner(
        "Mul",
        inner("Unsqueeze", column, inner.constant([2], np.int64)),
        inner("Unsqueeze", divided, inner.constant([1], np.int64)),
    )
    left = inner("Sub", a, taken)
    still = inner("Identity", going)
    shape: Any = ["n", k, k + 1]
    body = helper.make_graph(
        inner.nodes,
        "elimination",
        [
            helper.make_tensor_value_info(i, TensorProto.INT64, []),
            helper.make_tensor_value_info(going, TensorProto.BOOL, []),
            helper.make_tensor_value_info(a, TensorProto.DOUBLE, shape),
        ],
        [
            helper.make_tensor_value_info(still, TensorProto.BOOL, []),
            helper.make_tensor_value_info(left, TensorProto.DOUBLE, shape),
        ],
        inner.constants,
    )
    done = g("Loop", g.constant(k, np.int64), g.constant(True), system, body=body)
    return g("Gather", done, g.constant(k, np.int64), axis=2)
