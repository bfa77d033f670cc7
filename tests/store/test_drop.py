"""Rows leave a store by an explicit word, whole, and nobody who has it open sees wrong ones."""

import shutil

import numpy as np
import pytest

from headstock.store import FeatureStore, Items
from headstock.store.care.drop import drop
from headstock.store.care.label import relabel
from headstock.store.care.repair import repair
from headstock.store.care.verify import verify
from headstock.store.disk.patch import Patch
from headstock.store.errors import ManifestError, OptionError, StoreBusy


@pytest.fixture
def path(tmp_path, toy):
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        toy.fill(store, 10)
        store.commit("image", toy.batch(["r3"], failed=["r3"]))
        store.compact()
    return tmp_path / "f.h5"


def whole(path, toy, ids):
    """The store holds these rows, right to the bit, and nothing is wrong with it."""
    assert not verify(path).findings
    with FeatureStore.open(path) as store:
        assert store.items.id.tolist() == ids
        rows = np.array([i for i, name in enumerate(ids) if name != "r3"], dtype=int)
        x = store.feature_set("image").x(rows)
        assert not len(rows) or np.array_equal(x, toy.matrix([ids[r] for r in rows]))
        return store.items


def test_dropped_rows_are_gone_and_the_others_are_right(path, toy):
    told = drop(path, ids=["r0", "r4", "r99"])
    assert (told.rows, told.left, told.unknown) == (["r0", "r4"], 8, ["r99"])
    assert "2 rows (r0, r4) dropped, 8 left" in told.text()
    left = [i for i in toy.ids(10) if i not in ("r0", "r4")]
    items = whole(path, toy, left)
    assert items.label.tolist() == ["cat" if int(i[1:]) % 2 else "dog" for i in left]
    with FeatureStore.open(path) as store:
        assert [e.id for e in store.errors("image")] == ["r3"]


def test_by_a_table_and_by_its_complement(tmp_path, path, toy):
    table = tmp_path / "t.csv"
    table.write_text("id,label\nr1,x\nr2,x\nr9,x\nnew,x\n")
    assert drop(path, outside=table).rows == [i for i in toy.ids(10) if i not in ("r1", "r2", "r9")]
    whole(path, toy, ["r1", "r2", "r9"])
    assert drop(path, inside=table).unknown == ["new"]
    with FeatureStore.open(path) as store:
        assert (store.n, store.sets) == (0, ["image"])
    assert not verify(path).findings


def test_a_row_is_found_by_its_path_too(tmp_path, path, toy):
    table = tmp_path / "t.csv"
    table.write_text("image\npictures/r1.png\npictures/r2.png\n")
    assert drop(path, inside=table).rows == ["r1", "r2"]


def test_what_cannot_be_meant_is_refused(tmp_path, path, toy):
    table = tmp_path / "t.csv"
    table.write_text("id\nx1\nx2\n")
    for chosen in ({"outside": table}, {"inside": table}):
        with pytest.raises(OptionError, match=r"names no row of f.h5; .*--id-col"):
            drop(path, **chosen)
    with pytest.raises(OptionError, match="give --id, --in or --not-in"):
        drop(path)
    with pytest.raises(OptionError, match="no store here"):
        drop(tmp_path / "none.h5", ids=["a"])
    whole(path, toy, toy.ids(10))


def test_a_dropped_row_can_come_back_as_another(path, toy):
    drop(path, ids=["r0"])
    with FeatureStore.open(path, "a") as store:
        store.register(Items.of(["r0"], label=["new"]))
        store.commit("image", toy.batch(["r0"]))
        store.compact()
    items = whole(path, toy, [*toy.ids(10)[1:], "r0"])
    assert (items.label[-1], items.paths["image"][-1]) == ("new", "")


def test_a_drop_that_was_cut_short_is_finished_by_whoever_compacts(path, toy):
    with FeatureStore.open(path, "a") as store:
        store.change(lambda _: Patch(["r0", "r4"], drop=True))
        assert store.items.label.tolist()[0] == store.items.paths["image"].tolist()[0] == ""
        with pytest.raises(OptionError, match="has no row r0"):
            store.commit("image", toy.batch(["r0"], version=1))
        store.register(Items.of(["r4"], label=["again"]))
    (path.parent / "l.csv").write_text("id,label\nr0,x\n")
    with pytest.raises(ManifestError, match="no row 'r0'"):
        relabel(path, path.parent / "l.csv")
    with FeatureStore.open(path, "a") as store:
        store.compact()
    items = whole(path, toy, toy.ids(10)[1:])
    assert items.label[3] == "again"


def test_whoever_has_it_open_is_told(path, toy):
    with FeatureStore.open(path, "a") as store:
        store.register(toy.items(12))  # two without a vector
    with FeatureStore.open(path) as reader, FeatureStore.open(path, "a") as writer:
        before = reader.feature_set("image").x(np.array([5])).copy()
        drop(path, ids=["r0", "r10"])
        assert np.array_equal(reader.feature_set("image").x(np.array([5])), before)
        with pytest.raises(StoreBusy, match="rows were dropped from it meanwhile; run this again"):
            reader.refresh()
        with pytest.raises(StoreBusy, match="rows were dropped from it meanwhile"):
            writer.commit("image", toy.batch(["r10", "r11"]))
    assert not verify(path).findings  # the late batch names a row that is gone, which is no damage
    with FeatureStore.open(path, "a") as store:
        assert store.pending == 1
        store.compact()
    whole_but = [i for i in toy.ids(12) if i not in ("r0", "r10")]
    whole(path, toy, whole_but)


def test_a_shard_of_a_row_that_never_was_is_damage(path, toy):
    drop(path, ids=["r0"])
    with FeatureStore.open(path, "a") as store:
        store.register(Items.of(["s1"]))
        store.commit("image", toy.batch(["s1"]))
    for patch in path.with_name("f.h5.d").glob("patch-*"):
        patch.unlink()
    shutil.rmtree(path.with_name("f.h5.pending"))
    assert any("'s1', the store has none" in line for line in verify(path).findings)


def test_repair_does_not_bring_dropped_rows_back(path, toy):
    drop(path, ids=["r0", "r4"])
    with FeatureStore.open(path, "a") as store:
        store.change(lambda _: Patch(["r5"], drop=True))
    (path.with_name("f.h5.d") / "shard-image-damaged.h5").write_bytes(b"no shard")
    repair(path)
    assert not verify(path).findings
    with FeatureStore.open(path) as store:
        assert store.items.id.tolist() == [i for i in toy.ids(10) if i not in ("r0", "r4", "r5")]
