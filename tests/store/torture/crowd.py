"""A crowd of real processes on one store, killed at random: extractors, readers, a compactor.

Extractors share the rows by claims. What one of them acknowledged stands in its log before the
next row is begun; a reader takes the logs first, opens the store then, and must find all of it.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from world import DIM, RECIPE, Story, batch_of, finish, judge, vector, wanted

from headstock.store import OK, FeatureStore, Items
from headstock.store.errors import HeadstockError

CAST = ("extractor", "extractor", "reader", "reader", "reader", "compactor")
BATCH = 4


def acknowledged(folder: Path) -> Counter[str]:
    """How often each row was acknowledged, by all logs."""
    count: Counter[str] = Counter()
    for log in folder.glob("acked-*"):
        lines = log.read_text().split("\n")
        count.update(lines[:-1])  # the last line may be half written
    return count


def extractor(folder: Path, rows: int) -> None:
    """Extract until ``rows`` rows are there, ever more of them."""
    fd = os.open(folder / f"acked-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    size = 40
    while True:
        ids = [f"r{i}" for i in range(min(size, rows))]
        with FeatureStore.open(folder / "f.h5", "a") as store:
            store.register(Items.of(ids, label=["a"] * len(ids)))
            store.declare("image", RECIPE, DIM)
            status = store.progress("image", ids).status
            todo = [i for i, s in zip(ids, status.tolist(), strict=True) if s != OK]
            for some in store.share("image", todo, size=8):
                for start in range(0, len(some), BATCH):
                    batch = some[start : start + BATCH]
                    store.commit("image", batch_of([(i, 0) for i in batch]))
                    os.write(fd, "".join(f"{i}\n" for i in batch).encode())
            if not todo and len(ids) == rows:
                time.sleep(0.2)
        size += 40


def reader(folder: Path, rows: int) -> None:
    """Every acknowledged row must be there and right, at each look."""
    looks = os.open(folder / f"looks-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        acked = sorted(acknowledged(folder))
        if acked:
            with FeatureStore.open(folder / "f.h5") as store:
                index = store.rows(acked)
                x = store.feature_set("image").x(index)
                good = np.stack([vector(i, 0) for i in acked])
                if (index < 0).any() or not np.array_equal(x, good):
                    raise AssertionError("an acknowledged row is missing or wrong")
                os.write(looks, b".")
        time.sleep(0.02)


def compactor(folder: Path, rows: int) -> None:
    while True:
        if (folder / "f.h5").exists():
            with FeatureStore.open(folder / "f.h5", "a") as store:
                store.compact()
        time.sleep(0.1)


PARTS: dict[str, Callable[[Path, int], None]] = {
    "extractor": extractor,
    "reader": reader,
    "compactor": compactor,
}


def start(part: str, folder: Path, rows: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        PARTS[part](folder, rows)
    except BaseException as error:  # noqa: BLE001  it is told to the parent through a file
        (folder / f"error-{os.getpid()}").write_text(f"{part}: {type(error).__name__}: {error}")
    finally:
        os._exit(1)


def run(folder: Path, seconds: float, rows: int = 100_000, seed: int = 0) -> dict[str, Any]:
    """Let the crowd work for so long, killing one of it at random several times a second."""
    rng, kills = random.Random(seed), 0
    folder.mkdir(parents=True, exist_ok=True)
    crowd = {start(part, folder, rows): part for part in CAST}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(rng.uniform(0.05, 0.6))
        victim = rng.choice(list(crowd))
        os.kill(victim, signal.SIGKILL)
        kills += 1
        os.waitpid(victim, 0)
        part = crowd.pop(victim)
        crowd[start(part, folder, rows)] = part
    for pid in crowd:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return _account(folder, kills)


def _account(folder: Path, kills: int) -> dict[str, Any]:
    wrong = [path.read_text() for path in folder.glob("error-*")]
    acked = acknowledged(folder)
    story = Story()
    for identity in acked:
        story.tell("try", "row", identity, "0")
        story.tell("ack", "row", identity, "0")
    twice = sum(count - 1 for count in acked.values())
    wrong += judge(folder / "f.h5", story)
    try:
        with FeatureStore.open(folder / "f.h5") as store:
            goal = wanted(store.n)
        wrong += finish(folder / "f.h5", goal, story)
    except HeadstockError as error:
        wrong.append(str(error))
    return {
        "kills": kills,
        "rows acknowledged": len(acked),
        "acknowledged twice": twice,
        "reads": sum(path.stat().st_size for path in folder.glob("looks-*")),
        "wrong": wrong,
    }
