"""Every command and every Python block of the README, run in order in one folder."""

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from headstock.extract.demo import write_demo

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.M | re.S)
# What installs or starts the tests themselves; a fresh clone and .ci/run try those.
OUTSIDE = ("make ", "pip install")


def steps() -> list[tuple[str, str]]:
    found = []
    for kind, body in BLOCK.findall(README.read_text("utf-8")):
        if kind == "python":
            found.append(("python", body))
            continue
        lines = body.replace("\\\n", " ").splitlines()
        found += [("shell", line[2:].split(" #")[0].strip()) for line in lines if line[:2] == "$ "]
    return [(k, s) for k, s in found if k == "python" or not s.startswith(OUTSIDE)]


def test_the_readme_says_how_to_start():
    head = README.read_text("utf-8")[:2500]
    assert "make demo" in head
    assert "make test" in head


@pytest.fixture
def user(tmp_path):
    """What the README takes for granted: a reader's own table, weights file and filled cache.

    The weights are random: what is tested is that the commands work, not what they score.
    """
    import timm
    import torch

    torch.manual_seed(0)
    weights = timm.create_model("resnext50_32x4d", pretrained=False).state_dict()
    save_file(weights, tmp_path / "resnext50.safetensors")
    cache = tmp_path / "cache/hub/models--timm--resnext50_32x4d.a1h_in1k"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs/main").write_text("0" * 40)
    (cache / "snapshots" / ("0" * 40)).mkdir(parents=True)
    os.link(tmp_path / "resnext50.safetensors", cache / f"snapshots/{'0' * 40}/model.safetensors")

    rows = list(csv.DictReader(write_demo(tmp_path / "digits").open()))[:120]
    (tmp_path / "digits/images").rename(tmp_path / "pictures")
    centres = np.random.default_rng(0).normal(size=(10, 104)) * 2
    noise = np.random.default_rng(1).normal(size=(len(rows), 104))
    for name, part in (("train", range(100)), ("test", range(100, 120))):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            head = ["IMAGE", *(f"mfcc_{i}" for i in range(1, 105))]
            table.writerow([*head, "CLASS"] if name == "train" else head)
            for i in part:
                label = rows[i]["label"]
                line = [f"{rows[i]['id']}.png", *np.round(centres[int(label)] + noise[i], 4)]
                table.writerow([*line, label] if name == "train" else line)
    return tmp_path


def test_every_command_and_snippet_runs(user):
    todo = steps()
    assert sum(kind == "shell" for kind, _ in todo) >= 8
    assert sum(kind == "python" for kind, _ in todo) >= 1
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "HF_HOME": str(user / "cache"), "HF_HUB_OFFLINE": "1"}
    for kind, text in todo:
        words = [sys.executable, "-c", text] if kind == "python" else shlex.split(text)
        if kind == "shell" and words[0] != "headstock":
            pytest.fail(f"README shows a command that no test can run: {text}")
        done = subprocess.run(words, cwd=user, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        assert "Traceback" not in done.stderr
    submission = (user / "submission.csv").read_text().splitlines()
    assert submission[0] == "Id,CLASS"
    assert len(submission) == 21
