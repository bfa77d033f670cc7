"""The scenes that are killed, cut and spoilt: a store before, and what then happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from world import DIM, RECIPE, SIZE, Tell, Wanted, extract, vector, wanted

from headstock.store import Batch, Change, FeatureStore, Items, Recipe


@dataclass(frozen=True)
class Scene:
    """``before`` prepares a store and tells its story, ``act`` is what gets disturbed, ``goal`` the
    rows that a run afterwards must reach."""

    name: str
    before: Callable[[Path, Tell], None]
    act: Callable[[Path, Tell], None]
    goal: Wanted


class Telling(FeatureStore):
    """A store that tells what it acknowledges to whoever drives it."""

    told: Tell

    def register(self, items: Items) -> Change:
        rows = list(zip(items.id.tolist(), items.label.tolist(), strict=True))
        for identity, label in rows:
            self.told("try", "label", identity, label)
        change = super().register(items)
        for identity, label in rows:
            self.told("ack", "label", identity, label)
        return change

    def commit(self, name: str, batch: Batch) -> None:
        for identity in batch.ids:
            self.told("try", "row", identity, "0")
        super().commit(name, batch)
        for identity in batch.ids:
            self.told("ack", "row", identity, "0")


class KnownEncoder:
    """For the real ``extract``: a file holds ``id/version``, whose sha256 is the row's digest and
    gives its vector, as in world.py."""

    name, modality, dim = "known", "image", DIM

    def recipe(self) -> Recipe:
        return RECIPE

    @staticmethod
    def loader(data: bytes) -> bytes:
        return data

    def encode(self, items: Sequence[bytes]) -> np.ndarray:
        return np.stack([vector(*data.decode().split("/")) for data in items])  # type: ignore[arg-type]


def _files(path: Path, tell: Tell) -> None:
    """No store yet, but the files to extract."""
    (path.parent / "files").mkdir()
    for identity in wanted(12):
        (path.parent / "files" / identity).write_text(f"{identity}/0")


def _extract_files(path: Path, tell: Tell) -> None:
    from headstock.extract import extract as run

    ids = list(wanted(12))
    items = Items.of(
        ids, paths={"image": ids}, label=["a"] * len(ids), root=str(path.parent / "files")
    )
    with Telling.open(path, "a") as store:
        store.told = tell  # type: ignore[attr-defined]
        run(store, items, {"image": KnownEncoder()}, batch_size=SIZE, workers=0)
        store.compact()


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
    Scene("extract files", _files, _extract_files, wanted(12)),
]
