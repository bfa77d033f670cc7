import errno
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from headstock.store import ABSENT, FAILED, OK, Batch, FeatureStore, Items, Recipe, is_store
from headstock.store.errors import (
    HeadstockError,
    IncompleteSet,
    ManifestError,
    MissingSet,
    OptionError,
    RecipeMismatch,
    StoreBusy,
    StoreDamaged,
    UnsafeInput,
)


def test_a_row_is_there_after_reopening_compacted_or_not(tmp_path, toy):
    path = tmp_path / "f.h5"
    with FeatureStore.open(path, "a") as store:
        toy.fill(store, 10)
    for compacted in (False, True):
        with FeatureStore.open(path) as store:
            assert (store.pending == 0) == compacted
            assert store.items.id.tolist() == toy.ids(10)
            x, spans = store.matrix("image")
            assert np.array_equal(x, toy.matrix(toy.ids(10)))
            assert spans == {"image": slice(0, 5)}
        with FeatureStore.open(path, "a") as store:
            store.compact()


def test_only_an_existing_store_opens_for_reading(tmp_path, toy):
    path = tmp_path / "f.h5"
    with pytest.raises(OptionError, match="no store here"):
        FeatureStore.open(path)
    assert not is_store(path)
    FeatureStore.open(path, "a").close()
    assert is_store(path)
    with FeatureStore.open(path) as store:
        assert (store.n, store.sets, store.generation) == (0, [], 1)
        with pytest.raises(OptionError, match="opened for reading"):
            store.register(toy.items(1))


def test_registering_counts_and_keeps_the_order_of_first_sight(tmp_path, toy):
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        change = store.register(Items.of(["b", "a"], label=["1", "2"]))
        assert (change.added, change.changed, change.unchanged) == (2, 0, 0)
        change = store.register(Items.of(["c", "a", "b"], label=["3", "2", "x"]))
        assert (change.added, change.changed, change.unchanged) == (1, 1, 1)
        assert store.items.id.tolist() == ["b", "a", "c"]
        assert store.items.label.tolist() == ["x", "2", "3"]
        store.compact()
        assert store.items.label.tolist() == ["x", "2", "3"]


def test_empty_cells_say_nothing(tmp_path):
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        store.register(Items.of(["a"], label=["cat"], extra={"speaker": ["s1"]}))
        change = store.register(Items.of(["a"]))
        assert change.unchanged == 1
        assert store.items.label.tolist() == ["cat"]
        assert store.items.extra["speaker"].tolist() == ["s1"]


def test_text_stays_text(tmp_path):
    odd = ["007", "1e5", "NA", "TRUE", "ü", "e\u0301", " x ", "a\nb", "=1+1"]
    extra = {"a/b": odd, "..": odd, "%2F": odd}
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        store.register(Items.of(odd, label=odd, extra=extra))
        store.compact()
        assert store.items.id.tolist() == odd
        assert store.items.label.tolist() == odd
        assert {k: v.tolist() for k, v in store.items.extra.items()} == extra


def test_duplicate_empty_and_unstorable_ids_are_refused(tmp_path):
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        for ids in (["a", "a"], [""], ["a\0"], ["x" * 5000]):
            with pytest.raises(ManifestError):
                store.register(Items.of(ids))
        assert store.n == 0


def test_a_moved_folder_moves_the_root_and_a_second_folder_is_spelled_out(tmp_path):
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        store.register(Items.of(["a"], paths={"image": ["a.png"]}, root="one"))
        store.register(Items.of(["a"], paths={"image": ["a.png"]}, root="two"))
        assert (store.items.root, store.items.paths["image"][0]) == ("two", "a.png")
        store.register(Items.of(["b"], paths={"image": ["b.png"]}, root="three"))
        assert store.items.root == "two"
        assert store.items.paths["image"].tolist() == ["a.png", os.path.join("three", "b.png")]


def test_another_recipe_is_refused_field_by_field(tmp_path, toy):
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        store.declare("image", toy.recipe, 5)
        store.declare("image", toy.recipe, 5)
        other = Recipe("image", {"weights": "toy", "pool": "max"})
        with pytest.raises(RecipeMismatch, match="pool: mean -> max"):
            store.declare("image", other, 5)
        with pytest.raises(RecipeMismatch, match="dim: 5 -> 6"):
            store.declare("image", toy.recipe, 6)
        with pytest.raises(RecipeMismatch, match="dtype: float32 -> float16"):
            store.declare("image", toy.recipe, 5, dtype="float16")


def test_overwrite_replaces_the_column(tmp_path, toy):
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        toy.fill(store, 4)
        store.compact()
        other = Recipe("image", {"weights": "other"})
        store.declare("image", other, 3, overwrite=True)
        assert store.progress("image").status.tolist() == [ABSENT] * 4
        store.compact()
        assert store.feature_set("image").recipe == other
        assert store.progress("image").status.tolist() == [ABSENT] * 4


def test_a_missing_set_names_those_that_exist(tmp_path, toy):
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        toy.fill(store, 2)
        with pytest.raises(MissingSet, match=r"'audio'.*image"):
            store.matrix("image+audio")


