"""The same kills from below Python: a preloaded C shim sees the calls that libc is asked for.

It proves that the Python wrappers miss nothing (the same calls in the same order), and kills in
the middle of some of them in a process that knows nothing of the harness.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from kills import copy_linked, count_calls, read_story, stage
from scenes import SCENES, Scene
from world import Story

LETTERS = {
    "open": "o", "write": "w", "pwrite": "w", "fsync": "s", "link": "l", "unlink": "u",
    "rename": "r", "replace": "r", "mkdir": "m", "rmdir": "d", "ftruncate": "t",
    "posix_fallocate": "f",
}  # fmt: skip
CHILD = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from scenes import SCENES
scene = next(s for s in SCENES if s.name == sys.argv[2])
fd = os.open(sys.argv[4], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
scene.act(Path(sys.argv[3]), lambda *w: os.write(fd, ("\\t".join(w) + "\\n").encode()))
"""


def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc")


def build(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    command = [str(compiler()), "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def act(scene: Scene, target: Path, story: Path, library: Path, **told: str) -> int:
    """Act a scene in a fresh process under the shim; its exit status."""
    env = {**os.environ, "LD_PRELOAD": str(library), "SHIM_UNDER": str(target), **told}
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", CHILD, here, scene.name, str(target / "f.h5"), str(story)]
    return subprocess.run(command, env=env, check=False).returncode


def run(folder: Path, kills: int, seed: int = 0) -> dict[str, Any]:
    """Compare the calls of each scene, then kill in the middle of so many; the counts."""
    if compiler() is None:
        return {"kills from below": 0, "wrong": [], "left out": "no C compiler here"}
    library, rng, wrong, killed = build(folder / "shim"), random.Random(seed), [], 0
    target, story = folder / "try", folder / "told"
    for number, scene in enumerate(SCENES):
        staged, before = stage(scene, folder / "stage")
        names = [LETTERS[name] for name in count_calls(scene, folder / "count")]
        copy_linked(staged, target)
        log = folder / f"calls-{number}"
        act(scene, target, story, library, SHIM_LOG=str(log))
        if log.read_text() != "".join(names):
            wrong.append(f"{scene.name}: {''.join(names)} above is {log.read_text()} below")
        for _ in range(max(1, kills // len(SCENES))):
            at = rng.randrange(len(names))
            copy_linked(staged, target)
            shutil.copy(before, story)
            status = act(scene, target, story, library, SHIM_KILL=str(at + 1))
            killed += status == -signal.SIGKILL
            told = read_story(story, Story())
            told.encoded.clear()
            found = scene.judge(target / "f.h5", told) + scene.finish(
                target / "f.h5", scene.goal, told
            )
            wrong += [f"{scene.name}, call {at} below: {f}" for f in found]
    return {"kills from below": killed, "wrong": wrong}
