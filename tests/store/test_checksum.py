"""Checksums of rows: each row's own, and what follows from them for a block."""

import zlib

import numpy as np
import pytest

from headstock.store import FeatureStore
from headstock.store.disk.checksum import agree, block_crcs, row_crcs
from headstock.store.disk.state import State
from headstock.store.errors import StoreDamaged


def rows(b, d, dtype="<f4"):
    rng = np.random.default_rng(b * 1000 + d)
    ids = np.array([f"é{i}".encode() for i in range(b)])
    x = rng.normal(size=(b, d)).astype(dtype)
    digests = rng.integers(0, 256, (b, 32), dtype=np.uint8)
    return ids, digests, x


@pytest.mark.parametrize(("b", "d"), [(1, 1), (2, 3), (7, 5), (13, 1), (64, 33)])
def test_a_row_has_the_crc_of_its_id_digest_and_vector(b, d):
    ids, digests, x = rows(b, d)
    for i, crc in enumerate(row_crcs(ids, digests, x).tolist()):
        assert crc == zlib.crc32(f"é{i}".encode() + digests[i].tobytes() + x[i].tobytes())


@pytest.mark.parametrize(
    ("b", "d", "step"), [(1, 1, 1), (7, 5, 3), (13, 2, 13), (64, 3, 10), (9, 4, 9), (700, 2, 273)]
)
def test_a_block_has_the_crc_that_its_rows_say(b, d, step):
    ids, digests, x = rows(b, d)
    told = block_crcs(ids, digests, row_crcs(ids, digests, x), 4 * d, step)
    assert told == [zlib.crc32(x[s : s + step].tobytes()) for s in range(0, b, step)]


def test_many_rows_are_taken_a_part_at_a_time(monkeypatch):
    monkeypatch.setattr("headstock.store.disk.checksum.MOST", 32)
    ids, digests, x = rows(333, 2)
    told = block_crcs(ids, digests, row_crcs(ids, digests, x), 8, 20)
    assert told == [zlib.crc32(x[s : s + 20].tobytes()) for s in range(0, 333, 20)]


def test_any_changed_bit_and_any_swapped_row_disagrees():
    ids, digests, x = rows(9, 3)
    crcs = row_crcs(ids, digests, x)
    assert agree(ids, digests, x, crcs)
    for bit in range(x.nbytes * 8):
        spoilt = bytearray(x.tobytes())
        spoilt[bit // 8] ^= 1 << bit % 8
        assert not agree(ids, digests, np.frombuffer(spoilt, "<f4").reshape(x.shape), crcs)
    for row in range(9):
        for bit in range(32):
            other = crcs.copy()
            other[row] ^= np.uint32(1 << bit)
            assert not agree(ids, digests, x, other)
    assert not agree(ids, digests, np.ascontiguousarray(x[::-1]), crcs)
    assert not agree(ids[::-1], digests, x, crcs)
    assert not agree(ids, digests[::-1], x, crcs)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_large_set_is_checked_by_threads_once_and_says_which_row_is_damaged(
    tmp_path, toy, dtype, monkeypatch
):
    n, d = 5000, 256  # 5 blocks of 1 MB in float32
    path, ids = tmp_path / "f.h5", toy.ids(n)
    monkeypatch.setattr("headstock.store.disk.vectors.MANY", 2)
    monkeypatch.setattr("headstock.store.disk.vectors._threads", lambda: 3)
    x = np.random.default_rng(0).normal(size=(n, d)).astype(dtype).astype(np.float32)
    x[::3] = 0
    with FeatureStore.open(path, "a") as store:
        store.register(toy.items(n))
        store.declare("image", toy.recipe, d, dtype)
        batch = toy.batch(ids)
        batch.x = x
        store.commit("image", batch)
        store.compact()
    some = np.random.default_rng(1).permutation(n)[:1500]
    with FeatureStore.open(path) as store:
        found = store.feature_set("image")
        assert np.array_equal(found.x(some), x[some])  # checked row by row
        assert np.array_equal(found.x(), x)
        assert np.array_equal(found.x(some), x[some])  # from the map, checked as a whole
        assert np.array_equal(store.matrix(["image", "image"], some)[0][:, d:], x[some])
        assert found.x(np.array([], dtype=np.int64)).shape == (0, d)
        region = store._state.file.regions["/features/image/x"]
    raw = bytearray(path.read_bytes())
    raw[region.offset + region.nbytes * 3437 // n] ^= 1
    path.unlink()  # the numbered generation shares its bytes
    for generation in (tmp_path / "f.h5.d").glob("gen-*"):
        generation.unlink()
    path.write_bytes(raw)
    for rows in (None, np.arange(1, n, 2)):  # by threads; one by one
        with FeatureStore.open(path) as store, pytest.raises(StoreDamaged, match=r"r3437 fails"):
            store.feature_set("image").x(rows)
    with FeatureStore.open(path) as store:
        assert np.array_equal(store.feature_set("image").x(np.arange(3000)), x[:3000])


def test_a_row_is_checked_once_while_the_store_is_open(tmp_path, toy, monkeypatch):
    path, ids = tmp_path / "f.h5", toy.ids(200)
    with FeatureStore.open(path, "a") as store:
        store.register(toy.items(200))
        store.declare("image", toy.recipe, toy.dim)
        store.commit("image", toy.batch(ids))
        store.compact()
    read: list[int] = []
    real = State.matches

    def counted(self, column, rows, out, crc):
        read.extend(rows.tolist())
        return real(self, column, rows, out, crc)

    monkeypatch.setattr(State, "matches", counted)
    with FeatureStore.open(path) as store:
        found = store.feature_set("image")
        first = found.x(np.array([3, 150, 7]))
        assert sorted(read) == [3, 7, 150]
        read.clear()
        assert np.array_equal(found.x(np.array([150, 7])), first[1:])
        assert read == []
        found.x(np.array([7, 8]))  # one of them is new
        assert 8 in read
        assert not store._state.file.is_mapped("/features/image/x")  # rows alone map nothing
        read.clear()
        whole = found.x()
        assert set(read) == set(range(200))
        read.clear()
        assert np.array_equal(found.x(np.array([199, 0])), whole[[199, 0]])
        assert read == []
