"""A tiny world for store tests: rows r0, r1, ..., whose vectors are a known function of the id."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from headstock.store import FAILED, OK, Batch, FeatureStore, Items, Recipe


@dataclass(frozen=True)
class Toy:
    """Makes rows and batches; ``version`` stands for a changed file."""

    dim: int = 5
    recipe: Recipe = field(
        default_factory=lambda: Recipe("image", {"weights": "toy", "pool": "mean"})
    )

    def ids(self, n: int) -> list[str]:
        return [f"r{i}" for i in range(n)]

    def items(self, n: int, **columns: Sequence[str]) -> Items:
        ids = self.ids(n)
        columns.setdefault("label", ["cat" if i % 2 else "dog" for i in range(n)])
        return Items.of(ids, paths={"image": [f"pictures/{i}.png" for i in ids]}, **columns)

    def digest(self, identity: str, version: int = 0) -> np.ndarray:
        raw = hashlib.sha256(f"{identity}/{version}".encode()).digest()
        return np.frombuffer(raw, dtype=np.uint8)

    def vector(self, identity: str, version: int = 0) -> np.ndarray:
        seed = int.from_bytes(self.digest(identity, version)[:4].tobytes(), "little")
        return np.random.default_rng(seed).normal(size=self.dim).astype(np.float32)

    def batch(
        self, ids: Sequence[str], version: int = 0, failed: Sequence[str] = (), code: str = "bad"
    ) -> Batch:
        return Batch(
            ids=list(ids),
            digest=np.stack([self.digest(i, version) for i in ids]),
            stat=np.full((len(ids), 2), 7, dtype=np.int64),
            x=np.stack([self.vector(i, version) for i in ids]),
            status=np.array([FAILED if i in failed else OK for i in ids], dtype=np.uint8),
            errors=[(i, code, f"{i} cannot be read") for i in failed],
        )

    def matrix(self, ids: Sequence[str], version: int = 0) -> np.ndarray:
        return np.stack([self.vector(i, version) for i in ids])

    def fill(self, store: FeatureStore, n: int, name: str = "image", size: int = 4) -> None:
        """Register n rows and commit all their vectors, in batches of ``size``."""
        store.register(self.items(n))
        store.declare(name, self.recipe, self.dim)
        ids = self.ids(n)
        for start in range(0, n, size):
            store.commit(name, self.batch(ids[start : start + size]))


@pytest.fixture(scope="session")
def toy() -> Toy:
    return Toy()
