"""What is said of scores of numbers, beside simulations of which the truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import numpy as np

from headstock.heads.evaluate_numbers import evaluate_numbers
from headstock.heads.metrics.regression import SHOWN, number_metric
from headstock.heads.rows.folds import make_folds
from headstock.heads.rows.labelled import Rows
from headstock.heads.rows.strata import strata_of
from headstock.heads.statistics.compare import between_systems
from headstock.heads.statistics.regression import Known, chosen_best, difference, interval

METRICS = (*SHOWN, "pinball@quantile=0.9")
COMPARED = ("rmse", "mae", "spearman")
WORLDS: dict[str, tuple[int, int, bool]] = {
    "60 rows": (60, 0, False),
    "300 rows, errors with heavy tails": (300, 0, True),
    "300 rows in 15 groups": (300, 15, False),
    "300 rows in 40 groups": (300, 40, False),
}
"""Rows, groups, and whether errors are of Student's t with 5 degrees of freedom."""


def drawn(
    seed: int, n: int, groups: int, tails: bool
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray | None]:
    """Numbers (n,), the answers (1, n, 1) of two systems, and groups (n,) whose rows share a part
    of what is told and of what is not."""
    rng = np.random.default_rng(seed)
    told = 1.5 * rng.normal(size=n)
    noise = rng.standard_t(5, n) if tails else rng.normal(size=n)
    keys = None
    if groups:
        keys = np.sort(rng.integers(0, groups, n))
        noise = 0.8 * noise + 0.6 * rng.normal(size=groups)[keys]
        told = 0.8 * told + 0.9 * rng.normal(size=groups)[keys]
    said = [0.9 * told + 0.3 * rng.normal(size=n), 0.8 * told + 0.5 * rng.normal(size=n)]
    return told + noise, [one[None, :, None] for one in said], keys


@cache
def truth(name: str, world: str) -> tuple[float, float]:
    """The score of the first system, and what it is more than the second's, in so many rows and
    groups that chance is left out."""
    _, groups, tails = WORLDS[world]
    y, said, _ = drawn(10**6, 400_000, 100_000 if groups else 0, tails)
    first, second = (number_metric(name).score(one[0], y) for one in said)
    return first, first - second


def covered(seed: int, name: str, world: str) -> float:
    y, said, keys = drawn(seed, *WORLDS[world])
    low, high = interval(Known(number_metric(name), said[0], y), keys)
    return float(low <= truth(name, world)[0] <= high)


def gap_covered(seed: int, name: str, world: str) -> float:
    y, said, keys = drawn(seed, *WORLDS[world])
    a, b = (Known(number_metric(name), one, y) for one in said)
    _, low, high = difference(a, b, keys)
    return float(low <= truth(name, world)[1] <= high)


def equals(seed: int, systems: int, groups: int) -> tuple[np.ndarray, list[np.ndarray], Any]:
    """Systems that are equally good: half of what they are off by is common to all."""
    rng = np.random.default_rng(seed)
    n = 300
    keys = rng.integers(0, groups, n) if groups else None
    y, common = rng.normal(size=n), rng.normal(size=n)
    said = []
    for _ in range(systems):
        own = rng.normal(size=n)
        if keys is not None:
            own = 0.8 * own + 0.6 * rng.normal(size=groups)[keys]
        said.append((y + 0.6 * common + 0.6 * own)[None, :, None])
    return y, said, keys


def false_better(seed: int, name: str, groups: int) -> float:
    y, said, keys = equals(seed, 10, groups)
    metric = number_metric(name)
    scores = [metric.sign * metric.score(one[0], y) for one in said]
    p = between_systems(metric, said, y, keys, seed)[int(np.argmax(scores))]
    return float(np.delete(p, int(np.argmax(scores))).min() < 0.05)


def chosen(seed: int, what: str, groups: int) -> float:
    y, said, keys = equals(seed, 20, groups)
    systems = sorted((Known(number_metric("rmse"), one, y) for one in said), key=lambda s: s.value)
    found = chosen_best(systems, keys, seed)
    assert found is not None
    true = float(np.sqrt(0.72))
    if what == "bias":
        return true - found.nested  # more than the truth would be too bright
    return float(found.low <= true <= found.high)


def stack_of_noise(seed: int) -> float:
    """R2 of a nested stack less a guess's, where vectors say nothing."""
    rng = np.random.default_rng(seed)
    n = 135
    X = {name: rng.normal(size=(n, 8)).astype(np.float32) for name in ("image", "audio")}
    ids = np.array([f"r{i}" for i in range(n)], dtype=object)
    zeros = np.zeros(n, dtype=int)
    rows = Rows(ids, X, zeros, np.array(["number"]), numbers=rng.normal(size=n))
    plan = make_folds(strata_of(rows, 5), 5, ids=ids, seed=seed)
    result = evaluate_numbers(rows, ["ridge", "knn"], ["image", "audio"], ["stacked"], plan)
    line = next(one for one in result.leaderboard if one.fusion == "stacked")
    assert result.run.baseline is not None
    values = [one.metrics["r2"].value for one in (line, result.run.baseline)]
    return float(values[0] or 0.0) - float(values[1] or 0.0)


def claims() -> Iterator[dict[str, Any]]:
    hold = {"nominal": "at least .95", "low": 0.95, "high": 1.0}
    near = {"nominal": "at least .93", "low": 0.93, "high": 1.0}
    rate = {"nominal": "at most .05", "low": 0.0, "high": 0.05}
    for world, (_, groups, tails) in WORLDS.items():
        for name in METRICS:
            yield {
                "key": f"number-{name}-{world}", "says": f"the 95 % interval holds the {name}",
                "simulation": f"numbers, {world}",
                "measure": partial(covered, name=name, world=world),
                **(near if groups or tails else hold),
            }  # fmt: skip
        for name in COMPARED:
            yield {
                "key": f"number-gain-{name}-{world}",
                "says": f"the 95 % interval holds the difference in {name} of two systems named "
                "beforehand",
                "simulation": f"numbers, {world}",
                "measure": partial(gap_covered, name=name, world=world),
                **(near if groups or tails else hold),
            }  # fmt: skip
    for groups in (0, 40):
        words = "300 rows" + f" in {groups} groups" * bool(groups)
        for name in COMPARED:
            yield {
                "key": f"number-better-{name}-{groups}", "weight": 0.5,
                "says": f"any *better* or *worse* in {name} is wrong",
                "simulation": f"numbers, 10 equal systems, {words}",
                "measure": partial(false_better, name=name, groups=groups), **rate,
            }  # fmt: skip
        yield {
            "key": f"number-chosen-{groups}", "weight": 0.25,
            "says": "the true rmse of the chosen system less the one that is said",
            "simulation": f"numbers, 20 equal systems, {words}",
            "measure": partial(chosen, what="bias", groups=groups),
            "nominal": "-.01 to .005", "low": -0.01, "high": 0.005,
        }  # fmt: skip
        yield {
            "key": f"number-chosen-interval-{groups}", "weight": 0.25,
            "says": "its 95 % interval holds the true rmse",
            "simulation": f"numbers, 20 equal systems, {words}",
            "measure": partial(chosen, what="covered", groups=groups), **hold,
        }  # fmt: skip
    yield {
        "key": "number-stack-of-noise", "weight": 0.1,
        "says": "R2 less a guess's, where vectors say nothing",
        "simulation": "numbers, 135 rows, two sets of 8 columns; stacked",
        "measure": stack_of_noise, "nominal": "0 or less", "low": -0.2, "high": 0.005,
    }  # fmt: skip
