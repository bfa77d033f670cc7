"""Files taken out of ``features.h5.d`` at every moment, by somebody who is none of ours.

Whatever is deleted while others extract, gather, label or read: a row that was acknowledged is
served, or its loss is reported by whoever opens the store, gathers or verifies it. Never less in
silence.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from calls import watched
from kills import copy_linked, read_story, stage
from scenes import SCENES
from weave import compact, more, read
from world import Story, Tell, judge

from headstock.store import FeatureStore
from headstock.store.care.label import relabel
from headstock.store.care.repair import repair
from headstock.store.care.verify import verify
from headstock.store.errors import HeadstockError, StoreDamaged

Act = Callable[[Path, Tell], None]


def _label(path: Path, tell: Tell) -> None:
    table = path.with_name("c.csv")
    table.write_text("id,label\nr0,c\nr1,c\n")
    for identity in ("r0", "r1"):
        tell("try", "label", identity, "c")
    relabel(path, table)
    for identity in ("r0", "r1"):
        tell("ack", "label", identity, "c")


ACTS: dict[str, Act] = {"compact": compact, "extract": more, "label": _label, "read": read}


def take(folder: Path, what: str, rng: random.Random) -> None:
    """Delete one pending file that was acknowledged, or the folder with all that waits."""
    pending = folder / "f.h5.d"
    if what == "folder":
        shutil.rmtree(pending, ignore_errors=True)
        return
    files = sorted(pending.glob(f"{what}-*"))
    if files:
        rng.choice(files).unlink(missing_ok=True)


def run(folder: Path, every: int = 1, seed: int = 0, stop: bool = False) -> dict[str, Any]:
    """A deletion inside each call of each act, looks included, or one in ``every``; the counts."""
    rng, wrong, counts = random.Random(seed), [], {"taken": 0, "reported": 0}
    waiting = next(scene for scene in SCENES if scene.name == "compact")
    staged, before = stage(waiting, folder / "stage")
    for name, act in ACTS.items():
        target = folder / "try"
        copy_linked(staged, target)
        total = _taken(act, -1, "", target, read_story(before, Story()), rng)
        for at in range(total):
            for what in ("shard", "patch", "folder"):
                if rng.random() * every > 1 or (stop and wrong):
                    continue
                copy_linked(staged, target)
                story = read_story(before, Story())
                _taken(act, at, what, target, story, rng)
                counts["taken"] += 1
                found = _after(target / "f.h5", story)
                counts["reported"] += found is None
                wrong += [f"{name}, {what} gone at call {at}: {f}" for f in found or []]
    return {**counts, "wrong": wrong}


def _taken(act: Act, at: int, what: str, folder: Path, story: Story, rng: random.Random) -> int:
    """Act while a file goes; how many calls there were."""
    count = 0

    def hook(name: str, real: Callable[..., Any], args: tuple) -> Any:
        nonlocal count
        count += 1
        if count - 1 == at:
            take(folder, what, rng)
        return real(*args)

    with (
        suppress(HeadstockError, AssertionError),
        watched(hook, str(folder), looks=True),
    ):
        act(folder / "f.h5", story.tell)
    return count


def _after(path: Path, story: Story) -> list[str] | None:
    """None when the loss is reported to whoever comes next; else what is wrong, if anything is."""
    story.encoded.clear()
    try:
        FeatureStore.open(path).close()
    except StoreDamaged:
        wrong = [] if verify(path).findings else ["opening finds what verify does not"]
        try:
            repair(path)
        except HeadstockError as error:
            return [*wrong, f"repair: {error}"]
        return wrong + [f"after repair: {line}" for line in verify(path).findings] or None
    return judge(path, story) or []
