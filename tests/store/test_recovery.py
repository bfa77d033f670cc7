"""Bad days of a store: what is refused, what is damaged, what has gone, and what repair saves."""

import builtins
import errno
import io
import os
import shutil

import h5py
import numpy as np
import pytest

from headstock.store import OK, FeatureStore
from headstock.store.care.repair import repair
from headstock.store.care.verify import verify
from headstock.store.disk import trace
from headstock.store.errors import OptionError, StorageError, StoreDamaged


def waiting(path, toy, n=8):
    """Four rows gathered, the others wait in shards of two."""
    with FeatureStore.open(path, "a") as store:
        toy.fill(store, n // 2)
        store.compact()
        store.register(toy.items(n))
        for at in range(n // 2, n, 2):
            store.commit("image", toy.batch(toy.ids(n)[at : at + 2]))
    return path


def never_gathered(path, toy, n=8):
    with FeatureStore.open(path, "a") as store:
        toy.fill(store, n, size=2)
    return path


def pending(path, kind):
    return sorted(path.with_name(path.name + ".d").glob(f"{kind}-*"))


def tree(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def vectors(path, toy):
    """The ids that are there, each vector compared."""
    with FeatureStore.open(path) as store:
        rows = np.flatnonzero(store.progress("image").status == OK)
        ids = [store.items.id[row] for row in rows]
        assert np.array_equal(store.matrix("image", rows)[0], toy.matrix(ids))
        assert store.declared("image").recipe == toy.recipe
        return set(ids)


def flip(path, at):
    raw = bytearray(path.read_bytes())
    raw[at] ^= 16
    path.unlink()
    path.write_bytes(raw)


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENOMEM, errno.EACCES])
@pytest.mark.parametrize("kind", ["patch", "shard", "gen"])
def test_a_file_that_cannot_be_read_ends_repair_and_nothing_is_changed(
    tmp_path, toy, monkeypatch, number, kind
):
    """Its permissions, say, of another user's umask: for root only the call can be made to fail."""
    path = waiting(tmp_path / "f.h5", toy)
    target = pending(path, kind)[0]
    flip(pending(path, "shard")[-1], 30000)  # there is something to repair, too
    before, real = tree(tmp_path), io.open

    def refuse(name, *args, **options):
        if str(name) == str(target):
            raise OSError(number, os.strerror(number), str(name))
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "open", refuse)
    with pytest.raises(StorageError) as told:
        repair(path)
    assert told.value.exit_code == 5
    assert os.strerror(number) in str(told.value)
    monkeypatch.undo()
    assert tree(tmp_path) == before
    repair(path)
    assert not verify(path).findings
    assert len(vectors(path, toy)) >= 6


