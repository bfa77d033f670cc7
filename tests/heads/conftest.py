"""Small stores and arrays for the tests of heads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headstock.heads.rows import Rows
from headstock.store import OK, Batch, FeatureStore, Items, Recipe

WIDTHS = {"image": 20, "audio": 6}


def _two_sets(n: int, k: int = 4, seed: int = 0, strength: float = 0.9) -> Rows:
    """n rows, k classes, two sets of which neither is enough alone."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n) % k)
    X = {}
    for name, width in WIDTHS.items():
        centres = np.random.default_rng(len(name)).normal(size=(k, width))
        X[name] = (rng.normal(size=(n, width)) + strength * centres[codes]).astype(np.float32)
    ids = np.array([f"r{i:04d}" for i in range(n)], dtype=object)
    return Rows(ids, X, codes, np.array(["ant", "bee", "cat", "dog"][:k], dtype=object))


@pytest.fixture
def two_sets() -> Callable[..., Rows]:
    return _two_sets


@pytest.fixture
def rows() -> Rows:
    return _two_sets(160)


def _make_store(path: Path, rows: Rows, *, split=None, group=None, label=None) -> FeatureStore:
    """A store that holds ``rows``."""
    labels = [str(c) for c in rows.classes[rows.codes]] if label is None else label
    items = Items.of(list(rows.ids), label=labels, split=split, extra=group)
    store = FeatureStore.open(path, "a")
    store.register(items)
    n = len(rows)
    for name, X in rows.X.items():
        store.declare(name, Recipe(name, {"width": X.shape[1]}), X.shape[1])
        digest = np.zeros((n, 32), dtype=np.uint8)
        digest[:, :4] = np.arange(n, dtype="<u4").view(np.uint8).reshape(n, 4)
        stat = np.full((n, 2), -1, dtype=np.int64)
        status = np.full(n, OK, dtype=np.uint8)
        store.commit(name, Batch(list(rows.ids), digest, stat, X, status, []))
    return store


@pytest.fixture
def make_store() -> Callable[..., FeatureStore]:
    return _make_store


@pytest.fixture
def store(tmp_path: Path, rows: Rows):
    with _make_store(tmp_path / "features.h5", rows) as made:
        yield made
