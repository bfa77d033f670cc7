"""Trees and boosted trees as one tree ensemble node."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstock.heads.kinds.boosted import LightGBM, XGBoost
from headstock.heads.kinds.trees import Trees
from headstock.heads.onnx.graph import Graph
from headstock.store.errors import BundleError

__all__ = ["Ensemble", "boosted", "ensemble_of", "trees"]

LEAST = 1e-35
"""LightGBM takes values up to this for 0 (its ``kZeroThreshold``) and puts thresholds beside it."""


@dataclass(frozen=True)
class Ensemble:
    """Binary trees, all nodes one after the other (m of them): ``tree`` the tree's number,
    ``node`` the number inside it, ``left`` and ``right`` such numbers, -1 at a leaf. A row goes
    left when its value is at most (``rule`` BRANCH_LEQ) or below (BRANCH_LT) ``threshold``.
    ``leaf`` (l,) positions of leaves, each adding ``weight`` (l,) to ``target`` (l,); ``start``
    (k,) is what each class begins with."""

    tree: np.ndarray
    node: np.ndarray
    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    rule: str
    leaf: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    start: np.ndarray


def trees(g: Graph, x: str, head: Trees) -> str:
    """(n, c): the mean of the leaves' shares, with half a tree that knows nothing."""
    e = ensemble_of(head)
    said = g("Add", g.cast(_sum(g, x, e), np.float64), g.constant(e.start[None, :]))
    return g.shares(said)


def boosted(g: Graph, x: str, head: LightGBM | XGBoost) -> str:
    """(n, c): softmax of the leaves' sums."""
    e = ensemble_of(head)
    x = g.seen(x, head)
    if isinstance(head, LightGBM):
        zero, least = g.constant(0, np.float32), g.constant(LEAST, np.float32)
        x = g("Where", g("Greater", g("Abs", x), least), x, zero)
    raw = g("Add", g.cast(_sum(g, x, e), np.float64), g.constant(e.start[None, :]))
    return g("Softmax", raw, axis=1)


def ensemble_of(head: Trees | LightGBM | XGBoost) -> Ensemble:
    """Raises BundleError for a tree that a tree ensemble node cannot express."""
    if isinstance(head, Trees):
        return _of_trees(head)
    return _of_lightgbm(head.text_) if isinstance(head, LightGBM) else _of_xgboost(head.text_)


def _of_trees(head: Trees) -> Ensemble:
    sizes, k = np.diff(head.starts_), head.value_.shape[1]
    at, target = np.nonzero((head.left_ < 0)[:, None] & (head.value_ > 0))
    return Ensemble(
        np.repeat(np.arange(len(sizes)), sizes),
        np.arange(len(head.left_)) - np.repeat(head.starts_[:-1], sizes),
        head.left_, head.right_, head.feature_, _down(head.threshold_), "BRANCH_LEQ",
        at, target, head.value_[at, target].astype(np.float64),
        np.full(k, 0.5 / k if len(sizes) > 1 else 0.0),
    )  # fmt: skip


def _down(threshold: np.ndarray) -> np.ndarray:
    """The largest float32 not above each float64: float32 values fall on the same side of it."""
    near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near)


