"""A store as NumPy, pandas and Hugging Face see it."""

from __future__ import annotations

import numpy as np
import pytest

from headstock.store import (
    FAILED,
    OK,
    Batch,
    FeatureStore,
    Items,
    Recipe,
    as_arrays,
    as_dataset,
    as_frame,
)
from headstock.store.errors import MissingSet, OptionError

N = 6


@pytest.fixture
def store(tmp_path):
    """Six rows; row 4 has no sound; labels that look like numbers; a set with named features."""
    path = tmp_path / "s.h5"
    ids = [f"r{k}" for k in range(N)]
    rng = np.random.default_rng(0)
    with FeatureStore.open(path, "a") as made:
        made.register(
            Items.of(
                ids,
                label=["007", "1e5", "007", "", "1e5", "007"],
                split=["train", "train", "test", "test", "train", "train"],
                extra={"speaker": list("aabbcc")},
            )
        )
        for name, dim, names in (("image", 3, None), ("audio", 2, ["low", "label"])):
            made.declare(name, Recipe("columns", {"of": name}), dim, feature_names=names)
            status = np.full(N, OK, dtype=np.uint8)
            if name == "audio":
                status[4] = FAILED
            x = rng.normal(size=(N, dim)).astype(np.float32)
            errors = [(ids[4], "gone", "no file")] if name == "audio" else []
            digest = rng.integers(0, 256, (N, 32), dtype=np.uint8)
            stat = np.full((N, 2), -1, dtype=np.int64)
            made.commit(name, Batch(ids, digest, stat, x, status, errors))
    with FeatureStore.open(path) as opened:
        yield opened


def test_arrays(store) -> None:
    got = as_arrays(store)
    assert got.ids.tolist() == ["r0", "r1", "r2", "r3", "r5"]
    assert got.left_out == 1
    assert {k: v.shape for k, v in got.X.items()} == {"image": (5, 3), "audio": (5, 2)}
    np.testing.assert_array_equal(got.X["image"], store.feature_set("image").x(got.rows))
    assert as_arrays(store, ["image"]).left_out == 0
    assert as_arrays(store, ["image"], "test").ids.tolist() == ["r2", "r3"]
    with pytest.raises(OptionError, match=r"no row of split 'tset'.*test, train"):
        as_arrays(store, split="tset")
    with pytest.raises(MissingSet, match="smell"):
        as_arrays(store, ["smell"])


def test_frame(store) -> None:
    pytest.importorskip("pandas")
    frame = as_frame(store)
    assert frame.index.tolist() == ["r0", "r1", "r2", "r3", "r5"]
    assert frame.columns.tolist() == [
        *("label", "split", "group", "speaker"),
        *("image_0", "image_1", "image_2", "low", "label_4"),
    ]
    assert frame.loc["r0", "label"] == "007"
    assert frame.attrs["left_out"] == 1
    assert frame["low"].dtype == np.float32
    numbers = frame[["image_0", "image_1", "image_2", "low", "label_4"]].to_numpy()
    np.testing.assert_array_equal(numbers, store.matrix("image+audio", as_arrays(store).rows)[0])


def test_dataset(store, tmp_path) -> None:
    datasets = pytest.importorskip("datasets")
    got = as_dataset(store)
    assert got.num_rows == 5
    assert got.features["label"].names == ["007", "1e5"]
    assert [got.features["label"].int2str(v) if v is not None else "" for v in got["label"]] == [
        *("007", "1e5", "007", "", "007")
    ]
    image = np.array(got["image"], dtype=np.float32)
    np.testing.assert_array_equal(image, as_arrays(store).X["image"])
    got.save_to_disk(tmp_path / "hub")
    again = datasets.load_from_disk(str(tmp_path / "hub"))
    assert again["id"][:] == ["r0", "r1", "r2", "r3", "r5"]
    assert np.asarray(again.with_format("numpy")["audio"][:]).dtype == np.float32
