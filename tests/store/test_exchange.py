"""Merging stores, exporting from them, importing what others made."""

import csv
import pickle
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from headstock.cli import cli
from headstock.store import OK, FeatureStore, Items, Recipe
from headstock.store.care.merge import merge
from headstock.store.care.verify import verify
from headstock.store.errors import (
    ManifestError,
    OptionError,
    RecipeMismatch,
    UnsafeInput,
)
from headstock.store.exchange.export import export
from headstock.store.exchange.imports import import_features, import_in_child


@pytest.fixture
def path(tmp_path, toy):
    path = tmp_path / "f.h5"
    with FeatureStore.open(path, "a") as store:
        toy.fill(store, 6)
    return path


# --- merge


def test_merging_takes_rows_vectors_and_reasons(tmp_path, toy, path):
    with FeatureStore.open(tmp_path / "g.h5", "a") as other:
        other.register(toy.items(10))
        other.declare("image", toy.recipe, 5)
        other.commit("image", toy.batch(["r5", "r6", "r7", "r8"], failed=["r8"]))
        other.commit("image", toy.batch(["r1"], version=1))
    for taken in (2, 0):
        told = merge(path, [tmp_path / "g.h5"], keep="ours")
        assert told.taken == {"image": taken}
        assert [one.content for one in told.conflicts.values()] == [["r1"]]
    with FeatureStore.open(path) as store:
        assert store.items.id.tolist() == toy.ids(10)
        assert [(e.id, e.code) for e in store.errors()] == [("r8", "bad")]
        rows = np.flatnonzero(store.complete("image"))
        assert rows.tolist() == list(range(8))
        assert np.array_equal(store.matrix("image", rows)[0], toy.matrix(toy.ids(8)))
    assert not verify(path).findings


def test_sets_made_another_way_do_not_merge(tmp_path, toy, path):
    with FeatureStore.open(tmp_path / "g.h5", "a") as other:
        other.register(Items.of(["new"]))
        other.declare("image", Recipe("image", {"weights": "other"}), 5)
    with pytest.raises(RecipeMismatch, match="weights: toy -> other"):
        merge(path, [tmp_path / "g.h5"])
    with FeatureStore.open(path) as store:
        assert store.n == 6
    with pytest.raises(OptionError, match="merge into"):
        merge(path, [path])


# --- export


