"""The scenes that are killed, cut and spoilt: a store before, and what then happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from world import Tell, Wanted, extract, wanted

from headstock.store import FeatureStore, Items


@dataclass(frozen=True)
class Scene:
    """``before`` prepares a store and tells its story, ``act`` is what gets disturbed, ``goal`` the
    rows that a run afterwards must reach."""

    name: str
    before: Callable[[Path, Tell], None]
    act: Callable[[Path, Tell], None]
    goal: Wanted


MORE = wanted(12, "b", r2=3, r5=2)


def _nothing(path: Path, tell: Tell) -> None:
    """No store yet."""


def _half(path: Path, tell: Tell) -> None:
    """Eight rows compacted."""
    extract(path, wanted(8), tell)


def _waiting(path: Path, tell: Tell) -> None:
    """Eight rows compacted, then added, relabelled and repeatedly changed ones that wait."""
    extract(path, wanted(8), tell)
    extract(path, wanted(12, "b", r2=1, r5=1), tell, compact=False)
    extract(path, wanted(12, "b", r2=2, r5=1), tell, compact=False)
    extract(path, wanted(12, "b", r2=2, r5=2), tell, compact=False)
    extract(path, MORE, tell, compact=False)


def _compact(path: Path, tell: Tell) -> None:
    with FeatureStore.open(path, "a") as store:
        store.compact()


def _label(path: Path, tell: Tell) -> None:
    ids = list(wanted(8))
    for label in ("c", "d"):
        with FeatureStore.open(path, "a") as store:
            for identity in ids:
                tell("try", "label", identity, label)
            store.register(Items.of(ids, label=[label] * len(ids)))
            for identity in ids:
                tell("ack", "label", identity, label)


SCENES = [
    Scene("extract", _nothing, lambda path, tell: extract(path, wanted(12), tell), wanted(12)),
    Scene("extend", _half, lambda path, tell: extract(path, MORE, tell), MORE),
    Scene("compact", _waiting, _compact, MORE),
    Scene("label", _half, _label, wanted(8, "d")),
]
