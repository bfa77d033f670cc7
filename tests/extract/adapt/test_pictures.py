"""Pictures for training: decoded once, or again in each epoch where they are too many to keep."""

import numpy as np
import pytest

from headstock.extract.adapt.pictures import Pictures, canvas
from headstock.extract.decode.preprocess import ImageLoader, Preprocess
from headstock.store.datafile import Reader
from headstock.store.errors import ItemError

HALF = (0.5, 0.5, 0.5)
PLAIN = Preprocess.of_size((16, 16), 1.0, HALF, HALF)


def opened(items, tmp_path, **more) -> Pictures:
    paths = items.paths["image"].tolist()
    more = {"folder": tmp_path, "workers": 0, **more}
    return Pictures(paths, paths, Reader(items.root), PLAIN, **more)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kept", [40, 7, 0])
def test_what_is_kept_and_what_is_decoded_again_are_the_same_pictures(
    items, tmp_path, kept, workers
):
    order = np.random.default_rng(0).permutation(40)
    parts = np.array_split(order, 6)
    with opened(items, tmp_path, cache=kept * 16 * 16 * 3, workers=workers) as pictures:
        pictures.read()
        assert pictures.kept == kept
        assert pictures.good.all()
        got = list(pictures.batches(parts))
    assert [len(b) for b in got] == [len(p) for p in parts]
    loader = ImageLoader(PLAIN)
    root = tmp_path / "pictures"
    for row, pixels in zip(order, np.concatenate(got)):
        assert (pixels == loader((root / f"{row:03d}.png").read_bytes())).all()


def test_nothing_is_left_behind(items, tmp_path):
    before = sorted(tmp_path.iterdir())
    with opened(items, tmp_path) as pictures:
        pictures.read()
        assert sorted(tmp_path.iterdir()) == before
    assert sorted(tmp_path.iterdir()) == before


def test_a_picture_that_cannot_be_read_costs_its_own_row(items, tmp_path):
    (tmp_path / "pictures" / "003.png").write_bytes(b"no picture")
    (tmp_path / "pictures" / "004.png").unlink()
    with opened(items, tmp_path) as pictures:
        pictures.read()
    assert np.flatnonzero(~pictures.good).tolist() == [3, 4]
    assert [f.code for f in pictures.failures] == ["not-an-image", "missing"]


def test_a_picture_that_changes_meanwhile_is_noticed(items, tmp_path):
    with opened(items, tmp_path, cache=0) as pictures:
        pictures.read()
        other = (tmp_path / "pictures" / "000.png").read_bytes()
        (tmp_path / "pictures" / "001.png").write_bytes(other)
        with pytest.raises(ItemError, match="changed"):
            list(pictures.batches([np.array([1])]))


def test_the_canvas_is_what_the_evaluation_crops_from():
    tight = Preprocess.of_size((224, 224), 0.875, HALF, HALF)
    assert canvas(tight).crop == (256, 256) == canvas(tight).resize
    assert canvas(PLAIN) == PLAIN
