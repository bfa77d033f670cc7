"""Rows on which a graph is compared with the model it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from headstock.heads.bundle.bundle import Bundle
from headstock.heads.bundle.members import Member
from headstock.heads.fusion.gate import Gated
from headstock.heads.fusion.stacking import Stacked
from headstock.heads.kinds.components import OnComponents
from headstock.heads.kinds.neighbours import Neighbours
from headstock.heads.onnx.kinds import own_head
from headstock.heads.onnx.trees import ensemble_of
from headstock.heads.outoffold.answer import full_proba
from headstock.heads.rows.labelled import parts_of

__all__ = ["on_edge", "random_rows"]

NEAR = 2e-6
"""Differences of similarity or confidence below this are rounding: float32 has 6e-8 of 1, and a
sum over thousands of columns some ten times that."""

TREES = ("trees", "lightgbm", "xgboost")


def random_rows(bundle: Bundle, count: int, seed: int) -> dict[str, np.ndarray]:
    """{set: (count, d) float32} like the rows that the model was fitted on, as far as it knows
    them: by each column's centre and spread, at a third, once and three times that spread; a tree's
    columns take its very thresholds and their neighbours too."""
    rng = np.random.default_rng(seed)
    out = {
        name: rng.standard_normal((count, width)) * rng.choice([1 / 3, 1, 3], (count, 1))
        for name, width in bundle.widths.items()
    }
    seen: set[str] = set()
    for member in bundle.members:
        for number, name in enumerate(parts_of(member.on)):
            if name not in seen:
                seen.add(name)
                out[name] = _like(member, number, bundle, out[name])
    rows = {name: x.astype(np.float32) for name, x in out.items()}
    for member in bundle.members:
        _at_thresholds(member, bundle, rows, rng)
    return rows


def _like(member: Member, number: int, bundle: Bundle, x: np.ndarray) -> np.ndarray:
    head = own_head(member.fitted)
    scaler = getattr(head, "scaler_", None)
    if scaler is None:
        return x
    found = getattr(head, "components_", {}) and head.components_[number]
    if found:  # what has components like those of a row of length 1
        some = x[:, : found.axes.shape[1]]
        return found.mean + some @ np.linalg.pinv(found.axes) / np.sqrt(some.shape[1])
    span = _seen(member, bundle)[number]
    spread = np.asarray(scaler.scale, dtype=np.float64)
    if hasattr(scaler, "starts"):  # of a block: its whole length
        ends = np.append(scaler.starts, len(spread))[1:]
        spread = spread / np.repeat(np.sqrt(ends - scaler.starts), ends - scaler.starts)
    return scaler.mean[span] + spread[span] * x


def _seen(member: Member, bundle: Bundle) -> list[slice]:
    """Where each set is among the columns that the member's head sees."""
    head = own_head(member.fitted)
    if isinstance(head, OnComponents) and head.widths_:
        return head.seen
    ends = np.cumsum([0, *(bundle.widths[p] for p in parts_of(member.on))]).tolist()
    return [slice(a, b) for a, b in pairwise(ends)]


def _at_thresholds(
    member: Member, bundle: Bundle, rows: dict[str, np.ndarray], rng: np.random.Generator
) -> None:
    """Half of the values of columns that ``member``'s trees split on become thresholds of theirs,
    or the float32 next to one."""
    head = own_head(member.fitted)
    if getattr(head, "kind", None) not in TREES:
        return
    e = ensemble_of(head)
    inner, parts = e.left >= 0, parts_of(member.on)
    reduced = getattr(head, "components_", None) or [None] * len(parts)
    starts = [span.start for span in _seen(member, bundle)]
    for column in np.unique(e.feature[inner]):
        part = int(np.searchsorted(starts, column, side="right")) - 1
        if reduced[part] is not None:  # no column of the rows, and no threshold of one
            continue
        values = rows[parts[part]][:, column - starts[part]]
        at = rng.random(len(values)) < 0.5
        drawn = rng.choice(e.threshold[inner & (e.feature == column)], len(values))
        aside = rng.choice([-np.inf, 0, np.inf], len(values))
        moved = np.where(aside == 0, drawn, np.nextafter(drawn, aside.astype(np.float32)))
        values[at] = moved.astype(np.float32)[at]


def on_edge(bundle: Bundle, X: dict[str, np.ndarray]) -> np.ndarray:
    """(m,) rows whose answer hangs on rounding: two training rows of other classes equally near at
    the last vote of a nearest-neighbour head, a confidence at a gate's very threshold, or a
    probability at one of the thresholds of a stack of trees."""
    m, k = len(next(iter(X.values()))), len(bundle.classes)
    edge, said = np.zeros(m, dtype=bool), []
    for member in bundle.members:
        matrix = np.hstack([X[part] for part in parts_of(member.on)])
        said.append(full_proba(member.fitted, member.head, matrix, k))
        head = own_head(member.fitted)
        if any(getattr(head, "components_", ())):
            matrix = head.columns(matrix)
        edge |= _hangs(head, matrix, _computed(head))
    if isinstance(bundle.fusion, Gated):
        sure = said[bundle.fusion.first_].max(axis=1)
        edge |= np.abs(sure - bundle.fusion.threshold_) < NEAR
    if isinstance(bundle.fusion, Stacked) and bundle.fusion.weighted_ is None:
        reads = bundle.fusion.reads if bundle.fusion.wants_features else ()
        beside = np.hstack([X[part] for part in reads]) if reads else None
        rows = bundle.fusion._columns(np.stack(said, axis=1), beside)
        edge |= _hangs(own_head(bundle.fusion.head_), rows, range(len(said) * k))
    return edge


def _computed(head: Any) -> list[int]:
    """The columns of what a head's trees see that are components."""
    if not isinstance(head, OnComponents):
        return []
    spans = [span for found, span in zip(head.components_, head.seen) if found is not None]
    return [column for span in spans for column in range(span.start, span.stop)]


def _hangs(head: Any, X: np.ndarray, computed: Sequence[int]) -> np.ndarray:
    """(m,) rows of X that rounding of the columns ``computed`` may send another way."""
    if isinstance(head, Neighbours):
        return _tied(head, X)
    out = np.zeros(len(X), dtype=bool)
    if len(computed) and getattr(head, "kind", None) in TREES:
        e = ensemble_of(head)
        for column in computed:
            met = np.unique(e.threshold[(e.left >= 0) & (e.feature == column)])
            if len(met):
                gap = np.abs(X[:, column, None] - met).min(axis=1)
                out |= gap < NEAR * (1 + np.abs(X[:, column]))
    return out


def _tied(head: Neighbours, X: np.ndarray) -> np.ndarray:
    """(m,) rows at whose last vote stand rows of several classes, within NEAR."""
    count = head.neighbours
    if count >= len(head.rows_):
        return np.zeros(len(X), dtype=bool)
    similarity = head.unit(X) @ head.rows_.T
    last = -np.partition(-similarity, count - 1, axis=1)[:, count - 1]
    out = np.zeros(len(X), dtype=bool)
    for row in range(len(X)):
        level = np.abs(similarity[row] - last[row]) < NEAR
        out[row] = len(np.unique(head.codes_[level])) > 1
    return out
