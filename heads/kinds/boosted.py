"""Gradient-boosted trees: LightGBM, and XGBoost where it is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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
from headstock.heads.kinds.strategies import OnceReduced
from headstock.heads.labels import encode_labels
from headstock.heads.solvers.scaling import WIDE
from headstock.store.errors import HeadError

__all__ = ["LightGBM", "XGBoost", "lightgbm", "xgboost"]


FEW: Mapping[str, Any] = {
    "learning_rate": 0.15, "num_leaves": 15, "feature_fraction": 0.3, "extra_trees": True,
    "lambda_l2": 1.0, "rounds": 100,
}  # fmt: skip
"""Columns that each say something of their own: a narrow set."""
COMPONENTS: Mapping[str, Any] = {
    "learning_rate": 0.25, "num_leaves": 4, "extra_trees": True, "lambda_l2": 1.0, "rounds": 300,
}  # fmt: skip
"""Where a wide set's principal components are among the columns: what they say adds up, so many
small trees find it."""
MANY_ROWS: Mapping[str, Any] = {
    "learning_rate": 0.35, "extra_trees": False, "lambda_l2": 0.1, "rounds": 150,
}  # fmt: skip
"""Then above ``ROWS`` training rows: they are enough to choose thresholds by."""
ROWS = 5000
"""That a tree sees at most, others in each round."""
COLUMNS = 30
"""That a tree sees then."""
BIN_ROWS = 3000
"""By which the bins' edges are set: 31 bins from so many answered as well as from all 11,042 of a
fold (five folds of the reference workload, three seeds), and took half as long to set."""


MOST_TREES = 30_000
"""Trees of a model, one a class and round: rounds are fewer where classes are many, and the line
says so. 300 rounds of 1,000 classes took minutes a fold."""


def rounds_within(rounds: int, k: int) -> tuple[int, str]:
    """How many rounds k classes get, and what is to be said where they are fewer than wanted."""
    most = max(10, MOST_TREES // k)
    if rounds <= most:
        return rounds, ""
    return most, f"{most:,} rounds of the {rounds:,}: {k:,} classes, a tree each and round"


class LightGBM(OnComponents):
    """Multiclass boosting; the fitted model is its text form, and the axes of wide sets."""

    kind = "lightgbm"
    wants = frozenset({"spans"})
    parallel = True
    """Folds may be fitted beside each other, one thread each."""
    how_ = ""
    strategy: OnceReduced | None = None

    def __init__(
        self,
        parameters: Mapping[str, Any],
        rounds: int | str,
        components: int | str = 0,
        rows: int | str = "auto",
    ) -> None:
        self._parameters, self._rounds = dict(parameters), rounds
        self._components, self._rows = components, rows

    def fit(
        self, X: np.ndarray, y: np.ndarray, spans: Mapping[str, slice] | None = None
    ) -> LightGBM:
        return self.fit_sets([self.reduced(x) for x in pieces(X, spans).values()], y)

    def reduced(self, x: np.ndarray) -> Reduced:
        """A set's training rows (n, d) as the trees are to see them."""
        count = wanted(self._components, x.shape[1])
        if not count:
            return x.shape[1], None, x
        found = Components.of(x, count, int(self._parameters["seed"]))
        return x.shape[1], found, found(x)

    def fit_sets(self, sets: Sequence[Reduced], y: np.ndarray) -> LightGBM:
        """Fit on what ``reduced`` made of each set, side by side."""
        import lightgbm

        self.classes_, codes = encode_labels(y)
        joined = self.take(sets)
        parameters = {**self._settings(*joined.shape), "num_class": len(self.classes_)}
        rounds, self.how_ = rounds_within(int(parameters.pop("rounds")), len(self.classes_))
        data = lightgbm.Dataset(joined, codes, params=parameters)
        # Told to keep it, for it would write the text and read it again before we do
        trained = lightgbm.train(parameters, data, rounds, keep_training_booster=True)
        self._open(trained.model_to_string())
        return self

    def _settings(self, n: int, d: int) -> dict[str, Any]:
        """What LightGBM is told of n rows of d columns."""
        own = {k: v for k, v in self._parameters.items() if v != "auto"}
        if self._rounds != "auto":
            own["rounds"] = self._rounds
        most = ROWS if self._rows == "auto" else int(self._rows)
        usual = dict(FEW)
        if any(self.components_):
            share = min(1.0, COLUMNS / d)
            usual = {**COMPONENTS, **(MANY_ROWS if n > ROWS else {}), "feature_fraction": share}
        elif d >= WIDE:
            usual["feature_fraction"] = column_share("auto", d)
        if 0 < most < n:
            usual |= {"bagging_fraction": most / n, "bagging_freq": 1}
        return {**usual, **own}

    def _open(self, text: str) -> None:
        import lightgbm

        self.text_ = text
        self._booster = lightgbm.Booster(model_str=text)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        said = self._booster.predict(self.columns(X), num_threads=1)
        return np.asarray(said, dtype=np.float64)

    def importances(self) -> np.ndarray:
        """(d,) total gain of the splits on each column; a component's is dealt out to the columns
        of its set by the squares of its axis."""
        gains = self._booster.feature_importance("gain")
        parts = [(found, gains[span]) for found, span in zip(self.components_, self.seen)]
        return np.concatenate([g if found is None else found.back(g) for found, g in parts])

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        text = np.frombuffer(self.text_.encode(), dtype=np.uint8)
        return {"widths": self.widths_}, {"text": text, **arrays_of(self.components_)}

    @classmethod
    def from_state(
        cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> LightGBM:
        text = arrays["text"].tobytes().decode("utf-8")
        check_lightgbm(text)
        head = cls({}, 0)
        head.classes_ = np.arange(k)
        head.widths_ = [int(width) for width in meta.get("widths", ())]
        head.components_ = components_from(arrays, head.widths_)
        head._open(text)
        return head


def lightgbm(
    seed: int,
    n_estimators: int | str = "auto",
    learning_rate: float | str = "auto",
    num_leaves: int | str = "auto",
    min_child_samples: int = 10,
    colsample_bytree: float | str = "auto",
    max_samples: int | str = "auto",
    n_components: int | str = "auto",
    reg_lambda: float | str = "auto",
    n_jobs: int = 1,
) -> LightGBM:
    """LightGBM for embeddings: a wide set's principal components in place of its columns, small
    trees that each see few columns. Axes and bins are those of a fold's own training rows.

    n_components: of each set that has more columns; ``auto``: 96 from 512 columns, 0: never. Of the
    others ``auto`` means, without components, 100 rounds (trees a class) at a rate of .15, 15
    leaves, extremely random thresholds, 30 % of the columns; with them 300 rounds at .25, 4 leaves,
    30 columns, and above 5,000 rows 150 rounds at .35 with the best thresholds and a tenth of
    the penalty on leaves (reg_lambda). n_estimators: rounds; num_leaves: of a tree;
    min_child_samples: rows of a leaf; colsample_bytree: share of the columns a tree sees;
    max_samples: rows a round sees, others each time (``auto`` 5,000, 0 all); n_jobs: one, because
    folds run beside each other faster than one fit on many threads."""
    parameters = {
        "objective": "multiclass",
        "learning_rate": learning_rate,
        "num_leaves": num_leaves,
        "min_data_in_leaf": min_child_samples,
        "feature_fraction": colsample_bytree,
        "lambda_l2": reg_lambda,
        "max_bin": 31,
        "bin_construct_sample_cnt": BIN_ROWS,
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": n_jobs,
        "verbosity": -1,
    }
    head = LightGBM(parameters, n_estimators, n_components, max_samples)
    head.strategy = OnceReduced()
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
        rounds, self.how_ = rounds_within(self._rounds, len(self.classes_))
        booster = library.train(parameters, data, rounds)
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
    n_estimators: int = 60,
    learning_rate: float = 0.15,
    max_depth: int = 4,
    colsample_bytree: float | str = "auto",
    reg_lambda: float = 1.0,
    n_jobs: int = 1,
) -> XGBoost:
    """XGBoost by histograms of 31 bins. n_estimators: trees a class; max_depth: of a tree;
    colsample_bytree: share of the columns a tree sees."""
    parameters = {
        "objective": "multi:softprob",
        "eta": learning_rate,
        "max_depth": max_depth,
        "colsample_bytree": colsample_bytree,
        "lambda": reg_lambda,
        "max_bin": 31,
        "tree_method": "hist",
        "seed": seed,
        "nthread": n_jobs,
        "verbosity": 0,
    }
    return XGBoost(parameters, n_estimators)
