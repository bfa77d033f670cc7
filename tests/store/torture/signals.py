"""One SIGTERM or SIGINT at a random moment of a real command, in every phase of every command.

It must end by itself, soon, by one line and exit code 130 (or be done already), leave no process
behind and lose nothing: whatever the store hands out afterwards is right, and the same command run
again ends as if nothing had happened. ``slowest`` is the longest that one took to end; only one
that does not end within ``GUARD`` is counted wrong, for a machine may be busy.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from extracts import sounds

from headstock.heads.report.saved import read_saved
from headstock.store import OK, FeatureStore
from headstock.store.care.verify import verify
from headstock.store.errors import HeadstockError

ROWS, GUARD = 320, 60.0
WORDS = "headstock: interrupted; what was committed is kept, run it again"
COMMANDS: dict[str, list[str]] = {
    "extract": ["extract", "index.csv", "-o", "new.h5", "--audio", "mfcc", "-b", "8", "-j", "2"],
    "known rows": ["extract", "index.csv", "-o", "whole.h5", "--audio", "mfcc", "-j", "2"],
    "more rows": ["extract", "index.csv", "-o", "half.h5", "--audio", "mfcc", "-b", "8"],
    "evaluate": ["evaluate", "whole.h5", "--head", "lda", "--head", "knn", "-o", "run"],
    "fit": ["fit", "whole.h5", "--head", "lda", "-o", "model"],
    "predict": ["predict", "fitted", "whole.h5", "-o", "predictions.csv"],
    "compact": ["store", "compact", "half.h5"],
    "verify": ["store", "verify", "whole.h5", "--files", "--data", "."],
    "label": ["store", "label", "half.h5", "labels.csv"],
    "merge": ["store", "merge", "merged.h5", "whole.h5"],
    "export": ["store", "export", "whole.h5", "exported.h5"],
    "import": ["store", "import", "whole.npz", "imported.h5", "--set", "audio"],
}


def _command(words: list[str], folder: Path) -> list[str]:
    return [sys.executable, "-m", "headstock.cli", *words, "-q"]


def _finished(words: list[str], folder: Path) -> float:
    """Run to the end; the seconds. Raises RuntimeError when it fails."""
    begin = time.monotonic()
    told = subprocess.run(_command(words, folder), cwd=folder, capture_output=True, text=True)
    if told.returncode:
        raise RuntimeError(f"{' '.join(words)}: {told.returncode}: {told.stderr}")
    return time.monotonic() - begin


def _stage(folder: Path) -> None:
    """The files, a whole store, half of one, labels, a model and an export."""
    sounds(folder, ROWS)
    _finished(["extract", "index.csv", "-o", "whole.h5", "--audio", "mfcc"], folder)
    half = ["extract", "index.csv", "-o", "half.h5", "--audio", "mfcc", "--limit", str(ROWS // 2)]
    _finished(half, folder)
    labels = "".join(f"s{i},{'ab'[i // 2 % 2]}\n" for i in range(ROWS))
    (folder / "labels.csv").write_text(f"id,label\n{labels}")
    _finished(["fit", "whole.h5", "--head", "lda", "-o", "fitted"], folder)
    _finished(["store", "export", "whole.h5", "whole.npz"], folder)
    _finished(COMMANDS["evaluate"], folder)


def _told(
    words: list[str], folder: Path, number: int, delay: float
) -> tuple[int | None, str, float, list[int]]:
    """Send the signal after ``delay``: exit code (None: it hangs), stderr, the seconds from the
    signal to the end, and processes that it left."""
    process = subprocess.Popen(
        _command(words, folder), cwd=folder, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    time.sleep(delay)
    children = list(_children(process.pid))
    process.send_signal(number)
    begin = time.monotonic()
    try:
        error = process.communicate(timeout=GUARD)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None, "", GUARD, []
    seconds = time.monotonic() - begin
    until = time.monotonic() + GUARD / 4
    while (left := [c for c in children if _lives(c)]) and time.monotonic() < until:
        time.sleep(0.02)
    return process.returncode, error, seconds, left


def _children(pid: int) -> Iterator[int]:
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            yield from map(int, listed.read_text().split())
        except (OSError, ValueError):
            return


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _vectors(path: Path) -> dict[str, bytes]:
    """The vector of each row that has one."""
    with FeatureStore.open(path) as store:
        column = store.feature_set("audio")
        rows = np.flatnonzero(column.status == OK)
        x = column.x(rows)
        return {store.items.id[row]: x[at].tobytes() for at, row in enumerate(rows.tolist())}


def _importing(error: str) -> bool:
    """Whether ctrl-C met Python before the command had begun, while it looked for its files."""
    return error.rstrip().endswith("KeyboardInterrupt") and " in main\n" not in error


def _judge(folder: Path, good: dict[str, bytes]) -> Iterator[str]:
    for path in sorted(folder.glob("*.h5")):
        if path.name == "exported.h5":
            continue
        try:
            yield from (f"{path.name}: {line}" for line in verify(path).findings)
            held = _vectors(path)
        except HeadstockError as error:
            if "no feature set" not in str(error) and "no store" not in str(error):
                yield f"{path.name}: {type(error).__name__}: {error}"
            continue
        if any(good.get(identity) != x for identity, x in held.items()):
            yield f"{path.name}: a vector is wrong"
        if path.name == "whole.h5" and len(held) < ROWS:
            yield "whole.h5 has lost rows"
    try:
        read_saved([folder / "run"])
    except HeadstockError as error:
        yield f"the run folder: {error}"


def run(folder: Path, count: int, seed: int = 0) -> dict[str, Any]:
    """So many signals, over all commands in turn; the counts."""
    rng, wrong = random.Random(seed), []
    stage, target = folder / "stage", folder / "try"
    _stage(stage)
    good = _vectors(stage / "whole.h5")
    seconds: dict[str, float] = {}
    sent = ended = late = before = 0
    slowest = 0.0
    names = list(COMMANDS) if count >= len(COMMANDS) else rng.sample(list(COMMANDS), count)
    for at in range(count):
        name, number = names[at % len(names)], rng.choice((signal.SIGINT, signal.SIGTERM))
        words = COMMANDS[name]
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(stage, target, symlinks=True)
        if name not in seconds:
            seconds[name] = _finished(words, target)
            shutil.rmtree(target)
            shutil.copytree(stage, target, symlinks=True)
        delay = rng.uniform(0.0, 1.02 * seconds[name])
        code, error, took, left = _told(words, target, number, delay)
        sent += 1
        found = [f"process {pid} lives on" for pid in left]
        if code is None:
            found.append("hangs")
        elif code == 130:
            ended += 1
            slowest = max(slowest, took)
            late += took > 2.0
            if error.strip() != WORDS:
                found.append(f"said {error[-300:]!r}")
        elif code in (-signal.SIGINT, -signal.SIGTERM) or _importing(error):
            before += 1
        elif code:
            found.append(f"exit code {code}: {error[-300:]}")
        found += _judge(target, good)
        try:
            _finished(words, target)
        except RuntimeError as failed:
            found.append(f"again: {failed}")
        found += _judge(target, good)
        hidden = [p.name for p in target.iterdir() if p.name.startswith(".headstock.tmp")]
        found += [f"{one} is left" for one in hidden if name not in ("extract",)]
        how = f"{name}, {signal.Signals(number).name} after {delay:.3f} s"
        wrong += [f"{how}: {line}" for line in found]
    return {
        "signals": sent,
        "ended by it": ended,
        "before or after the command": before,
        "already done": sent - ended - before,
        "later than 2 s": late,
        "slowest ms": round(1000 * slowest),
        "wrong": wrong,
    }
