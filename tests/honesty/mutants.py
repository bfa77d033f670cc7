"""Mistakes that once were made, or could be: a claim must notice each."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType, ModuleType

from headstock.heads.evaluation import fusing
from headstock.heads.fusion import gate
from headstock.heads.outoffold import fold_by_fold
from headstock.heads.rows import times
from headstock.heads.statistics import familywise, intervals, measured, selection


@dataclass(frozen=True)
class Mutant:
    """``old`` becomes ``new`` in the source of ``module``; the claim ``key`` must fail, within
    ``seeds``."""

    name: str
    module: ModuleType
    old: str
    new: str
    key: str
    seeds: int


MUTANTS = [
    Mutant(
        "ties are broken by the order of the leaderboard", selection,
        "best = score == score.max(axis=1, keepdims=True)",
        "best = score.argmax(axis=1)[:, None] == np.arange(score.shape[1])",
        "chosen-equal", 12,
    ),
    Mutant(
        "each pair is tested as if it were alone", familywise,
        "np.maximum.accumulate(backwards, axis=1, out=backwards)", "pass", "better-30", 30,
    ),
    Mutant(
        "gates are judged by rows where there are groups", gate,
        "adjusted(right, pairs, groups, seed)", "adjusted(right, pairs, None, seed)",
        "gate-15-8", 30,
    ),
    Mutant(
        "signs are flipped row by row within groups", familywise,
        "sums = group_sums(np.where(both[:, None], table[:, used], 0.0), groups)[0]",
        "sums = np.where(both[:, None], table[:, used], 0.0)", "better-groups-8", 30,
    ),
    Mutant(
        "intervals by group use the normal distribution", intervals,
        "stdtrit(self.freedom, 1 - LEVEL / 2)", "stdtrit(1e9, 1 - LEVEL / 2)", "groups-5-0.7", 600,
    ),
    Mutant(
        "intervals by group are those of the rows", intervals,
        "    if spread is None:\n", "    if True:\n", "groups-8-0.7", 60,
    ),
    Mutant(
        "intervals by group are those of groups of one size", intervals,
        "float(min(single, trace**2 / square))", "float(len(p) - 1)", "groups-8-0.7-uneven", 2000,
    ),
    Mutant(
        "the chosen system is taken for as certain as the mean of those chosen", selection,
        "(each.error**2 + (each.mean - middle) ** 2)", "each.error**2 / len(wins)",
        "chosen-interval-groups-8", 40,
    ),
    Mutant(
        "intervals of metrics by group are those of the rows", measured,
        "concentrated(found.pseudo[:, None], units)", "concentrated(found.pseudo[:, None], None)",
        "metric-auroc-8", 60,
    ),
    Mutant(
        "a stack learns from members that saw the scored fold", fusing,
        "nested = learns and (must or nested is None)", "nested = False", "chance-stacked", 60,
    ),
    Mutant(
        "a block of time is learned from", times,
        "there = codes < fold", "there = codes <= fold", "chance-time", 8,
    ),
    Mutant(
        "a fold sees the rows it holds out", fold_by_fold,
        "train = np.flatnonzero(kept(codes_of, part))", "train = np.arange(len(codes_of))",
        "chance-tree", 6,
    ),
]  # fmt: skip


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """Run with the mistake in place. Raises AssertionError when the line is not there once."""
    source = inspect.getsource(mutant.module)
    if source.count(mutant.old) != 1:
        raise AssertionError(f"{mutant.name}: not there once: {mutant.old!r}")
    space = {"__name__": mutant.module.__name__}
    exec(
        compile(source.replace(mutant.old, mutant.new), str(mutant.module.__file__), "exec"), space
    )
    kept = {}
    for name, function in _functions(vars(mutant.module), mutant.module.__name__).items():
        fresh = _functions(space, mutant.module.__name__)[name]
        if len(fresh.__code__.co_freevars) == len(function.__code__.co_freevars):
            kept[name] = (function, function.__code__)
            function.__code__ = fresh.__code__
    try:
        yield
    finally:
        for function, code in kept.values():
            function.__code__ = code


def _functions(space: dict[str, object], home: str) -> dict[str, FunctionType]:
    """Functions and methods that the module itself defines, by a name of their own."""
    out: dict[str, FunctionType] = {}
    for name, value in space.items():
        if isinstance(value, FunctionType) and value.__module__ == home:
            out[name] = value
        elif isinstance(value, type) and value.__module__ == home:
            for inner, method in vars(value).items():
                held = method.fget if isinstance(method, property) else method
                if isinstance(held, FunctionType) and held.__module__ == home:
                    out[f"{name}.{inner}"] = held
    return out
