"""Data of which the truth is known: systems that are right so often, and rows that say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax
from scipy.stats import norm

from headstock.heads.rows.labelled import Rows


@dataclass(frozen=True)
class Answers:
    """right (n, s) bool: which rows each system has right; truth (s,): how often it has any row
    right; groups (n,) or None."""

    right: np.ndarray
    truth: np.ndarray
    groups: np.ndarray | None

    @property
    def proba(self) -> dict[str, np.ndarray]:
        """(n, 2) of each system, for rows that are all of class 0."""
        return {
            f"s{i}": np.stack([0.1 + 0.8 * own, 0.9 - 0.8 * own], axis=1)
            for i, own in enumerate(self.right.T)
        }

    @property
    def codes(self) -> np.ndarray:
        return np.zeros(len(self.right), dtype=int)

    @property
    def names(self) -> list[str]:
        """Of the systems, as a leaderboard orders them."""
        return [f"s{i}" for i in np.argsort(-self.right.sum(axis=0), kind="stable")]


def answers(
    seed: int,
    systems: int,
    n: int = 300,
    accuracy: float = 0.85,
    alike: float = 0.5,
    spread: float = 0.0,
    groups: int = 0,
    within: float = 0.2,
    uneven: bool = False,
) -> Answers:
    """alike: how far the systems share what is hard; spread: how far their true accuracies differ,
    in standard deviations of the normal scale; within: how far a system does better in one group
    than in another; uneven: groups of very different sizes."""
    rng = np.random.default_rng(seed)
    level = norm.ppf(accuracy) + spread * rng.normal(size=systems)
    hard = np.sqrt(alike) * rng.normal(size=(n, 1))
    hard = hard + np.sqrt(1 - alike) * rng.normal(size=(n, systems))
    keys = None
    if groups:
        keys = group_keys(rng, n, groups, uneven)
        hard = np.sqrt(1 - within) * hard
        hard = hard + np.sqrt(within) * rng.normal(size=(groups, systems))[keys]
    return Answers(hard < level, norm.cdf(level), keys)


def group_keys(rng: np.random.Generator, n: int, groups: int, uneven: bool) -> np.ndarray:
    if not uneven:
        return np.arange(n) % groups
    share = rng.pareto(1.5, groups) + 0.3
    return np.r_[np.arange(groups), rng.choice(groups, n - groups, p=share / share.sum())]


def nothing(seed: int, n: int = 135, k: int = 3, width: int = 8, groups: int = 0) -> Rows:
    """Rows of two sets whose vectors say nothing of their labels."""
    rng = np.random.default_rng(seed)
    X = {name: rng.normal(size=(n, width)).astype(np.float32) for name in ("image", "audio")}
    keys = None
    if groups:
        keys = np.arange(n) % groups
        for part in X.values():
            part += 2 * rng.normal(size=(groups, width)).astype(np.float32)[keys]
    codes = rng.permutation(np.arange(n) % k)
    ids = np.array([f"r{i:04d}" for i in range(n)], dtype=object)
    classes = np.array([f"c{i}" for i in range(k)], dtype=object)
    named = None if keys is None else np.array([f"g{key}" for key in keys], dtype=object)
    return Rows(ids, X, codes, classes, named)


def drawn(
    seed: int, n: int, groups: int = 0, sharper: float = 1.0, apart: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Probabilities (n, 3), ``sharper`` than those that the labels codes (n,) were drawn from, and
    groups (n,) in which the classes are more or less frequent than the probabilities know."""
    z, codes, keys = _labelled(np.random.default_rng(seed), n, groups, apart)
    return softmax(sharper * z, axis=1), codes, keys


def _labelled(
    rng: np.random.Generator, n: int, groups: int, apart: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    z = 1.5 * rng.normal(size=(n, 3))
    z[:, 2] -= 0.7
    keys = rng.integers(0, groups, n) if groups else None
    true = softmax(z if keys is None else z + apart * rng.normal(size=(groups, 3))[keys], axis=1)
    codes = (true.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return z, codes, keys


def noisy(
    seed: int, n: int, noise: Sequence[float], groups: int = 0
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray | None]:
    """Probabilities (n, 3) of systems that know what ``drawn`` does but for noise of their own,
    codes (n,) and groups (n,): of equal noise they are equally good by any metric."""
    rng = np.random.default_rng(seed)
    z, codes, keys = _labelled(rng, n, groups, 1.0)
    said = [softmax(1.3 * z + size * rng.normal(size=z.shape), axis=1) for size in noise]
    return said, codes, keys
