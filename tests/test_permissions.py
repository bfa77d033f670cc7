"""What may not be read or written is one line and the disk's exit code, never a wrong word."""

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headstock.store import OK, Batch, FeatureStore, Items, Recipe

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def without_privilege() -> None:
    """Root reads everything; a program that it starts so does not."""
    libc = ctypes.CDLL(None)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def run(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "headstock.cli", *map(str, words), "-q"],
        capture_output=True, text=True, preexec_fn=without_privilege,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("permissions")
    ids = [f"r{i}" for i in range(20)]
    with FeatureStore.open(folder / "f.h5", "a") as store:
        store.register(Items.of(ids, label=["ab"[i % 2] for i in range(20)]))
        store.declare("image", Recipe("image", {"test": 1}), 3)
        x = np.random.default_rng(0).normal(size=(20, 3)).astype("f4")
        digest = np.random.default_rng(1).integers(0, 255, (20, 32)).astype("u1")
        stat = np.full((20, 2), -1, dtype=np.int64)
        store.commit("image", Batch(ids, digest, stat, x, np.full(20, OK, np.uint8)))
        store.compact()
    (folder / "labels.csv").write_text("id,label\nr0,b\n")
    (folder / "model").write_bytes(b"x")
    (folder / "runs").mkdir()
    (folder / "runs" / "metrics.json").write_text("{}")
    (folder / "out").mkdir()
    return folder


@pytest.mark.parametrize(
    ("closed", "words"),
    [
        ("f.h5", ["store", "info", "f.h5"]),
        ("f.h5", ["evaluate", "f.h5", "--head", "lda"]),
        ("f.h5", ["store", "export", "f.h5", "x.npz"]),
        ("f.h5.d", ["store", "compact", "f.h5"]),
        ("labels.csv", ["store", "label", "f.h5", "labels.csv"]),
        ("./model", ["predict", "./model", "f.h5"]),
        ("out", ["store", "export", "f.h5", "out/x.h5"]),
        ("runs/metrics.json", ["runs", "runs/"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else value,
)
def test_what_is_closed_is_one_line(folder, closed, words):
    path = folder / closed
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        told = run(*(folder / word if set(word) & set("./") else word for word in words))
    finally:
        path.chmod(mode)
    assert told.returncode == 5, told
    (line,) = told.stderr.splitlines()
    assert "Permission denied" in line
