"""Many rows far apart: out of a map that lasts as long as the copy, or by reads; the same bytes."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from headstock.store import FeatureStore
from headstock.store.disk import compact, file
from headstock.store.errors import StoreDamaged

N = 3000


@pytest.fixture(scope="module")
def broad(toy):
    return replace(toy, dim=400)  # 4.8 MB: more than two large pages


@pytest.fixture(scope="module")
def wide(tmp_path_factory, broad):
    path = tmp_path_factory.mktemp("wide") / "f.h5"
    with FeatureStore.open(path, "a") as store:
        store.register(broad.items(N))
        for dtype in ("float32", "float16"):
            store.declare(dtype, broad.recipe, broad.dim, dtype=dtype)
            store.commit(dtype, broad.batch(broad.ids(N)))
        store.compact()
    return path


@pytest.fixture(scope="module")
def vectors(broad):
    return broad.batch(broad.ids(N)).x


rng = np.random.default_rng(0)
PICKS = {
    "a tenth": np.sort(rng.choice(N, N // 10, replace=False)),
    "a third, in any order": rng.permutation(N)[: N // 3],
    "with repeats": rng.integers(0, N, N // 2),
    "every other": np.arange(0, N, 2),
    "so few that reads are cheaper": np.arange(0, N, N // 60),
    "the last of them alone": np.array([N - 1]),
}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("by", ["map", "reads"])
@pytest.mark.parametrize("rows", PICKS.values(), ids=PICKS)
def test_any_rows_are_the_same_by_a_map_and_by_reads(wide, vectors, monkeypatch, rows, by, dtype):
    if by == "reads":
        monkeypatch.setattr(file, "POPULATE", None)
    expected = vectors[rows].astype(dtype).astype(np.float32)
    with FeatureStore.open(wide) as store:
        column = store.feature_set(dtype)
        assert np.array_equal(column.x(rows), expected)
        assert np.array_equal(column.x(rows), expected)  # which are known to be whole


@pytest.mark.skipif(sys.platform != "linux", reason="pages are asked for beforehand on Linux only")
def test_a_map_is_taken_where_it_is_cheaper_and_never_a_wide_one(wide, monkeypatch):
    told = []
    gather = file.StoreFile._gather

    def listening(*words):
        told.append(gather(*words))
        return told[-1]

    monkeypatch.setattr(file.StoreFile, "_gather", listening)
    with FeatureStore.open(wide) as store:
        store.feature_set("float32").x(PICKS["a tenth"])
        assert told == [True]
        monkeypatch.setattr(file, "WIDEST", 1 << 20)
        store.feature_set("float32").x(PICKS["a tenth"])
        assert told == [True, False]
        monkeypatch.setattr(file, "POPULATE", 9999)  # an older Linux knows no such advice
        monkeypatch.setattr(file, "WIDEST", 1 << 26)
        store.feature_set("float32").x(PICKS["a tenth"])
        assert told == [True, False, False]


def test_a_changed_byte_is_found_by_the_row_it_is_in(wide, tmp_path, vectors):
    raw = bytearray(wide.read_bytes())
    row = int(PICKS["a tenth"][7])
    at = raw.index(vectors[row].tobytes())
    raw[at + 5] ^= 1
    (tmp_path / "f.h5").write_bytes(raw)
    with FeatureStore.open(tmp_path / "f.h5") as store:
        with pytest.raises(StoreDamaged, match=f"the vector of r{row} fails"):
            store.feature_set("float32").x(PICKS["a tenth"])
        rest = PICKS["a tenth"][PICKS["a tenth"] != row]
        assert np.array_equal(store.feature_set("float32").x(rest), vectors[rest])


CUT = """
import os, sys
import numpy as np
from headstock.store import FeatureStore
from headstock.store.errors import HeadstockError
with FeatureStore.open(sys.argv[1]) as store:
    column = store.feature_set("float32")
    column.digest
    os.truncate(sys.argv[1], os.path.getsize(sys.argv[1]) // 4)
    try:
        column.x(np.arange(0, 3000, 10))
    except HeadstockError as error:
        print(error)
"""


def test_a_file_cut_short_while_it_is_open_is_an_error_and_no_signal(wide, tmp_path):
    """A map alone would end the process by SIGBUS."""
    path = tmp_path / "f.h5"
    path.write_bytes(wide.read_bytes())
    told = subprocess.run(
        [sys.executable, "-c", CUT, path],
        capture_output=True, text=True, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert "ends before byte" in told.stdout


@pytest.mark.parametrize("write", [1 << 21, 3 << 20, 1 << 23])
def test_compaction_in_pieces_of_any_length(tmp_path, broad, monkeypatch, write):
    made = []
    for size in (write, 1 << 22):
        monkeypatch.setattr(compact, "WRITE", size)
        path = tmp_path / f"{size}.h5"
        with FeatureStore.open(path, "a") as store:
            store.register(broad.items(N))
            store.declare("image", broad.recipe, broad.dim)
            store.commit("image", broad.batch(broad.ids(N), failed=["r17", "r2999"]))
            store.compact()
        with FeatureStore.open(path) as store:
            rows = store.complete("image")
            made.append(store.feature_set("image").x(rows))
            assert not rows[[17, 2999]].any()
    assert made[0].tobytes() == made[1].tobytes() == broad.batch(broad.ids(N)).x[rows].tobytes()
