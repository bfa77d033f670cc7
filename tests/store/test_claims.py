import errno
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from headstock.store import OK, FeatureStore
from headstock.store.disk.claims import Claims
from headstock.store.disk.commit import host
from headstock.store.errors import StorageError


@pytest.fixture
def path(tmp_path, toy):
    path = tmp_path / "f.h5"
    with FeatureStore.open(path, "a") as store:
        store.register(toy.items(10))
        store.declare("image", toy.recipe, 5)
    return path


def test_one_extractor_gets_everything_in_order(toy, path):
    with FeatureStore.open(path, "a") as store:
        lists = []
        for ids in store.share("image", toy.ids(10)[1:], size=4):
            lists.append(ids)
            store.commit("image", toy.batch(ids))
        assert lists == [["r1", "r2", "r3"], ["r4", "r5", "r6", "r7"], ["r8", "r9"]]
    assert not list(path.with_name("f.h5.d").glob("claim-*"))
    assert not list(path.with_name("f.h5.d").glob("tmp-*"))


def test_two_extractors_divide_the_rows(toy, path, monkeypatch):
    monkeypatch.setattr("headstock.store.sharing.LOOK", 0.01)
    with FeatureStore.open(path, "a") as one, FeatureStore.open(path, "a") as two:
        shares = {name: store.share("image", toy.ids(10), size=4) for name, store in
                  (("one", one), ("two", two))}  # fmt: skip
        seen = {"one": [], "two": []}
        first = next(shares["one"])
        second = next(shares["two"])
        assert not set(first) & set(second)
        one.commit("image", toy.batch(first))
        seen["one"] += first
        two.commit("image", toy.batch(second))
        seen["two"] += second
        for name, store in (("one", one), ("two", two)):
            for ids in shares[name]:
                seen[name] += ids
                store.commit("image", toy.batch(ids))
        assert sorted(seen["one"] + seen["two"]) == toy.ids(10)
    with FeatureStore.open(path) as store:
        assert np.array_equal(store.matrix("image")[0], toy.matrix(toy.ids(10)))


def test_a_block_of_a_dead_process_is_taken_over(toy, path):
    command = [sys.executable, "-c", "import os; print(os.getpid())"]
    dead = int(subprocess.run(command, capture_output=True, check=True).stdout)
    with Claims(path.with_name("f.h5.d"), "image-2-1024") as claims:
        claims.path(0).write_text(f"{host()} {dead}\n")
    with FeatureStore.open(path, "a") as store:
        assert next(store.share("image", toy.ids(10))) == toy.ids(10)


def test_a_silent_claim_of_another_machine_gets_stale(toy, path):
    with Claims(path.with_name("f.h5.d"), "image-2-1024") as claims:
        claims.path(0).write_text("elsewhere 1\n")
        assert not claims.take(0)
        long_ago = time.time() - 1000
        os.utime(claims.path(0), (long_ago, long_ago))
        assert claims.take(0)


@pytest.mark.parametrize("left", [b"", b"elsewhere", b"elsewhere x\n", b"\xff\xfe 1\n"])
def test_a_claim_without_its_owner_belongs_to_nobody(path, left):
    """As a kill or a full disk between making and writing left it before claims came whole."""
    with Claims(path.with_name("f.h5.d"), "image-2-1024") as claims:
        claims.path(0).write_bytes(left)
        assert claims.take(0)
        assert claims.owner(0) == f"process {os.getpid()} on {host()}"


@pytest.mark.parametrize("call", ["open", "pwrite", "link"])
def test_a_claim_is_there_with_its_owner_or_not_at_all(toy, path, monkeypatch, call):
    """A full disk at any step leaves nothing that others would wait for."""
    with Claims(path.with_name("f.h5.d"), "image-2-1024") as claims:
        with monkeypatch.context() as patch:
            patch.setattr(os, call, full)
            with pytest.raises(StorageError, match="space"):
                claims.take(0)
        assert not list(path.with_name("f.h5.d").glob("claim-*"))
        assert not list(path.with_name("f.h5.d").glob("tmp-*"))
        assert claims.take(0)


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_claim_from_a_clock_that_was_ahead_is_taken_over(path, monkeypatch):
    with Claims(path.with_name("f.h5.d"), "image-2-1024") as claims:
        claims.path(0).write_text("elsewhere 1\n")
        ahead = time.time() + 86400
        os.utime(claims.path(0), (ahead, ahead))
        clock = iter([0.0, 30.0, 61.0, 62.0, 130.0])
        monkeypatch.setattr("headstock.store.disk.claims.time.monotonic", lambda: next(clock))
        assert not claims.take(0)
        assert not claims.take(0)
        os.utime(claims.path(0), (ahead + 1, ahead + 1))  # its owner lives
        assert not claims.take(0)
        assert not claims.take(0)
        assert claims.take(0)


def test_nobody_waits_without_a_line(toy, path, monkeypatch, caplog):
    monkeypatch.setattr("headstock.store.sharing.LOOK", 0.01)
    with FeatureStore.open(path, "a") as store:
        shares = store.share("image", toy.ids(10), size=4)
        next(shares)
        shares.close()
        with Claims(path.with_name("f.h5.d"), f"image-{store.declared('image').epoch}-4") as other:
            assert other.take(1)
            rest = threading.Timer(0.5, other.release, [1])
            rest.start()
            seen = list(store.share("image", toy.ids(10), size=4))
            rest.join()
    assert seen == [["r0", "r1", "r2", "r3"], ["r8", "r9"], ["r4", "r5", "r6", "r7"]]
    (line,) = caplog.messages
    assert line.startswith(f"set image: waiting for 4 rows that process {os.getpid()} on {host()}")


def test_rows_that_failed_are_shared_out_for_another_try(toy, path):
    with FeatureStore.open(path, "a") as store:
        store.commit("image", toy.batch(["r0", "r1"], failed=["r1"]))
        for ids in store.share("image", ["r1"]):
            store.commit("image", toy.batch(ids))
        assert store.progress("image", ["r1"]).status.tolist() == [OK]
