"""Files that unpack to far more than they are: refused before they are unpacked, in one line."""

from __future__ import annotations

import functools
import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import some_run

from headstock.heads.report.saved import read_saved
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.run.folder import read_run, write_run
from headstock.store import FeatureStore, Recipe
from headstock.store.disk.parts_file import read_parts
from headstock.store.errors import HeadstockError, UnsafeInput
from headstock.store.exchange.imports import import_features
from headstock.store.jsonfile import DEEPEST, parse_json

LARGE = 90 << 20  # bytes that the bombs here unpack to, of files of some 100 kB
HELD = 48 << 20  # bytes that refusing one may take


def zeros(dtype: str = "u1") -> np.ndarray:
    return np.zeros((2, LARGE // 2 // np.dtype(dtype).itemsize), dtype=dtype)


def held(work: Callable[[], object]) -> int:
    """The most memory that Python and NumPy held while ``work`` was refused."""
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeInput) as caught:
            work()
        assert "\n" not in str(caught.value)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def lying_npy(shape: tuple[int, ...]) -> bytes:
    """An npy file that declares ``shape`` and holds four bytes."""
    out = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue() + b"\0" * 4


def npz(path: Path) -> None:
    np.savez_compressed(path, ids=np.array(["a", "b"]), features=zeros())


def npz_ids(path: Path) -> None:
    ids = np.array(["a" * (LARGE // 8), "b"])
    np.savez_compressed(path, ids=ids, features=np.zeros((2, 3)))


def npz_that_lies(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        out = io.BytesIO()
        np.lib.format.write_array(out, np.array(["a", "b"]))
        archive.writestr("ids.npy", out.getvalue())
        for name in ("features", "codes"):
            archive.writestr(f"{name}.npy", lying_npy((2, 1 << 40)))


@functools.cache
def many_members() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range((1 << 16) + 1):
            archive.writestr(f"{number}.npy", b"")
    return out.getvalue()


def npz_of_many(path: Path) -> None:
    path.write_bytes(many_members())


def hdf5_packed(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["ids"] = np.array([b"a", b"b"])
        file.create_dataset("features", data=zeros(), compression="gzip", chunks=(2, 1 << 20))


def hdf5_that_holds_nothing(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["ids"] = np.array([b"a", b"b"])
        file.create_dataset("features", (2, 1 << 38), "f4")


def hdf5_of_one_chunk(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["ids"] = np.array([b"a", b"b"])
        kinds = {"compression": "gzip", "chunks": (2, LARGE // 2), "maxshape": (None, None)}
        file.create_dataset("features", data=np.zeros((2, 3), "u1"), **kinds)


def hdf5_ids(path: Path) -> None:
    with h5py.File(path, "w") as file:
        ids = np.array([b"a" * (LARGE // 2), b"b"])
        file.create_dataset("ids", data=ids, compression="gzip", chunks=(1,))
        file["features"] = np.zeros((2, 3))


SOURCES = [npz, npz_ids, npz_that_lies, npz_of_many, hdf5_packed, hdf5_that_holds_nothing,
           hdf5_of_one_chunk, hdf5_ids]  # fmt: skip


@pytest.mark.parametrize("make", SOURCES, ids=lambda make: make.__name__)
def test_a_source_that_unpacks_to_far_more_is_refused(tmp_path, make):
    source = tmp_path / ("x.npz" if make.__name__.startswith("npz") else "x.h5")
    make(source)
    assert source.stat().st_size < 12 << 20
    assert held(lambda: import_features(source, tmp_path / "f.h5")) < HELD
    assert not (tmp_path / "f.h5").exists()


def test_a_bag_and_an_array_in_place_are_bounded_too(tmp_path):
    bags = tmp_path / "bags"
    bags.mkdir()
    hdf5_packed(bags / "a.h5")
    assert held(lambda: import_features(bags, tmp_path / "f.h5", pool="mean")) < HELD
    folder = tmp_path / "things"
    folder.mkdir()
    (folder / "file_names.txt").write_text("a\nb\n")
    with open(folder / "features.npy", "wb") as file:
        shape = (2, LARGE // 8)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + LARGE)
        file.seek(0, 2)
        file.write(b"x")
    assert held(lambda: import_features(folder, tmp_path / "g.h5")) < HELD


def test_a_text_that_stands_for_a_million_rows(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="an extra: pip install 'headstock[parquet]'")
    pq = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "clip"
    (folder / "metadata").mkdir(parents=True)
    (folder / "img_emb").mkdir()
    n = 200_000
    np.save(folder / "img_emb" / "0.npy", np.zeros((n, 1), np.float16))
    ids = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array(["a" * 4000]))
    pq.write_table(pa.table({"image_path": ids}), folder / "metadata" / "0.parquet")
    assert held(lambda: import_features(folder, tmp_path / "f.h5")) < HELD


def test_what_compresses_as_features_do_is_read(tmp_path):
    """Nine values in ten are zero, as behind a rectifier."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 64)).astype(np.float32) * (rng.random((300, 64)) < 0.1)
    ids = [f"row {i}" for i in range(300)]
    np.savez_compressed(tmp_path / "x.npz", ids=np.array(ids), features=x)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["ids"] = ids  # of any length
        file.create_dataset("features", data=x, compression="gzip", chunks=(100, 64))
    for name in ("x.npz", "x.h5"):
        import_features(tmp_path / name, tmp_path / f"{name}.store.h5")
        with FeatureStore.open(tmp_path / f"{name}.store.h5") as store:
            assert store.items.id.tolist() == ids
            np.testing.assert_array_equal(store.feature_set("image").x(), x)


def make_run(folder: Path) -> Path:
    ids, classes = np.array(["r0", "r1"]), np.array(["a", "b"])
    arrays = {"ids": ids, "codes": np.array([0, 1]), "classes": classes}
    held = io.BytesIO()
    np.savez(held, **arrays, **{"proba/lda@image": np.full((2, 2), 0.5)})
    run = some_run.run([some_run.line(n=2, errors=1)])
    write_run(folder, run, {"oof.npz": held.getvalue()})
    return folder


def vouch_for(run: Path) -> None:
    """Let metrics.json say that the arrays there are those it was written with."""
    files = {path.name: path.read_bytes() for path in run.glob("*.npz")}
    write_run(run, read_run(run), files)


@pytest.mark.parametrize("name", ["oof.npz", "test.npz"])
@pytest.mark.parametrize("make", [npz, npz_that_lies, npz_of_many], ids=lambda m: m.__name__)
def test_a_run_that_unpacks_to_far_more_is_refused(tmp_path, name, make):
    run = make_run(tmp_path / "run")
    assert len(read_saved([run])[0].ids) == 2
    make(run / name)
    vouch_for(run)
    assert held(lambda: read_saved([run])) < HELD


@pytest.mark.parametrize(
    "wrong",
    [
        {"ids": np.zeros(2)}, {"ids": np.array([["a", "b"]])}, {"codes": np.array([0.0, 1.0])},
        {"codes": np.array([0, 5])}, {"codes": np.array(["a", "b"])}, {"classes": np.zeros(2)},
        {"proba/lda@image": np.array([["a", "b"], ["c", "d"]])},
        {"proba/lda@image": np.zeros((2, 2), dtype=complex)}, {"proba/lda@image": np.zeros(2)},
        {"ids": np.array(["a", "b"], dtype=object)},
    ],
    ids=lambda wrong: str(wrong)[:50],
)  # fmt: skip
def test_arrays_of_another_kind_are_one_line(tmp_path, wrong):
    run = make_run(tmp_path / "run")
    with np.load(run / "oof.npz") as old:
        arrays = {**old, **wrong}
    np.savez(run / "oof.npz", **arrays)
    vouch_for(run)
    with pytest.raises(HeadstockError, match=r"oof\.npz"):
        read_saved([run])


NESTED = ["[" * 100_000, "[" * 500 + "]" * 500, '{"a":' * 500 + "1" + "}" * 500]


@pytest.mark.parametrize("text", NESTED, ids=["open", "lists", "objects"])
def test_values_nested_without_end_are_one_line_at_every_door(tmp_path, text):
    run = make_run(tmp_path / "run")
    plan, parts = tmp_path / "folds.json", tmp_path / "all.parts.json"
    whole = f'{{"format": {text}, "fields": {text}}}'
    for file in (plan, parts, run / "folds.json", run / "metrics.json"):
        file.write_text(whole)
    doors: list[Callable[[], object]] = [
        lambda: FoldPlan.load(plan),
        lambda: read_parts(parts),
        lambda: read_run(run),
        lambda: read_saved([run]),
    ]
    for door in doors:
        with pytest.raises(HeadstockError) as caught:
            door()
        assert "\n" not in str(caught.value)
    for read in (parse_json, Recipe.from_json):
        with pytest.raises(ValueError):
            read(whole)


def test_what_headstock_writes_is_not_too_deep():
    value: object = 1
    for _ in range(DEEPEST):
        value = [value]
    assert parse_json(json.dumps(value)) == value
    with pytest.raises(ValueError, match="nested"):
        parse_json(json.dumps([value]))


@pytest.mark.parametrize(
    "changed",
    [
        {"held_out": [[]] * 100_000}, {"held_out": [[[0], [1, 1]]]}, {"held_out": [[[0, 1]] * 2]},
        {"held_out": [[[0], [-1]]]}, {"held_out": [[[0], [2]]]}, {"held_out": [[[0], [1 << 80]]]},
        {"held_out": [[[0], [0.5]]]}, {"held_out": [[[0], [True]]]}, {"held_out": [[[0], [[1]]]]},
        {"held_out": 5}, {"held_out": [5]}, {"held_out": {}}, {"ids": 5}, {"ids": ["a", "a"]},
        {"group": {"a": 1}}, {"seed": 1e400}, {"seed": "x"}, {"version": "x"}, {"version": [1]},
        {"kind": "\x1b[31m"},
    ],
    ids=lambda changed: str(changed)[:40],
)  # fmt: skip
def test_each_field_of_a_fold_plan_has_a_bound(tmp_path, changed):
    plan = FoldPlan(("a", "b"), np.array([[0, 1]]))
    plan.save(tmp_path / "p.json")
    body = json.loads((tmp_path / "p.json").read_text())
    (tmp_path / "p.json").write_text(json.dumps({**body, **changed}))
    if "kind" in changed:  # a word for a reader, who sees its letters
        assert "\x1b" not in FoldPlan.load(tmp_path / "p.json").kind
        return
    with pytest.raises(HeadstockError) as caught:
        FoldPlan.load(tmp_path / "p.json")
    assert "\n" not in str(caught.value)


def test_a_table_may_have_many_columns(tmp_path):
    """A hundred thousand: each is looked up once, or this takes minutes."""
    c = 100_000
    names = ",".join(f"f{i}" for i in range(c))
    row = ",".join(["0.5"] * c)
    (tmp_path / "x.csv").write_text(f"id,{names}\na,{row}\nb,{row}\n")
    import_features(tmp_path / "x.csv", tmp_path / "f.h5")
    with FeatureStore.open(tmp_path / "f.h5") as store:
        assert store.feature_set("image").x().shape == (2, c)


def test_memory_that_ends_is_no_fault_of_an_archive(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", ids=np.array(["a", "b"]), x=np.ones((2, 3), np.float32))

    def ended(*_: object, **__: object) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(np.lib.format, "read_array", ended)
    with pytest.raises(MemoryError):
        import_features(tmp_path / "a.npz", tmp_path / "s.h5")