def _of_lightgbm(text: str) -> Ensemble:
    """A text model that ``check_lightgbm`` passed: children below 0 are leaves, numbered ~leaf."""
    head, *blocks = text.split("end of trees")[0].split("\nTree=")
    classes = int(_lines(head)["num_class"])
    if "\naverage_output" in head:
        raise BundleError("LightGBM", "averages its trees, which headstock never asks for")
    parts = []
    for block in blocks:
        told = _lines("number=" + block)
        leaves = int(told["num_leaves"])

        def read(name: str, kind: type, told: dict[str, str] = told) -> np.ndarray:
            return np.array(told.get(name, "").split(), dtype=kind)

        if (read("decision_type", int) & 12 == 4).any():
            what = "takes zeros for missing values, which no ONNX tree does"
            raise BundleError("LightGBM", what, "fit with zero_as_missing off")
        inner = leaves - 1
        left, right = (
            np.where(child < 0, inner + ~child, child)
            for child in (read("left_child", int)[:inner], read("right_child", int)[:inner])
        )
        nothing = np.full(leaves, -1)
        parts.append((
            np.concatenate([left, nothing]), np.concatenate([right, nothing]),
            np.concatenate([read("split_feature", int)[:inner], np.zeros(leaves, int)]),
            np.concatenate([_down(read("threshold", float)[:inner]), np.zeros(leaves, np.float32)]),
            np.concatenate([np.zeros(inner), read("leaf_value", float)]),
        ))  # fmt: skip
    owners = np.arange(len(parts)) % classes
    return _stacked(parts, owners, "BRANCH_LEQ", np.zeros(classes))


def _lines(block: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in block.splitlines())
    return {name: value for name, equals, value in pairs if equals}


def _of_xgboost(text: bytes) -> Ensemble:
    """A JSON model that ``check_xgboost`` passed; a leaf's value stands among the conditions."""
    learner = json.loads(text)["learner"]
    model, said = learner["gradient_booster"]["model"], learner["learner_model_param"]
    start = np.ravel(json.loads(said["base_score"])).astype(np.float64)
    parts = []
    for tree in model["trees"]:
        left = np.array(tree["left_children"])
        values = np.array(tree["split_conditions"], dtype=np.float32)
        leaf = left < 0
        parts.append((
            left, np.array(tree["right_children"]), np.array(tree["split_indices"]),
            np.where(leaf, np.float32(0), values), np.where(leaf, values, 0.0),
        ))  # fmt: skip
    begin = np.broadcast_to(start, int(said["num_class"])).copy()
    return _stacked(parts, np.array(model["tree_info"]), "BRANCH_LT", begin)


def _stacked(
    parts: Sequence[tuple[np.ndarray, ...]], owners: np.ndarray, rule: str, start: np.ndarray
) -> Ensemble:
    """One ensemble from (left, right, feature, threshold, value) of each tree; tree t adds to the
    class ``owners[t]``."""
    left, right, feature, threshold, value = (np.concatenate(column) for column in zip(*parts))
    sizes = [len(part[0]) for part in parts]
    tree = np.repeat(np.arange(len(parts)), sizes)
    leaf = np.flatnonzero(left < 0)
    node = np.concatenate([np.arange(size) for size in sizes])
    return Ensemble(
        tree, node, left, right, feature, threshold.astype(np.float32), rule,
        leaf, owners[tree[leaf]], value[leaf].astype(np.float64), start,
    )  # fmt: skip


def _sum(g: Graph, x: str, e: Ensemble) -> str:
    """(n, k) float32: what the leaves that a row reaches add up to."""
    leaf = e.left < 0
    return g(
        "TreeEnsembleRegressor", x, domain="ai.onnx.ml",
        n_targets=len(e.start), aggregate_function="SUM", post_transform="NONE",
        nodes_treeids=e.tree.tolist(), nodes_nodeids=e.node.tolist(),
        nodes_featureids=np.where(leaf, 0, e.feature).tolist(),
        nodes_modes=np.where(leaf, "LEAF", e.rule).tolist(),
        nodes_values=np.where(leaf, 0, e.threshold).astype(np.float32).tolist(),
        nodes_truenodeids=np.where(leaf, 0, e.left).tolist(),
        nodes_falsenodeids=np.where(leaf, 0, e.right).tolist(),
        nodes_missing_value_tracks_true=[0] * len(e.tree),
        target_treeids=e.tree[e.leaf].tolist(), target_nodeids=e.node[e.leaf].tolist(),
        target_ids=e.target.tolist(), target_weights=e.weight.tolist(),
    )  # fmt: skip
