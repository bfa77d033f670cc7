"""Every command and every Python block of the README, run in order in an empty folder."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.M | re.S)
# What installs or starts the tests themselves; a fresh clone and .ci/run try those.
OUTSIDE = ("make ", "pip install", "git clone", "cd ", "python -m venv", "source ")


def steps() -> list[tuple[str, str]]:
    found = []
    for kind, body in BLOCK.findall(README.read_text("utf-8")):
        if kind == "python":
            found.append(("python", body))
            continue
        lines = body.replace("\\\n", " ").splitlines()
        found += [("shell", line[2:].strip()) for line in lines if line.startswith("$ ")]
    return [(k, s) for k, s in found if k == "python" or not s.startswith(OUTSIDE)]


def test_the_readme_says_how_to_start():
    head = README.read_text("utf-8")[:2500]
    assert "make demo" in head
    assert "make test" in head


def test_every_command_and_snippet_runs(tmp_path):
    todo = steps()
    assert sum(kind == "shell" for kind, _ in todo) >= 8
    assert sum(kind == "python" for kind, _ in todo) >= 1
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for kind, text in todo:
        words = [sys.executable, "-c", text] if kind == "python" else shlex.split(text)
        if kind == "shell" and words[0] != "headstock":
            pytest.fail(f"README shows a command that no test can run: {text}")
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        assert "Traceback" not in done.stderr
