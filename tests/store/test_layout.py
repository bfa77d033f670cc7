"""The golden form of features.h5: any HDF5 tool reads it; it may not change by accident."""

import json

import h5py
import numpy as np
import pytest

from headstock.store import FeatureStore, Items, Recipe


@pytest.fixture
def path(tmp_path, toy):
    path = tmp_path / "features.h5"
    with FeatureStore.open(path, "a") as store:
        store.register(toy.items(3, group=["g1", "", "g2"], extra={"speaker": ["x", "y", "z"]}))
        store.declare("image", toy.recipe, 5, provenance={"torch": "2"})
        store.commit("image", toy.batch(["r0", "r1", "r2"], failed=["r1"]))
        half = Recipe("audio", {"kind": "toy"})
        store.declare("audio", half, 5, dtype="float16", feature_names=list("abcde"))
        store.commit("audio", toy.batch(["r2"]))
        store.compact()
    return path


GOLDEN = {
    "/errors/audio/code": ("|S1", (0,)),
    "/errors/audio/id": ("|S1", (0,)),
    "/errors/audio/line": ("|S1", (0,)),
    "/errors/audio/row": ("<i8", (0,)),
    "/errors/image/code": ("|S3", (1,)),
    "/errors/image/id": ("|S2", (1,)),
    "/errors/image/line": ("|S17", (1,)),
    "/errors/image/row": ("<i8", (1,)),
    "/features/audio/content_sha256": ("|u1", (3, 32)),
    "/features/audio/crc32": ("<u4", (3,)),
    "/features/audio/names": ("|S1", (5,)),
    "/features/audio/seq": ("<i8", (3,)),
    "/features/audio/stat": ("<i8", (3, 2)),
    "/features/audio/status": ("|u1", (3,)),
    "/features/audio/x": ("<f2", (3, 5)),
    "/features/image/content_sha256": ("|u1", (3, 32)),
    "/features/image/crc32": ("<u4", (3,)),
    "/features/image/seq": ("<i8", (3,)),
    "/features/image/stat": ("<i8", (3, 2)),
    "/features/image/status": ("|u1", (3,)),
    "/features/image/x": ("<f4", (3, 5)),
    "/items/extra/speaker": ("|S1", (3,)),
    "/items/group": ("|S2", (3,)),
    "/items/id": ("|S2", (3,)),
    "/items/label": ("|S3", (3,)),
    "/items/path/image": ("|S15", (3,)),
    "/skeleton_crc32": ("<u4", (1,)),
}


def test_datasets_are_those_and_no_others_plain_contiguous_and_aligned(path):
    seen = {}
    with h5py.File(path, "r") as file:

        def visit(name, thing):
            if isinstance(thing, h5py.Dataset):
                seen[f"/{name}"] = (thing.dtype.str, thing.shape)
                form = thing.id.get_create_plist()
                assert form.get_layout() == h5py.h5d.CONTIGUOUS
                assert form.get_nfilters() == 0
                assert form.get_external_count() == 0
                assert thing.size == 0 or thing.id.get_offset() % 4096 == 0
                text = h5py.check_string_dtype(thing.dtype)
                assert text is None or (text.encoding, text.length is not None) == ("utf-8", True)

        file.visititems(visit)
    assert seen == GOLDEN


def test_attributes_are_those_and_no_others(path, toy):
    with h5py.File(path, "r") as file:
        assert set(file.attrs) == {
            "format", "format_version", "generation", "kind", "min_reader_version", "n",
            "root_crc", "schema", "uuid", "writer",
        }  # fmt: skip
        assert file.attrs["format"] == b"headstock"
        assert (file.attrs["format_version"], file.attrs["min_reader_version"]) == (1, 1)
        assert (file.attrs["generation"], file.attrs["n"], file.attrs["kind"]) == (
            2,
            3,
            b"generation",
        )
        assert file["features/image"].attrs["recipe"].decode() == toy.recipe.to_json()
        assert file["features/image"].attrs["fingerprint"].decode() == toy.recipe.fingerprint
        schema = json.loads(file.attrs["schema"])
    assert set(schema) == {"datasets", "length", "meta"}
    assert set(schema["meta"]) == {"clock", "columns", "patches", "root", "sets", "traces"}
    assert set(schema["meta"]["sets"][0]) == {
        "dim", "dtype", "epoch", "feature_names", "name", "provenance", "recipe",
    }  # fmt: skip
    assert schema["length"] == path.stat().st_size


def test_plain_h5py_reads_what_the_store_says(path, toy):
    with h5py.File(path, "r") as file:
        assert file["items/id"].asstr()[:].tolist() == ["r0", "r1", "r2"]
        assert file["items/group"].asstr()[:].tolist() == ["g1", "", "g2"]
        assert file["features/image/status"][:].tolist() == [1, 2, 1]
        assert np.array_equal(file["features/image/x"][0], toy.vector("r0"))
        assert np.isnan(file["features/image/x"][1]).all()
        assert file["errors/image/id"].asstr()[0] == "r1"


def test_the_superblock_is_of_1_8_and_not_marked_as_open(path):
    raw = path.read_bytes()[:16]
    assert raw[:8] == b"\x89HDF\r\n\x1a\n"
    assert raw[8] in (2, 3)
    assert raw[11] == 0


def test_the_same_rows_give_the_same_matrices_byte_for_byte(tmp_path, toy):
    files = []
    for name, size in (("one", 2), ("two", 5)):
        with FeatureStore.open(tmp_path / name, "a") as store:
            toy.fill(store, 10, size=size)
            store.compact()
            with h5py.File(store.path, "r") as file:
                group = file["features/image"]
                kept = ("x", "crc32", "status", "content_sha256", "stat")
                files.append([group[k][...].tobytes() for k in kept])
    assert files[0] == files[1]


def test_a_recipe_longer_than_an_ordinary_attribute_is_kept(tmp_path, toy):
    recipe = Recipe("columns", {"columns": [f"column number {i}" for i in range(20000)]})
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        store.register(Items.of(["r0"]))
        store.declare("wide", recipe, 5)
        store.commit("wide", toy.batch(["r0"]))
        store.compact()
    with FeatureStore.open(tmp_path / "f.h5") as store:
        assert store.feature_set("wide").recipe == recipe
