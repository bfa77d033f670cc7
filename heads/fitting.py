"""Fitting a model on all training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headstock.heads.bundle import Bundle, Member
from headstock.heads.engine import cross_fit, fit_head
from headstock.heads.folds import FoldPlan
from headstock.heads.fusion import FUSIONS, make_fusion
from headstock.heads.head import make_head
from headstock.heads.hygiene import clean, find_duplicates
from headstock.heads.leaderboard import DEFAULT_HEADS, plan_for
from headstock.heads.rows import Rows, parts_of, read_rows
from headstock.heads.tuning import with_grids
from headstock.store.errors import OptionError
from headstock.store.progress import Report, unheard

__all__ = ["fit", "fit_rows"]


def fit(
    store: Any,
    head: str = "logistic",
    on: str | None = None,
    fusion: str | None = None,
    heads: Sequence[str] | None = None,
    *,
    folds: int | str | FoldPlan = 5,
    group: str | None = None,
    seed: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    missing: str = "refuse",
    dedupe: str = "group",
    tune: Sequence[str] = (),
    progress: Report = unheard,
) -> Bundle:
    """Fit on a store's labelled rows outside the test split.

    One head on ``on`` (by default all sets side by side), or with a late ``fusion`` each of
    ``heads`` (by default ``head`` alone; for ``stacked`` the default heads) on each single set of
    ``on``, joined by a fusion learned from out-of-fold probabilities. The other settings are those
    of ``evaluate``; the folds are what calibration and fusion hold out by.
    """
    on = on or "+".join(store.sets)
    rows, _, account = read_rows(store, [on], group=group, missing=missing)
    rows, account["dropped"] = clean(rows, None, find_duplicates(rows), dedupe)
    plan = plan_for(store, rows, folds, group=group, repeats=1, seed=seed)
    options = with_grids(tune, options or {})
    bundle = fit_rows(rows, plan, head, on, fusion, heads, seed=seed, options=options, progress=progress)  # fmt: skip
    for name in account["sets"]:
        feature_set = store.feature_set(name)
        bundle.recipes[name] = feature_set.recipe
        bundle.provenance[name] = dict(feature_set.provenance)
    bundle.settings["rows"] = account
    bundle.settings["folds"] = plan.summary()
    return bundle


def fit_rows(
    rows: Rows,
    plan: FoldPlan,
    head: str,
    on: str,
    fusion: str | None = None,
    heads: Sequence[str] | None = None,
    *,
    seed: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Report = unheard,
) -> Bundle:
    """``fit`` on plain arrays; the bundle has no recipes yet."""
    options = dict(options or {})
    if fusion is not None and fusion not in FUSIONS:
        raise OptionError(f"fusion {fusion}", "is not in the table", f"one of {', '.join(FUSIONS)}")
    late = fusion is not None and FUSIONS[fusion] is not None
    if fusion == "learned":
        head, heads = "learned", None
    names = list(heads or (DEFAULT_HEADS if fusion == "stacked" else (head,))) if late else [head]
    places = list(parts_of(on)) if late else ["+".join(parts_of(on))]
    pairs = [(name, place) for name in names for place in places]
    if late and len(pairs) < 2:
        raise OptionError(
            f"fusion {fusion}", f"{on} with one head is one system", "name more of either"
        )
    unused = sorted(set(options) - set(names))
    if unused:
        raise OptionError(
            "options", f"{', '.join(unused)} is not among the heads", "name it as a head"
        )
    k, members, held_out = len(rows.classes), [], []
    chosen: list[Any] = []
    weighed: list[Any] = []
    for done, (name, place) in enumerate(pairs):
        progress(done, len(pairs), f"{name}@{place}")
        X, spans = rows.matrix(place)
        if late:
            answer = cross_fit(
                name, X, spans, rows.codes, k, plan, options=options.get(name), seed=seed
            )
            held_out.append(answer.proba[0])
        fresh = make_head(name, seed, options.get(name))
        fitted = fit_head(fresh, name, X, rows.codes, plan.codes[0], spans)
        chosen.append(getattr(fitted, "chosen_", None))
        weighed.append(_importances(fitted, spans))
        members.append(Member(name, place, fitted))
    joined = None
    if late:
        assert fusion is not None
        joined = make_fusion(fusion).fit(np.stack(held_out, axis=1), rows.codes, plan.codes[0])
    sets = list(dict.fromkeys(part for _, place in pairs for part in parts_of(place)))
    settings = {
        "head": head,
        "heads": names,
        "on": on,
        "fusion": fusion,
        "seed": seed,
        "options": {h: dict(o) for h, o in options.items()},
        "chosen": chosen,
        "importances": weighed,
    }
    widths = {name: rows.X[name].shape[1] for name in sets}
    return Bundle(members, joined, rows.classes.astype(object), {}, widths, {}, settings)


def _importances(fitted: Any, spans: Mapping[str, slice], top: int = 10) -> dict[str, Any] | None:
    """For a head that weighs columns: each set's share of the whole, and its heaviest columns."""
    if not hasattr(fitted, "importances"):
        return None
    weight = np.asarray(fitted.importances(), dtype=np.float64)
    total = float(weight.sum()) or 1.0
    out = {}
    for name, span in spans.items():
        own = weight[span]
        first = np.argsort(-own, kind="stable")[:top]
        out[name] = {
            "share": float(own.sum()) / total,
            "columns": [[int(c), float(own[c]) / total] for c in first],
        }
    return out
