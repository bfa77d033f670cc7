"""The tables of heads, one for each target: all that is said of a head in one place.

To add a head, write its function and one entry here; one that a model file is to hold in arrays of
a new kind, an entry of ``KINDS`` besides. How its folds are computed at once stands on the head
itself (``kinds.strategies``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from headstock.store.manifest.target import CLASSES, NUMBER

__all__ = [
    "CLASSES", "HEADS", "KINDS", "NUMBER", "REGRESSORS", "RENAMED", "TARGETS", "HeadSpec", "Kind",
    "class_of",
]  # fmt: skip

WITHIN = "headstock.heads.kinds."
REGRESSION = "headstock.heads.regressors."


@dataclass(frozen=True)
class HeadSpec:
    """make: ``module:function`` of ``f(seed, **options) -> Head``; kind: of ``KINDS``, how a model
    file holds it; grid: {option: values} that ``--tune HEAD`` tries; ranges: {option: range or
    values} that ``--tune HEAD:30`` draws from (see ``draws``)."""

    make: str
    kind: str
    grid: Mapping[str, list[Any]] = field(default_factory=dict)
    ranges: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """made_by: ``module:Class`` that has ``from_state``; graph: ``module:function`` of
    ``heads/onnx`` that draws it, or empty where nothing does."""

    made_by: str
    graph: str = ""


LEAVES: Mapping[str, Any] = {
    "grid": {"num_leaves": [4, 15, 31]},
    "ranges": {"num_leaves": "4..63", "min_child_samples": "3..50", "reg_lambda": "0.1..100"},
}
DEPTHS: Mapping[str, Any] = {
    "grid": {"max_depth": [2, 4, 6]},
    "ranges": {"max_depth": "2..8", "reg_lambda": "0.1..100"},
}
"""What is tried of boosted trees, whatever they learn."""
HEADS: Mapping[str, HeadSpec] = {
    "logistic": HeadSpec(
        make=f"{WITHIN}linear:logistic",
        kind="linear",
        grid={"C": [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0]},
        ranges={"C": "1e-4..10"},
    ),
    "ridge": HeadSpec(
        make=f"{WITHIN}linear:ridge",
        kind="linear",
        grid={"alpha": [0.01, 0.1, 1.0, 10.0]},
        ranges={"alpha": "0.01..100"},
    ),
    "lda": HeadSpec(
        make=f"{WITHIN}discriminant:lda",
        kind="linear",
        grid={"shrinkage": ["auto", 0.05, 0.2, 0.5, 0.9]},
        ranges={"shrinkage": "0.0..0.95"},
    ),
    "linear-svm": HeadSpec(
        make=f"{WITHIN}linear:linear_svm",
        kind="linear",
        grid={"C": [1e-4, 1e-3, 1e-2, 0.1]},
        ranges={"C": "1e-4..1"},
    ),
    "rbf-svm": HeadSpec(
        make=f"{WITHIN}svm:rbf_svm",
        kind="kernel-svm",
        grid={"C": [1.0, 10.0], "gamma": [0.3, 1.0, 3.0]},
        ranges={"C": "0.1..100", "gamma": "0.1..10"},
    ),
    "poly-svm": HeadSpec(
        make=f"{WITHIN}svm:poly_svm",
        kind="kernel-svm",
        grid={"C": [1.0, 10.0], "degree": [2, 3]},
        ranges={"C": "0.1..100", "gamma": "0.1..10", "degree": [2, 3]},
    ),
    "knn": HeadSpec(
        make=f"{WITHIN}neighbours:knn",
        kind="neighbours",
        grid={"n_neighbors": [1, 5, 10, 20, 40]},
        ranges={"n_neighbors": "1..50", "sharpness": "1.0..50"},
    ),
    "lightgbm": HeadSpec(
        make=f"{WITHIN}boosted:lightgbm",
        kind="lightgbm",
        **LEAVES,
    ),
    "xgboost": HeadSpec(
        make=f"{WITHIN}boosted:xgboost",
        kind="xgboost",
        **DEPTHS,
    ),
    "tree": HeadSpec(
        make=f"{WITHIN}trees:tree",
        kind="trees",
        grid={"max_depth": [4, 6, 8, 12, 16], "min_samples_split": [2, 5, 10, 20]},
        ranges={"max_depth": "3..20", "min_samples_split": "2..50", "min_samples_leaf": "1..20"},
    ),
    "bagging": HeadSpec(
        make=f"{WITHIN}trees:bagging",
        kind="trees",
        grid={"max_depth": [8, None]},
        ranges={"max_depth": "4..20", "max_features": "0.01..0.3"},
    ),
    "forest": HeadSpec(
        make=f"{WITHIN}trees:forest",
        kind="trees",
        grid={"min_samples_leaf": [1, 3, 10]},
        ranges={"min_samples_leaf": "1..20", "max_features": "0.01..0.3"},
    ),
    "extra-trees": HeadSpec(
        make=f"{WITHIN}trees:extra_trees",
        kind="trees",
        grid={"min_samples_leaf": [1, 3, 10]},
        ranges={"min_samples_leaf": "1..20", "max_features": "0.01..0.3"},
    ),
    "mlp": HeadSpec(
        make=f"{WITHIN}neural:mlp",
        kind="network",
        grid={"hidden_layer_sizes": [64, 256]},
        ranges={
            "hidden_layer_sizes": "32..512", "learning_rate_init": "3e-4..3e-3",
            "weight_decay": "0.001..1", "dropout": "0.0..0.6",
        },
    ),
}  # fmt: skip
REGRESSORS: Mapping[str, HeadSpec] = {
    "ridge": HeadSpec(
        make=f"{REGRESSION}linear:ridge",
        kind="linear-number",
        grid={"alpha": [1.0, 10.0, 100.0, 1000.0]},
        ranges={"alpha": "0.01..100000"},
    ),
    "elastic-net": HeadSpec(
        make=f"{REGRESSION}linear:elastic_net",
        kind="linear-number",
        grid={"l1_ratio": [0.1, 0.5, 0.9, 1.0]},
        ranges={"alpha": "0.001..10", "l1_ratio": "0.05..1.0"},
    ),
    "kernel-ridge": HeadSpec(
        make=f"{REGRESSION}kernel:kernel_ridge",
        kind="kernel-number",
        grid={"gamma": [0.1, 0.3, 1.0, 3.0]},
        ranges={"alpha": "0.0001..10", "gamma": "0.03..10"},
    ),
    "rbf-svr": HeadSpec(
        make=f"{REGRESSION}kernel:rbf_svr",
        kind="kernel-number",
        grid={"C": [1.0, 10.0, 100.0], "gamma": [0.1, 0.3, 1.0]},
        ranges={"C": "0.1..100", "epsilon": "0.01..0.5", "gamma": "0.03..10"},
    ),
    "knn": HeadSpec(
        make=f"{REGRESSION}neighbours:knn",
        kind="neighbours-number",
        grid={"n_neighbors": [3, 5, 10, 20, 40]},
        ranges={"n_neighbors": "1..50"},
    ),
    "lightgbm": HeadSpec(
        make=f"{REGRESSION}boosted:lightgbm",
        kind="lightgbm-number",
        **LEAVES,
    ),
    "xgboost": HeadSpec(
        make=f"{REGRESSION}boosted:xgboost",
        kind="xgboost-number",
        **DEPTHS,
    ),
    "forest": HeadSpec(
        make=f"{REGRESSION}trees:forest",
        kind="trees-number",
        grid={"min_samples_leaf": [1, 3, 10]},
        ranges={"min_samples_leaf": "1..20", "max_features": "0.05..1.0"},
    ),
    "extra-trees": HeadSpec(
        make=f"{REGRESSION}trees:extra_trees",
        kind="trees-number",
        grid={"min_samples_leaf": [1, 3, 10]},
        ranges={"min_samples_leaf": "1..20", "max_features": "0.05..1.0"},
    ),
    "mlp": HeadSpec(
        make=f"{REGRESSION}neural:mlp",
        kind="network-number",
        grid={"hidden_layer_sizes": [32, 128]},
        ranges={"hidden_layer_sizes": "16..256", "alpha": "0.00001..1"},
    ),
}
RENAMED: Mapping[str, tuple[str, ...]] = {
    "batch": ("batch_size",), "columns": ("colsample_bytree", "max_features"),
    "components": ("n_components",), "decay": ("weight_decay",), "depth": ("max_depth",),
    "epochs": ("max_iter",), "hidden": ("hidden_layer_sizes",), "l2": ("reg_lambda",),
    "leaves": ("num_leaves",), "min_leaf": ("min_child_samples", "min_samples_leaf"),
    "min_split": ("min_samples_split",), "neighbours": ("n_neighbors",),
    "rate": ("learning_rate_init",), "rounds": ("n_estimators",), "rows": ("max_samples",),
    "threads": ("n_jobs",), "trees": ("n_estimators",),
}  # fmt: skip
"""What options were called before they had the names of scikit-learn and LightGBM."""
TARGETS: Mapping[str, Mapping[str, HeadSpec]] = {CLASSES: HEADS, NUMBER: REGRESSORS}
"""The heads that can learn each target."""
KINDS: Mapping[str, Kind] = {
    "linear": Kind(f"{WITHIN}linear:Linear", "smooth:linear"),
    "kernel-svm": Kind(f"{WITHIN}svm:KernelSVM", "kernel:kernel_svm"),
    "neighbours": Kind(f"{WITHIN}neighbours:Neighbours", "smooth:neighbours"),
    "lightgbm": Kind(f"{WITHIN}boosted:LightGBM", "trees:boosted"),
    "xgboost": Kind(f"{WITHIN}boosted:XGBoost", "trees:boosted"),
    "trees": Kind(f"{WITHIN}trees:Trees", "trees:trees"),
    "network": Kind(f"{WITHIN}neural:Network", "smooth:network"),
    "linear-number": Kind(f"{REGRESSION}linear:LinearRegressor"),
    "kernel-number": Kind(f"{REGRESSION}kernel:KernelRegressor"),
    "neighbours-number": Kind(f"{REGRESSION}neighbours:NeighboursRegressor"),
    "lightgbm-number": Kind(f"{REGRESSION}boosted:LightGBMRegressor"),
    "xgboost-number": Kind(f"{REGRESSION}boosted:XGBoostRegressor"),
    "trees-number": Kind(f"{REGRESSION}trees:TreesRegressor"),
    "network-number": Kind(f"{REGRESSION}neural:NetworkRegressor"),
    "transformed-number": Kind(f"{REGRESSION}transformed:TransformedRegressor"),
}
"""What a model file may ask to be built: these classes and nothing else."""


def class_of(kind: str) -> Any:
    """The class of ``KINDS`` that has ``from_state``. Raises KeyError for another."""
    module, _, attribute = KINDS[kind].made_by.partition(":")
    return getattr(import_module(module), attribute)
