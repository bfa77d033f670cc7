"""Memory does not grow with the vectors: operations on a store that is larger than their bound."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headstock.store import OK, Batch, FeatureStore, Manifest, Recipe

BENCH = Path(__file__).resolve().parents[2] / "bench" / "memory.py"
ROWS, DIM = 6_000, 2048  # 49 MB of vectors
TEXT = 3000  # bytes a row for its text, states and digests, twice what was measured at a million
BLOCKS = 16 << 20  # a few blocks of vectors, whatever their number


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A folder with ``f.h5``, compacted."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "m.csv").write_text("id,image\n" + "".join(f"r{i},{i}.png\n" for i in range(ROWS)))
    items = Manifest.read(folder / "m.csv").items
    rng, b = np.random.default_rng(0), 500
    x = rng.normal(size=(b, DIM)).astype(np.float32)
    with FeatureStore.open(folder / "f.h5", "a") as store:
        store.register(items)
        store.declare("image", Recipe("image", {"weights": "toy"}), DIM)
        for start in range(0, ROWS, b):
            digests = rng.integers(0, 256, (b, 32), dtype=np.uint8)
            hints, status = np.full((b, 2), -1), np.full(b, OK, dtype=np.uint8)
            ids = items.id[start : start + b].tolist()
            store.commit("image", Batch(ids, digests, hints, x, status))
        store.compact()
    return folder


@pytest.mark.parametrize(
    "step", ["compact", "verify", "open, map a set, check it", "export npz", "export h5",
             "merge into a new store"],
)  # fmt: skip
def test_an_operation_takes_memory_for_text_and_a_few_blocks(large, step):
    words = ["--step", step, "--folder", large, "--rows", ROWS, "--dim", DIM]
    told = subprocess.run(
        [sys.executable, BENCH, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["bytes"] < BLOCKS + TEXT * ROWS < 4 * ROWS * DIM
