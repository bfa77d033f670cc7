"""The scenes that are killed, cut and spoilt: a store before, and what then happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from world import DIM, RECIPE, SIZE, Story, Tell, Wanted, extract, vector, wanted
from world import finish as finish_store
from world import judge as judge_store

from headstock.extract.encoder import Encoder, Loader
from headstock.store import Batch, Change, FeatureStore, Items, Recipe
from headstock.store.care.label import relabel
from headstock.store.care.repair import repair
from headstock.store.errors import HeadstockError


@dataclass(frozen=True)
class Scene:
    """``before`` prepares a store and tells its story, ``act`` is what gets disturbed, ``goal`` the
    rows that a run afterwards must reach; ``judge`` and ``finish`` as in world.py."""

    name: str
    before: Callable[[Path, Tell], None]
    act: Callable[[Path, Tell], None]
    goal: Wanted
    judge: Callable[[Path, Story], list[str]] = judge_store
    finish: Callable[[Path, Wanted, Story], list[str]] = finish_store


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


class Whole(Loader):
    """The bytes as they are."""

    def decode(self, data: bytes) -> bytes:
        return data


class KnownEncoder(Encoder):
    """For the real ``extract``: a file holds ``id/version``, whose sha256 is the row's digest and
    gives its vector, as in world.py."""

    name, modality, dim, loader = "known", "image", DIM, Whole()

    def recipe(self) -> Recipe:
        return RECIPE

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


def _tables(path: Path, tell: Tell) -> None:
    """The half, and two tables of new labels."""
    _half(path, tell)
    for label in ("c", "d"):
        rows = "".join(f"{identity},{label}\n" for identity in wanted(8))
        path.with_name(f"{label}.csv").write_text(f"id,label\n{rows}")


def _label(path: Path, tell: Tell) -> None:
    for label in ("c", "d"):
        for identity in wanted(8):
            tell("try", "label", identity, label)
        relabel(path, path.with_name(f"{label}.csv"))
        for identity in wanted(8):
            tell("ack", "label", identity, label)


TWO = {**wanted(8), **{f"s{i}": (0, "b") for i in range(8)}}


def _fit(path: Path, tell: Tell, version: int = 1) -> None:
    """Fit a model on the store and save it over the one that was there."""
    from headstock.heads.bundle.fitting import fit

    with FeatureStore.open(path) as store:
        made = fit(store, "lda", folds=2)
    made.settings["version"] = version
    tell("try", "model", "model", str(version))
    made.save(path.with_name("model"))
    tell("ack", "model", "model", str(version))


def _fitted(path: Path, tell: Tell) -> None:
    """Sixteen rows of two classes, and a model of them."""
    extract(path, TWO, tell)
    _fit(path, tell, 0)


def judge_model(path: Path, story: Story) -> list[str]:
    """The store's faults, and a model that is neither the acknowledged one nor a later one."""
    from headstock.heads.bundle.bundle import Bundle

    wrong, model = judge_store(path, story), path.with_name("model")
    said = None
    try:
        if model.exists():
            said = str(Bundle.load(model).settings["version"])
    except HeadstockError as error:
        wrong.append(f"the model is not whole: {error}")
    if said not in story.allowed("model", "model"):
        wrong.append(f"the model is {said}, not {story.allowed('model', 'model')}")
    return wrong


def finish_model(path: Path, rows: Wanted, story: Story) -> list[str]:
    """Fit again: the model must be the new one, and the store as it was."""
    wrong, again = finish_store(path, rows, story), story.copy()
    try:
        _fit(path, again.tell, 2)
    except HeadstockError as error:
        wrong.append(f"fit again: {error}")
    return wrong + judge_model(path, again)


def _broken(path: Path, tell: Tell) -> None:
    """What waits, and a bit turned over in the metadata of a shard and of the generation before:
    every row still proves itself."""
    _waiting(path, tell)
    pending = path.with_name(path.name + ".d")
    for kind in ("gen", "shard"):
        target = sorted(pending.glob(f"{kind}-*"))[0]
        raw = bytearray(target.read_bytes())
        raw[raw.index(b'"datasets"') + 3] ^= 1
        target.unlink()
        target.write_bytes(raw)


def _repair(path: Path, tell: Tell) -> None:
    repair(path)


def judge_repaired(path: Path, story: Story) -> list[str]:
    """What is wrong after the repair has been ended by another."""
    try:
        repair(path)
    except HeadstockError as error:
        return [f"repair again: {error}"]
    return judge_store(path, story)


SCENES = [
    Scene("extract", _nothing, lambda path, tell: extract(path, wanted(12), tell), wanted(12)),
    Scene("extend", _half, lambda path, tell: extract(path, MORE, tell), MORE),
    Scene("compact", _waiting, _compact, MORE),
    Scene("label", _tables, _label, wanted(8, "d")),
    Scene("extract files", _files, _extract_files, wanted(12)),
    Scene("repair", _broken, _repair, MORE, judge_repaired),
    Scene("fit", _fitted, _fit, TWO, judge_model, finish_model),
]
