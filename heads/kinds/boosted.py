"""Gradient-boosted trees: LightGBM, and XGBoost where it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headstock.heads.head import encode_labels
from headstock.heads.kinds.modeltext import check_lightgbm, check_xgboost
from headstock.heads.kinds.scaling import WIDE
from headstock.store.errors import HeadError

__all__ = ["LightGBM", "XGBoost", "lightgbm", "xgboost"]


MANY: Mapping[str, Any] = {
    "learning_rate": 0.4, "num_leaves": 6, "max_bin": 15, "bin_construct_sample_cnt": 2000,
    "enable_bundle": False,
}  # fmt: skip
"""From ``WIDE`` columns: few bins, edges from 2,000 of the training rows, small trees that each see
all rows of few columns and learn fast. The columns of an embedding say much the same, so trees of
other columns mend what one tree gets wrong. On 2,048 columns half the time of 15 leaves on 200
columns and the rows of large gradient, at a smaller log-loss (bench/README.md)."""
COLUMNS = 40
"""That a tree sees then."""
FEW: Mapping[str, Any] = {
    "learning_rate": 0.15, "num_leaves": 15, "max_bin": 31, "feature_fraction": 0.3,
}  # fmt: skip


class LightGBM:
    """Multiclass boosting; the fitted model is its text form."""

    kind = "lightgbm"
    parallel = True
    """Folds may be fitted beside each other, one thread each."""

    def __init__(self, parameters: Mapping[str, Any], rounds: int | str) -> None:
        self._parameters, self._rounds = dict(parameters), rounds

    fast: Mapping[str, Any] | None = None

    def fit(self, X: np.ndarray, y: np.ndarray) -> LightGBM:
        return self.fit_binned({"all": X}, y, {})

    def fit_binned(
        self, X: Mapping[str, np.ndarray], y: np.ndarray, binned: dict[tuple[str, str], Any]
    ) -> LightGBM:
        """Fit on the sets X {name: (n, d)} side by side. ``binned`` holds the binned columns of
        these rows by set and settings; what is binned here is left there, but a set to which
        others were joined is taken out, since they are in it from then on."""
        import lightgbm

        self.classes_, codes = encode_labels(y)
        width = sum(x.shape[1] for x in X.values())
        own = {k: v for k, v in self._parameters.items() if v != "auto"}
        many = width >= WIDE
        if many:
            own.setdefault("feature_fraction", COLUMNS / width)
        parameters = {**(MANY if many else FEW), "num_class": len(self.classes_), **own}
        rounds = (60 if many else 100) if self._rounds == "auto" else int(self._rounds)
        bins = {k: v for k, v in parameters.items() if k not in ("feature_fraction", "num_class")}
        keys = [(name, repr(sorted(bins.items()))) for name in X]
        for key, x in zip(keys, X.values()):
            if key not in binned:
                binned[key] = lightgbm.Dataset(x, codes, params=parameters).construct()
        data = binned[keys[0]]
        for key in keys[1:]:
            data.add_features_from(binned[key])
        if len(keys) > 1:
            del binned[keys[0]]
        booster = lightgbm.train({**parameters, "verbosity": -1}, data, rounds)
        self._open(booster.model_to_string())
        return self

    def _open(self, text: str) -> None:
        import lightgbm

        self.text_ = text
        self._booster = lightgbm.Booster(model_str=text)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self._booster.predict(X, num_threads=1), dtype=np.float64)

    def importances(self) -> np.ndarray:
        """(d,) total gain of the splits on each column."""
        return self._booster.feature_importance("gain")

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {}, {"text": np.frombuffer(self.text_.encode(), dtype=np.uint8)}

    @classmethod
    def from_state(
        cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> LightGBM:
        text = arrays["text"].tobytes().decode("utf-8")
        check_lightgbm(text)
        head = cls({}, 0)
        head.classes_ = np.arange(k)
        head._open(text)
        return head


def lightgbm(
    seed: int,
    rounds: int | str = "auto",
    learning_rate: float | str = "auto",
    leaves: int | str = "auto",
    min_leaf: int = 10,
    columns: float | str = "auto",
    l2: float = 1.0,
    threads: int = 1,
) -> LightGBM:
    """LightGBM for wide embeddings: few bins, extremely random thresholds, few columns a tree. The
    bins' edges are those of a fold's own training rows. ``auto``: from 512 columns 60 rounds (trees
    a class) at a rate of .4, 6 leaves, 40 columns a tree; below, 100 rounds at .15, 15 leaves, 30 %
    of the columns. leaves: of a tree; min_leaf: rows of a leaf; columns: share a tree sees;
    threads: one, because folds run beside each other faster than one fit on many threads."""
    parameters = {
        "objective": "multiclass",
        "learning_rate": learning_rate,
        "num_leaves": leaves,
        "min_data_in_leaf": min_leaf,
        "feature_fraction": columns,
        "lambda_l2": l2,
        "extra_trees": True,
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": threads,
        "verbosity": -1,
    }
    head = LightGBM(parameters, rounds)
    head.fast = {"how": "boosted"}
    return head


def column_share(columns: float | str, d: int) -> float:
    """``auto`` as a number for d columns."""
    return float(np.clip(200 / d, 0.05, 0.3)) if columns == "auto" else float(columns)


class XGBoost:
    """Multiclass boosting; the fitted model is its JSON form."""

    kind = "xgboost"
    parallel = True

    def __init__(self, parameters: Mapping[str, Any], rounds: int) -> None:
        self._parameters, self._rounds = dict(parameters), rounds

    def fit(self, X: np.ndarray, y: np.ndarray) -> XGBoost:
        library = _xgboost()
        self.classes_, codes = encode_labels(y)
        data = library.QuantileDMatrix(X, codes, max_bin=self._parameters["max_bin"])
        share = column_share(self._parameters["colsample_bytree"], X.shape[1])
        parameters = {
            **self._parameters,
            "num_class": len(self.classes_),
            "colsample_bytree": share,
        }
        booster = library.train(parameters, data, self._rounds)
        self._open(bytes(booster.save_raw("json")))
        return self

    def _open(self, text: bytes) -> None:
        library = _xgboost()
        self.text_ = text
        self._booster = library.Booster(model_file=bytearray(text))
        self._booster.set_param({"nthread": 1})

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        proba = self._booster.inplace_predict(np.ascontiguousarray(X, dtype=np.float32))
        proba = np.asarray(proba, dtype=np.float64)
        return proba / proba.sum(axis=1, keepdims=True)

    def importances(self) -> np.ndarray:
        """(d,) total gain of the splits on each column."""
        out = np.zeros(self._booster.num_features())
        for name, gain in self._booster.get_score(importance_type="total_gain").items():
            out[int(name[1:])] = gain
        return out

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {}, {"text": np.frombuffer(self.text_, dtype=np.uint8)}

    @classmethod
    def from_state(
        cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> XGBoost:
        text = arrays["text"].tobytes()
        check_xgboost(text)
        head = cls({}, 0)
        head.classes_ = np.arange(k)
        head._open(text)
        return head


def _xgboost() -> Any:
    try:
        import xgboost as library
    except ImportError as error:
        raise HeadError(
            "head xgboost", "XGBoost is not installed", "pip install xgboost"
        ) from error
    return library


def xgboost(
    seed: int,
    rounds: int = 60,
    learning_rate: float = 0.15,
    depth: int = 4,
    columns: float | str = "auto",
    l2: float = 1.0,
    threads: int = 1,
) -> XGBoost:
    """XGBoost by histograms of 31 bins. rounds: trees a class; depth: of a tree; columns: share of
    them a tree sees."""
    parameters = {
        "objective": "multi:softprob",
        "eta": learning_rate,
        "max_depth": depth,
        "colsample_bytree": columns,
        "lambda": l2,
        "max_bin": 31,
        "tree_method": "hist",
        "seed": seed,
        "nthread": threads,
        "verbosity": 0,
    }
    return XGBoost(parameters, rounds)
