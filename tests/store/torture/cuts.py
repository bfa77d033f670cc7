"""Simulated power cuts: a disk rebuilt from the logged calls as a crash could have left it.

What was fsynced survives. Of the rest: nothing, everything, a prefix, or random sectors of file
contents; of names not yet fsynced, a prefix in the order they were made (``ordered``, what a
journal gives) or any subset (``unordered``, the worst a file system may do).
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calls import REAL, watched
from kills import fresh
from scenes import SCENES, Scene
from world import Story

SECTOR = 512


@dataclass
class Body:
    """A file's contents: all writes so far, and how many of them an fsync covers."""

    writes: list[tuple[int, bytes]] = field(default_factory=list)  # b"" at an offset sets a size
    synced: int = 0

    def bytes(self, keep: str, rng: random.Random) -> bytes:
        sure, loose = self.writes[: self.synced], self.writes[self.synced :]
        if keep == "none":
            loose = []
        elif keep == "prefix":
            loose = loose[: rng.randint(0, len(loose))]
        elif keep == "sectors":
            loose = [
                (offset + at, data[at : at + SECTOR])
                for offset, data in loose
                for at in range(0, max(1, len(data)), SECTOR)
                if rng.random() < 0.5
            ]
        out = bytearray()
        for offset, data in [*sure, *loose]:
            end = offset + len(data)
            out.extend(bytes(max(0, end - len(out))))
            out[offset:end] = data
        return bytes(out)


