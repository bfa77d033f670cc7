"""Publishing files: whole, once, with and without hard links; temps of the dead are swept."""

import errno
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from headstock.store import FeatureStore
from headstock.store.care.verify import verify
from headstock.store.disk import commit, naming, state
from headstock.store.errors import StorageError, StoreBusy


def test_a_taken_name_stays_as_it_is(tmp_path):
    assert commit.publish_bytes(tmp_path / "a", b"first")
    assert not commit.publish_bytes(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_what_fails_while_it_is_written_leaves_nothing(tmp_path):
    def write(fd):
        os.write(fd, b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match=r"No space left.*free some space"):
        commit.publish(tmp_path / "a", write)
    assert not list(tmp_path.iterdir())


def test_a_failed_fsync_is_not_tried_again(tmp_path, monkeypatch):
    calls = []

    def fsync(fd):
        calls.append(fd)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError):
        commit.publish_bytes(tmp_path / "a", b"x")
    assert len(calls) == 1
    assert not list(tmp_path.iterdir())


def no_links(*_):
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("rename", [True, False])
def test_without_hard_links_everything_still_holds(tmp_path, toy, monkeypatch, rename):
    monkeypatch.setattr(os, "link", no_links)
    if not rename:  # nor a rename that refuses to replace: then a lock directory
        monkeypatch.setattr(naming, "_rename_new", lambda source, target: False)
    assert commit.publish_bytes(tmp_path / "a", b"first")
    assert not commit.publish_bytes(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        toy.fill(store, 8)
        store.compact()
        store.commit("image", toy.batch(["r1"], version=1))
        assert store.compact() == 3
    assert not verify(tmp_path / "f.h5").findings
    left = {p.name.split("-")[0] for p in (tmp_path / "f.h5.d").iterdir()}
    assert left == {"STORE.json", "gen"}


def test_a_stale_lock_is_broken_and_a_fresh_one_is_respected(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(naming, "_rename_new", lambda source, target: False)
    lock = tmp_path / "lock-a"
    lock.mkdir()
    long_ago = time.time() - 1000
    os.utime(lock, (long_ago, long_ago))
    assert commit.publish_bytes(tmp_path / "a", b"x")
    monkeypatch.setattr(naming.time, "sleep", lambda _: None)  # and so gives up at once
    (tmp_path / "lock-b").mkdir()
    with pytest.raises(StoreBusy):
        commit.publish_bytes(tmp_path / "b", b"x")


def test_a_lock_from_a_clock_that_was_ahead_is_broken_and_nobody_waits_unsaid(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(naming, "_rename_new", lambda source, target: False)
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(naming.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(naming.time, "sleep", lambda _: None)
    lock = tmp_path / "lock-a"
    lock.mkdir()
    ahead = time.time() + 86400
    os.utime(lock, (ahead, ahead))
    assert commit.publish_bytes(tmp_path / "a", b"x")
    assert caplog.messages == [f"{lock}: waiting for whoever holds it, 60 s at most"]
    assert not lock.exists()


def test_a_clock_of_ours_that_is_ahead_sweeps_nobodys_temp(tmp_path, monkeypatch):
    theirs = tmp_path / "tmp-elsewhere-1-a"
    theirs.touch()
    real = time.time
    monkeypatch.setattr(commit.time, "time", lambda: real() + 10 * 86400)
    commit.sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [theirs.name]


def test_only_temps_of_the_dead_are_swept(tmp_path):
    command = [sys.executable, "-c", "import os; print(os.getpid())"]
    dead = int(subprocess.run(command, capture_output=True, check=True).stdout)
    here = commit.host()
    names = {
        f"tmp-{here}-{dead}-a": False,
        f"tmp-{here}-{os.getpid()}-b": True,
        "tmp-elsewhere-1-c": True,
        "tmp-elsewhere-2-d": False,
        "shard-image-x.h5": True,
    }
    for name in names:
        (tmp_path / name).touch()
    long_ago = time.time() - 1e6
    os.utime(tmp_path / "tmp-elsewhere-2-d", (long_ago, long_ago))
    commit.sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {n for n, stays in names.items() if stays}


def test_opening_sweeps_what_a_killed_writer_left(tmp_path, toy):
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        toy.fill(store, 2)
    temp = tmp_path / "f.h5.d" / f"tmp-{commit.host()}-999999999-a"
    temp.touch()
    FeatureStore.open(tmp_path / "f.h5", "a").close()
    assert not temp.exists()


def test_a_read_only_folder_can_be_read(tmp_path, toy):
    path = tmp_path / "f.h5"
    with FeatureStore.open(path, "a") as store:
        toy.fill(store, 4)
    modes = [(tmp_path / "f.h5.d", 0o555), (tmp_path, 0o555)]
    for folder, mode in modes:
        folder.chmod(mode)
    try:
        with FeatureStore.open(path) as store:
            assert store.complete("image").all()
    finally:
        for folder, _ in modes:
            folder.chmod(0o755)


def test_shards_that_vanish_while_another_clears_them_are_not_waited_for(
    tmp_path, toy, monkeypatch
):
    """A compaction deletes what it absorbed one by one; whoever looks meanwhile sees ever fewer
    shards, and must not look again for each of them until its patience ends."""
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        toy.fill(store, 80, size=1)
        pending = {p: p.read_bytes() for p in (tmp_path / "f.h5.d").glob("shard-*")}
        assert len(pending) == 80
        store.compact()
    for path, raw in pending.items():  # as a compaction that has deleted none of them yet
        path.write_bytes(raw)
    real, gone = state.StoreFile, []

    def opened(path, kind):
        if kind == "shard":
            gone.append(path.unlink())
        return real(path, kind)

    monkeypatch.setattr(state, "StoreFile", opened)
    with FeatureStore.open(tmp_path / "f.h5") as store:
        assert np.array_equal(store.feature_set("image").x(), toy.matrix(toy.ids(80)))
    assert len(gone) == 80
    for path, raw in pending.items():
        path.write_bytes(raw)
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        assert store.compact() == 2
        assert store.complete("image").all()


def test_a_file_of_any_folder_is_replaced_whole_or_left(tmp_path, monkeypatch):
    target = tmp_path / "model"
    commit.write_whole(target, b"first")
    for name, spoil in (("fsync", errno.EIO), ("replace", errno.EACCES), ("pwrite", errno.ENOSPC)):
        with monkeypatch.context() as patch:
            patch.setattr(
                os, name, lambda *_, number=spoil: (_ for _ in ()).throw(OSError(number, "no"))
            )
            with pytest.raises(StorageError, match="model: cannot be written"):
                commit.write_whole(target, b"second")
        assert target.read_bytes() == b"first"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    commit.write_whole(target, b"second")
    assert target.read_bytes() == b"second"
    commit.write_whole(tmp_path / "none" / "yet" / "model", b"third")
    assert (tmp_path / "none" / "yet" / "model").read_bytes() == b"third"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="no regular file"):
        commit.write_whole(tmp_path / "pipe", b"")
    commit.write_whole(os.devnull, b"fourth")
    assert not os.path.isfile(os.devnull)
    for name in ("here", "absent"):
        link = tmp_path / f"to-{name}"
        link.symlink_to(tmp_path / name)
        commit.write_whole(link, name.encode())
        assert link.is_symlink()
        assert (tmp_path / name).read_text() == name


def test_what_a_killed_writer_left_beside_its_target_is_swept(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    left = tmp_path / f".headstock.tmp-{commit.host()}-{dead}-0a0a"
    ours = tmp_path / f".headstock.tmp-{commit.host()}-{os.getpid()}-0a0a"
    theirs = tmp_path / "tmp-1"
    for path in (left, ours, theirs):
        path.write_bytes(b"x")
    commit.write_whole(tmp_path / "model", b"whole")
    assert not left.exists()
    assert ours.exists()
    assert theirs.exists()
