"""Which row of a store a table's row is: nothing said of one content is told of another."""

import csv
import shutil
import unicodedata

import numpy as np
import pytest
from counting import CountingEncoder
from hypothesis import given, settings
from hypothesis import strategies as st

from headstock.extract.job import extract_like, extract_manifest
from headstock.heads.bundle.predictions import Predictions
from headstock.heads.rows.labelled import read_rows
from headstock.heads.rows.rare import too_rare
from headstock.store import FeatureStore, Items, Manifest
from headstock.store.care.label import relabel
from headstock.store.errors import ManifestError


@pytest.fixture
def counting(monkeypatch):
    """Every image encoder counts; the sum of what went through it."""
    made = []

    def build(*_, **__):
        made.append(CountingEncoder())
        return made[-1]

    monkeypatch.setattr("headstock.extract.job.image_encoder", build)
    monkeypatch.setattr("headstock.extract.job.encoder_from_recipe", build)
    return lambda: sum(sum(one.calls) for one in made)


def files(root, names, text="{name}"):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.format(name=name).encode())


def table(path, header, *rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def go(source, output, **options):
    return extract_manifest(Manifest.read(source, **options), output, workers=0, batch_size=4)


def held(output):
    with FeatureStore.open(output) as store:
        return store.items, store.progress("image").digest.copy()


# --- between tables


def test_tables_that_share_file_names_stay_apart(tmp_path, counting):
    files(tmp_path, [f"{part}/{k}.png" for part in ("train", "test") for k in range(6)])
    train = table(
        tmp_path / "train.csv",
        ["image", "label"],
        *([f"train/{k}.png", "rg"[k % 2]] for k in range(6)),
    )
    test = table(tmp_path / "test.csv", ["image"], *([f"test/{k}.png"] for k in range(6)))
    go(train, tmp_path / "s.h5")
    account = go(test, tmp_path / "s.h5")
    items, _ = held(tmp_path / "s.h5")
    assert items.id.tolist() == items.paths["image"].tolist()
    assert items.label.tolist() == ["r", "g"] * 3 + [""] * 6
    assert (account.rows.rows, account.rows.train, account.rows.unlabelled) == (12, 6, 6)
    assert account.rows.unnamed == [f"train/{k}.png" for k in range(6)]
    assert counting() == 12


def test_rows_without_a_vector_and_their_classes_are_in_the_account(tmp_path, counting):
    files(tmp_path, ["0.png", "1.png", "2.png"])
    files(tmp_path, ["3.png"], "bad")
    rows = table(
        tmp_path / "t.csv", ["image", "label"], *([f"{k}.png", "rggy"[k]] for k in range(4))
    )
    held = go(rows, tmp_path / "s.h5").rows
    assert (held.train, held.classes, held.bare, held.vectorless) == (3, 2, 1, ["y"])
    assert "--missing exclude" in held.text()
    assert "no row of class y has a vector in every set" in held.text()


@pytest.mark.parametrize(
    "counts",
    [{"a": 9, "b": 7, "c": 4, "d": 1}, {"a": 9, "b": 4, "c": 1}, {"a": 2, "b": 1}, {"a": 9}],
)
def test_the_classes_that_the_folds_leave_out_are_in_the_account(tmp_path, counting, counts):
    labels = [name for name, n in counts.items() for _ in range(n)]
    files(tmp_path, [f"{k}.png" for k in range(len(labels))])
    named = [[f"{k}.png", label] for k, label in enumerate(labels)]
    held = go(table(tmp_path / "t.csv", ["image", "label"], *named), tmp_path / "s.h5").rows
    with FeatureStore.open(tmp_path / "s.h5") as store:
        rows, *_ = read_rows(store, ["image"])
    few = too_rare(rows, None, "drop")
    assert held.rare == {str(rows.classes[code]): counts[rows.classes[code]] for code in few}
    assert ("too rare for 5 folds" in held.text()) == bool(few)


def two_folders(tmp_path):
    for part in ("train", "test"):
        files(tmp_path / part, [f"{k}.png" for k in range(5)], part + " {name}")
        rows = [[f"{k}.png", "ab"[k % 2]] for k in range(5)]
        table(tmp_path / part / "index.csv", ["image", "label"], *rows)
    return [tmp_path / part / "index.csv" for part in ("train", "test")]


def test_other_files_under_known_ids_are_refused_before_anything_changes(tmp_path, counting):
    train, test = two_folders(tmp_path)
    go(train, tmp_path / "s.h5")
    before = (tmp_path / "s.h5").read_bytes()
    what = r"index.csv: 5 ids are in s.h5 with another file and other bytes: 0.png, 1.png, 2.png, …"
    with pytest.raises(ManifestError, match=what) as refused:
        go(test, tmp_path / "s.h5")
    assert "--id-col" in refused.value.fix
    assert f"--in {test}" in refused.value.fix
    assert (tmp_path / "s.h5").read_bytes() == before
    assert counting() == 5
    go(test, tmp_path / "other.h5")  # a way out
    assert held(tmp_path / "other.h5")[0].id.tolist() == [f"{k}.png" for k in range(5)]


def test_folders_that_share_file_names_are_refused_too(tmp_path, counting):
    for part in ("train", "test"):
        files(tmp_path / part, [f"{c}/{k}.png" for c in "ab" for k in range(2)], part + " {name}")
    go(tmp_path / "train", tmp_path / "s.h5")
    with pytest.raises(ManifestError, match=r"4 ids are in s.h5 with another file"):
        go(tmp_path / "test", tmp_path / "s.h5")


def test_predicting_into_a_store_keeps_the_rule(tmp_path, counting):
    train, test = two_folders(tmp_path)
    go(train, tmp_path / "s.h5")
    with FeatureStore.open(tmp_path / "s.h5") as store:
        recipes = {"image": store.declared("image").recipe}
    run = extract_like(Manifest.read(test), recipes, keep=tmp_path / "s.h5", workers=0)
    with pytest.raises(ManifestError, match=r"5 ids are in s.h5 with another file"), run:
        pass
    assert held(tmp_path / "s.h5")[0].label.tolist() == ["a", "b", "a", "b", "a"]


def test_files_that_cannot_be_read_prove_nothing(tmp_path, counting):
    train, test = two_folders(tmp_path)
    go(train, tmp_path / "s.h5")
    for k in range(1, 5):
        (tmp_path / "test" / f"{k}.png").unlink()
    with pytest.raises(ManifestError, match=r"5 ids are in s.h5"):
        go(test, tmp_path / "s.h5")


def test_rows_that_never_had_a_vector_are_compared_by_their_files(tmp_path, counting):
    train, test = two_folders(tmp_path)
    with FeatureStore.open(tmp_path / "s.h5", "a") as store:
        store.register(Manifest.read(train).items)
    with pytest.raises(ManifestError, match=r"5 ids are in s.h5"):
        go(test, tmp_path / "s.h5")
    for k in range(5):
        (tmp_path / "train" / f"{k}.png").unlink()
    rows = table(tmp_path / "test" / "index.csv", ["image"], *([f"{k}.png"] for k in range(5)))
    go(rows, tmp_path / "s.h5")
    assert held(tmp_path / "s.h5")[0].label.tolist() == [""] * 5  # said of files that are gone


# --- the same row, another content


@pytest.fixture
def five(tmp_path):
    files(tmp_path, [f"{k}.png" for k in range(5)])
    rows = [[f"r{k}", f"{k}.png", "ab"[k % 2], "train", f"p{k}"] for k in range(5)]
    return table(tmp_path / "t.csv", ["id", "image", "label", "split", "patient"], *rows)


def test_what_was_said_of_a_file_goes_with_it(tmp_path, five, counting):
    bare = table(tmp_path / "bare.csv", ["id", "image"], *([f"r{k}", f"{k}.png"] for k in range(5)))
    go(five, tmp_path / "s.h5")
    files(tmp_path, ["1.png", "3.png"], "another {name}")
    account = go(bare, tmp_path / "s.h5")
    items, _ = held(tmp_path / "s.h5")
    assert items.label.tolist() == ["a", "", "a", "", "a"]
    assert items.split.tolist() == ["train", "", "train", "", "train"]
    assert items.extra["patient"].tolist() == ["p0", "", "p2", "", "p4"]
    assert account.rows.files == account.rows.lost == ["r1", "r3"]
    assert counting() == 7
    assert "2 rows (r1, r3) lost the label with it" in account.text()


def test_a_table_speaks_of_the_new_content(tmp_path, five, counting):
    go(five, tmp_path / "s.h5")
    relabel(tmp_path / "s.h5", table(tmp_path / "l.csv", ["id", "group"], ["r1", "g"], ["r2", "g"]))
    files(tmp_path, ["1.png"], "another {name}")
    account = go(five, tmp_path / "s.h5")
    items, _ = held(tmp_path / "s.h5")
    assert items.label.tolist() == ["a", "b", "a", "b", "a"]
    assert items.group.tolist() == ["", "", "g", "", ""]  # said of the file before
    assert account.rows.files == ["r1"]
    assert account.rows.lost == []


def test_a_file_that_is_not_read_gets_no_new_words(tmp_path, five, counting):
    go(five, tmp_path / "s.h5")
    files(tmp_path, [f"{k}.png" for k in range(5)], "another {name}")
    text = five.read_text().replace(",a,", ",z,")
    five.write_text(text)
    manifest = Manifest.read(five)
    account = extract_manifest(manifest, tmp_path / "s.h5", workers=0, batch_size=4, limit=2)
    items, _ = held(tmp_path / "s.h5")
    assert items.label.tolist() == ["z", "b", "a", "b", "a"]
    assert account.rows.waiting == ["r2", "r4"]
    go(five, tmp_path / "s.h5")
    assert held(tmp_path / "s.h5")[0].label.tolist() == ["z", "b", "z", "b", "z"]


def test_a_run_cut_short_leaves_no_word_of_the_content_before(
    tmp_path, five, counting, monkeypatch
):
    go(five, tmp_path / "s.h5")
    files(tmp_path, ["0.png", "1.png"], "another {name}")
    with monkeypatch.context() as patched:
        patched.setattr("headstock.extract.job.settle", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            go(five, tmp_path / "s.h5")
    with FeatureStore.open(tmp_path / "s.h5") as store:
        assert store.items.label.tolist() == ["", "", "a", "b", "a"]
    go(five, tmp_path / "s.h5")
    assert held(tmp_path / "s.h5")[0].label.tolist() == ["a", "b", "a", "b", "a"]


def test_overwriting_a_set_forgets_too(tmp_path, five, monkeypatch, counting):
    go(five, tmp_path / "s.h5")
    relabel(tmp_path / "s.h5", table(tmp_path / "l.csv", ["id", "group"], ["r1", "g"], ["r2", "g"]))
    files(tmp_path, ["1.png"], "another {name}")
    monkeypatch.setattr(
        "headstock.extract.job.image_encoder", lambda *_, **__: CountingEncoder(version=2)
    )
    extract_manifest(Manifest.read(five), tmp_path / "s.h5", workers=0, overwrite=True)
    assert held(tmp_path / "s.h5")[0].group.tolist() == ["", "", "g", "", ""]


def test_a_second_set_of_another_content_forgets(tmp_path, five, counting):
    go(five, tmp_path / "s.h5")
    bare = table(tmp_path / "bare.csv", ["id", "image"], *([f"r{k}", f"{k}.png"] for k in range(5)))
    files(tmp_path, ["1.png"], "another {name}")
    extract_manifest(Manifest.read(bare), tmp_path / "s.h5", image=["more=x"], workers=0)
    assert held(tmp_path / "s.h5")[0].label.tolist() == ["a", "", "a", "b", "a"]


# --- the same content at another place


def test_a_file_that_moved_is_the_same_row(tmp_path, five, counting):
    go(five, tmp_path / "s.h5")
    (tmp_path / "deep").mkdir()
    for k in range(5):
        shutil.move(tmp_path / f"{k}.png", tmp_path / "deep" / f"x{k}.png")
    moved = table(
        tmp_path / "n.csv", ["id", "image"], *([f"r{k}", f"deep/x{k}.png"] for k in range(5))
    )
    account = go(moved, tmp_path / "s.h5")
    items, _ = held(tmp_path / "s.h5")
    assert items.label.tolist() == ["a", "b", "a", "b", "a"]
    assert items.paths["image"].tolist() == [f"deep/x{k}.png" for k in range(5)]
    assert (account.done, account.reused, counting()) == (0, 5, 5)
    assert account.rows.moved == [f"r{k}" for k in range(5)]


@pytest.mark.parametrize("ids", ["paths", "file names"])
def test_a_table_without_ids_finds_its_rows_again(tmp_path, ids, counting):
    """``file names``: what an earlier version called its rows."""
    names = [f"old/{k}.png" for k in range(4)]
    files(tmp_path, names)
    with FeatureStore.open(tmp_path / "s.h5", "a") as store:
        known = names if ids == "paths" else [f"{k}.png" for k in range(4)]
        root = str(tmp_path)
        store.register(Items.of(known, paths={"image": names}, label=list("abab"), root=root))
    go(table(tmp_path / "t.csv", ["image"], *([n] for n in names)), tmp_path / "s.h5")
    items, _ = held(tmp_path / "s.h5")
    assert items.id.tolist() == known
    assert counting() == 4
    shutil.move(tmp_path / "old", tmp_path / "new")
    moved = table(tmp_path / "n.csv", ["image"], *([f"new/{k}.png"] for k in range(4)))
    account = go(moved, tmp_path / "s.h5")
    items, _ = held(tmp_path / "s.h5")
    assert items.id.tolist() == known
    assert items.label.tolist() == list("abab")
    assert items.paths["image"].tolist() == [f"new/{k}.png" for k in range(4)]
    assert (account.rows.rows, counting()) == (4, 4)


def test_a_copy_of_a_file_is_a_row_of_its_own(tmp_path, counting):
    files(tmp_path, ["old/0.png"])
    go(table(tmp_path / "t.csv", ["image", "label"], ["old/0.png", "a"]), tmp_path / "s.h5")
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    go(table(tmp_path / "n.csv", ["image"], ["new/0.png"]), tmp_path / "s.h5")
    items, _ = held(tmp_path / "s.h5")
    assert items.id.tolist() == ["old/0.png", "new/0.png"]
    assert items.label.tolist() == ["a", ""]
    assert counting() == 1  # the same bytes


def test_an_id_that_fits_two_rows_is_asked_for(tmp_path, counting):
    files(tmp_path, ["im/0.png"])
    with FeatureStore.open(tmp_path / "s.h5", "a") as store:
        both = Items.of(
            ["0.png", "im/0.png"], paths={"image": ["im/0.png"] * 2}, root=str(tmp_path)
        )
        store.register(both)
    with pytest.raises(
        ManifestError, match=r"./im/0.png is 2 rows of s.h5: 0.png, im/0.png; .*--id-col"
    ):
        go(table(tmp_path / "t.csv", ["image"], ["./im/0.png"]), tmp_path / "s.h5")


def test_answers_carry_the_tables_own_names(tmp_path, counting):
    files(tmp_path, ["im/0.png"])
    with FeatureStore.open(tmp_path / "s.h5", "a") as store:
        store.register(Items.of(["0.png"], paths={"image": ["im/0.png"]}, root=str(tmp_path)))
    account = go(table(tmp_path / "t.csv", ["image"], ["im/0.png"]), tmp_path / "s.h5")
    assert account.ids == ["0.png"]


# --- numbers


def numbers(path, output):
    manifest = Manifest.read(path, columns=["m_*"])
    return extract_manifest(manifest, output, columns=["m_*"], column_sets=["t"])


def test_numbers_of_another_table_are_other_rows(tmp_path):
    train = table(tmp_path / "train.csv", ["", "m_1", "label"], ["0", 1, "a"], ["1", 2, "b"])
    test = table(tmp_path / "test.csv", ["", "m_1"], ["0", 8], ["1", 9])
    numbers(train, tmp_path / "s.h5")
    with pytest.raises(
        ManifestError, match=r"2 ids are in s.h5 with other numbers, of another table: 0, 1"
    ):
        numbers(test, tmp_path / "s.h5")
    with FeatureStore.open(tmp_path / "s.h5") as store:
        assert store.feature_set("t").x().tolist() == [[1], [2]]
        assert store.items.label.tolist() == ["a", "b"]


def test_numbers_that_their_table_corrects_are_taken(tmp_path):
    path = table(tmp_path / "t.csv", ["id", "m_1", "label"], ["r", 1, "a"], ["s", 2, "b"])
    numbers(path, tmp_path / "s.h5")
    relabel(tmp_path / "s.h5", table(tmp_path / "l.csv", ["id", "group"], ["r", "g"], ["s", "g"]))
    table(path, ["id", "m_1", "label"], ["r", 1, "a"], ["s", 5, "b"])
    account = numbers(path, tmp_path / "s.h5")
    with FeatureStore.open(tmp_path / "s.h5") as store:
        assert store.feature_set("t").x().tolist() == [[1], [5]]
        assert store.items.label.tolist() == ["a", "b"]
        assert store.items.group.tolist() == ["g", ""]
    assert account.rows.files == ["s"]


# --- the account


ROW = st.fixed_dictionaries(
    {
        "label": st.sampled_from(["", "a", "b", "c"]),
        "split": st.sampled_from(["", "train", "test"]),
        "content": st.integers(0, 3),
    }
)
TABLE = st.dictionaries(st.integers(0, 7), ROW, min_size=1, max_size=8)


@settings(max_examples=25, deadline=None)
@given(versions=st.lists(TABLE, min_size=1, max_size=3))
def test_the_account_is_the_store_is_what_evaluate_uses(tmp_path_factory, versions):
    root = tmp_path_factory.mktemp("versions")
    want: dict[str, tuple[str, str, int]] = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("headstock.extract.job.image_encoder", lambda *_, **__: CountingEncoder())
        for version in versions:
            for k, row in version.items():
                (root / f"{k}.png").write_bytes(b"content %d of %d" % (row["content"], k))
                label, split, content = want.get(f"r{k}", ("", "", row["content"]))
                if content != row["content"]:
                    label, split = "", ""
                want[f"r{k}"] = (row["label"] or label, row["split"] or split, row["content"])
            rows = [[f"r{k}", f"{k}.png", r["label"], r["split"]] for k, r in version.items()]
            account = go(
                table(root / "t.csv", ["id", "image", "label", "split"], *rows), root / "s.h5"
            )
    with FeatureStore.open(root / "s.h5") as store:
        items = store.items
        assert dict(zip(items.id, zip(items.label, items.split))) == {
            i: (label, split) for i, (label, split, _) in want.items()
        }
        train = [i for i, (label, split, _) in want.items() if label and split != "test"]
        test = [i for i, (label, split, _) in want.items() if label and split == "test"]
        told = account.rows
        assert (told.rows, told.train, told.test) == (len(want), len(train), len(test))
        assert told.unlabelled == len(want) - len(train) - len(test)
        assert set(told.unnamed) == want.keys() - {f"r{k}" for k in versions[-1]}
        if {want[i][0] for i in test} <= {want[i][0] for i in train} and train:
            used, held_out, _ = read_rows(store, ["image"])
            assert sorted(used.ids) == sorted(train)
            assert sorted(held_out.ids if held_out else []) == sorted(test)


# --- ids


LETTERS = st.characters(blacklist_categories=("Cs",), blacklist_characters="\0")
IDS = st.lists(
    st.text(LETTERS, min_size=1, max_size=12).map(str.strip).filter(bool),
    min_size=1,
    max_size=6,
    unique_by=lambda i: unicodedata.normalize("NFC", i),
)


@settings(max_examples=40, deadline=None)
@given(ids=IDS)
def test_ids_go_in_and_come_out_as_they_are(tmp_path_factory, ids):
    root = tmp_path_factory.mktemp("ids")
    path = table(root / "t.csv", ["id", "m_1", "label"], *([i, k, "x"] for k, i in enumerate(ids)))
    account = numbers(path, root / "s.h5")
    assert account.ids == ids
    with FeatureStore.open(root / "s.h5") as store:
        assert store.items.id.tolist() == ids
    answers = Predictions(np.array(ids, dtype=object), np.array(["x"]), np.ones((len(ids), 1)))
    answers.to_csv(root / "p.csv")
    with open(root / "p.csv", newline="", encoding="utf-8") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ids
    told = relabel(root / "s.h5", root / "p.csv", cols={"label": "prediction"}, strict=True)
    assert told.unchanged == len(ids)
