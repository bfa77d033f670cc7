"""A real SIGKILL, again and again: what comes out is what comes out without."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny import draw

from headstock.extract.encoders.checkpoint import read_note

WORDS = (
    "--backbone headstock:cnn4 --from-scratch --epochs 30 --patience 30 --folds 3 --no-flip -b 4 "
    "--input-size 16 --model-arg widths=[8,8,16,16] -j 0 --quiet"
).split()


def start(table: Path, output: Path) -> subprocess.Popen:
    words = ["adapt", str(table), "-o", str(output), *WORDS]
    return subprocess.Popen(
        [sys.executable, "-c", "from headstock.cli import main; main()", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_killed_again_and_again_it_comes_to_the_same_end(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    items = draw(folder, 40)
    table = folder / "index.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["image", "label"], *zip(items.id, items.label)])
    plain, killed = tmp_path / "plain", tmp_path / "killed"
    plain.mkdir()
    killed.mkdir()
    first = start(table, plain / "w.safetensors")
    out, err = first.communicate(timeout=300)
    assert first.returncode == 0, err
    checkpoint, kills = killed / "w.unfinished", 0
    for _ in range(4):
        run = start(table, killed / "w.safetensors")
        began, seen = time.monotonic(), None
        while run.poll() is None and time.monotonic() - began < 120:
            now = (checkpoint.stat().st_ino if checkpoint.exists() else None, count(killed))
            if seen is not None and now != seen and now[0]:  # it has gone on since it began
                run.send_signal(signal.SIGKILL)
                break
            seen = seen or now
            time.sleep(0.002)
        run.communicate()
        kills += run.returncode == -signal.SIGKILL
    assert kills >= 2
    last = start(table, killed / "w.safetensors")
    again, err = last.communicate(timeout=300)
    assert last.returncode == 0, err
    assert [line for line in again.splitlines() if b"accuracy" in line] == [
        line for line in out.splitlines() if b"accuracy" in line
    ]
    for name in ("w", "w.fold0", "w.fold1", "w.fold2"):
        a, b = (load_file(f / f"{name}.safetensors") for f in (plain, killed))
        assert all((a[k] == b[k]).all() for k in a)
        notes = [read_note(f / f"{name}.safetensors") for f in (plain, killed)]
        assert notes[0]["network"]["history"] == notes[1]["network"]["history"]
    assert (plain / "w.out-of-fold.csv").read_bytes() == (killed / "w.out-of-fold.csv").read_bytes()
    assert sorted(p.name for p in killed.iterdir()) == sorted(p.name for p in plain.iterdir())


def count(folder: Path) -> int:
    return len(list(folder.glob("w*.safetensors")))
