"""Options chosen inside the training rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from headstock.heads.kinds.strategies import Descent, Grid
from headstock.heads.metrics.probabilities import log_loss
from headstock.heads.metrics.table import Metric
from headstock.heads.search.draws import DRAWS, Range, draw_points
from headstock.heads.specs import CLASSES, TARGETS
from headstock.store.errors import OptionError

__all__ = ["Tuned", "points_of", "search_record", "transformed", "with_searches"]


def points_of(
    options: Mapping[str, Any], seed: int = 0, where: str = "options"
) -> list[dict[str, Any]]:
    """The points to choose from: every combination of the options that are lists; with ``draws``
    among them so many random points (see ``draws``); one point where nothing is to be chosen.

    Raises OptionError for a range that nobody says how many points to draw of.
    """
    if DRAWS in options:
        left = {name: value for name, value in options.items() if name != DRAWS}
        return draw_points(left, options[DRAWS], seed, where)
    for name, value in options.items():
        if Range.of(value, f"{where}, {name}"):
            fix = f"say how many points to draw: --tune HEAD:30, or {DRAWS}=30"
            raise OptionError(where, f"{name}={value} is a range", fix)
    values = [list(v) if isinstance(v, list | tuple) else [v] for v in options.values()]
    return [dict(zip(options, point)) for point in itertools.product(*values)]


def with_searches(
    tune: Sequence[str], options: Mapping[str, Mapping[str, Any]], target: str = CLASSES
) -> dict[str, dict[str, Any]]:
    """``options`` with what each head in ``tune`` is to be chosen from, where it is not stated:
    ``HEAD`` its default grid, ``HEAD:30`` its default ranges and 30 draws.

    Raises OptionError for a head that has no default and states none.
    """
    out = {name: dict(own) for name, own in options.items()}
    for word in tune:
        name, _, count = word.rpartition(":")
        drawn = bool(name) and count.isdigit()
        name = name if drawn else word
        spec = TARGETS[target].get(name)
        usual = {} if spec is None else dict(spec.ranges if drawn else spec.grid)
        own = out[name] = {**usual, **out.get(name, {})}
        if drawn:
            own[DRAWS] = int(count)
        elif DRAWS not in own and all(isinstance(v, int | float | None) for v in own.values()):
            what = "all its options are set" if own else "it has no usual values to choose from"
            fix = "state a list or a range, as HEAD.OPTION=[1,10]; HEAD:30 draws 30 points"
            raise OptionError(f"tune {word}", what, fix)
    return out


def transformed(
    options: Mapping[str, Mapping[str, Any]], heads: Sequence[str], how: str | None, target: str
) -> dict[str, dict[str, Any]]:
    """``options`` with ``transform=how`` for each of ``heads`` that states none. Raises OptionError
    for classes."""
    out = {name: dict(own) for name, own in options.items()}
    if how is None:
        return out
    if target == CLASSES:
        raise OptionError("transform", f"{how} is of numbers, and these are classes", "leave it")
    return out | {name: {"transform": how, **out.get(name, {})} for name in heads}


def search_record(
    points: Sequence[Mapping[str, Any]], losses: Sequence[Sequence[float]], loss: str = "log_loss"
) -> dict[str, Any]:
    """What a search tried, for a report: ``points``, and by fit the held-out ``loss`` of each; of a
    metric its name and ``values``, None where it is not defined."""
    rounded = [[round(float(o), 6) if np.isfinite(o) else None for o in own] for own in losses]
    tried: dict[str, Any] = {"points": [dict(point) for point in points]}
    if loss in ("log_loss", "squared_error"):
        return tried | {loss: rounded}
    return tried | {"metric": loss, "values": rounded}


class Tuned:
    """A head whose options are those with the smallest log-loss on rows held out by ``inner``, or
    that are best there by a ``metric``.

    The choice is part of fitting, so that in an evaluation it is made anew inside each fold, and
    the score is a nested estimate. ``chosen_`` says what was taken, ``losses_`` the held-out
    log-loss (or metric) of each of ``points``.
    """

    wants = frozenset({"inner", "spans"})
    unheld = "the first of its options is taken, without a choice"

    def __init__(
        self, make: Callable[[Mapping[str, Any]], Any], points: list[dict[str, Any]],
        metric: Metric | None = None,
    ):  # fmt: skip
        self._make, self.points, self._metric = make, points, metric
        self.loss = "log_loss" if metric is None else metric.name
        heads = [make(point) for point in points]  # a wrong value anywhere shows now
        self.head_ = heads[0]
        self.parallel = bool(getattr(self.head_, "parallel", False))

    @property
    def strategy(self) -> Grid | None:
        """For logistic regression tuned over C alone: how all folds are tuned at once."""
        own = getattr(self.head_, "strategy", None)
        fixed = {k: v for k, v in self.points[0].items() if k != "C"}
        alike = all({**p, "C": 0} == {**fixed, "C": 0} for p in self.points)
        alike = alike and self._metric is None
        if not (isinstance(own, Descent) and own.loss == "softmax" and alike):
            return None
        return Grid(tuple(float(p["C"]) for p in self.points), own.tol, fixed)

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        inner: np.ndarray | None = None,
        spans: Mapping[str, slice] | None = None,
    ) -> Tuned:
        from headstock.heads.codes import encode_labels, seeded_codes

        self.classes_, codes = encode_labels(y)
        if inner is None:
            inner = seeded_codes(codes, 5, 0)
        strategy = self.strategy
        if strategy is not None:
            from headstock.heads.engine.fastlinear import best_strength

            found = best_strength(X, codes, inner, strategy.strengths, strategy.tol)
            if found is not None:
                C, start, losses = found
                self.losses_ = losses.tolist()
                self.chosen_ = {**strategy.fixed, "C": C}
                self.head_ = self._make(self.chosen_)
                self.head_.start = start
                self.head_.fit(X, y)
                return self
        self.losses_ = [self._loss(point, X, codes, inner, spans) for point in self.points]
        sign = 1 if self._metric is None else -self._metric.sign
        worst = np.nan_to_num(sign * np.array(self.losses_), nan=np.inf)
        self.chosen_ = self.points[int(np.argmin(worst))]
        self.head_ = self._fit(self.chosen_, X, y, inner, spans)
        return self

    def _fit(self, point: Mapping[str, Any], X: Any, y: Any, inner: Any, spans: Any) -> Any:
        head = self._make(point)
        wants = getattr(head, "wants", ())
        head.fit(X, y, **{k: v for k, v in (("inner", inner), ("spans", spans)) if k in wants})
        return head

    def _loss(
        self,
        point: Mapping[str, Any],
        X: np.ndarray,
        codes: np.ndarray,
        inner: np.ndarray,
        spans: Mapping[str, slice] | None,
    ) -> float:
        proba = np.zeros((len(X), len(self.classes_)))
        for fold in np.unique(inner):
            train, test = inner != fold, inner == fold
            if len(np.unique(codes[train])) < 2:
                proba[test] = 1.0 / proba.shape[1]
                continue
            head = self._fit(point, X[train], codes[train], inner[train], spans)
            proba[np.ix_(test, head.classes_)] = head.predict_proba(X[test])
        if self._metric is None:
            return log_loss(np.clip(proba, 1e-7, 1.0), codes)
        full = np.zeros((len(X), self._metric.classes))
        full[:, self.classes_] = proba
        return self._metric.score(full, self.classes_[codes])

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return self.head_.predict_proba(X)

    def __getattr__(self, name: str) -> Any:
        # what a fitted head can say of itself, for bundles and reports
        if name in ("kind", "state", "importances"):
            return getattr(self.head_, name)
        raise AttributeError(name)
