"""Splits: one vocabulary for tables, folders, flags and stores."""

import pytest

from headstock.store import FeatureStore, Items
from headstock.store.care.label import relabel
from headstock.store.errors import ManifestError, OptionError
from headstock.store.manifest.manifest import Manifest
from headstock.store.manifest.splits import WORDS, in_split, split_of

SPELT = {
    "train": ["train", "Training", "TRAIN SET", "train_set", "trainset", " train "],
    "valid": ["valid", "Val", "validation", "VALIDATION SET", "dev", "Dev-Set", "hold-out",
              "Hold Out", "holdout", "val_images", "ｖａｌ", "eval"],
    "test": ["test", "Testing", "TEST SET", "test-set", "testset", "test_images", "TEST.DATA"],
}  # fmt: skip


@pytest.mark.parametrize(("split", "word"), [(s, w) for s, words in SPELT.items() for w in words])
def test_usual_spellings(split, word):
    assert split_of(word) == split


@pytest.mark.parametrize("word", ["trains", "fold1", "0", "contest", "test2", "?", "yes", "set"])
def test_a_word_that_is_none(word):
    assert split_of(word) is None


def test_no_word_is_in_two_splits():
    words = [word for words in WORDS.values() for word in words]
    assert len(words) == len(set(words))
    assert split_of("") == split_of("  ") == ""


def test_a_table_with_splits_in_other_words(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,image,split\na,a.png,Training\nb,b.png,TEST SET\nc,c.png,\nd,d.png,dev\n")
    manifest = Manifest.read(path)
    assert list(manifest.items.split) == ["train", "test", "", "valid"]
    account = "\n".join(manifest.account())
    assert "splits: train 1, test 1, valid 1" in account
    assert "split 'TEST SET' read as test (1 rows)" in account
    assert list(Manifest.read(path, split="Testing").items.split)[2] == "test"
    with pytest.raises(OptionError, match="--split: 'later' is no split; train, valid or test"):
        Manifest.read(path, split="later")


def test_a_split_that_is_none_is_refused_by_its_line(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,image,split\na,a.png,train\nb,b.png,fold 1\nc,c.png,fold 2\n")
    with pytest.raises(ManifestError, match=r"t\.csv:3: the split 'fold 1' \(and 1 other words\)"):
        Manifest.read(path)
    # the way out that the message names: the column is then one of text
    path.write_text(path.read_text().replace("split", "part"))
    assert list(Manifest.read(path).items.extra["part"]) == ["train", "fold 1", "fold 2"]


def _touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_folders_of_splits(tmp_path):
    _touch(
        tmp_path,
        "Training/cat/1.png",
        "Training/dog/2.png",
        "Testing/cat/3.png",
        "Dev set/dog/4.png",
    )
    manifest = Manifest.read(tmp_path)
    found = dict(zip(manifest.items.id, zip(manifest.items.split, manifest.items.label)))
    assert found == {
        "Training/cat/1.png": ("train", "cat"),
        "Training/dog/2.png": ("train", "dog"),
        "Testing/cat/3.png": ("test", "cat"),
        "Dev set/dog/4.png": ("valid", "dog"),
    }
    assert any("'Testing' read as test (1 rows)" in line for line in manifest.account())


def test_folders_of_which_some_are_splits(tmp_path):
    _touch(tmp_path, "train/cat/1.png", "test/cat/2.png", "extra/cat/3.png")
    with pytest.raises(ManifestError, match="folders test, train name splits, and extra do not"):
        Manifest.read(tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    _touch(tmp_path, "train/1.png", "bus/2.png")
    manifest = Manifest.read(tmp_path)
    assert sorted(manifest.items.label) == ["bus", "train"]
    assert any("train is taken for a class" in line for line in manifest.account())


def test_store_label_reads_splits_alike(tmp_path):
    path = tmp_path / "s.h5"
    with FeatureStore.open(path, "a") as store:
        store.register(Items.of(["a", "b"], label=["x", "y"]))
    table = tmp_path / "t.csv"
    table.write_text("id,split\na,Validation Set\nb,TESTING\n")
    lines = []
    relabel(path, table, note=lines.append)
    with FeatureStore.open(path) as store:
        assert list(store.items.split) == ["valid", "test"]
    assert lines[0] == "split 'Validation Set' read as valid (1 rows)"
    table.write_text("id,split\na,later\n")
    with pytest.raises(ManifestError, match=r"t\.csv:2: the split 'later'"):
        relabel(path, table)


def test_rows_of_a_split_in_a_store_of_before():
    splits = ["Training", "", "test", "Test set", "fold 1", "val"]
    assert in_split(splits, "train").tolist() == [True, True, False, False, False, False]
    assert in_split(splits, "TESTING").tolist() == [False, False, True, True, False, False]
    assert in_split(splits, "fold 1").tolist() == [False] * 4 + [True, False]
    assert in_split(splits, "dev").tolist() == [False] * 5 + [True]
