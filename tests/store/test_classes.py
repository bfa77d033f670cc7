"""Names of classes, and labels in two Unicode forms."""

import csv
import unicodedata

import pytest

from headstock.store import FeatureStore, Items
from headstock.store.care.label import relabel
from headstock.store.errors import ManifestError, OptionError
from headstock.store.manifest.classes import class_names, join_forms
from headstock.store.manifest.manifest import Manifest

NFC, NFD = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")


@pytest.fixture
def table(tmp_path):
    def make(labels):
        path = tmp_path / "t.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = [(f"r{i}", f"{i}.png", label) for i, label in enumerate(labels)]
            csv.writer(file).writerows([("id", "image", "label"), *rows])
        return path

    return make


@pytest.fixture
def names(tmp_path):
    def make(text):
        path = tmp_path / "names.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return make


def test_a_file_as_windows_writes_it(table, names):
    path = names(b"\xef\xbb\xbf" + "forest\r\nsea, lake\r\nstraße\r\n日本\r\n\r\n".encode())
    items = Manifest.read(table(["0", "1", "2", "3", ""]), class_names=str(path)).items
    assert list(items.label) == ["forest", "sea, lake", "straße", "日本", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("forest\n\nsea\n", r"names\.txt:2: a blank class name"),
        ("a\nb\na\n", r"names\.txt:3: the class name 'a' comes twice"),
        (f"{NFC}\n{NFD}\n", r"names\.txt:2: the class name .* comes twice"),
        ("\n\n", r"names\.txt:1: holds no class name"),
        ("0 a\n1 a\n", r"names\.txt:2: the class name 'a' comes twice"),
    ],
)
def test_a_file_that_would_move_or_merge_classes(names, text, message):
    with pytest.raises(ManifestError, match=message):
        class_names(names(text))


def test_a_wrong_count(table, names):
    with pytest.raises(ManifestError, match=r"label '2' .* has no class name; there are 2 names"):
        Manifest.read(table("012"), class_names=["a", "b"])
    with pytest.raises(ManifestError, match="write the number before each name: 1 cat"):
        Manifest.read(table("12"), class_names=["a", "b"])
    header = names("class_name\ncat\ndog\n")  # each name would move by one
    with pytest.raises(
        ManifestError, match=r"3 class names for labels up to 1 \(name 3 is 'dog'\)"
    ):
        Manifest.read(table("01"), class_names=header)
    # the ways out
    numbered = Manifest.read(table("12"), class_names=names("1 cat\n2: dog\n"))
    assert list(numbered.items.label) == ["cat", "dog"]
    fewer = Manifest.read(table("01"), class_names=names("0 cat\n1 dog\n2 cow\n"))
    assert list(fewer.items.label) == ["cat", "dog"]
    assert "1 class names have no row (cow)" in "\n".join(fewer.account())


def test_names_that_begin_with_a_number_are_names(names):
    assert class_names(names("3 doors\n5 doors\n")) == ["3 doors", "5 doors"]


def test_whole_numbers_with_a_point(table):
    manifest = Manifest.read(table(["0.0", "1.0", "0"]), class_names="cat,dog")
    assert list(manifest.items.label) == ["cat", "dog", "cat"]
    assert any("'0.0' are read as whole numbers (2 rows)" in line for line in manifest.account())


def test_a_file_that_is_not_there(table):
    with pytest.raises(OptionError, match=r"'nmes\.txt' is no file"):
        Manifest.read(table("01"), class_names="nmes.txt")


def test_two_forms_of_one_label_are_one_class(table):
    manifest = Manifest.read(table([NFD, NFC, NFD, "tea", ""]))
    assert list(manifest.items.label) == [NFD, NFD, NFD, "tea", ""]  # the form that most rows have
    account = "\n".join(manifest.account())
    assert "classes: 2" in account
    assert "1 rows of the other form joined" in account
    alone = Manifest.read(table([NFD, "tea"]))
    assert list(alone.items.label) == [NFD, "tea"]  # what goes in comes out
    assert not alone.notes


def test_a_label_takes_the_form_that_the_store_has(tmp_path, table):
    path = tmp_path / "s.h5"
    with FeatureStore.open(path, "a") as store:
        store.register(Items.of(["r0", "r1"], label=[NFC, NFC]))
    lines = []
    relabel(path, table([NFD, NFD]), note=lines.append)
    with FeatureStore.open(path) as store:
        assert list(store.items.label) == [NFC, NFC]
    assert len(lines) == 1


def test_joining_leaves_the_rest_alone():
    labels = ["a", "b", ""]
    assert join_forms(labels) == (labels, [])
    assert join_forms([NFC], known=[NFD])[0] == [NFD]
