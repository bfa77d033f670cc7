"""Gradient-boosted trees: LightGBM, and XGBoost where it is installed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from headstock.heads.codes import encode_labels
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
from headstock.heads.solvers.scaling import WIDE
from headstock.store.errors import HeadError

__all__ = ["LightGBM", "LightGBMTrees", "XGBoost", "XGBoostTrees", "lightgbm", "xgboost"]


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
XGBOOST_FEW: Mapping[str, Any] = {"eta": 0.15, "max_depth": 4, "rounds": 60}
XGBOOST_COMPONENTS: Mapping[str, Any] = {"eta": 0.5, "max_depth": 2, "rounds": 200}
"""As for LightGBM: many small trees, for components add up."""
XGBOOST_ROWS = 2500
"""Training rows from which a wide set's columns give way to components: of 401 rows the log-loss
was .07 to .23 larger by components, of 3,000 half as large."""
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


class Boosted(OnComponents):
    """Boosted trees on columns or components: what two libraries and both targets share."""

    wants = frozenset({"spans"})
    parallel = True
    """Folds may be fitted beside each other, one thread each."""
    how_ = ""
    strategy: OnceReduced | None = None
    classes_: np.ndarray

    def __init__(
        self, parameters: Mapping[str, Any], rounds: int | str, components: int | str = 0
    ) -> None:
        self._parameters, self._rounds = dict(parameters), rounds
        self._components = components

    def fit(self, X: np.ndarray, y: np.ndarray, spans: Mapping[str, slice] | None = None) -> Self:
        self.fit_sets([self.reduced(x) for x in pieces(X, spans).values()], y)
        return self

    def reduced(self, x: np.ndarray) -> Reduced:
        """A set's training rows (n, d) as the trees are to see them."""
        count = wanted(self._components, x.shape[1])
        if not count:
            return x.shape[1], None, x
        found = Components.of(x, count, int(self._parameters["seed"]))
        return x.shape[1], found, found(x)

    def importances(self) -> np.ndarray:
        """(d,) total gain of the splits on each column; a component's is dealt out to the columns
        of its set by the squares of its axis."""
        gains = self._gains()
        if not any(self.components_):
            return gains
        parts = [(found, gains[span]) for found, span in zip(self.components_, self.seen)]
        return np.concatenate([g if found is None else found.back(g) for found, g in parts])

    @abstractmethod
    def _gains(self) -> np.ndarray:
        """(c,) total gain of the splits on each column seen."""

    def _state(self, text: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a model file holds: the library's text, and the axes of wide sets."""
        array = np.frombuffer(text, dtype=np.uint8)
        return {"widths": self.widths_}, {"text": array, **arrays_of(self.components_)}

    @classmethod
    def _begun(cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int) -> Self:
        """A head of ``_state``, whose text is yet to be opened."""
        head = cls({}, 0)
        head.classes_ = np.arange(k)
        head.widths_ = [int(width) for width in meta.get("widths", ())]
        head.components_ = components_from(arrays, head.widths_)
        return head


class LightGBMTrees(Boosted):
    """The fitted model is LightGBM's text form, and the axes of wide sets."""

    def _train(
        self, parameters: Mapping[str, Any], rounds: int, joined: np.ndarray, y: np.ndarray
    ) -> None:
        import lightgbm

        data = lightgbm.Dataset(joined, y, params=dict(parameters))
        # Told to keep it, for it would write the text and read it again before we do
        trained = lightgbm.train(dict(parameters), data, rounds, keep_training_booster=True)
        self._open(trained.model_to_string())

    def _open(self, text: str) -> None:
        import lightgbm

        self.text_ = text
        self._booster = lightgbm.Booster(model_str=text)

    def _answers(self, X: np.ndarray) -> np.ndarray:
        said = self._booster.predict(self.columns(X), num_threads=1)
        return np.asarray(said, dtype=np.float64)

    def _gains(self) -> np.ndarray:
        return self._booster.feature_importance("gain")

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return self._state(self.text_.encode())

    @classmethod
    def from_state(cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int) -> Self:
        text = arrays["text"].tobytes().decode("utf-8")
        check_lightgbm(text)
        head = cls._begun(meta, arrays, k)
        head._open(text)
        return head


class LightGBM(LightGBMTrees):
    """LightGBM for classes."""

    kind = "lightgbm"

    def __init__(
        self,
        parameters: Mapping[str, Any],
        rounds: int | str,
        components: int | str = 0,
        rows: int | str = "auto",
    ) -> None:
        super().__init__(parameters, rounds, components)
        self._rows = rows

    def fit_sets(self, sets: Sequence[Reduced], y: np.ndarray) -> LightGBM:
        """Fit on what ``reduced`` made of each set, side by side."""
        self.classes_, codes = encode_labels(y)
        joined = self.take(sets)
        parameters = {**self._settings(*joined.shape), "num_class": len(self.classes_)}
        rounds, self.how_ = rounds_within(int(parameters.pop("rounds")), len(self.classes_))
        self._train(parameters, rounds, joined, codes)
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

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return self._answers(X)


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


class XGBoostTrees(Boosted):
    """The fitted model is XGBoost's JSON form, and the axes of wide sets."""

    def _train(
        self, parameters: Mapping[str, Any], rounds: int, joined: np.ndarray, y: np.ndarray
    ) -> None:
        library = _xgboost()
        data = library.QuantileDMatrix(
            joined, y, max_bin=parameters["max_bin"], nthread=parameters["nthread"]
        )
        self._open(bytes(library.train(dict(parameters), data, rounds).save_raw("json")))

    def _open(self, text: bytes) -> None:
        library = _xgboost()
        self.text_ = text
        self._booster = library.Booster(model_file=bytearray(text))
        self._booster.set_param({"nthread": 1})

    def _answers(self, X: np.ndarray) -> np.ndarray:
        seen = np.ascontiguousarray(self.columns(X), dtype=np.float32)
        return np.asarray(self._booster.inplace_predict(seen), dtype=np.float64)

    def _gains(self) -> np.ndarray:
        gains = np.zeros(self._booster.num_features())
        for name, gain in self._booster.get_score(importance_type="total_gain").items():
            gains[int(name[1:])] = gain
        return gains

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return self._state(self.text_)

    @classmethod
    def from_state(cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int) -> Self:
        text = arrays["text"].tobytes()
        check_xgboost(text)
        head = cls._begun(meta, arrays, k)
        head._open(text)
        return head


class XGBoost(XGBoostTrees):
    """XGBoost for classes."""

    kind = "xgboost"

    def reduced(self, x: np.ndarray) -> Reduced:
        if self._components == "auto" and len(x) < XGBOOST_ROWS:
            return x.shape[1], None, x
        return super().reduced(x)

    def fit_sets(self, sets: Sequence[Reduced], y: np.ndarray) -> XGBoost:
        """Fit on what ``reduced`` made of each set, side by side."""
        self.classes_, codes = encode_labels(y)
        joined = self.take(sets)
        parameters = {**self._settings(joined.shape[1]), "num_class": len(self.classes_)}
        rounds, self.how_ = rounds_within(int(parameters.pop("rounds")), len(self.classes_))
        self._train(parameters, rounds, joined, codes)
        return self

    def _settings(self, d: int) -> dict[str, Any]:
        """What XGBoost is told of d columns."""
        own = {k: v for k, v in self._parameters.items() if v != "auto"}
        if self._rounds != "auto":
            own["rounds"] = self._rounds
        if any(self.components_):
            return {**XGBOOST_COMPONENTS, "colsample_bytree": min(1.0, COLUMNS / d), **own}
        return {**XGBOOST_FEW, "colsample_bytree": column_share("auto", d), **own}

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        proba = self._answers(X)
        return proba / proba.sum(axis=1, keepdims=True)


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
    n_estimators: int | str = "auto",
    learning_rate: float | str = "auto",
    max_depth: int | str = "auto",
    colsample_bytree: float | str = "auto",
    n_components: int | str = "auto",
    reg_lambda: float = 1.0,
    n_jobs: int = 1,
) -> XGBoost:
    """XGBoost by histograms of 31 bins, a wide set of many rows by its principal components.

    n_components: of each set that has more columns; ``auto``: 96 from 512 columns and 2,500
    training rows, 0: never. n_estimators: trees a class; max_depth: of a tree; colsample_bytree:
    share of the columns a tree sees. Of these ``auto`` means, without components, 60 rounds at a
    rate of .15 and depth 4; with them 200 rounds at .5, depth 2 and 30 columns."""
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
    head = XGBoost(parameters, n_estimators, n_components)
    head.strategy = OnceReduced()
    return head