class Disk:
    """The calls on one folder, in order, and the folders they could have left behind."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.events, self.bodies = folder, [], []  # type: ignore[var-annotated]
        self.by_inode: dict[int, int] = {}
        self.base: dict[str, int] = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                number = self.by_inode.get(path.stat().st_ino)
                if number is None:
                    number = self._body(path.stat().st_ino)
                    self.bodies[number] = Body([(0, path.read_bytes())], 1)
                self.base[str(path)] = number
        self.base_folders = [str(p) for p in folder.rglob("*") if p.is_dir()]

    def _body(self, inode: int) -> int:
        self.bodies.append(Body())
        self.by_inode[inode] = len(self.bodies) - 1
        return len(self.bodies) - 1

    def hook(self, name: str, real: Callable[..., Any], args: tuple) -> Any:
        """Make the call and log it when it succeeded."""
        target = args[0]
        inode = os.fstat(target).st_ino if isinstance(target, int) else None
        at = args[2] if name == "pwrite" else None
        if name == "write":
            at = os.lseek(target, 0, os.SEEK_CUR)
        result = real(*args)
        if name == "open":
            self.events.append(("name", str(target), self._body(os.fstat(result).st_ino)))
        elif name in ("pwrite", "write"):
            data = bytes(args[1])[:result]
            self.events.append(("data", self.by_inode[inode], at, data))
        elif name == "ftruncate":
            self.events.append(("data", self.by_inode[inode], args[1], b""))
        elif name == "posix_fallocate":
            self.events.append(("data", self.by_inode[inode], args[1] + args[2], b""))
        elif name == "fsync":
            if inode in self.by_inode and not os.path.isdir(f"/proc/self/fd/{target}"):
                self.events.append(("sync", self.by_inode[inode]))
            else:
                self.events.append(("sync names", os.readlink(f"/proc/self/fd/{target}")))
        elif name == "link":
            number = self.by_inode[os.stat(args[1]).st_ino]
            self.events.append(("name", str(args[1]), number))
        elif name == "rename" and os.path.isdir(args[1]):
            self.events.append(("move folder", str(args[1]), str(target)))
        elif name in ("rename", "replace"):
            number = self.by_inode[os.stat(args[1]).st_ino]
            self.events.append(("move", str(args[1]), number, str(target)))
        elif name == "unlink":
            self.events.append(("gone", str(target)))
        elif name == "mkdir":
            self.events.append(("folder", str(target)))
        return result

    def tell(self, *words: str) -> None:
        self.events.append(("story", words))

    def cut(self, at: int, ordered: bool, keep: str, rng: random.Random, to: Path) -> Story:
        """Rebuild below ``to`` what a cut after ``at`` events leaves; the story until then."""
        story = Story()
        bodies = [Body(list(b.writes[: b.synced]), b.synced) for b in self.bodies]
        changes: list[tuple] = []
        sure = 0  # ordered: changes before this are durable
        durable: set[int] = set()
        for event in self.events[:at]:
            kind = event[0]
            if kind == "story":
                story.tell(*event[1])
            elif kind == "data":
                bodies[event[1]].writes.append(event[2:])
            elif kind == "sync":
                bodies[event[1]].synced = len(bodies[event[1]].writes)
            elif kind == "sync names":
                sure = len(changes)
                durable |= {i for i, c in enumerate(changes) if os.path.dirname(c[1]) == event[1]}
            else:
                changes.append(event)
        if ordered:
            kept = set(range(rng.randint(sure, len(changes))))
        else:
            kept = {i for i in range(len(changes)) if i in durable or rng.random() < 0.5}
        self._rebuild([changes[i] for i in sorted(kept)], bodies, keep, rng, to)
        return story

    def _rebuild(
        self, changes: list[tuple], bodies: list[Body], keep: str, rng: random.Random, to: Path
    ) -> None:
        names, folders = dict(self.base), list(self.base_folders)
        for change in changes:
            if change[0] == "folder":
                folders.append(change[1])
            elif change[0] == "move folder":
                to_name, old = change[1], change[2]
                folders = [_moved(name, old, to_name) for name in folders]
                names = {_moved(name, old, to_name): body for name, body in names.items()}
            elif change[0] == "gone":
                names.pop(change[1], None)
            else:
                if change[0] == "move":
                    names.pop(change[3], None)
                names[change[1]] = change[2]
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir(parents=True)
        for folder in folders:
            (to / Path(folder).relative_to(self.folder)).mkdir(parents=True, exist_ok=True)
        made: dict[int, Path] = {}
        for name, number in names.items():
            path = to / Path(name).relative_to(self.folder)
            if not path.parent.is_dir():
                continue  # its folder's own name did not survive
            if number in made:
                REAL["link"](made[number], path)
            else:
                path.write_bytes(bodies[number].bytes(keep, rng))
                made[number] = path


def _moved(name: str, old: str, new: str) -> str:
    inside = name == old or name.startswith(old + "/")
    return new + name.removeprefix(old) if inside else name


def record(scene: Scene, folder: Path) -> tuple[Disk, Story]:
    """Act a scene while its calls are logged."""
    path, story = fresh(scene, folder)
    disk = Disk(folder)
    with watched(disk.hook, str(folder)):
        scene.act(path, disk.tell)
    return disk, story


def run(
    folder: Path, ordered: int, unordered: int, seed: int = 0, stop: bool = False
) -> dict[str, Any]:
    """That many cuts in each mode, spread over all scenes; the counts."""
    rng, wrong, done = random.Random(seed), [], {True: 0, False: 0}
    logs = [(scene, *record(scene, folder / "record")) for scene in SCENES]
    for mode, share in ((True, ordered), (False, unordered)):
        for number in range(share):
            if stop and wrong:
                break
            scene, disk, before = logs[number % len(logs)]
            at = rng.randint(0, len(disk.events))
            keep = rng.choice(("none", "all", "prefix", "sectors"))
            case = rng.randrange(1 << 32)
            target = folder / "try"
            story = before.copy()
            told = disk.cut(at, mode, keep, random.Random(case), target)
            _append(story, told)
            found = scene.judge(target / "f.h5", story)
            found += scene.finish(target / "f.h5", scene.goal, story)
            name = "ordered" if mode else "unordered"
            wrong += [f"{scene.name}, {name}, cut {at}, {keep}, case {case}: {f}" for f in found]
            done[mode] += 1
    return {"ordered": done[True], "unordered": done[False], "wrong": wrong}


def _append(story: Story, more: Story) -> None:
    for key, values in more.tried.items():
        before = len(story.tried.get(key, []))
        story.tried.setdefault(key, []).extend(values)
        if key in more.acked:
            story.acked[key] = before + more.acked[key]