def test_exports_hold_the_complete_rows(tmp_path, toy, path):
    with FeatureStore.open(path, "a") as store:
        store.register(toy.items(8))
    good = toy.matrix(toy.ids(6))
    for suffix in ("npz", "csv", "h5"):
        told = export(path, tmp_path / f"out.{suffix}")
        assert (told.rows, told.left_out) == (6, 2)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as file:
        assert file["ids"].tolist() == toy.ids(6)
        assert np.array_equal(file["image"], good)
    with h5py.File(tmp_path / "out.h5") as file:
        assert np.array_equal(file["features"][:], good)
        assert file["ids"].asstr()[:].tolist() == toy.ids(6)
    with open(tmp_path / "out.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["id"] for line in lines] == toy.ids(6)
    assert lines[1]["label"] == "cat"
    x = np.array([[line[f"image_{k}"] for k in range(5)] for line in lines], dtype=np.float32)
    assert np.array_equal(x, good)


def test_cells_go_out_as_they_are_and_quoted_when_a_spreadsheet_is_to_read_them(tmp_path, toy):
    odd = ["=1+1", "+x", "-x", "@x", "plain"]
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        store.register(Items.of(odd, label=odd))
        store.declare("image", toy.recipe, 5)
        store.commit("image", toy.batch(odd))
    quoted = ["'=1+1", "'+x", "'-x", "'@x", "plain"]
    for spreadsheet, said in ((False, odd), (True, quoted)):
        export(tmp_path / "f.h5", tmp_path / "out.csv", spreadsheet=spreadsheet)
        with open(tmp_path / "out.csv", newline="") as file:
            cells = [(line["id"], line["label"]) for line in csv.DictReader(file)]
        assert cells == list(zip(said, said))


def test_exports_that_make_no_sense_leave_nothing_behind(tmp_path, path):
    before = sorted(tmp_path.iterdir())
    for target in (path, tmp_path / "out.pickle"):
        with pytest.raises(OptionError):
            export(path, target)
    assert sorted(tmp_path.iterdir()) == before


def test_parquet_round_trip(tmp_path, toy, path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is an extra")
    export(path, tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["id"].to_pylist() == toy.ids(6)


# --- import


def same(store_path, toy, ids, name="image"):
    with FeatureStore.open(store_path) as store:
        assert store.items.id.tolist() == ids
        assert np.array_equal(store.matrix(name)[0], toy.matrix(ids))
        assert list(store.feature_set(name).recipe.fields) == ["unknown"]
        assert not store.feature_set(name).digest.any()
        assert store.by_digest(name, np.zeros((1, 32), np.uint8)) == {}
    assert not verify(store_path).findings


def test_thingsvision(tmp_path, toy):
    folder = tmp_path / "things"
    folder.mkdir()
    np.save(folder / "features.npy", toy.matrix(toy.ids(4)))
    (folder / "file_names.txt").write_text("\n".join(toy.ids(4)) + "\n")
    import_features(folder, tmp_path / "g.h5")
    same(tmp_path / "g.h5", toy, toy.ids(4))


def test_per_item_files_of_slides(tmp_path, toy):
    folder = tmp_path / "slides"
    folder.mkdir()
    for at, identity in enumerate(toy.ids(3)):
        with h5py.File(folder / f"{identity}.h5", "w") as file:
            vector = toy.vector(identity)
            bag = np.stack([vector - 1, vector + 1])
            file["features"] = bag[None] if at == 1 else bag  # TRIDENT's leading axis, or none
            file["coords"] = np.zeros((2, 2), int)
    with pytest.raises(OptionError, match="2 vectors for one item; say how with --pool"):
        import_features(folder, tmp_path / "g.h5")
    import_features(folder, tmp_path / "g.h5", pool="mean", labels={"r1": "tumour"})
    with FeatureStore.open(tmp_path / "g.h5") as store:
        assert np.allclose(store.matrix("image")[0], toy.matrix(toy.ids(3)), atol=1e-6)
        assert store.items.label.tolist() == ["", "tumour", ""]
        assert "mean of each item's vectors" in store.feature_set("image").recipe.fields["unknown"]


def test_clip_retrieval(tmp_path, toy):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is an extra")
    import pyarrow.parquet as pq

    for part in ("img_emb", "metadata"):
        (tmp_path / "clip" / part).mkdir(parents=True)
    for number, ids in enumerate((toy.ids(6)[:4], toy.ids(6)[4:])):
        np.save(tmp_path / "clip" / "img_emb" / f"img_emb_{number}.npy", toy.matrix(ids))
        table = pa.table({"image_path": ids})
        pq.write_table(table, tmp_path / "clip" / "metadata" / f"metadata_{number}.parquet")
    import_features(tmp_path / "clip", tmp_path / "g.h5")
    same(tmp_path / "g.h5", toy, toy.ids(6))


def test_imports_run_nothing_and_follow_nothing(tmp_path, toy):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    np.savez(tmp_path / "a.npz", ids=np.array([Bomb()], dtype=object), features=np.ones((1, 2)))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "features.npy").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "b" / "file_names.txt").write_text("r0\n")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["features"] = toy.matrix(["r0"])
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["ids"] = ["r0"]
        file["features"] = h5py.ExternalLink("secret.h5", "/features")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["ids"] = ["r0"]
        layout = h5py.VirtualLayout(shape=(1, 5), dtype="f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "features", shape=(1, 5))
        file.create_virtual_dataset("features", layout)
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file["ids"] = ["r0"]
        file.create_dataset("features", (1 << 40, 1 << 20), dtype="f4", chunks=(1, 1 << 20))
    for name in ("a.npz", "b", "c.h5", "d.h5", "e.h5"):
        with pytest.raises((UnsafeInput, OptionError)):
            import_features(tmp_path / name, tmp_path / "g.h5")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "g.h5").exists()


def test_odd_sources_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", ids=["x", "x"], features=np.ones((2, 3)))
    with pytest.raises(ManifestError, match="'x' comes twice"):
        import_features(tmp_path / "a.npz", tmp_path / "g.h5")
    np.savez(tmp_path / "b.npz", ids=["x"], features=np.array([[np.nan, 1]]))
    with pytest.raises(OptionError, match="row x: is not finite"):
        import_features(tmp_path / "b.npz", tmp_path / "h.h5")
    np.savez(tmp_path / "c.npz", ids=["x", "y"], features=np.ones((3, 3)))
    with pytest.raises(OptionError, match="vectors for 2 ids"):
        import_features(tmp_path / "c.npz", tmp_path / "i.h5")
    with pytest.raises(OptionError, match="no layout"):
        import_features(tmp_path / "d.mat", tmp_path / "j.h5")


def test_an_interrupted_import_goes_on(tmp_path, toy, monkeypatch):
    np.savez(tmp_path / "out.npz", ids=toy.ids(6), features=toy.matrix(toy.ids(6)))
    monkeypatch.setattr("headstock.store.exchange.imports.ROWS", 2)
    real, left = FeatureStore.commit, [2]

    def commit(self, name, batch):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(self, name, batch)

    monkeypatch.setattr(FeatureStore, "commit", commit)
    with pytest.raises(KeyboardInterrupt):
        import_features(tmp_path / "out.npz", tmp_path / "g.h5")
    with FeatureStore.open(tmp_path / "g.h5") as store:
        assert (store.progress("image").status == OK).sum() == 4
    left[0] = 1
    import_features(tmp_path / "out.npz", tmp_path / "g.h5")
    same(tmp_path / "g.h5", toy, toy.ids(6))


def test_a_label_in_a_table_of_features_is_no_feature(tmp_path):
    source = tmp_path / "t.csv"
    source.write_text("id,a,b,Target,split,note\nx,1,2,0,train,hi\ny,3,4,1,test,ho\n")
    imported = import_features(source, tmp_path / "f.h5")
    assert imported.sets == {"image": 2}
    assert "without Target, id, split" in imported.text().replace("id, Target", "Target, id")
    assert "without note (no number in it)" in imported.text()
    with FeatureStore.open(tmp_path / "f.h5") as store:
        assert list(store.feature_set("image").feature_names) == ["a", "b"]
        assert list(store.items.label) == ["0", "1"]


def test_splits_of_another_tool_are_read_by_the_one_vocabulary(tmp_path):
    source = tmp_path / "t.csv"
    source.write_text("id,a,split\nx,1,Training\ny,3,TEST SET\nz,2,dev\n")
    imported = import_features(source, tmp_path / "f.h5")
    assert "split 'TEST SET' read as test (1 rows)" in imported.text()
    with FeatureStore.open(tmp_path / "f.h5") as store:
        assert list(store.items.split) == ["train", "test", "valid"]
    np.savez(tmp_path / "t.npz", ids=["x"], x=np.ones((1, 2), np.float32), split=["later"])
    with pytest.raises(ManifestError, match=r"t\.npz, row x: the split 'later'"):
        import_features(tmp_path / "t.npz", tmp_path / "g.h5")


@pytest.mark.parametrize("suffix", ["h5", "npz", "csv", "parquet"])
def test_a_disk_that_fills_up_is_one_line_and_leaves_nothing(tmp_path, toy, suffix):
    """HDF5's own writes ended the process at that."""
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        toy.fill(store, 400)
    code = (
        "import resource, sys\n"
        "from headstock.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "main(sys.argv[1:])\n"
    )
    out = tmp_path / "out"
    out.mkdir()
    words = ["store", "export", tmp_path / "f.h5", out / f"x.{suffix}", "-q"]
    told = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True
    )
    assert told.returncode == 5, told
    assert len(told.stderr.splitlines()) == 1
    assert "too large" in told.stderr
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("suffix", ["h5", "npz", "csv"])
def test_what_a_killed_export_left_is_swept_by_the_next(tmp_path, toy, path, suffix):
    out = tmp_path / "out"
    out.mkdir()
    code = (
        "import os, signal, sys\n"
        "from headstock.store.exchange.export import export\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "export(*sys.argv[1:])\n"
    )
    words = [sys.executable, "-c", code, str(path), str(out / f"x.{suffix}")]
    assert subprocess.run(words).returncode == -signal.SIGKILL
    (left,) = out.iterdir()
    assert left.name.startswith(".headstock.tmp-")
    export(path, out / f"y.{suffix}")
    beside = ["y.csv-metadata.json"] if suffix == "csv" else []
    assert sorted(p.name for p in out.iterdir()) == [f"y.{suffix}", *beside]


def test_a_source_that_crashes_its_reader_is_one_line(tmp_path, monkeypatch):
    """``store import`` reads in a child; in one that dies of what it reads it is refused."""
    source, output = tmp_path / "in.npz", tmp_path / "out.h5"
    np.savez(source, id=np.array(["a", "b"]), x=np.eye(2, dtype=np.float32))
    words = ["store", "import", str(source), str(output)]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    with FeatureStore.open(output) as store:
        assert np.array_equal(store.matrix(store.sets)[0], np.eye(2))
    monkeypatch.setattr("headstock.store.child.COMMAND", ["-c", "import os; os.abort()"])
    with pytest.raises(UnsafeInput, match=r"in\.npz: the process that read it died \(SIGABRT\)"):
        import_in_child(source, tmp_path / "other.h5")
    assert not (tmp_path / "other.h5").exists()
