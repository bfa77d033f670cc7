"""Fitting a model on all training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstock.heads.bundle.bundle import PROMISE, Bundle
from headstock.heads.bundle.coverage import Coverage, held_out, promise
from headstock.heads.bundle.members import Member, Pattern
from headstock.heads.evaluation.plans import plan_for
from headstock.heads.evaluation.systems import DEFAULTS, restrict
from headstock.heads.fusion.fusions import make_fusion, maker_of
from headstock.heads.head import make_head
from headstock.heads.metrics.cost import COSTS, costs_of, is_cost
from headstock.heads.metrics.table import metrics_named
from headstock.heads.outoffold.answer import fit_head
from headstock.heads.outoffold.fold_by_fold import answer_views, cross_fit
from headstock.heads.rows.adapted import whole_sets
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import ALL, Rows, parts_of
from headstock.heads.rows.prepare import Prepared, Rules, prepare
from headstock.heads.rows.rare import may_spread
from headstock.heads.search.aims import aimed
from headstock.heads.search.tuning import Tuned, search_record, transformed, with_searches
from headstock.heads.specs import CLASSES, NUMBER
from headstock.heads.statistics.importances import weigh
from headstock.store.errors import HeadError, OptionError
from headstock.store.manifest.splits import split_of
from headstock.store.progress import Report, unheard

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = ["Fit", "fit", "fit_prepared", "fit_rows"]

FIRST = {CLASSES: "logistic", NUMBER: "ridge"}
"""The head that is fitted where none is named."""
LEARN = ("weighted", "stacked", "gated")
"""Fusions that learn from held-out probabilities."""


@dataclass(frozen=True)
class Fit:
    """One system to fit: ``heads`` on ``on`` joined by ``fusion``; members, metric: as in
    ``fit_rows``."""

    on: str
    heads: Sequence[str]
    fusion: str | None = None
    seed: int = 0
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    members: Sequence[tuple[str, str]] = ()
    metric: str | None = None
    coverage: Coverage | None = None


def fit(
    store: StoreReader,
    head: str | None = None,
    on: str | None = None,
    fusion: str | None = None,
    heads: Sequence[str] | None = None,
    *,
    folds: int | str | FoldPlan | None = None,
    group: str | None = None,
    seed: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    missing: str = "refuse",
    dedupe: str = "group",
    rare: str = "drop",
    tune: Sequence[str] = (),
    target: str | None = None,
    transform: str | None = None,
    coverage: float | None = None,
    coverage_per_class: bool = False,
    save_plan: str | Path | None = None,
    metric: str | Sequence[str] = (),
    progress: Report = unheard,
) -> Bundle:
    """Fit on a store's labelled rows outside the splits ``valid`` and ``test``.

    One head on ``on`` (by default logistic, or ridge of numbers, on all sets side by side), or with
    a late ``fusion`` each of ``heads`` on each single set of ``on``, joined by a fusion learned
    from out-of-fold answers. Where neither ``head`` nor ``heads`` is named, ``stacked`` joins the
    heads that ``evaluate`` tries by default. The other settings are those of ``evaluate``. By the
    folds is held out whatever must be: for calibration, early stopping and the choice of options,
    for the answers that a fusion or a gate learns from. They are a new plan or a saved one of a
    single repeat; which it was stands in the bundle's settings, and ``save_plan`` writes it to a
    file that ``evaluate`` and ``fit`` take as ``folds``. coverage: the part of new rows (of new
    groups, where rows come in such), with ``coverage_per_class`` of the rows of each class, whose
    truth the interval, or the set of classes, of a prediction is to hold. metric: what searches,
    the weights of a fusion and a gate aim at, and, of ``cost:FILE.csv``, what the model answers;
    of several the first.
    """
    if isinstance(folds, str) and split_of(folds) == "valid":
        folds = None  # as evaluate: the valid rows score, folds are made inside the training rows
    on = on or "+".join(whole_sets(store))
    rules = Rules(group, missing, dedupe, "mark", rare, target)
    found = prepare(store, [on], rules, folds)
    of = found.rows.target
    every = fusion == "stacked" and not head
    promised = Coverage.asked(coverage, coverage_per_class, of)
    names = list(heads or (DEFAULTS[of].heads if every else [head or FIRST[of]]))
    given = transformed(options or {}, names, transform, of)
    aimed_at = [metric] if isinstance(metric, str) else list(metric)
    if aimed_at and of == NUMBER:
        what = "is what searches aim at, and those of numbers aim at squared errors"
        raise OptionError(f"metric {aimed_at[0]}", what, "leave it away")
    classes = found.rows.classes.tolist()
    aims = metrics_named(aimed_at, classes)[0].name if aimed_at else None
    searched = with_searches(tune, given, of)
    system = Fit(on, names, fusion, seed, searched, metric=aims, coverage=promised)
    plan = plan_for(
        store,
        found.rows,
        folds,
        group=group,
        repeats=1,
        seed=seed,
        spread=may_spread(found.rows, folds, rare),
    )
    if save_plan is not None:
        _of_one_repeat(plan)
        plan.save(save_plan)
    return fit_prepared(store, found, plan, system, progress)


def fit_prepared(
    store: StoreReader, found: Prepared, plan: FoldPlan, system: Fit, progress: Report = unheard
) -> Bundle:
    """``fit`` on rows and folds that are there; the bundle has the recipes of what it reads."""
    told = {name: count for name, count in found.saw.items() if name in parts_of(system.on)}
    if told and system.fusion in LEARN:
        name, count = next(iter(told.items()))
        raise HeadError(
            f"fusion {system.fusion}",
            f"it learns whom to trust, and the network of {name} saw the labels of {count} rows",
            "adapt with --folds, or use mean, product, learned or early",
        )
    bundle = fit_rows(
        found.rows, plan, system.heads[0], system.on, system.fusion, system.heads,
        seed=system.seed, options=system.options, members=system.members, metric=system.metric,
        progress=progress,
    )  # fmt: skip
    for name in bundle.widths:
        feature_set = store.feature_set(name)
        bundle.recipes[name] = feature_set.recipe
        bundle.provenance[name] = dict(feature_set.provenance)
    if is_cost(system.metric):
        costs = costs_of(str(system.metric), bundle.classes.tolist())
        bundle.settings[COSTS] = costs.tolist()
    if system.coverage is not None:
        patterns = list(bundle.patterns) or ["+".join(bundle.widths)]
        members = list(dict.fromkeys((m.head, m.on) for m in bundle.members))
        if system.fusion in (None, "early"):
            members = [(system.heads[0], "+".join(parts_of(system.on)))]
        given = {"options": system.options, "seed": system.seed, "metric": system.metric}
        answers = held_out(found.rows, plan, patterns, members, system.fusion, given)
        bundle.settings[PROMISE] = promise(answers, system.coverage)
    bundle.settings["rows"] = {**found.account, "dropped": found.dropped}
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
    members: Sequence[tuple[str, str]] = (),
    metric: str | None = None,
    progress: Report = unheard,
) -> Bundle:
    """``fit`` on plain arrays; the bundle has no recipes yet. members: heads with their sets, where
    a late fusion does not join each of ``heads`` on each set of ``on``. metric: what searches,
    weights and gates aim at (``aimed``)."""
    _of_one_repeat(plan)
    options = dict(options or {})
    late = fusion is not None and maker_of(fusion, rows.target) is not None
    if fusion == "learned":
        head, heads = "learned", None
    names = list(heads or [head]) if late else [head]
    places = list(parts_of(on)) if late else ["+".join(parts_of(on))]
    pairs = list(members) or [(name, place) for name in names for place in places]
    if late and len(pairs) < 2:
        raise OptionError(
            f"fusion {fusion}", f"{on} with one head is one system", "name more of either"
        )
    unused = sorted(set(options) - {*names, fusion})
    if unused:
        raise OptionError(
            "options", f"{', '.join(unused)} is not among the heads", "name it as a head"
        )
    stated = {name: dict(own) for name, own in options.items()}
    options = aimed(options, metric, rows.classes.tolist())
    fitted: dict[tuple[str, str], Member] = {}
    held_out: dict[tuple[str, str], np.ndarray] = {}
    chosen: list[Any] = []
    tried: list[Any] = []
    weighed: list[Any] = []

    def member(name: str, place: str) -> None:
        """Fit a head on the rows that have its sets, once."""
        if (name, place) in fitted:
            return
        progress(len(fitted), max(len(pairs), len(fitted) + 1), f"{name}@{place}")
        sets = parts_of(place)
        which = np.flatnonzero(rows.having(sets))
        mine = rows.only(sets)
        cut = plan if len(which) == len(rows) else plan.take(which)
        X, spans = mine.matrix(place, ALL)
        if late:
            told: dict[str, Any] = {"options": options.get(name), "seed": seed}
            if mine.viewed(place):
                answer = answer_views(name, place, mine, cut, **told)
            else:
                of = {"target": rows.target, **told}
                answer = cross_fit(name, X, spans, mine.y, len(rows.classes), cut, **of)
            said = np.full((len(rows), len(rows.classes)), np.nan)
            said[which] = answer.proba[0]
            held_out[name, place] = said
        fresh = make_head(name, seed, options.get(name), rows.target)
        head: Any = fit_head(fresh, name, X, mine.y, cut.codes[0], spans)
        chosen.append(getattr(head, "chosen_", None))
        searched = isinstance(head, Tuned)
        found = search_record(head.points, [head.losses_], head.loss) if searched else None
        tried.append(found)
        weight = head.importances() if hasattr(head, "importances") else None
        weighed.append(None if weight is None else weigh([weight], spans, rows.names))
        fitted[name, place] = Member(name, place, head)

    def join(some: Sequence[tuple[str, str]]) -> Any:
        """A fusion of ``some`` members, learned from the rows that all of them answer."""
        assert fusion is not None
        sets = list(dict.fromkeys(p for _, place in some for p in parts_of(place)))
        which = np.flatnonzero(rows.having(sets))
        made: Any = make_fusion(fusion, seed, options.get(fusion), rows.target)
        P = np.stack([held_out[one][which] for one in some], axis=1)
        y, inner = rows.y[which], plan.codes[0][which]
        if not getattr(made, "wants_features", False):
            return made.fit(P, y, inner)
        made.reads = tuple(sets)
        return made.fit(P, y, inner, rows.take(which).matrix("+".join(sets))[0])

    plans = {}
    for pattern in _patterns(rows, on):
        some = [(name, p) for name, place in pairs if (p := restrict(place, pattern))]
        some = [one for one in dict.fromkeys(some) if not late or one in pairs]
        for one in some:
            member(*one)
        plans[pattern] = some, join(some) if late and len(some) > 1 else None
    numbers = {one: number for number, one in enumerate(fitted)}
    first, *more = plans.values()
    by_pattern = {
        pattern: Pattern([numbers[one] for one in some], joined)
        for pattern, (some, joined) in plans.items()
    }
    sets = list(dict.fromkeys(part for _, place in pairs for part in parts_of(place)))
    settings = {
        "head": head,
        "heads": names,
        "on": on,
        "fusion": fusion,
        "seed": seed,
        "options": stated,
        "metric": metric or "accuracy",
        "chosen": chosen,
        "tried": tried,
        "importances": weighed,
    }
    widths = {name: rows.X[name].shape[1] for name in sets}
    fits = list(fitted.values())
    classes = rows.classes.astype(object) if rows.numbers is None else np.empty(0, dtype=object)
    if rows.numbers is None:
        counts = np.bincount(rows.codes, minlength=len(classes))
        settings["shares"] = (counts / counts.sum()).tolist()
    if not more:
        return Bundle(fits, first[1], classes, {}, widths, {}, settings)
    return Bundle(fits, None, classes, {}, widths, {}, settings, by_pattern)


def _of_one_repeat(plan: FoldPlan) -> None:
    if plan.repeats > 1:
        raise HeadError(
            "fold plan", f"it has {plan.repeats} repeats, and a model holds out by one",
            "give the folds.json of a run without --repeats, or a number of folds",
        )  # fmt: skip


MOST_SETS = 4
"""Feature sets up to which a model for rows that lack some is fitted on every combination of them;
beyond, on those that occur and on each set alone."""


def _patterns(rows: Rows, on: str) -> list[str]:
    """What a model must be able to answer: all sets of ``on``; where rows lack some, the other
    combinations of them too, most sets first."""
    sets = parts_of(on)
    if rows.present is None:
        return ["+".join(sets)]
    if len(sets) <= MOST_SETS:
        found = [c for size in range(len(sets), 0, -1) for c in combinations(sets, size)]
    else:
        seen = {restrict("+".join(sets), p) for p in {*rows.patterns(), *sets, "+".join(sets)}}
        found = sorted((parts_of(p) for p in seen if p), key=lambda p: (-len(p), p))
    return ["+".join(c) for c in found if rows.having(c).any()]
