"""A store as a torch Dataset, through torch's own loader."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from headstock.extract import FeatureDataset
from headstock.store import OK, Batch, FeatureStore, Items, Recipe
from headstock.store.errors import MissingSet, OptionError

N = 50


@pytest.fixture
def path(tmp_path):
    rng = np.random.default_rng(0)
    ids = [f"r{k}" for k in range(N)]
    with FeatureStore.open(tmp_path / "s.h5", "a") as made:
        label = ["" if k == 7 else "cat" if k % 2 else "ant" for k in range(N)]
        split = ["test" if k % 5 == 0 else "train" for k in range(N)]
        made.register(Items.of(ids, label=label, split=split))
        for name, dim in (("image", 4), ("audio", 3)):
            made.declare(name, Recipe("columns", {"of": name}), dim)
            some = ids if name == "image" else ids[1:]
            digest = rng.integers(0, 256, (len(some), 32), dtype=np.uint8)
            stat = np.full((len(some), 2), -1, dtype=np.int64)
            x = rng.normal(size=(len(some), dim)).astype(np.float32)
            status = np.full(len(some), OK, dtype=np.uint8)
            made.commit(name, Batch(some, digest, stat, x, status))
    return tmp_path / "s.h5"


def test_items_are_vectors_and_class_numbers(path) -> None:
    data = FeatureDataset(path)
    assert isinstance(data, Dataset)
    assert len(data) == N - 1
    assert data.left_out == 1
    assert data.classes == ["ant", "cat"]
    assert data.spans == {"image": slice(0, 4), "audio": slice(4, 7)}
    with FeatureStore.open(path) as store:
        X, _ = store.matrix("image+audio", data.rows)
    for k in (0, 5, 6, -1):
        vector, target = data[k]
        np.testing.assert_array_equal(vector.numpy(), X[k])
        assert target == (-1 if data.ids[k] == "r7" else int(data.ids[k][1:]) % 2)


def test_choices(path) -> None:
    assert len(FeatureDataset(path, ["image"])) == N
    assert len(FeatureDataset(path, ["image"], "test")) == 10
    assert "r7" not in FeatureDataset(path, labelled=True).ids
    with pytest.raises(OptionError, match="no complete row"):
        FeatureDataset(path, split="none")
    with pytest.raises(MissingSet, match="smell"):
        FeatureDataset(path, ["smell"])


LOADED = """
import sys, torch
from torch.utils.data import DataLoader
from headstock.extract import FeatureDataset

path, workers = sys.argv[1], int(sys.argv[2])
data = FeatureDataset(path, ["audio"])
assert data[0][0].shape == (3,)  # opened here before any worker is made
order = torch.Generator().manual_seed(0)
loader = DataLoader(
    data, batch_size=8, shuffle=True, generator=order, num_workers=workers, timeout=60 * workers
)
X, y = (torch.cat(parts) for parts in zip(*loader))
assert X.shape == (len(data), 3)
every, _ = zip(*(data[k] for k in range(len(data))))
assert {tuple(row) for row in X.tolist()} == {tuple(row.tolist()) for row in every}
assert sorted(y.tolist()) == sorted(data.targets.tolist())
print(len(data))
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gets_every_row_once(path, workers: int) -> None:
    """In a process of its own: torch's loader leaves a handler of SIGCHLD behind, and the end of
    its children was seen to end a process of many tests that had used AMX tiles."""
    words = [sys.executable, "-c", LOADED, str(path), str(workers)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(N - 1)]


def test_it_can_be_sent_to_another_process(path) -> None:
    data = FeatureDataset(path)
    data[0]
    again = pickle.loads(pickle.dumps(data))  # noqa: S301  made here
    assert torch.equal(again[3][0], data[3][0])
