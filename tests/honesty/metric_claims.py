"""What is said of metrics other than the accuracy: intervals, differences, verdicts, the choice."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import world
from scipy.special import softmax

from headstock.heads.metrics.table import Metric, metric_named
from headstock.heads.statistics.compare import against_best
from headstock.heads.statistics.measured import guess_p, metric_difference, metric_record
from headstock.heads.statistics.selection import selection

CLASSES = ("c0", "c1", "c2")
NAMES = (
    "macro_f1", "weighted_f1", "f1:c2", "precision:c2", "specificity:c2", "mcc", "kappa",
    "quadratic_kappa", "top2", "auroc", "auroc_ovo", "auroc:c2", "auroc:c2@fpr=0.2",
    "average_precision", "recall:c2@precision=0.5", "calibration_error",
)  # fmt: skip
COMPARED = ("auroc", "average_precision", "macro_f1", "recall:c2@precision=0.5")
NOISE = (0.5, 0.9)
"""Of two systems, of which the first is better."""


def named(name: str) -> Metric:
    return metric_named(name, CLASSES)


@cache
def truth(name: str, grouped: bool, noise: float | None) -> float:
    """Of so many rows, in so many groups, that chance is left out."""
    groups = 40_000 if grouped else 0
    if noise is None:
        proba, codes, _ = world.drawn(10**6, 400_000, groups, 1.3)
    else:
        (proba,), codes, _ = world.noisy(10**6, 400_000, (noise,), groups)
    return named(name).score(proba, codes)


def covered(seed: int, name: str, groups: int) -> float:
    proba, codes, keys = world.drawn(seed, 2000 if groups else 300, groups, 1.3)
    found = metric_record(named(name), proba[None], codes, keys)
    return float(found["low"] <= truth(name, groups > 0, None) <= found["high"])


def gap_covered(seed: int, name: str, groups: int) -> float:
    (a, b), codes, keys = world.noisy(seed, 300, NOISE, groups)
    found = metric_difference(named(name), a[None], b[None], codes, keys)
    gap = truth(name, groups > 0, NOISE[0]) - truth(name, groups > 0, NOISE[1])
    return float(found["low"] <= gap <= found["high"])


def _equal(seed: int, name: str, systems: int, groups: int) -> tuple[Any, ...]:
    said, codes, keys = world.noisy(seed, 300, (0.7,) * systems, groups)
    metric = named(name)
    proba = {f"s{i}": one for i, one in enumerate(said)}
    names = sorted(proba, key=lambda name: -metric.sign * metric.score(proba[name], codes))
    return names, proba, codes, keys


def false_better(seed: int, name: str, groups: int) -> float:
    lines = against_best(*_equal(seed, name, 10, groups), seed, named(name))
    return float(any(line.differs for line in lines))


def chosen(seed: int, name: str, what: str, groups: int) -> float:
    found = selection(*_equal(seed, name, 20, groups), seed, named(name))
    assert found is not None
    true, nested = truth(name, groups > 0, 0.7), found.nested
    if what == "bias":
        return float(named(name).sign * (nested.value - true))
    return float(nested.low <= true <= nested.high)


def above_chance(seed: int, name: str, groups: int) -> float:
    """Answers that say nothing of the labels, though both lean group by group."""
    rng = np.random.default_rng(seed)
    keys = np.arange(300) % groups if groups else None
    z, codes = rng.normal(size=(300, 3)), rng.choice(3, 300, p=[0.5, 0.3, 0.2])
    if keys is not None:
        z = z + rng.normal(size=(groups, 3))[keys]
        codes = np.where(rng.random(300) < 0.6, rng.integers(0, 3, groups)[keys], codes)
    folds = np.arange(300) % 5 if keys is None else keys % 5
    return float(guess_p(named(name), softmax(z, axis=1), codes, folds, keys, seed) <= 0.05)


def claims() -> Iterator[dict[str, Any]]:
    """As keywords of a ``Claim``."""
    hold = {"nominal": "at least .95", "low": 0.95, "high": 1.0}
    few = {"nominal": ".95, with few groups .90", "low": 0.9, "high": 1.0}
    rate = {"nominal": "at most .05", "low": 0.0, "high": 0.05}
    for name in NAMES:
        for groups in (0, 8, 40):
            nominal = few if groups == 8 else hold
            words = f"2,000 rows in {groups} groups" if groups else "300 rows"
            if name == "calibration_error":  # it is no mean of rows, and too high in few
                nominal = {"nominal": "at least .90", "low": 0.9, "high": 1.0}
            yield {
                "key": f"metric-{name}-{groups}", "says": f"the 95 % interval holds the {name}",
                "simulation": f"{words}, 3 classes",
                "measure": partial(covered, name=name, groups=groups), **nominal,
            }  # fmt: skip
    for name in COMPARED:
        for groups in (0, 8, 40):
            words = ", 300 rows" + f", {groups} groups" * bool(groups)
            yield {
                "key": f"metric-gain-{name}-{groups}",
                "says": f"the 95 % interval holds the difference in {name} of two systems named "
                "beforehand",
                "simulation": f"two systems{words}",
                "measure": partial(gap_covered, name=name, groups=groups),
                **(few if groups == 8 else hold),
            }  # fmt: skip
            yield {
                "key": f"metric-better-{name}-{groups}",
                "says": f"any *better* or *worse* in {name} is wrong",
                "simulation": f"10 equal systems{words}",
                "measure": partial(false_better, name=name, groups=groups), **rate,
            }  # fmt: skip
    for name in ("auroc", "average_precision", "macro_f1", "log_loss"):
        for groups in (0, 8, 40):
            yield {
                "key": f"metric-chance-{name}-{groups}",
                "says": f"p against guessing, by {name}, is at most .05",
                "simulation": "answers by chance, 300 rows" + f", {groups} groups" * bool(groups),
                "measure": partial(above_chance, name=name, groups=groups), **rate,
            }  # fmt: skip
    for name in ("auroc", "macro_f1"):
        for groups in (0, 40):
            words = "20 equal systems, 300 rows" + f", {groups} groups" * bool(groups)
            yield {
                "key": f"metric-chosen-{name}-{groups}", "simulation": words,
                "says": f"the {name} of the chosen system less its true one",
                "measure": partial(chosen, name=name, what="bias", groups=groups),
                "nominal": "0 to -.01", "low": -0.01, "high": 0.003,
            }  # fmt: skip
            yield {
                "key": f"metric-chosen-interval-{name}-{groups}", "simulation": words,
                "says": f"its 95 % interval holds the true {name}",
                "measure": partial(chosen, name=name, what="covered", groups=groups), **hold,
            }  # fmt: skip
