"""Gradient-boosted regression trees: LightGBM, and XGBoost where it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headstock.heads.kinds.boosted import _xgboost, column_share
from headstock.heads.kinds.components import (
    Components,
    OnComponents,
    Reduced,
    arrays_of,
    components_from,
    pieces,
    wanted,
)
from headstock.heads.kinds.modeltext import check_lightgbm, check_xgboost

__all__ = ["LightGBMRegressor", "XGBoostRegressor", "lightgbm", "xgboost"]

LIGHTGBM = ("regression", "regression_l1", "huber", "quantile", "poisson", "tweedie", "gamma")
XGBOOST = ("squarederror", "absoluteerror", "pseudohubererror", "gamma", "tweedie")


class LightGBMRegressor(OnComponents):
    """The fitted model is its text form, and the axes of wide sets."""

    kind = "lightgbm-number"
    wants = frozenset({"spans"})
    parallel = True

    def __init__(self, parameters: Mapping[str, Any], rounds: int, components: int | str) -> None:
        self._parameters, self._rounds = dict(parameters), rounds
        self._components = components

    def fit(
        self, X: np.ndarray, y: np.ndarray, spans: Mapping[str, slice] | None = None
    ) -> LightGBMRegressor:
        return self.fit_sets([self.reduced(x) for x in pieces(X, spans).values()], y)

    def reduced(self, x: np.ndarray) -> Reduced:
        count = wanted(self._components, x.shape[1])
        if not count:
            return x.shape[1], None, x
        found = Components.of(x, count, int(self._parameters["seed"]))
        return x.shape[1], found, found(x)

    def fit_sets(self, sets: Any, y: np.ndarray) -> LightGBMRegressor:
        import lightgbm

        joined = self.take(sets)
        data = lightgbm.Dataset(joined, np.asarray(y, dtype=np.float64), params=self._parameters)
        trained = lightgbm.train(self._parameters, data, self._rounds, keep_training_booster=True)
        self._open(trained.model_to_string())
        return self

    def _open(self, text: str) -> None:
        import lightgbm

        self._text, self._booster = text, lightgbm.Booster(model_str=text)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self._booster.predict(self.columns(X), num_threads=1), dtype=np.float64)

    def importances(self) -> np.ndarray:
        """(d,) total gain of the splits on each column; a component's is dealt out to the columns
        of its set by the squares of its axis."""
        gains = self._booster.feature_importance("gain")
        parts = [(found, gains[span]) for found, span in zip(self.components_, self.seen)]
        return np.concatenate([g if found is None else found.back(g) for found, g in parts])

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        text = np.frombuffer(self._text.encode(), dtype=np.uint8)
        return {"widths": list(self.widths_)}, {"text": text, **arrays_of(self.components_)}

    @classmethod
    def from_state(
        cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> LightGBMRegressor:
        text = arrays["text"].tobytes().decode("utf-8")
        check_lightgbm(text)
        head = cls({}, 0, 0)
        head.widths_ = [int(width) for width in meta["widths"]]
        head.components_ = components_from(arrays, head.widths_)
        head._open(text)
        return head


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


class XGBoostRegressor:
    """The fitted model is its JSON form."""

    kind = "xgboost-number"
    parallel = True

    def __init__(self, parameters: Mapping[str, Any], rounds: int) -> None:
        self._parameters, self._rounds = dict(parameters), rounds

    def fit(self, X: np.ndarray, y: np.ndarray) -> XGBoostRegressor:
        library = _xgboost()
        data = library.QuantileDMatrix(X, np.asarray(y, dtype=np.float64), max_bin=256)
        share = column_share(self._parameters["colsample_bytree"], X.shape[1])
        parameters = {**self._parameters, "colsample_bytree": share}
        self._open(bytes(library.train(parameters, data, self._rounds).save_raw("json")))
        return self

    def _open(self, text: bytes) -> None:
        library = _xgboost()
        self._text, self._booster = text, library.Booster(model_file=bytearray(text))
        self._booster.set_param({"nthread": 1})

    def predict(self, X: np.ndarray) -> np.ndarray:
        said = self._booster.inplace_predict(np.ascontiguousarray(X, dtype=np.float32))
        return np.asarray(said, dtype=np.float64)

    def importances(self) -> np.ndarray:
        """(d,) total gain of the splits on each column."""
        out = np.zeros(self._booster.num_features())
        for name, gain in self._booster.get_score(importance_type="total_gain").items():
            out[int(name[1:])] = gain
        return out

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {}, {"text": np.frombuffer(self._text, dtype=np.uint8)}

    @classmethod
    def from_state(
        cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> XGBoostRegressor:
        text = arrays["text"].tobytes()
        check_xgboost(text)
        head = cls({}, 0)
        head._open(text)
        return head


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
