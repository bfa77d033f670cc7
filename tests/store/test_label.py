import pytest

from headstock.store import FeatureStore
from headstock.store.care.label import relabel
from headstock.store.errors import ManifestError, OptionError


@pytest.fixture
def path(tmp_path, toy):
    path = tmp_path / "f.h5"
    with FeatureStore.open(path, "a") as store:
        toy.fill(store, 4)
        store.compact()
    return path


def write(tmp_path, text):
    (tmp_path / "labels.csv").write_text(text)
    return tmp_path / "labels.csv"


def test_labels_groups_and_splits_change_and_vectors_do_not(tmp_path, toy, path):
    table = write(tmp_path, "id,label,group\nr2,bird,g1\nr0,,g2\n")
    change = relabel(path, table)
    assert (change.changed, change.unchanged) == (2, 0)
    with FeatureStore.open(path) as store:
        assert store.items.label.tolist() == ["dog", "cat", "bird", "cat"]
        assert store.items.group.tolist() == ["g2", "", "g1", ""]
        assert store.matrix("image")[0].shape == (4, 5)
    assert relabel(path, table).unchanged == 2


def test_empty_cells_clear_only_when_asked(tmp_path, path):
    table = write(tmp_path, "NAME,CLASS\nr1,\n")
    cols = {"id": "NAME", "label": "CLASS"}
    assert relabel(path, table, cols=cols).changed == 0
    assert relabel(path, table, cols=cols, clear=True).changed == 1
    with FeatureStore.open(path, "a") as store:
        assert store.items.label.tolist() == ["dog", "", "dog", "cat"]
        store.compact()
        assert store.items.label.tolist() == ["dog", "", "dog", "cat"]


def test_other_columns_come_when_named(tmp_path, path):
    relabel(path, write(tmp_path, "id,speaker\nr1,s1\n"), extra=["speaker"])
    with FeatureStore.open(path) as store:
        assert store.items.column("speaker").tolist() == ["", "s1", "", ""]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("id,label\nr8,a\nr9,b\n", r"labels.csv:2: the store has no row 'r8' \(2 such ids\)"),
        ("id,label\nr0,a\nr0,b\n", r"labels.csv:3: the id 'r0' comes twice and not alike"),
        ("id,colour\nr0,a\n", "no label, split or group column"),
        ("name,label\nr0,a\n", "no column 'id'"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, path, text, what):
    with pytest.raises(ManifestError, match=what):
        relabel(path, write(tmp_path, text))


def test_what_fits_is_taken_and_the_rest_is_named(tmp_path, path):
    table = write(tmp_path, "id,label\nr0,a\nr9,b\nr8,b\nr1,c\nr1,c\n")
    with pytest.raises(
        ManifestError, match=r"labels.csv:3: the store has no row 'r9' \(2 such ids\)"
    ):
        relabel(path, table, strict=True)
    told = relabel(path, table)
    assert (told.changed, told.unchanged, told.unknown) == (2, 0, ["r9", "r8"])
    assert "2 ids are not in the store: r9, r8" in told.text("f.h5")
    with FeatureStore.open(path) as store:
        assert store.items.label.tolist() == ["a", "c", "dog", "cat"]


def test_rows_are_found_by_their_paths_where_there_is_no_id(tmp_path, path):
    relabel(path, write(tmp_path, "image,label\npictures/r2.png,bird\n"))
    with FeatureStore.open(path) as store:
        assert store.items.label.tolist() == ["dog", "cat", "bird", "cat"]


def test_no_store_is_made(tmp_path):
    with pytest.raises(OptionError):
        relabel(tmp_path / "none.h5", write(tmp_path, "id,label\nr0,a\n"))
    assert not (tmp_path / "none.h5.d").exists()
