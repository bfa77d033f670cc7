"""The scene competition's example: the stand-in's layout, and the submission byte by byte."""

import csv
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from headstock.heads.fusion.fusions import FUSIONS
from headstock.heads.head import make_head
from headstock.heads.specs import HEADS

sys.path.insert(0, str(Path(__file__).parent / "extract" / "adapt"))
from tiny import draw

EXAMPLE = Path(__file__).parents[1] / "examples" / "kaggle_scenes"


@pytest.fixture(scope="module")
def competition(tmp_path_factory) -> Path:
    """Thirty pictures and tones of three classes, in the competition's layout."""
    folder = tmp_path_factory.mktemp("source")
    items = draw(folder, 30, classes=3)
    words = {"a": "beach", "b": "forest", "c": "jungle, deep"}
    with (folder / "index.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "image", "audio", "label"])
        for i, (name, label) in enumerate(zip(items.id, items.label)):
            wave = np.sin(np.arange(4000) * (0.05 + 0.1 * "abc".index(label) + 0.001 * i))
            soundfile.write(folder / f"{i}.wav", 0.3 * wave, 8000)
            table.writerow([i, name, f"{i}.wav", words[label]])
    out = tmp_path_factory.mktemp("kaggle")
    program = [sys.executable, str(EXAMPLE / "stand_in.py")]
    subprocess.run([*program, str(folder / "index.csv"), str(out)], check=True)
    return out


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_stand_in_has_the_layout(competition):
    train, test = read(competition / "train.csv"), read(competition / "test.csv")
    mfcc = [f"mfcc_{i}" for i in range(1, 105)]
    assert list(train[0]) == ["IMAGE", *mfcc, "CLASS", "CLASS_NAME"]
    assert list(test[0]) == ["IMAGE", *mfcc]
    assert (len(train), len(test)) == (24, 6)
    names = (competition / "class_names.txt").read_text().splitlines()
    assert names == ["beach", "forest", "jungle, deep"]
    assert all(names[int(line["CLASS"])] == line["CLASS_NAME"] for line in train)
    assert {p.name for p in (competition / "images").iterdir()} == {
        line["IMAGE"] for line in train + test
    }
    assert [line["Id"] for line in read(competition / "solution.csv")] == [
        line["IMAGE"] for line in test
    ]


def test_the_submission_is_what_the_competition_takes_to_the_byte(competition, monkeypatch):
    from headstock.cli import cli

    monkeypatch.chdir(competition)
    layout = ["--image-col", "IMAGE", "--image-root", "images"]
    for words in (
        ["extract", "train.csv", "-o", "s.h5", *layout, "--label-col", "CLASS",
         "--image", "headstock:resnext_nano", "--columns", "mfcc_*", "--as", "audio", "-j", "0",
         "--no-fingerprints"],  # the drawn pictures of a class are as alike as copies
        ["fit", "s.h5", "--head", "logistic", "--on", "image+audio", "--fusion", "weighted",
         "-o", "s.headstock"],
        ["predict", "s.headstock", "test.csv", *layout, "-j", "0",
         "--submission", "Id,CLASS", "-o", "submission.csv"],
    ):  # fmt: skip
        cli.main(words, standalone_mode=False)
    said = Path("submission.csv").read_bytes()
    lines = said.decode("ascii").split("\n")
    assert lines[0] == "Id,CLASS"
    assert lines[-1] == ""
    ids, classes = zip(*(line.split(",") for line in lines[1:-1]))
    assert list(ids) == [line["IMAGE"] for line in read(Path("test.csv"))]
    assert set(classes) <= {"0", "1", "2"}
    again = "".join(f"{i},{c}\n" for i, c in zip(("Id", *ids), ("CLASS", *classes)))
    assert said == again.encode()
    right = [c == line["CLASS"] for c, line in zip(classes, read(Path("solution.csv")))]
    assert sum(right) >= 5


@pytest.mark.slow
def test_the_script_runs_whole_and_again(competition, tmp_path):
    """From the two CSVs to the submission, by the script that the documents name; a second run
    finds everything done and says the same."""
    folder = tmp_path / "scenes"
    shutil.copytree(competition, folder)
    program = Path(sysconfig.get_path("scripts"))
    where = {**os.environ, "PATH": f"{program}{os.pathsep}{os.environ['PATH']}"}
    run = ["sh", str(EXAMPLE / "run.sh"), str(folder)]
    subprocess.run(run, check=True, env=where, capture_output=True)
    first = (folder / "submission.csv").read_bytes()
    ids = [line["Id"] for line in read(folder / "submission.csv")]
    assert ids == [line["IMAGE"] for line in read(folder / "test.csv")]
    table = json.loads((folder / "runs" / "all" / "metrics.json").read_text())["leaderboard"]
    heads = {line["head"] for line in table}
    assert {"tree", "bagging", "xgboost", "rbf-svm", "logistic"} <= heads
    assert b"<html" in (folder / "report.html").read_bytes()[:2000]
    again = subprocess.run(run, check=True, env=where, capture_output=True, text=True)
    assert "0 done, 24 reused" in again.stdout
    assert (folder / "submission.csv").read_bytes() == first


@pytest.mark.parametrize("config", ["evaluate.toml", "frozen.toml"])
def test_the_configurations_name_what_there_is(config):
    said = tomllib.loads((EXAMPLE / config).read_text())
    assert set(said["head"]) <= set(HEADS)
    assert set(said["fusion"]) <= set(FUSIONS)
    for word in said.get("set", []):
        key, _, value = word.partition("=")
        head, _, option = key.partition(".")
        assert head in said["head"]
        make_head(head, 0, {option: value})
