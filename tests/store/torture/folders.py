"""Run folders: an evaluation is written over an older one, and killed at every mutating call.

What is read afterwards is all of the old run or all of the new one, and files that are the user's
stay. Where folders cannot change places, a mixture of both is possible, and must be refused by the
name of the file.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from calls import watched
from kills import WAYS, copy_linked, kill_hook

from headstock.heads import evaluate
from headstock.heads.report.saved import read_saved
from headstock.store import OK, Batch, FeatureStore, Items, Recipe
from headstock.store.disk import folder as folders
from headstock.store.errors import HeadError, HeadstockError

ROWS = 48
MINE = {"notes.txt": b"mine", "figures/mine.svg": b"mine too"}


def _store(path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = [f"r{i}" for i in range(ROWS)]
    labels = ["ab"[i % 2] for i in range(ROWS)]
    split = ["test" if i >= ROWS - 12 else "" for i in range(ROWS)]
    with FeatureStore.open(path, "a") as store:
        store.register(Items.of(ids, label=labels, split=split))
        store.declare("image", Recipe("image", {"torture": 1}), 12)
        store.commit(
            "image",
            Batch(
                ids=ids,
                digest=rng.integers(0, 256, (ROWS, 32)).astype(np.uint8),
                stat=np.full((ROWS, 2), -1, dtype=np.int64),
                x=rng.normal(size=(ROWS, 12)).astype(np.float32),
                status=np.full(ROWS, OK, dtype=np.uint8),
            ),
        )


def _runs(folder: Path) -> tuple[Any, Any]:
    """An evaluation with a test split, and one of another head without."""
    _store(folder / "f.h5")
    with FeatureStore.open(folder / "f.h5") as store:
        old = evaluate(store, ["lda"], folds=2)
        new = evaluate(store, ["knn"], folds=3)
    new.held = {}
    return old, new


def _read(run: Path) -> tuple[str, int, list[str]]:
    """Whose leaderboard, how many test rows, and whose confusions lie in the folder."""
    (found,) = read_saved([run])
    (line,) = found.run.leaderboard
    proba = found.proba[line.name]
    if float((proba.argmax(axis=1) == found.codes).mean()) != line.accuracy.value:
        raise AssertionError("metrics.json and oof.npz say different numbers")
    confusions = sorted(p.name for p in (run / "confusion").iterdir())
    return line.head, len(found.test_ids), confusions


def _judge(run: Path, either: list[tuple[str, int, list[str]]], mixed: bool) -> list[str]:
    wrong = [f"{name} is gone" for name in MINE if not (run / name).is_file()]
    try:
        read = _read(run)
        if read not in either and not (mixed and read[:2] in [one[:2] for one in either]):
            wrong.append(f"holds {read}")
    except HeadError as error:
        if not mixed or run.name not in str(error) or "another evaluation" not in str(error):
            wrong.append(str(error))
    except (HeadstockError, AssertionError, KeyError, OSError) as error:
        wrong.append(f"{type(error).__name__} {error}")
    return wrong


def _killed(run: Path, save: Callable[[], None], at: int, way: str) -> int:
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    code = 1
    try:
        with watched(kill_hook(at, way), str(run.parent)):
            save()
        code = 0
    finally:
        os._exit(code)


def run(folder: Path, every: int = 1, seed: int = 0) -> dict[str, Any]:
    """Kill at each call of saving a run over another, with and without exchanging; the counts."""
    rng, wrong, kills, refused = random.Random(seed), [], 0, 0
    old, new = _runs(folder)
    stage, target = folder / "stage", folder / "try"
    for plain in (False, True):
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir()
        old.save(stage / "run")
        for name, raw in MINE.items():
            (stage / "run" / name).parent.mkdir(exist_ok=True)
            (stage / "run" / name).write_bytes(raw)
        copy_linked(stage, target)
        either = [_read(stage / "run")]
        names: list[str] = []
        exchanged = folders._exchanged
        if plain:
            folders._exchanged = lambda *_: False  # type: ignore[assignment]
        try:
            with watched(lambda n, real, args, told=names: (told.append(n), real(*args))[1],
                         str(target)):  # fmt: skip
                new.save(target / "run")
            either.append(_read(target / "run"))
            wrong += _judge(target / "run", either[1:], False)
            for at, name in enumerate(names):
                for way in WAYS:
                    torn = name in ("write", "pwrite")
                    if (way == "torn" and not torn) or rng.random() * every > 1:
                        continue
                    copy_linked(stage, target)
                    status = _killed(target / "run", lambda: new.save(target / "run"), at, way)
                    kills += 1
                    found = [] if os.WIFSIGNALED(status) else [f"was not killed ({status})"]
                    found += _judge(target / "run", either, plain)
                    try:
                        _read(target / "run")
                    except HeadstockError:
                        refused += 1
                    new.save(target / "run")
                    found += _judge(target / "run", either[1:], False)
                    left = [p.name for p in target.iterdir() if p.name != "run"]
                    found += [f"{one} is left" for one in left]
                    how = "one by one" if plain else "exchanged"
                    wrong += [f"{how}, call {at} ({name}), {way}: {f}" for f in found]
        finally:
            folders._exchanged = exchanged
    return {"kills": kills, "mixed folders refused by name": refused, "wrong": wrong}
