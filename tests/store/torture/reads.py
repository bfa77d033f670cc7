"""Faults at everything a store reads: the disk, the permissions, the limits and the memory.

Whatever refuses (EIO, EMFILE, ENOMEM, EACCES, reads that stop short or give nothing, allocations
that fail), once or from then on, in whichever command: it ends by exit code 5 or does its work; it
never calls the store damaged, and changes nothing that was committed.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from kills import copy_linked, read_story, stage
from scenes import SCENES
from world import Story, Tell, extract, judge, wanted

from headstock.store import FeatureStore
from headstock.store.care.label import relabel
from headstock.store.care.repair import repair
from headstock.store.care.verify import verify
from headstock.store.errors import HeadstockError
from headstock.store.exchange.export import export

KINDS = ("EIO", "EMFILE", "ENOMEM", "EACCES", "short", "nothing", "memory")
READS = {"preadv": os.preadv, "listdir": os.listdir, "fstat": os.fstat, "stat": os.stat}
OPEN = io.open


def possible(kind: str, name: str) -> bool:
    return {
        "EIO": name in ("preadv", "listdir", "open", "stat"),
        "EMFILE": name in ("open", "listdir"),
        "ENOMEM": name in ("open", "listdir"),
        "EACCES": name in ("open", "listdir"),
        "short": name == "preadv",
        "nothing": name == "preadv",
        "memory": name == "empty",
    }[kind]


@contextlib.contextmanager
def faulty(under: str, at: int, kind: str, sticky: bool) -> Iterator[list[str]]:
    """Spoil the ``at``-th read below ``under``, or allocation, and with ``sticky`` all that follow;
    yields the names of the calls there were."""
    names: list[str] = []

    def due(name: str) -> bool:
        names.append(name)
        number = len(names) - 1
        return (number == at or (number > at and sticky)) and possible(kind, name)

    def below(target: Any) -> bool:
        if isinstance(target, int):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/self/fd/{target}")
        return not isinstance(target, int) and str(target).startswith(under)

    def spoilt(name: str) -> Callable[..., Any]:
        def call(target: Any = ".", *args: Any, **options: Any) -> Any:
            if not below(target) or not due(name):
                return READS[name](target, *args, **options)
            if kind == "nothing":
                return 0
            if kind == "short":
                room = memoryview(args[0][0]).cast("B")
                part = room[: max(1, len(room) // 3)]
                return READS[name](target, [part], *args[1:], **options)
            number = getattr(errno, kind)
            raise OSError(number, os.strerror(number), str(target))

        return call

    def opened(target: Any, *args: Any, **options: Any) -> Any:
        if below(target) and due("open"):
            number = getattr(errno, kind)
            raise OSError(number, os.strerror(number), str(target))
        return OPEN(target, *args, **options)

    def empty(*args: Any, **options: Any) -> Any:
        if due("empty"):
            raise MemoryError("cannot allocate")
        return real_empty(*args, **options)

    real_empty = np.empty
    for name in READS:
        setattr(os, name, spoilt(name))
    builtins.open = io.open = opened  # type: ignore[assignment]
    np.empty = empty
    try:
        yield names
    finally:
        for name, real in READS.items():
            setattr(os, name, real)
        builtins.open = io.open = OPEN  # type: ignore[assignment]
        np.empty = real_empty


def _read(path: Path, tell: Tell) -> None:
    with FeatureStore.open(path) as store:
        for name in store.sets:
            store.feature_set(name).x(np.flatnonzero(store.complete(name)))
        _ = store.items, store.errors()


def _compact(path: Path, tell: Tell) -> None:
    with FeatureStore.open(path, "a") as store:
        store.compact(force=True)


def _verify(path: Path, tell: Tell) -> None:
    told = verify(path)
    if told.findings:
        raise AssertionError(f"verify calls it damage: {told.findings[0]}")
    if bool(told.unread) != (told.exit_code == 5):
        raise AssertionError(f"verify ends with {told.exit_code}")


def _repair(path: Path, tell: Tell) -> None:
    told = repair(path)
    if told.changed:
        raise AssertionError(f"repair found something to do: {told.text()}")


def _label(path: Path, tell: Tell) -> None:
    table = path.with_name("same.csv")
    table.write_text("id,label\nr0,b\n")
    relabel(path, table)


def _export(path: Path, tell: Tell) -> None:
    export(path, path.with_name("out.npz"))


def _extend(path: Path, tell: Tell) -> None:
    extract(path, wanted(14, "b", r2=3, r5=2), tell)


COMMANDS: dict[str, Callable[[Path, Tell], Any]] = {
    "read": _read, "compact": _compact, "verify": _verify, "repair": _repair, "label": _label,
    "export": _export, "extract": _extend,
}  # fmt: skip


def run(folder: Path, every: int = 1, seed: int = 0, stop: bool = False) -> dict[str, Any]:
    """Each kind of fault at each read of each command, or one in ``every``; the counts."""
    rng, wrong, faults = random.Random(seed), [], 0
    waiting = next(scene for scene in SCENES if scene.name == "compact")
    staged, before = stage(waiting, folder / "stage")
    target, path = folder / "try", folder / "try" / "f.h5"
    for command, act in COMMANDS.items():
        copy_linked(staged, target)
        with faulty(str(path), -1, "EIO", False) as names:
            act(path, lambda *words: None)
        for at, name in enumerate(names):
            for kind in KINDS:
                for sticky in (False, True):
                    if not possible(kind, name) or rng.random() * every > 1 or (stop and wrong):
                        continue
                    copy_linked(staged, target)
                    story = read_story(before, Story())
                    faults += 1
                    found = _spoilt(act, path, story, (at, kind, sticky))
                    how = f"{command}, read {at} ({name}), {kind}{' sticky' if sticky else ''}"
                    wrong += [f"{how}: {line}" for line in found]
    shutil.rmtree(folder, ignore_errors=True)
    return {"read faults": faults, "wrong": wrong}


def _spoilt(
    act: Callable[[Path, Tell], Any], path: Path, story: Story, fault: tuple[int, str, bool]
) -> list[str]:
    """Act under a fault; what went wrong then and with the store afterwards."""
    found = []
    try:
        with faulty(str(path), *fault):
            act(path, story.tell)
    except HeadstockError as error:
        if error.exit_code != 5 or fault[1] == "short":
            found.append(f"ended by {type(error).__name__} {error}")
    except MemoryError:  # one line and exit code 5 at the command's end
        if fault[1] != "memory":
            found.append("a MemoryError out of nothing")
    except AssertionError as error:
        found.append(str(error))
    except OSError as error:
        found.append(f"a naked {type(error).__name__} {error}")
    return found + judge(path, story)
