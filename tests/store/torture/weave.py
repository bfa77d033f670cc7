"""Two processes' work woven together: all of B happens inside each single call of A.

Deterministic, so every pair of orders is met, unlike with real processes racing (see crowd.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from calls import watched
from kills import copy_linked, read_story, stage
from scenes import SCENES
from world import Story, Tell, batch_of, extract, finish, judge, vector, wanted

from headstock.store import OK, FeatureStore, Items
from headstock.store.errors import HeadstockError

Act = Callable[[Path, Tell], None]
GOAL = wanted(12, "c", r2=3, r5=2)


def grow_quietly(path: Path, tell: Tell) -> None:
    """Four new rows, registered and committed by somebody else."""
    with FeatureStore.open(path, "a") as store:
        ids = [f"other{i}" for i in range(4)]
        for identity in ids:
            tell("try", "label", identity, "o")
        store.register(Items.of(ids, label=["o"] * 4))
        for identity in ids:
            tell("ack", "label", identity, "o")
            tell("try", "row", identity, "0")
        store.commit("image", batch_of([(identity, 0) for identity in ids]))
        for identity in ids:
            tell("ack", "row", identity, "0")


def grow(path: Path, tell: Tell) -> None:
    """The same, and compacted."""
    grow_quietly(path, tell)
    with FeatureStore.open(path, "a") as store:
        store.compact()


def compact(path: Path, tell: Tell) -> None:
    with FeatureStore.open(path, "a") as store:
        store.compact(force=True)


def grow_twice(path: Path, tell: Tell) -> None:
    """Two generations pass at once, so that old numbers and names come free again."""
    grow(path, tell)
    compact(path, tell)
    compact(path, tell)


def more(path: Path, tell: Tell) -> None:
    extract(path, GOAL, tell)


def read(path: Path, tell: Tell) -> None:
    """A reader: rows compacted and rows waiting must both be there, and right."""
    with FeatureStore.open(path) as store:
        chosen = np.array([0, 1, 3, 4, 8, 11])
        for _ in range(2):
            if not (store.feature_set("image").status[chosen] == OK).all():
                raise AssertionError("a reader lost sight of a row")
            x = store.feature_set("image").x(chosen)
            if not np.array_equal(x, np.stack([vector(f"r{i}", 0) for i in chosen])):
                raise AssertionError("a reader got a wrong row")


PAIRS: list[tuple[str, Act, Act]] = [
    ("compact while another commits", compact, grow_quietly),
    ("extract while another commits", more, grow_quietly),
    ("extract while another grows and compacts", more, grow),
    ("extract while generations pass", more, grow_twice),
    ("compact while another grows and compacts", compact, grow),
    ("compact while generations pass", compact, grow_twice),
    ("grow while another compacts", grow, compact),
    ("extract beside the same extract", more, more),
    ("read while another grows and compacts", read, grow),
    ("read while generations pass", read, grow_twice),
]


def run(folder: Path, every: int = 1, seed: int = 0, stop: bool = False) -> dict[str, Any]:
    """B inside each call of A, looks included, for each pair; the counts."""
    rng, wrong, woven = random.Random(seed), [], 0
    waiting = next(scene for scene in SCENES if scene.name == "compact")
    staged, before = stage(waiting, folder / "stage")
    for name, first, second in PAIRS:
        at, total = 0, 1
        while at < total:
            if (rng.random() * every <= 1 or at == 0) and not (stop and wrong):
                target = folder / "try"
                copy_linked(staged, target)
                story = read_story(before, Story())
                seen, found = _woven(first, second, at, target, story)
                total, woven = max(total, seen), woven + 1
                story.encoded.clear()
                found += judge(target / "f.h5", story)
                found += finish(target / "f.h5", GOAL, story)
                wrong += [f"{name}, at call {at}: {f}" for f in found]
            at += 1
    return {"weaves": woven, "wrong": wrong}


def _woven(first: Act, second: Act, at: int, folder: Path, story: Story) -> tuple[int, list[str]]:
    count = 0

    def hook(name: str, real: Callable[..., Any], args: tuple) -> Any:
        nonlocal count
        count += 1
        if count - 1 == at:
            second(folder / "f.h5", story.tell)
        return real(*args)

    try:
        with watched(hook, str(folder), looks=True):
            first(folder / "f.h5", story.tell)
    except (HeadstockError, AssertionError, OSError, LookupError) as error:
        return count, [f"{type(error).__name__}: {error}"]
    return count, []
