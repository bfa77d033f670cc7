"""Claims of intervals and sets that a model promises of new rows (``heads/bundle/coverage.py``)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from headstock.heads import make_folds
from headstock.heads.bundle.coverage import Coverage, held_out, promise
from headstock.heads.bundle.fitting import fit_rows
from headstock.heads.rows.labelled import Rows

NEW = 1000


def world(seed: int, n: int, groups: int = 0) -> Rows:
    """(n,) rows of three classes that overlap, the last one rare; rows of a group share a shift."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(3, n, p=[0.5, 0.35, 0.15])
    X = rng.normal(size=(n, 4)) + 1.6 * np.eye(3, 4)[codes]
    group = rng.integers(0, groups, n) if groups else None
    if group is not None:
        X += 1.5 * rng.normal(size=(groups, 4))[group]
    names = None if group is None else group.astype(str)
    classes = np.array(["a", "b", "c"], dtype=object)
    return Rows(np.arange(n).astype(str), {"t": X.astype(np.float32)}, codes, classes, names)


def held(
    seed: int, coverage: Coverage, head: str, n: int, groups: int = 0, code: int = -1
) -> float:
    """The share of new rows, or of those of one class, whose class is in their set."""
    rows = world(seed, n + NEW, 3 * groups)
    known = np.arange(n + NEW) < n if rows.groups is None else rows.groups.astype(int) < groups
    learned = rows.take(np.flatnonzero(known))
    plan = make_folds(learned.codes, 5, ids=learned.ids, groups=learned.groups, seed=seed)
    promised = promise(held_out(learned, plan, ["t"], [(head, "t")], None, {}), coverage)
    proba = fit_rows(learned, plan, head, "t").predict_arrays({"t": rows.X["t"][~known]})
    codes = rows.codes[~known]
    inside = proba >= np.array(promised["least"]["t"])
    right = inside[np.arange(len(codes)), codes]
    return float(right[codes == code].mean() if code >= 0 else right.mean())


def claims() -> Iterator[dict[str, Any]]:
    for head, n in (("lda", 150), ("knn", 150), ("lda", 100)):
        yield {
            "key": f"sets-{head}-{n}", "says": "a set holds the class of a new row",
            "simulation": f"3 classes, {n} rows, {head}", "nominal": ".90",
            "low": 0.89, "high": 0.92, "weight": 0.5,
            "measure": partial(held, coverage=Coverage(0.9), head=head, n=n),
        }  # fmt: skip
    yield {
        "key": "sets-of-class", "says": "a set holds the class of a new row of the rarest class",
        "simulation": "3 classes, 150 rows, 22 of that class, lda", "nominal": "at least .90",
        "low": 0.9, "high": 1.0, "weight": 0.5,
        "measure": partial(held, coverage=Coverage(0.9, per_class=True), head="lda", n=150, code=2),
    }  # fmt: skip
    yield {
        "key": "sets-groups", "says": "a set holds the class of a row of a new group",
        "simulation": "3 classes, 660 rows in 20 groups, lda", "nominal": "at least .80",
        "low": 0.8, "high": 1.0, "weight": 0.5,
        "measure": partial(held, coverage=Coverage(0.8), head="lda", n=1000, groups=20),
    }  # fmt: skip
