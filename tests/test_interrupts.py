"""A command that is told to end does so, whatever keeps its main thread."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from headstock.store import OK, Batch, FeatureStore, Items, Recipe
from headstock.store.errors import OptionError, explained

GUARD = 60  # seconds after which a process counts as hanging; what is tested ends within two


@pytest.fixture
def store(tmp_path) -> Path:
    ids = [f"r{i}" for i in range(40)]
    with FeatureStore.open(tmp_path / "f.h5", "a") as opened:
        opened.register(Items.of(ids, label=["ab"[i % 2] for i in range(40)]))
        opened.declare("image", Recipe("image", {"test": 1}), 3)
        x = np.random.default_rng(0).normal(size=(40, 3)).astype("f4")
        digest = np.random.default_rng(1).integers(0, 255, (40, 32)).astype("u1")
        stat = np.full((40, 2), -1, dtype=np.int64)
        opened.commit("image", Batch(ids, digest, stat, x, np.full(40, OK, np.uint8)))
        opened.compact()
    return tmp_path / "f.h5"


HEAD = """
import hashlib, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

class Slow:
    def fit(self, X, y):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path({mark!r}).write_text(str(child.pid))
        if {pool}:  # which waits for its threads when the interrupt unwinds it
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(time.sleep, [600, 600]))
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes in C, without the interpreter
        return self

    def predict_proba(self, X):
        raise AssertionError("it ended")

def slow(seed):
    return Slow()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("pool", [False, True])
def test_one_signal_ends_a_command_in_a_long_call_or_a_pool(tmp_path, store, number, pool):
    mark, head = tmp_path / "mark", tmp_path / "slow.py"
    head.write_text(HEAD.format(mark=str(mark), pool=pool))
    words = ["evaluate", store, "--head", f"{head}:slow", "-q", "--no-reuse"]
    process = subprocess.Popen(
        [sys.executable, "-m", "headstock.cli", *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + GUARD
    while not (mark.exists() and mark.read_text()) and time.monotonic() < until:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(number)
    error = process.communicate(timeout=GUARD)[1]
    assert process.returncode == 130
    assert error == "headstock: interrupted; what was committed is kept, run it again\n"
    child = Path(f"/proc/{mark.read_text()}/stat")
    until = time.monotonic() + GUARD
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < until, "a process that it started lives on"
        time.sleep(0.02)


def test_what_is_ignored_stays_ignored_and_all_is_put_back():
    code = (
        "import os, signal, threading\n"
        "from headstock.store.interrupts import interruptible\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "before = signal.getsignal(signal.SIGTERM)\n"
        "with interruptible():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        raise SystemExit('not told')\n"
        "    except KeyboardInterrupt:\n"
        "        pass\n"
        "assert signal.getsignal(signal.SIGTERM) is before\n"
        "assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN\n"
        "assert signal.set_wakeup_fd(-1) == -1\n"
        "import time; time.sleep(2.5); print(threading.active_count())\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (told.returncode, told.stdout, told.stderr) == (0, "1\n", "")


def test_where_only_a_thread_runs_it_nothing_is_touched():
    import threading

    from headstock.store.interrupts import interruptible

    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with interruptible():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize("megabytes", range(120, 241, 20))
def test_an_address_space_that_is_too_small_is_one_line(store, megabytes):
    """Libraries say so by an ImportError when they do not fit in, each in its own words."""

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    told = subprocess.run(
        [sys.executable, "-m", "headstock.cli", "store", "info", str(store), "-q"],
        capture_output=True, text=True, preexec_fn=bound,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    if "OpenBLAS error" in told.stderr:  # it ends the process by itself
        pytest.skip("OpenBLAS ended first")
    assert told.returncode in (0, 5), told.stderr
    if told.returncode:
        assert told.stderr == (
            "headstock: memory: not enough for this; give it more, or do it in parts\n"
        )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ImportError("h5r.so: failed to map segment from shared object"), 5),
        (RuntimeError("can't start new thread"), 5),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 5),
        (OSError(errno.EIO, "Input/output error", "f.h5"), 5),
        (MemoryError(), 5),
        (OptionError("where", "what"), 2),
    ],
)
def test_what_memory_and_disk_say_is_one_line(error, code):
    line, number = explained(error)
    assert number == code
    assert "\n" not in line


@pytest.mark.parametrize("bug", [RuntimeError("a bug"), ImportError("no module named x")])
def test_a_bug_is_not_explained_away(bug):
    with pytest.raises(type(bug), match=str(bug)):
        explained(bug)
