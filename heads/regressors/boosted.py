"""Gradient-boosted regression trees: LightGBM, and XGBoost where it is installed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headstock.heads.kinds.boosted import LightGBMTrees, XGBoostTrees, column_share
from headstock.heads.kinds.components import Reduced

__all__ = ["LightGBMRegressor", "XGBoostRegressor", "lightgbm", "xgboost"]

LIGHTGBM = ("regression", "regression_l1", "huber", "quantile", "poisson", "tweedie", "gamma")
XGBOOST = ("squarederror", "absoluteerror", "pseudohubererror", "gamma", "tweedie")


class LightGBMRegressor(LightGBMTrees):
    """LightGBM for numbers."""

    kind = "lightgbm-number"

    def fit_sets(self, sets: Sequence[Reduced], y: np.ndarray) -> LightGBMRegressor:
        target = np.asarray(y, dtype=np.float64)
        self._train(self._parameters, int(self._rounds), self.take(sets), target)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self._answers(X)


def lightgbm(
    seed: int,
    objective: str = "regression",
    n_estimators: int = 200,
    learning_rate: float = 0.05,
    num_leaves: int = 15,
    min_child_samples: int = 10,
    colsample_bytree: float = 0.5,
    reg_lambda: float = 1.0,
    alpha: float = 0.9,
    n_components: int | str = "auto",
) -> LightGBMRegressor:
    """LightGBM, by the names of its LGBMRegressor. objective: ``regression`` (squares),
    ``regression_l1`` (absolute errors), ``quantile`` or ``huber`` at ``alpha``, ``poisson``,
    ``tweedie``, ``gamma``; n_components: of each set that has more columns (``auto``: 96 from 512
    columns, 0: never)."""
    if objective not in LIGHTGBM:
        raise ValueError(f"objective is one of {', '.join(LIGHTGBM)}")
    parameters = {
        "objective": objective, "alpha": alpha, "learning_rate": learning_rate,
        "num_leaves": num_leaves, "min_child_samples": min_child_samples,
        "colsample_bytree": colsample_bytree, "reg_lambda": reg_lambda, "seed": seed,
        "deterministic": True, "force_col_wise": True, "num_threads": 1, "verbosity": -1,
    }  # fmt: skip
    return LightGBMRegressor(parameters, n_estimators, n_components)


class XGBoostRegressor(XGBoostTrees):
    """XGBoost for numbers, on the columns as they are."""

    kind = "xgboost-number"
    wants: frozenset[str] = frozenset()

    def fit_sets(self, sets: Sequence[Reduced], y: np.ndarray) -> XGBoostRegressor:
        joined = self.take(sets)
        share = column_share(self._parameters["colsample_bytree"], joined.shape[1])
        parameters = {**self._parameters, "colsample_bytree": share}
        self._train(parameters, int(self._rounds), joined, np.asarray(y, dtype=np.float64))
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self._answers(X)


def xgboost(
    seed: int,
    objective: str = "squarederror",
    n_estimators: int = 200,
    learning_rate: float = 0.05,
    max_depth: int = 4,
    colsample_bytree: float | str = 0.5,
    reg_lambda: float = 1.0,
) -> XGBoostRegressor:
    """XGBoost by histograms, by the names of its XGBRegressor. objective: ``squarederror``,
    ``absoluteerror``, ``pseudohubererror``, ``gamma``, ``tweedie``."""
    if objective not in XGBOOST:
        raise ValueError(f"objective is one of {', '.join(XGBOOST)}")
    parameters = {
        "objective": f"reg:{objective}", "eta": learning_rate, "max_depth": max_depth,
        "colsample_bytree": colsample_bytree, "lambda": reg_lambda, "max_bin": 256,
        "tree_method": "hist", "seed": seed, "nthread": 1, "verbosity": 0,
    }  # fmt: skip
    return XGBoostRegressor(parameters, n_estimators)
