"""A head of the table as scikit-learn's: for pipelines, searches and cross-validation.

Importing this file imports scikit-learn; nothing else in this package imports this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from headstock.heads.head import head_options, make_head
from headstock.heads.outoffold.answer import answers_of, full_proba
from headstock.heads.specs import CLASSES, KINDS, NUMBER, class_of
from headstock.store.errors import HeadstockError

__all__ = ["HeadClassifier", "HeadRegressor"]

OPTIONS = "options__"


class _HeadEstimator(BaseEstimator):
    """What both share: each option of the head is a parameter too, ``options__C``, which a search
    can vary; for pickle and processes a fitted head goes as the arrays that a bundle would keep."""

    _target = CLASSES

    def __init__(self, head: str, options: Mapping[str, Any] | None = None, seed: int = 0) -> None:
        self.head = head
        self.options = options
        self.seed = seed

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """``head``, ``options``, ``seed``; with ``deep`` each option of the head, as it is set or
        by default."""
        params = super().get_params(deep=False)
        if deep and isinstance(self.head, str):
            known: dict[str, Any] = {}
            with suppress(HeadstockError):  # a head that is not there is an error when it is fitted
                known = {**head_options(self.head, self._target), **(self.options or {})}
            params |= {OPTIONS + name: value for name, value in known.items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name; ``options__C`` sets one option and leaves the others."""
        single = {k: v for k, v in params.items() if k.startswith(OPTIONS)}
        super().set_params(**{k: v for k, v in params.items() if k not in single})
        if single:
            known = head_options(self.head, self._target)
            for key in single:
                if key.removeprefix(OPTIONS) not in known:
                    have = ", ".join(OPTIONS + name for name in known)
                    raise ValueError(f"head {self.head} has no {key}; it has {have}")
            fresh = {key.removeprefix(OPTIONS): value for key, value in single.items()}
            self.options = {**(self.options or {}), **fresh}
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        head = state.get("head_")
        if head is not None and getattr(head, "kind", None) in KINDS:
            state["head_"] = None
            state["_fitted"] = (head.kind, *head.state(), getattr(head, "classes_", None))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        kept = state.pop("_fitted", None)
        super().__setstate__(state)
        if kept is not None:
            kind, meta, arrays, classes = kept
            self.head_ = class_of(kind).from_state(
                meta, arrays, 1 if classes is None else len(classes)
            )
            if classes is not None:
                self.head_.classes_ = np.asarray(classes)


class HeadClassifier(ClassifierMixin, _HeadEstimator):
    """The head ``head`` of the table (or ``./file.py:function``) with ``options`` and ``seed``.

    ``HeadClassifier("logistic", options={"C": 0.1})`` does all that scikit-learn asks of a
    classifier. Each option of the head is a parameter too, ``options__C``, which a search can vary.
    What a head holds out inside (to calibrate, to stop early) it holds out by random stratified
    folds here, for scikit-learn hands over no groups: an evaluation of headstock knows them.
    """

    def __init__(
        self, head: str = "logistic", options: Mapping[str, Any] | None = None, seed: int = 0
    ) -> None:
        super().__init__(head, options, seed)

    def fit(self, X: Any, y: Any) -> HeadClassifier:
        """Learn from X (n, d) numbers and y (n,) labels of two classes at least."""
        X, y = validate_data(self, X, y, dtype=np.float32, ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"the labels are all of 1 class, {self.classes_[0]!r}; two are needed")
        self.head_ = make_head(self.head, self.seed, self.options)
        self.head_.fit(X, codes)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """(m, k) probabilities in the order of ``classes_``."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, reset=False)
        return full_proba(self.head_, self.head, X, len(self.classes_))

    def predict(self, X: Any) -> np.ndarray:
        """(m,) the most likely class of each row."""
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]


class HeadRegressor(RegressorMixin, _HeadEstimator):
    """A head for numbers, as ``HeadClassifier`` is one for classes; ``options`` may have
    ``transform``, ``log`` or ``rank``."""

    _target = NUMBER

    def __init__(
        self, head: str = "ridge", options: Mapping[str, Any] | None = None, seed: int = 0
    ) -> None:
        super().__init__(head, options, seed)

    def fit(self, X: Any, y: Any) -> HeadRegressor:
        """Learn from X (n, d) numbers and y (n,) numbers."""
        X, y = validate_data(self, X, y, dtype=np.float32, y_numeric=True, ensure_min_samples=2)
        self.head_ = make_head(self.head, self.seed, self.options, NUMBER)
        self.head_.fit(X, y)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """(m,) numbers."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, reset=False)
        return answers_of(self.head_, self.head, X, 1, NUMBER)[:, 0]