def test_an_incomplete_set_says_how_many(tmp_path, toy):
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        store.register(toy.items(6))
        store.declare("image", toy.recipe, 5)
        store.commit("image", toy.batch(["r0", "r1", "r2"], failed=["r1"]))
        with pytest.raises(IncompleteSet, match=r"set image: 4 of 6 .*3 not extracted, 1 failed"):
            store.matrix("image")
        rows = np.flatnonzero(store.complete("image"))
        assert rows.tolist() == [0, 2]
        assert np.array_equal(store.matrix("image", rows)[0], toy.matrix(["r0", "r2"]))
        assert np.array_equal(store.matrix("image", store.complete("image"))[0].shape, (2, 5))


@pytest.mark.parametrize("compact", [False, True])
def test_the_newest_word_on_a_row_wins(tmp_path, toy, compact):
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        toy.fill(store, 4)
        for version, failed in ((1, ["r1"]), (2, []), (1, []), (0, [])):
            if compact:
                store.compact()
            store.commit("image", toy.batch(["r1", "r2"], version, failed))
            with FeatureStore.open(store.path) as fresh:
                for each in (store, fresh):
                    good = [i for i in ("r1", "r2") if i not in failed]
                    rows = np.array([int(i[1:]) for i in good])
                    x = each.feature_set("image").x(rows)
                    assert np.array_equal(x, toy.matrix(good, version))
                    assert [e.id for e in each.errors()] == failed


def test_the_same_work_is_committed_once(tmp_path, toy):
    with FeatureStore.open(tmp_path / "f.h5", "a") as one:
        toy.fill(one, 4)
        with FeatureStore.open(tmp_path / "f.h5", "a") as other:
            before = one.pending
            one.commit("image", toy.batch(["r0", "r1", "r2", "r3"]))
            other.commit("image", toy.batch(["r0", "r1", "r2", "r3"]))
            assert one.pending == before


def test_progress_is_aligned_to_the_ids_asked_for(tmp_path, toy):
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        store.register(toy.items(3))
        store.declare("image", toy.recipe, 5)
        store.commit("image", toy.batch(["r1", "r2"], failed=["r2"]))
        told = store.progress("image", ["nobody", "r2", "r1", "r0"])
        assert told.status.tolist() == [ABSENT, FAILED, OK, ABSENT]
        assert told.stat.tolist() == [[-1, -1], [7, 7], [7, 7], [-1, -1]]
        assert np.array_equal(told.digest[2], toy.digest("r1"))
        assert not told.digest[[0, 3]].any()


def test_the_same_bytes_are_found_under_any_id(tmp_path, toy):
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        toy.fill(store, 3)
        asked = np.stack([toy.digest("r1"), toy.digest("r1"), toy.digest("r9")])
        found = store.by_digest("image", asked)
        assert list(found) == [toy.digest("r1").tobytes()]
        assert np.array_equal(found[toy.digest("r1").tobytes()], toy.vector("r1"))
        store.register(toy.items(10))
        store.commit("image", toy.batch(["r9"]))
        assert len(store.by_digest("image", asked)) == 2


def test_half_precision_is_stored_when_asked_and_read_as_float32(tmp_path, toy):
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        store.register(toy.items(2))
        store.declare("image", toy.recipe, 5, dtype="float16")
        store.commit("image", toy.batch(["r0", "r1"]))
        store.compact()
        x = store.feature_set("image").x()
        assert x.dtype == np.float32
        assert np.array_equal(x, toy.matrix(["r0", "r1"]).astype("f2").astype("f4"))
        batch = toy.batch(["r0"])
        batch.x[0, 0] = 70000
        with pytest.raises(OptionError, match="row r0: its vector is not finite in float16"):
            store.commit("image", batch)


def test_what_no_store_takes_is_refused(tmp_path, toy):
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        store.register(toy.items(2))
        store.declare("image", toy.recipe, 5)
        nan = toy.batch(["r0"])
        nan.x[0, 3] = np.nan
        narrow = toy.batch(["r0"])
        narrow.x = narrow.x[:, :4]
        for batch, what in (
            (nan, "not finite"),
            (narrow, "shape"),
            (toy.batch(["r0", "r0"]), "each of them once"),
            (toy.batch(["r7"]), "no row r7"),
        ):
            with pytest.raises(OptionError, match=what):
                store.commit("image", batch)
        for name in ("image+audio", "", "../x", "a/b", ".hidden"):
            with pytest.raises(OptionError):
                store.declare(name, toy.recipe, 5)
        assert store.pending == 2


def test_two_sets_side_by_side(tmp_path, toy):
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        toy.fill(store, 6)
        toy.fill(store, 6, name="audio")
        for _ in range(2):
            x, spans = store.matrix("image+audio", np.array([4, 0]))
            assert x.shape == (2, 10)
            assert np.array_equal(x[:, spans["audio"]], toy.matrix(["r4", "r0"]))
            store.compact()


