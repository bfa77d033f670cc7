"""SIGKILL at every mutating call: before it, after it, and in the middle of what it writes."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from calls import REAL, watched
from scenes import SCENES, Scene
from world import Story

WAYS = ("before", "torn", "after")


def read_story(log: Path, story: Story) -> Story:
    for line in log.read_text().splitlines():
        story.tell(*line.split("\t"))
    return story


def in_child(scene: Scene, path: Path, log: Path, around: Callable[[], Any]) -> int:
    """Act the scene in a forked process, its story into ``log``; the wait status."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    code = 1
    try:
        fd = REAL["open"](log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with around():
            scene.act(path, lambda *words: REAL["write"](fd, ("\t".join(words) + "\n").encode()))
        code = 0
    finally:
        os._exit(code)


def kill_hook(at: int, way: str) -> Callable[[str, Callable[..., Any], tuple], Any]:
    count = 0

    def hook(name: str, real: Callable[..., Any], args: tuple) -> Any:
        nonlocal count
        count += 1
        if count - 1 != at:
            return real(*args)
        try:
            if way == "torn" and name in ("write", "pwrite"):
                real(args[0], bytes(args[1])[: len(args[1]) // 2], *args[2:])
            elif way != "before":
                real(*args)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def count_calls(scene: Scene, folder: Path) -> list[str]:
    """The names of the mutating calls of an undisturbed scene."""
    path, names = fresh(scene, folder)[0], []

    def hook(name: str, real: Callable[..., Any], args: tuple) -> Any:
        names.append(name)
        return real(*args)

    with watched(hook, str(folder)):
        scene.act(path, lambda *words: None)
    return names


def fresh(scene: Scene, folder: Path) -> tuple[Path, Story]:
    """The store before the scene, and its story."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path, story = folder / "f.h5", Story()
    scene.before(path, story.tell)
    return path, story


def stage(scene: Scene, folder: Path) -> tuple[Path, Path]:
    """The same with the story in a file; both to be copied for each try."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log = folder.with_name(f"{folder.name}-told")
    with open(log, "w") as file:
        scene.before(folder / "f.h5", lambda *words: print(*words, sep="\t", file=file))
    return folder, log


def copy_linked(source: Path, target: Path) -> None:
    """Copy a store's folder, hard links staying hard links."""
    shutil.rmtree(target, ignore_errors=True)
    seen: dict[int, Path] = {}
    for path in [source, *sorted(source.rglob("*"))]:
        to = target / path.relative_to(source)
        if path.is_dir():
            to.mkdir()
        elif path.stat().st_ino in seen:
            os.link(seen[path.stat().st_ino], to)
        else:
            seen[path.stat().st_ino] = to
            shutil.copy(path, to)


def run(folder: Path, every: int = 1, seed: int = 0, stop: bool = False) -> dict[str, Any]:
    """Kill at each call of each scene (or a random share, one in ``every``); the counts."""
    rng, wrong, kills = random.Random(seed), [], 0
    for scene in SCENES:
        staged, before = stage(scene, folder / "stage")
        names = count_calls(scene, folder / "count")
        for at in range(len(names)):
            for way in WAYS:
                if way == "torn" and names[at] not in ("write", "pwrite"):
                    continue
                if rng.random() * every > 1 or (stop and wrong):
                    continue
                target, log = folder / "try", folder / "try.story"
                copy_linked(staged, target)
                shutil.copy(before, log)
                hook = kill_hook(at, way)
                status = in_child(
                    scene, target / "f.h5", log, lambda h=hook, t=target: watched(h, str(t))
                )
                kills += 1
                found = [] if os.WIFSIGNALED(status) else [f"was not killed ({status})"]
                story = read_story(log, Story())
                story.encoded.clear()
                found += scene.judge(target / "f.h5", story)
                found += scene.finish(target / "f.h5", scene.goal, story)
                wrong += [f"{scene.name}, call {at} ({names[at]}), {way}: {f}" for f in found]
    return {"kills": kills, "wrong": wrong}
