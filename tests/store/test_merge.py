"""What merge does with ids that two stores have."""

import numpy as np
import pytest

from headstock.store import FeatureStore
from headstock.store.care.merge import merge
from headstock.store.care.verify import verify
from headstock.store.errors import OptionError


def make(path, toy, rows, version=0, root="", label=None, **columns):
    """Rows by number, of this version; ``label`` for all of them."""
    with FeatureStore.open(path, "a") as store:
        items = toy.items(max(rows) + 1, **columns).take(np.array(rows))
        if label is not None:
            items.label[:] = label
        store.register(items)
        store.declare("image", toy.recipe, toy.dim)
        store.commit("image", toy.batch([f"r{i}" for i in rows], version))
        store.compact()
    return path


def held(path):
    with FeatureStore.open(path) as store:
        rows = {i: n for n, i in enumerate(store.items.id.tolist())}
        x = store.feature_set("image").x()
        return {
            i: (store.items.label[n], store.items.split[n], x[n].copy()) for i, n in rows.items()
        }


def same(found, toy, identity, version, label):
    assert found[identity][0] == label
    assert np.array_equal(found[identity][2], toy.vector(identity, version))


def test_other_content_is_refused_and_nothing_changes(tmp_path, toy):
    ours, theirs = (
        make(tmp_path / "a.h5", toy, [0, 1, 2, 3]),
        make(tmp_path / "b.h5", toy, [2, 3, 4], 1),
    )
    third = make(tmp_path / "c.h5", toy, [9])
    before = ours.read_bytes()
    what = r"b.h5: ids that a.h5 has too have 2 other content \(r2, r3\); --ours keeps .* --theirs"
    with pytest.raises(OptionError, match=what):
        merge(ours, [third, theirs])
    assert ours.read_bytes() == before


def test_ours_keeps_the_rows_whole(tmp_path, toy):
    ours = make(tmp_path / "a.h5", toy, [0, 1, 2, 3], split=["train"] * 4)
    theirs = make(tmp_path / "b.h5", toy, [2, 3, 4], 1, label="x", split=["test"] * 5)
    told = merge(ours, [theirs], keep="ours")
    assert told.conflicts[str(theirs)].content == ["r2", "r3"]
    assert "2 other content (r2, r3); kept those of a.h5" in told.text()
    found = held(ours)
    same(found, toy, "r2", 0, "dog")
    same(found, toy, "r3", 0, "cat")
    same(found, toy, "r4", 1, "x")
    assert [found[f"r{i}"][1] for i in range(5)] == ["train"] * 4 + ["test"]
    assert not verify(ours).findings


def test_theirs_takes_the_rows_whole(tmp_path, toy):
    ours = make(tmp_path / "a.h5", toy, [0, 1, 2, 3], split=["train"] * 4)
    theirs = make(tmp_path / "b.h5", toy, [2, 3, 4], 1, label="x")
    told = merge(ours, [theirs], keep="theirs")
    assert "took those from there" in told.text()
    found = held(ours)
    for i in (2, 3, 4):
        same(found, toy, f"r{i}", 1, "x")
        assert found[f"r{i}"][1] == ""  # nothing of the row that was
    same(found, toy, "r0", 0, "dog")
    assert not verify(ours).findings


@pytest.mark.parametrize(("keep", "label"), [("ours", "dog"), ("theirs", "x")])
def test_labels_that_differ(tmp_path, toy, keep, label):
    ours, theirs = (
        make(tmp_path / "a.h5", toy, [0, 1]),
        make(tmp_path / "b.h5", toy, [0], label="x"),
    )
    with pytest.raises(OptionError, match=r"1 other label \(r0\)"):
        merge(ours, [theirs])
    told = merge(ours, [theirs], keep=keep)
    assert told.conflicts[str(theirs)].words == {"label": ["r0"]}
    same(held(ours), toy, "r0", 0, label)


def test_empty_cells_are_filled_without_a_word(tmp_path, toy):
    ours = make(tmp_path / "a.h5", toy, [0, 1], label="")
    theirs = make(tmp_path / "b.h5", toy, [0, 1], split=["test", "test"])
    merge(ours, [theirs])
    found = held(ours)
    assert [found[i][:2] for i in ("r0", "r1")] == [("dog", "test"), ("cat", "test")]


def test_sources_that_differ_among_each_other_are_refused_first(tmp_path, toy):
    one, two = make(tmp_path / "b.h5", toy, [5]), make(tmp_path / "c.h5", toy, [5], 1)
    with pytest.raises(
        OptionError, match=r"c.h5: ids that b.h5 has too have 1 other content \(r5\)"
    ):
        merge(tmp_path / "a.h5", [one, two])
    with FeatureStore.open(tmp_path / "a.h5") as store:
        assert store.n == 0
    merge(tmp_path / "a.h5", [one, two], keep="theirs")
    same(held(tmp_path / "a.h5"), toy, "r5", 1, "cat")


def test_again_changes_nothing(tmp_path, toy):
    ours, theirs = make(tmp_path / "a.h5", toy, [0, 1]), make(tmp_path / "b.h5", toy, [1, 2])
    assert merge(ours, [theirs]).rows == 1
    before = held(ours)
    told = merge(ours, [theirs])
    assert (told.rows, told.taken, told.conflicts) == (0, {"image": 0}, {})
    assert held(ours).keys() == before.keys()