def test_a_compacted_set_is_mapped_and_cannot_be_written_through(tmp_path, toy):
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        toy.fill(store, 6)
        store.compact()
        x = store.feature_set("image").x()
        assert isinstance(x, np.memmap)
        with pytest.raises(ValueError):
            x[0, 0] = 1


def test_a_plain_reader_sees_that_a_row_has_no_vector(tmp_path):
    path = tmp_path / "f.h5"
    with FeatureStore.open(path, "a") as store:
        store.register(Items.of(["a", "b", "c"]))
        store.declare("image", Recipe("image", {}), 2)
        batch = Batch(
            ids=["a", "b"],
            digest=np.ones((2, 32), np.uint8),
            stat=np.full((2, 2), -1, np.int64),
            x=np.array([[1, 2], [0, 0]], np.float32),
            status=np.array([OK, FAILED], np.uint8),
            errors=[("b", "corrupt", "a reason")],
        )
        store.commit("image", batch)
        store.compact()
    with h5py.File(path) as file:
        x, status = file["features/image/x"][:], file["features/image/status"][:]
    assert status.tolist() == [OK, FAILED, ABSENT]
    assert x[0].tolist() == [1, 2]
    assert np.isnan(x[1:]).all()


def test_a_set_replaced_by_somebody_else_takes_no_more_rows_of_the_old_recipe(tmp_path, toy):
    with FeatureStore.open(tmp_path / "f.h5", "a") as one:
        toy.fill(one, 4)
        with FeatureStore.open(tmp_path / "f.h5", "a") as other:
            other.declare("image", Recipe("image", {"weights": "other"}), 5, overwrite=True)
        with pytest.raises(StoreBusy, match="set image: was replaced by another process"):
            one.commit("image", toy.batch(["r0"], version=1))
        assert one.progress("image").status.tolist() == [ABSENT] * 4


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo.h5")
    (tmp_path / "folder.h5").mkdir()
    for name, error in (("fifo.h5", UnsafeInput), ("folder.h5", HeadstockError)):
        for mode in ("r", "a"):
            with pytest.raises(error):
                FeatureStore.open(tmp_path / name, mode)
    (tmp_path / "table.csv").write_text("id,label\n")
    with pytest.raises(StoreDamaged):
        FeatureStore.open(tmp_path / "table.csv", "a")
    assert not list(tmp_path.glob("*.d"))


@pytest.mark.parametrize("locking", ["TRUE", "FALSE", "BEST_EFFORT"])
def test_hdf5_file_locking_makes_no_difference(tmp_path, toy, locking):
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        toy.fill(store, 4)
        store.compact()
        code = (
            "import sys; from headstock.store import FeatureStore;"
            "s = FeatureStore.open(sys.argv[1]); print(s.matrix('image')[0].shape)"
        )
        env = {**os.environ, "HDF5_USE_FILE_LOCKING": locking}
        with h5py.File(store.path, "r"):  # a plain reader may even hold the file open
            command = [sys.executable, "-c", code, str(store.path)]
            told = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert told.stdout == "(4, 5)\n"


def test_a_moved_store_goes_on(tmp_path, toy):
    (tmp_path / "one").mkdir()
    with FeatureStore.open(tmp_path / "one" / "f.h5", "a") as store:
        toy.fill(store, 4)
    os.rename(tmp_path / "one", tmp_path / "two")
    with FeatureStore.open(tmp_path / "two" / "f.h5", "a") as store:
        store.register(toy.items(5))
        store.commit("image", toy.batch(["r4"]))
        store.compact()
    os.rename(tmp_path / "two" / "f.h5", tmp_path / "alone.h5")
    with FeatureStore.open(tmp_path / "alone.h5") as store:
        assert np.array_equal(store.matrix("image")[0], toy.matrix(toy.ids(5)))


def test_many_shards_are_compacted_on_the_way(tmp_path, toy, monkeypatch):
    monkeypatch.setattr("headstock.store.features.MANY_SHARDS", 5)
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        toy.fill(store, 24, size=2)
        assert store.generation > 1
        assert store.pending < 12
        assert np.array_equal(store.matrix("image")[0], toy.matrix(toy.ids(24)))


def test_a_row_that_failed_meanwhile_is_not_served_as_it_was(tmp_path, toy):
    with FeatureStore.open(tmp_path / "f.h5", "a") as writer:
        toy.fill(writer, 4)
        with FeatureStore.open(tmp_path / "f.h5") as reader:
            images = reader.feature_set("image")
            assert (images.status == OK).all()
            writer.commit("image", toy.batch(["r1"], version=1, failed=["r1"]))
            writer.compact()  # what the reader knew of is gone from under it
            with pytest.raises(IncompleteSet, match="1 failed"):
                images.x()
            assert np.array_equal(images.x(np.array([0, 2])), toy.matrix(["r0", "r2"]))


def test_a_disk_without_preallocation_still_compacts(tmp_path, toy, monkeypatch):
    def cannot(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        toy.fill(store, 4)
        assert store.compact() == 2
