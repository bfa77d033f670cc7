"""Two real ``headstock extract`` processes on one store, from the command line, with kills.

In the first round nobody is killed: what the two say they computed must add up to the rows, none of
them twice. In the others one of the two is killed at random moments and started again. Each round
must end with both at exit code 0 and a store that is equal, bit for bit, to that of one process.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from headstock.store import FeatureStore
from headstock.store.care.verify import verify
from headstock.store.errors import HeadstockError

ROWS, BATCH = 4200, 16  # rows: a little more than four of the blocks that processes claim
COMMAND = [sys.executable, "-m", "headstock.cli", "extract"]
PATIENCE = 600.0


def sounds(folder: Path, rows: int) -> Path:
    """A manifest of so many short sounds, no two alike."""
    rng = np.random.default_rng(0)
    (folder / "files").mkdir(parents=True)
    lines = ["id,audio,label"]
    for i in range(rows):
        soundfile.write(folder / "files" / f"{i}.wav", 0.1 * rng.normal(size=2400), 8000)
        lines.append(f"s{i},files/{i}.wav,{'ab'[i % 2]}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder / "index.csv"


def start(table: Path, store: Path) -> subprocess.Popen:
    options = ["--audio", "mfcc", "-b", str(BATCH), "-j", "1", "--json", "-o", str(store)]
    return subprocess.Popen(
        [*COMMAND, str(table), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def vectors(store: Path) -> tuple[list[str], np.ndarray]:
    with FeatureStore.open(store) as opened:
        return opened.items.id.tolist(), np.array(opened.feature_set("audio").x())


def run(folder: Path, rounds: int, seed: int = 0, rows: int = ROWS) -> dict[str, Any]:
    """So many rounds; the counts."""
    rng, wrong = random.Random(seed), []
    started = kills = twice = 0
    shares: list[str] = []
    table = sounds(folder, rows)
    alone = start(table, folder / "alone.h5")
    said = alone.communicate(timeout=PATIENCE)
    if alone.returncode:
        return {"rounds": 0, "wrong": [f"one process alone: {said[1]}"]}
    good = vectors(folder / "alone.h5")
    for number in range(rounds):
        store = folder / f"round-{number}.h5"
        two = [start(table, store) for _ in range(2)]
        started += 2
        for _ in range(rng.randint(2, 5) if number else 0):
            time.sleep(rng.uniform(0.5, 5.0))
            at = rng.randrange(2)
            if two[at].poll() is None:
                os.kill(two[at].pid, signal.SIGKILL)
                two[at].communicate()
                two[at] = start(table, store)
                kills, started = kills + 1, started + 1
        done = []
        for process in two:
            told, error = process.communicate(timeout=PATIENCE)
            if process.returncode or "Traceback" in error:
                wrong.append(f"round {number}: exit code {process.returncode}: {error[-300:]}")
            else:
                done.append(json.loads(told)["sets"]["audio"]["encoded"])
        if not number and not wrong:
            shares = [f"{count}" for count in done]
            twice += sum(done) - rows
            if sum(done) != rows:
                wrong.append(f"round {number}: {done} rows computed for {rows}")
        wrong += [f"round {number}: {what}" for what in _judge(store, good)]
    return {
        "rounds": rounds,
        "processes": started,
        "kills": kills,
        "rows a round": rows,
        "computed twice without kills": twice,
        "shared as": " + ".join(shares),
        "wrong": wrong,
    }


def _judge(store: Path, good: tuple[list[str], np.ndarray]) -> list[str]:
    try:
        wrong = list(verify(store).findings)
        ids, x = vectors(store)
        with FeatureStore.open(store) as opened:
            if opened.pending:
                wrong.append(f"{opened.pending} files wait")
    except HeadstockError as error:
        return [f"{type(error).__name__}: {error}"]
    if ids != good[0] or not np.array_equal(x, good[1]):
        wrong.append("its rows or vectors are not those of one process")
    return wrong
