"""A process that is interrupted by any signal, and run again: the same bytes, no work twice."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from headstock.extract.pipeline.writer import AHEAD
from headstock.store import FeatureStore

BATCH = 4
PROGRAM = Path(__file__).with_name("interrupted.py")


def start(store: Path, folder: Path, marks: Path, *more: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, PROGRAM, store, folder, marks, *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "started\n"
    return process


def encoded(marks: Path) -> list[str]:
    return marks.read_text().splitlines() if marks.exists() else []


def interrupt(process: subprocess.Popen, marks: Path, number: int, after: int) -> str:
    """Send signal ``number`` once ``after`` more items were encoded; stderr."""
    wanted = len(encoded(marks)) + after
    while process.poll() is None and len(encoded(marks)) < wanted:
        time.sleep(0.002)
    process.send_signal(number)
    return process.communicate(timeout=30)[1]


def workers_of(process: subprocess.Popen) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(pid) for pid in listed.stdout.split()]


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


@pytest.fixture
def many(folder) -> Path:
    for i in range(12, 160):
        (folder / f"{i:03d}").write_bytes(b"bad" if i == 50 else b"file %d" % (i % 140))
    return folder


def test_any_signal_anywhere_and_the_same_bytes_in_the_end(tmp_path, many):
    whole, marks = tmp_path / "whole.h5", tmp_path / "whole.txt"
    assert start(whole, many, marks).wait(timeout=60) == 0
    total = encoded(marks)
    assert len(total) == len(set(total)) == 139  # 140 different files, one of them bad

    parts, marks = tmp_path / "parts.h5", tmp_path / "parts.txt"
    rng = random.Random(11)
    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL] * 2
    landed = lost = 0
    for number in signals:
        process = start(parts, many, marks)
        workers = workers_of(process)
        error = interrupt(process, marks, number, after=rng.randrange(1, 30))
        if process.returncode == 0:
            break
        landed += 1
        # the batch in the encoder and the writer's; a kill takes those that wait for the disk too
        lost += 2 + AHEAD * (number == signal.SIGKILL)
        if number != signal.SIGKILL:
            assert (
                error.strip()
                .splitlines()[-1]
                .startswith(
                    "KeyboardInterrupt"
                    if number == signal.SIGINT
                    else "headstock.extract.pipeline.run.Term"
                )
            )
        deadline = time.monotonic() + 10
        while not all(map(gone, workers)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert all(map(gone, workers))
    assert landed >= 3
    assert start(parts, many, marks).wait(timeout=60) == 0

    with FeatureStore.open(whole) as a, FeatureStore.open(parts) as b:
        rows = a.complete("image")
        assert np.array_equal(rows, b.complete("image"))
        x, y = a.feature_set("image").x(rows), b.feature_set("image").x(rows)
        assert x.tobytes() == y.tobytes()
        assert [e.id for e in a.errors()] == [e.id for e in b.errors()] == ["050"]
    again = len(encoded(marks)) - len(total)
    assert set(encoded(marks)) == set(total)
    assert again <= lost * BATCH


def test_two_extractors_on_one_store_share_the_rows(tmp_path, many):
    store, marks = tmp_path / "f.h5", tmp_path / "marks.txt"
    both = [start(store, many, marks, "1") for _ in range(2)]
    told = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    done = encoded(marks)
    assert len(set(done)) == 139
    # 20 files repeat the bytes of others, which another process may be computing just then; what
    # is claimed is otherwise computed once
    assert len(done) <= 139 + 20
    with FeatureStore.open(store) as opened:
        assert opened.complete("image").sum() == 159


def test_ctrl_c_at_a_terminal_reaches_the_parent_alone(tmp_path, many):
    """The whole foreground group gets SIGINT; workers are in sessions of their own."""
    marks = tmp_path / "marks.txt"
    process = start(tmp_path / "f.h5", many, marks)
    interrupt(process, marks, signal.SIGINT, after=4)
    assert process.returncode in (-signal.SIGINT, 130)


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.2])
def test_interrupted_twice_while_the_lock_of_hdf5_is_held(tmp_path, many, seconds):
    """The second one unwinds the unwinding; a writer cut off at exit would keep the lock."""
    marks = tmp_path / "marks.txt"
    process = start(tmp_path / "f.h5", many, marks, "4", "0.5")
    while len(encoded(marks)) < 8:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=30)[1]
    assert process.returncode in (-signal.SIGINT, 130), error
    with FeatureStore.open(tmp_path / "f.h5") as store:
        assert store.complete("image").any()
