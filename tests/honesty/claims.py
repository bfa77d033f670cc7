"""What the product says of numbers, each beside a simulation of which the truth is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import coverage_claims
import metric_claims
import number_claims
import numpy as np
import world

from headstock.heads.evaluate_classes import evaluate_rows
from headstock.heads.fusion.gate import gate_verdicts
from headstock.heads.report.contest import Contest
from headstock.heads.rows.folds import make_folds
from headstock.heads.rows.times import time_plan
from headstock.heads.statistics.chance import chance_p
from headstock.heads.statistics.compare import against_best, compare
from headstock.heads.statistics.figures import calibration_line, figures
from headstock.heads.statistics.intervals import share_interval
from headstock.heads.statistics.metrics import ByRow, score
from headstock.heads.statistics.selection import selection


@dataclass(frozen=True)
class Claim:
    """``measure(seed)``: a figure, or several whose mean counts, of one simulated run. What is
    measured, the mean over seeds, must lie in ``low`` to ``high`` but for three standard errors.
    ``weight``: seeds of a full run, as a part of what is asked for;
    """

    key: str
    says: str
    simulation: str
    nominal: str
    low: float
    high: float
    measure: Callable[[int], float]
    weight: float = 1.0


# Statements that one system is better than another ------------------------------------------------


def false_better(seed: int, **how: object) -> float:
    told = world.answers(seed, **how)  # type: ignore[arg-type]
    lines = against_best(told.names, told.proba, told.codes, told.groups, seed)
    return float(any(one.differs for one in lines))


def false_better_run(seed: int) -> float:
    """The best of a run of a hundred systems against the only one of another run."""
    told = world.answers(seed, 101, n=300, alike=0.3)
    order = np.argsort(-told.right.sum(axis=0), kind="stable")
    right = told.right[:, order].T
    contest = Contest([], [], right, np.arange(300).astype(str))
    lone = int(np.flatnonzero(order == 100)[0])
    top = 0 if lone else 1  # the best of the hundred
    return float(contest.tests([(top, lone)])[0].differs)


def false_gate(seed: int, gates: int, groups: int = 0) -> float:
    """Gates that are no better than the systems they join, each held against the luckier of two."""
    told = world.answers(seed, 3 * gates, n=300, alike=0.8, groups=groups)
    reports, columns = [], []
    proba = told.proba
    for gate in range(gates):
        pair = max((3 * gate + 1, 3 * gate + 2), key=lambda i: told.right[:, i].sum())
        against = compare(proba[f"s{3 * gate}"], proba[f"s{pair}"], told.codes, told.groups)
        scores = {"apparent_accuracy": 0.0, "best_accuracy": 0.0}
        reports.append({"best": f"s{pair}", "against_best": against, **scores})
        columns += [told.right[:, 3 * gate], told.right[:, pair]]
    gate_verdicts(reports, np.stack(columns, axis=1).astype(float), told.groups, seed)
    return float(any(report["verdict"] == "the gate helps" for report in reports))


# Intervals ---------------------------------------------------------------------------------------


def covered(low: np.ndarray, high: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean((low <= truth) & (truth <= high)))


def share_covered(seed: int, **how: object) -> float:
    told = world.answers(seed, 1, n=400, **how)  # type: ignore[arg-type]
    return covered(*share_interval(told.right.astype(float), told.groups), told.truth)


def gain_covered(seed: int, **how: object) -> float:
    told = world.answers(seed, 2, spread=0.2, **how)  # type: ignore[arg-type]
    proba = told.proba
    gap = compare(proba["s0"], proba["s1"], told.codes, told.groups).accuracy_difference
    return float(gap.low <= told.truth[0] - told.truth[1] <= gap.high)


FIGURES = ("balanced_accuracy", "log_loss", "brier", "slope", "intercept", "class")


@cache
def true_figures(grouped: bool, sharper: float) -> dict[str, float]:
    """Of so many rows, in so many groups, that chance is left out."""
    proba, codes, _ = world.drawn(10**6, 400_000, 40_000 if grouped else 0, sharper)
    told, line = score(proba[None], codes), calibration_line(proba[None], codes)
    lines = {name: one["value"] for name, one in line.items() if one is not None}
    return {**told, **lines, "class": told["per_class"][2]["recall"]}


def figure_covered(seed: int, figure: str, groups: int = 0, sharper: float = 1.3) -> float:
    proba, codes, keys = world.drawn(seed, 300, groups, sharper)
    told = figures([ByRow.of(proba, codes)], codes, 3, keys)
    told["calibration"] = calibration_line(proba[None], codes, keys)
    if figure == "class":
        low, high = told["per_class"][2]["interval"]
    else:
        where = "calibration" if figure in ("slope", "intercept") else "intervals"
        low, high = (told[where][figure][end] for end in ("low", "high"))
    return float(low <= true_figures(groups > 0, sharper)[figure] <= high)


def above_chance(seed: int, groups: int = 0) -> float:
    rng = np.random.default_rng(seed)
    keys = np.arange(150) % groups if groups else None
    said = rng.integers(0, 3, 150)
    codes = rng.choice(3, 150, p=[0.5, 0.3, 0.2])
    if keys is not None:  # labels and answers lean, group by group, each their own way
        codes, said = (np.where(rng.random(150) < 0.6, rng.integers(0, 3, groups)[keys], one)
                       for one in (codes, said))  # fmt: skip
    folds = np.arange(150) % 5 if keys is None else keys % min(5, groups)
    return float(chance_p(said[:, None], codes, folds, keys, seed)[0] <= 0.05)


# The best of many --------------------------------------------------------------------------------


def chosen(seed: int, what: str, **how: object) -> float:
    told = world.answers(seed, **how)  # type: ignore[arg-type]
    truth = told.truth[int(told.names[0][1:])]
    found = selection(told.names, told.proba, told.codes, told.groups, seed)
    assert found is not None
    if what == "apparent":
        return float(found.apparent - truth)
    if what == "bias":
        return float(found.nested.value - truth)
    return float(found.nested.low <= truth <= found.nested.high)


# Whole evaluations of rows that say nothing -------------------------------------------------------

HEADS = ("knn", "lda", "tree")


def guessing(seed: int, fusions: tuple[str, ...] = (), groups: int = 0, **more: object) -> float:
    """Mean accuracy of the systems (of the fusions, where some are asked for) less 1/3."""
    rows = world.nothing(seed, groups=groups)
    plan = make_folds(rows.codes, 3, ids=rows.ids, groups=rows.groups, seed=seed)
    heads = more.pop("heads", HEADS)
    run = evaluate_rows(rows, heads, ("image", "audio"), fusions, plan, seed=seed, **more)  # type: ignore[arg-type]
    lines = [r for r in run.leaderboard if not fusions or r.fusion in fusions]
    return float(np.mean([line.accuracy.value for line in lines]) - 1 / 3)


def guessing_in_time(seed: int) -> float:
    rows = world.nothing(seed)
    days = [str(np.datetime64("2026-01-01") + day) for day in range(len(rows))]
    plan = time_plan(rows.ids, days, "day", "expanding")
    run = evaluate_rows(rows, ("knn", "tree"), ("image", "audio"), ("stacked",), plan, seed=seed)
    return float(np.mean([r.accuracy.value for r in run.leaderboard]) - 1 / 3)


def null_better(seed: int, groups: int = 0) -> float:
    rows = world.nothing(seed, groups=groups)
    plan = make_folds(rows.codes, 3, ids=rows.ids, groups=rows.groups, seed=seed)
    run = evaluate_rows(rows, HEADS, ("image", "audio"), ("mean", "gated"), plan, seed=seed)
    helps = any(line.gate and "gate helps" in line.gate.verdict for line in run.leaderboard)
    return float(helps or any(one.differs for one in run.run.comparisons))


def _claims() -> list[Claim]:
    rate = {"nominal": "at most .05", "low": 0.0, "high": 0.05}
    hold = {"nominal": "at least .95", "low": 0.95, "high": 1.0}
    few = {"nominal": ".95, with few groups .93", "low": 0.93, "high": 1.0}
    none = {"nominal": "0", "low": -0.005, "high": 0.005}
    out = []

    def add(key: str, says: str, simulation: str, measure: Callable[[int], float], **more: object):
        out.append(Claim(key, says, simulation, measure=measure, **more))  # type: ignore[arg-type]

    better = "any *better* or *worse* of a leaderboard is wrong"
    for systems in (2, 10, 30, 100):
        how = partial(false_better, systems=systems)
        weight = 0.3 if systems > 30 else 1.0
        words = f"{systems} systems that are all right on .85, 300 rows"
        add(
            f"better-{systems}",
            better,
            words,
            how,
            weight=0.3 if systems > 30 else 1,
            **rate,
        )
    for groups in (5, 6, 8, 20, 40):
        for uneven in (False, True):
            how = partial(false_better, systems=10, groups=groups, uneven=uneven)
            words = f"10 equal systems in {groups} groups{' of uneven sizes' * uneven}"
            add(f"better-groups-{groups}{'-uneven' * uneven}", better, words, how, **rate)
    add(
        "better-runs", "a difference between runs is wrong",
        "the best of 100 against a run of one, all equal", false_better_run,
        weight=0.3, **rate,
    )  # fmt: skip
    for gates, groups in ((1, 0), (15, 0), (1, 6), (15, 8)):
        words = f"{gates} gates that gain nothing" + f", {groups} groups" * bool(groups)
        how = partial(false_gate, gates=gates, groups=groups)
        add(f"gate-{gates}-{groups}", "any *the gate helps* is wrong", words, how, **rate)
    interval = "the 95 % interval holds the accuracy"
    for accuracy in (0.7, 0.95):
        words = f"400 rows, true accuracy {accuracy:g}"
        add(
            f"rows-{accuracy}",
            interval,
            words,
            partial(share_covered, accuracy=accuracy),
            weight=4,
            **hold,
        )
        for groups in (5, 8, 20, 40):
            for uneven in (False, True):
                how = partial(share_covered, accuracy=accuracy, groups=groups, uneven=uneven)
                named = f"{words}, {groups} groups{' of uneven sizes' * uneven}"
                key = f"groups-{groups}-{accuracy}{'-uneven' * uneven}"
                add(key, interval, named, how, weight=4, **few)
    for groups in (0, 5, 8, 20, 40):
        named = "two systems, 300 rows" + f", {groups} groups" * bool(groups)
        says = "the 95 % interval holds the difference of two systems named beforehand"
        add(f"gain-{groups}", says, named, partial(gain_covered, groups=groups), weight=4, **hold)
    for figure in FIGURES:
        for groups in (0, 8, 20, 40):
            words = "300 rows, 3 classes" + f", {groups} groups" * bool(groups)
            says = f"the 95 % interval holds the {figure.replace('_', ' ')}"
            says = says.replace("the class", "the recall of the rarest class")
            how = partial(figure_covered, figure=figure, groups=groups)
            add(f"{figure}-{groups}", says, words, how, weight=2, **hold)
    for groups in (0, 5, 8, 20, 40):
        words = "150 rows, 3 classes, answers by chance" + f", {groups} groups" * bool(groups)
        how = partial(above_chance, groups=groups)
        add(f"chance-p-{groups}", "p against guessing is at most .05", words, how, weight=2, **rate)
    grouped = {"systems": 20, "n": 400, "spread": 0.1}
    worlds = {
        "equal": ({"systems": 100, "n": 100, "accuracy": 0.95, "alike": 0.0},
                  "100 independent systems that are all right on .95, 100 rows"),
        "alike": ({"systems": 30, "n": 200}, "30 systems that are all right on .85, 200 rows"),
        "spread": ({"systems": 30, "n": 200, "spread": 0.15},
                   "30 systems, true accuracies .77 to .91 in most, 200 rows"),
        "groups-8": ({**grouped, "groups": 8}, "20 systems, 400 rows in 8 groups"),
        "groups-40": ({**grouped, "groups": 40}, "20 systems, 400 rows in 40 groups"),
    }  # fmt: skip
    for name, (how, words) in worlds.items():
        bias, holds = partial(chosen, what="bias", **how), partial(chosen, what="covered", **how)
        near = {"nominal": "0 to -.01", "low": -0.01, "high": 0.003}
        weight = 0.3 if how["systems"] > 30 else 1  # type: ignore[operator]
        says = "the accuracy of the chosen system less its true one"
        add(f"chosen-{name}", says, words, bias, weight=weight, **near)
        says = "its 95 % interval holds the true one"
        add(f"chosen-interval-{name}", says, words, holds, weight=weight, **hold)
    chance = "accuracy less chance, where vectors say nothing"
    words = "135 rows, 3 classes, two sets of 8 columns"
    add("chance-heads", chance, f"{words}; knn, lda, tree", guessing, **none)
    how = partial(guessing, heads=("tree",))
    add("chance-tree", chance, f"{words}; tree, fold by fold", how, **none)
    how = partial(guessing, groups=12)
    add("chance-groups", chance, f"{words}, whose 12 groups are far apart", how, **none)
    how = partial(
        guessing,
        heads=("knn", "tree"),
        options={"knn": {"n_neighbors": [1, 5, 20]}, "tree": {"max_depth": [2, 8]}},
    )
    add(
        "chance-tuned",
        chance,
        f"{words}; options chosen inside the folds",
        how,
        weight=0.3,
        **none,
    )
    how = guessing_in_time
    add("chance-time", chance, f"{words}; blocks of time", how, weight=0.3, **none)
    for fusion in ("mean", "product", "weighted", "stacked", "gated"):
        how = partial(guessing, fusions=(fusion,))
        add(f"chance-{fusion}", chance, f"{words}; {fusion}", how, weight=0.3, **none)
    says = "any *better* or *the gate helps* of a whole evaluation is wrong"
    add("null-run", says, f"{words}; 15 systems", null_better, weight=0.3, **rate)
    how = partial(null_better, groups=10)
    add("null-run-groups", says, f"{words}; 15 systems, 10 groups", how, weight=0.3, **rate)
    return out


OF_OTHERS = [*metric_claims.claims(), *number_claims.claims(), *coverage_claims.claims()]
CLAIMS = [*_claims(), *(Claim(**one) for one in OF_OTHERS)]