def test_without_the_memory_repair_changes_nothing(tmp_path, toy, monkeypatch):
    path = waiting(tmp_path / "f.h5", toy)
    flip(pending(path, "shard")[-1], 30000)
    before, real, left = tree(tmp_path), np.empty, [0]

    def empty(*args, **options):
        left[0] -= 1
        if left[0] < 0:
            raise MemoryError
        return real(*args, **options)

    monkeypatch.setattr(np, "empty", empty)
    for limit in (0, 3, 10, 30, 60):
        left[0] = limit
        with pytest.raises((MemoryError, StorageError)):
            repair(path)
        assert tree(tmp_path) == before
    monkeypatch.undo()
    assert repair(path).changed


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_bit_in_any_patch_costs_no_vector(tmp_path, toy, which):
    whole = never_gathered(tmp_path / "whole" / "f.h5", toy)
    target = pending(whole, "patch")[which]
    busy = [at for at, byte in enumerate(target.read_bytes()) if byte]
    for number, at in enumerate(busy[5 :: len(busy) // 6]):
        path = tmp_path / str(number) / "f.h5"
        shutil.copytree(whole.parent, path.parent)
        flip(path.parent / "f.h5.d" / target.name, at)
        assert verify(path).exit_code in (4, 8)
        assert repair(path).changed
        assert not verify(path).findings
        assert vectors(path, toy) == set(toy.ids(8))


def test_shards_outlive_all_patches(tmp_path, toy):
    """The set's declaration goes with them, and each shard carries it."""
    path = never_gathered(tmp_path / "f.h5", toy)
    for patch in pending(path, "patch"):
        patch.unlink()
    with pytest.raises(StoreDamaged, match="2 files that were acknowledged are gone"):
        FeatureStore.open(path)
    told = repair(path)
    assert set(told.gone) == {"patch-00000001.h5", "patch-00000002.h5"}
    assert not verify(path).findings
    assert vectors(path, toy) == set(toy.ids(8))
    assert "patch-00000001.h5: gone, 8 rows were acknowledged" in told.text()
    assert "shard-image" in told.text()


def test_shards_of_before_that_carry_nothing_keep_their_vectors(tmp_path, toy, monkeypatch):
    monkeypatch.setattr("headstock.store.disk.declared.Declared.carried", {})
    path = never_gathered(tmp_path / "f.h5", toy)
    shutil.rmtree(trace.folder(path))
    for patch in pending(path, "patch"):
        patch.unlink()
    with pytest.raises(StoreDamaged, match="no file here declares"):
        FeatureStore.open(path)
    repair(path)
    assert not verify(path).findings
    with FeatureStore.open(path) as store:
        assert store.complete("image").sum() == 8
        assert toy.recipe.fingerprint in store.declared("image").recipe.to_json()
        assert np.array_equal(store.matrix("image")[0], toy.matrix(store.items.id.tolist()))


def test_a_foreign_attribute_costs_nothing(tmp_path, toy):
    path = waiting(tmp_path / "f.h5", toy)
    with FeatureStore.open(path, "a") as store:
        store.compact()
    with h5py.File(path, "a") as file:
        file.attrs["mine"] = "x" * 5000
        file["features/image"].attrs["note"] = 3
    assert verify(path).exit_code == 4
    repair(path)
    assert not verify(path).findings
    assert vectors(path, toy) == set(toy.ids(8))


def test_verify_and_repair_agree_about_the_generation_before(tmp_path, toy):
    path = waiting(tmp_path / "f.h5", toy)
    with FeatureStore.open(path, "a") as store:
        store.compact()
    before = pending(path, "gen")[0]
    flip(before, before.stat().st_size // 2)
    assert verify(path).exit_code == 4
    told = repair(path)
    assert told.files == [before.name]
    assert told.rows == {}
    assert not verify(path).findings
    assert not repair(path).changed
    assert vectors(path, toy) == set(toy.ids(8))


def test_a_damaged_row_comes_from_the_generation_before(tmp_path, toy):
    path = waiting(tmp_path / "f.h5", toy)
    with FeatureStore.open(path, "a") as store:
        store.compact()
    with h5py.File(path, "r") as file:
        at = file["features/image/x"].id.get_offset()
    raw = bytearray(path.read_bytes())
    raw[at + 1 * 20] ^= 1  # r1 is in both generations
    raw[at + 6 * 20] ^= 1  # r6 is not
    newest = pending(path, "gen")[-1]
    for name in (path, newest):
        name.unlink()
    path.write_bytes(raw)
    os.link(path, newest)
    told = repair(path)
    assert told.rows == {"image": ["r6"]}
    assert vectors(path, toy) == {*toy.ids(8)} - {"r6"}
    assert sorted(told.taken.values(), key=str) == [{"image": 1}, {"image": 6}]


@pytest.mark.parametrize("what", ["longer", "shorter", "set aside"])
def test_rows_are_taken_from_wherever_they_lie(tmp_path, toy, what):
    path = waiting(tmp_path / "f.h5", toy)
    shard = pending(path, "shard")[0]
    if what == "set aside":  # by a repair of before, which took any error for damage
        shard.rename(shard.with_name(f"damaged-{shard.name}"))
        shutil.rmtree(trace.folder(path))
    else:
        raw = shard.read_bytes()
        shard.write_bytes(raw + bytes(70000) if what == "longer" else raw[:-100])
    assert verify(path).exit_code == 4
    repair(path)
    assert not verify(path).findings
    assert vectors(path, toy) == set(toy.ids(8))


def test_an_output_leaves_the_old_store_as_it_is(tmp_path, toy):
    path = waiting(tmp_path / "f.h5", toy)
    flip(pending(path, "shard")[0], 30000)
    before = tree(tmp_path)
    told = repair(path, output=tmp_path / "new.h5")
    assert told.aside is None
    made = tree(tmp_path)
    made.pop("new.h5")
    assert made == before
    assert not verify(tmp_path / "new.h5").findings
    assert vectors(tmp_path / "new.h5", toy) == set(toy.ids(8))
    with pytest.raises(OptionError, match="is there already"):
        repair(path, output=tmp_path / "new.h5")


def test_the_old_store_is_kept_whole(tmp_path, toy):
    path = waiting(tmp_path / "f.h5", toy)
    flip(pending(path, "shard")[0], 30000)
    before = tree(tmp_path)
    assert repair(path).aside == tmp_path / "f.h5.damaged-1"
    assert tree(tmp_path / "f.h5.damaged-1") == before
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["f.h5", "f.h5.damaged-1"]
    path.write_bytes(path.read_bytes()[:-1])
    assert repair(path).aside == tmp_path / "f.h5.damaged-2"
    assert vectors(path, toy) == set(toy.ids(8))


@pytest.mark.parametrize("kind", ["shard", "patch"])
@pytest.mark.parametrize("which", [0, -1])
def test_a_pending_file_cannot_vanish_unseen(tmp_path, toy, kind, which):
    path = waiting(tmp_path / "f.h5", toy)
    gone = pending(path, kind)[which]
    gone.unlink()
    for mode in ("r", "a"):
        with pytest.raises(StoreDamaged, match=gone.name):
            FeatureStore.open(path, mode)
    verdict = verify(path)
    assert verdict.exit_code == 4
    assert gone.name in verdict.text()
    told = repair(path)
    assert list(told.gone) == [gone.name]
    assert not verify(path).findings
    assert len(vectors(path, toy)) == (6 if kind == "shard" else 8)
    with FeatureStore.open(path, "a") as store:  # and the run goes on
        toy.fill(store, 8)
        store.compact()
    assert vectors(path, toy) == set(toy.ids(8))
    assert not trace.folder(path).exists()


def test_an_open_store_does_not_gather_past_what_has_gone(tmp_path, toy):
    path = waiting(tmp_path / "f.h5", toy)
    with FeatureStore.open(path, "a") as store:
        gone = pending(path, "shard")[0]
        gone.unlink()
        with pytest.raises(StoreDamaged, match=gone.name):
            store.compact()
        with pytest.raises(StoreDamaged, match=gone.name):
            store.refresh()


def test_the_whole_folder_cannot_vanish_unseen(tmp_path, toy):
    path = waiting(tmp_path / "f.h5", toy)
    shutil.rmtree(tmp_path / "f.h5.d")
    for mode in ("r", "a"):
        with pytest.raises(StoreDamaged, match="3 files"):
            FeatureStore.open(path, mode)
    assert not (tmp_path / "f.h5.d").exists()  # nothing was made in its place
    assert verify(path).exit_code == 4
    shutil.copytree(tmp_path, tmp_path / "copy")
    told = repair(path)
    assert len(told.gone) == 3
    assert not verify(path).findings
    assert vectors(path, toy) == set(toy.ids(4))
    path = tmp_path / "copy" / "f.h5"
    path.unlink()
    with pytest.raises(StoreDamaged, match=r"3 files .* or delete .*f.h5.pending to begin anew"):
        FeatureStore.open(path, "a")
    shutil.rmtree(trace.folder(path))
    FeatureStore.open(path, "a").close()


def test_after_the_work_nothing_is_left_to_trace(tmp_path, toy):
    path = waiting(tmp_path / "f.h5", toy)
    assert len(list(trace.folder(path).iterdir())) == 3
    with FeatureStore.open(path, "a") as store:
        store.compact()
    assert not trace.folder(path).exists()
    shutil.rmtree(tmp_path / "f.h5.d")  # nothing waits there: it is not missed
    assert not verify(path).findings
    assert vectors(path, toy) == set(toy.ids(8))


def test_a_store_gathered_by_a_headstock_without_traces_is_not_held_to_them(
    tmp_path, toy, monkeypatch
):
    path = waiting(tmp_path / "f.h5", toy)
    shutil.copytree(trace.folder(path), tmp_path / "kept")
    real = __import__("headstock.store.disk.compact", fromlist=["Plan"]).Plan

    def old(**words):
        words["meta"].pop("traces")
        return real(**words)

    monkeypatch.setattr("headstock.store.disk.compact.Plan", old)
    with FeatureStore.open(path, "a") as store:
        store.compact()
    shutil.copytree(tmp_path / "kept", trace.folder(path))
    assert not verify(path).findings
    assert vectors(path, toy) == set(toy.ids(8))


def test_traces_of_another_store_claim_nothing(tmp_path, toy):
    path, other = waiting(tmp_path / "f.h5", toy), waiting(tmp_path / "g.h5", toy)
    with FeatureStore.open(path, "a") as store:
        store.compact()
    shutil.copytree(trace.folder(other), trace.folder(path))
    assert not verify(path).findings
