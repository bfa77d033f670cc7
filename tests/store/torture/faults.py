"""Faults at every call: no space, I/O error, too many open files, writes that stop short.

Once or sticky; the run must end by one error of the tree with exit code 5 (or succeed), and a run
afterwards must complete it with nothing lost.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from calls import watched
from kills import copy_linked, count_calls, read_story, stage
from scenes import SCENES
from world import Story

from headstock.store.errors import HeadstockError

TAKES_SPACE = ("open", "write", "pwrite", "fsync", "link", "mkdir", "posix_fallocate")
KINDS = ("ENOSPC", "EIO", "EMFILE", "short")


def possible(kind: str, name: str) -> bool:
    return {
        "ENOSPC": name in TAKES_SPACE,
        "EIO": True,
        "EMFILE": name == "open",
        "short": name in ("write", "pwrite"),
    }[kind]


def fault_hook(at: int, kind: str, sticky: bool) -> Callable[[str, Callable[..., Any], tuple], Any]:
    count = 0

    def hook(name: str, real: Callable[..., Any], args: tuple) -> Any:
        nonlocal count
        count += 1
        if count - 1 < at or (count - 1 > at and not sticky) or not possible(kind, name):
            return real(*args)
        if kind == "short":
            return real(args[0], bytes(args[1])[: max(1, len(args[1]) // 3)], *args[2:])
        number = getattr(errno, kind)
        raise OSError(number, os.strerror(number))

    return hook


def run(folder: Path, every: int = 1, seed: int = 0, stop: bool = False) -> dict[str, Any]:
    """Each kind of fault at each call where it can happen, or one in ``every``; the counts."""
    rng, wrong, faults = random.Random(seed), [], 0
    for scene in SCENES:
        staged, before = stage(scene, folder / "stage")
        names = count_calls(scene, folder / "count")
        for at, name in enumerate(names):
            for kind in KINDS:
                for sticky in (False, True):
                    if not possible(kind, name) or rng.random() * every > 1 or (stop and wrong):
                        continue
                    target, path = folder / "try", folder / "try" / "f.h5"
                    copy_linked(staged, target)
                    story, found = read_story(before, Story()), []
                    try:
                        with watched(fault_hook(at, kind, sticky), str(target)):
                            scene.act(path, story.tell)
                    except HeadstockError as error:
                        if error.exit_code != 5 or kind == "short" or "\n" in str(error):
                            found.append(f"ended by {type(error).__name__} {error}")
                    except OSError as error:
                        found.append(f"a naked {type(error).__name__} {error}")
                    faults += 1
                    story.encoded.clear()
                    found += scene.judge(path, story)
                    found += scene.finish(path, scene.goal, story)
                    how = f"{scene.name}, call {at} ({name}), {kind}{' sticky' if sticky else ''}"
                    wrong += [f"{how}: {f}" for f in found]
    shutil.rmtree(folder, ignore_errors=True)
    return {"faults": faults, "wrong": wrong}
