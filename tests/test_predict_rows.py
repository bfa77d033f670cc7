"""What predict takes and gives: tables as competitions write them, single files, submissions."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from headstock.cli import main
from headstock.heads import Bundle
from headstock.store import FeatureStore, Manifest

CLASSES = ("+a", "-b", "=c")


def call(*words: object) -> int:
    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def rows_of(path: str | Path) -> list[list[str]]:
    with open(path, newline="") as file:
        return list(csv.reader(file))


def write(path: str | Path, rows) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def tone(path: Path, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    wave = np.sin(np.arange(3200) * 0.1 * (k + 1)) + 0.05 * rng.normal(size=3200)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * wave, 8000)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Sounds of three classes, a model of sounds (s.headstock) and one of three columns (n...)."""
    folder = tmp_path_factory.mktemp("made")
    for i in range(36):
        tone(folder / f"train/s{i:02}.wav", i % 3, i)
    for i in range(6):
        tone(folder / f"test/t{i}.wav", i % 3, 100 + i)
    label = [CLASSES[i % 3] for i in range(36)]
    # a competition's table: ids without ending, a header with capitals
    write(folder / "train.csv", [["Id", "Label"], *([f"s{i:02}", label[i]] for i in range(36))])
    write(folder / "test.csv", [["Id"], *([f"t{i}"] for i in range(6))])
    rng = np.random.default_rng(0)
    numbers = [[f"r{i}", label[i], *np.eye(3)[i % 3] + rng.normal(0, 0.1, 3)] for i in range(36)]
    write(folder / "numbers.csv", [["id", "label", "x", "y", "z"], *numbers])
    write(
        folder / "other.csv", [["z", "id", "x", "y"], *([r[4], *r[:1], *r[2:4]] for r in numbers)]
    )
    layout = ("--audio-col", "Id", "--audio-root", folder / "train")
    words = ("extract", folder / "train.csv", "-o", folder / "s.h5", *layout, "-q", "-j", 0)
    assert call(*words) == 0
    words = ("extract", folder / "numbers.csv", "-o", folder / "n.h5", "--columns", "[xyz]")
    assert call(*words, "--as", "numbers", "-q") == 0
    for name in "sn":
        out = folder / f"{name}.headstock"
        assert call("fit", folder / f"{name}.h5", "--head", "lda", "-o", out, "-q") == 0
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch, capsys) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    capsys.readouterr()
    return tmp_path


TEST = ("predict", "s.headstock", "test.csv", "--audio-col", "Id", "--audio-root", "test", "-j", 0)
RIGHT = [CLASSES[i % 3] for i in range(6)]


# --- tables


def test_ids_without_an_ending_and_a_header_in_capitals_are_understood_and_said(made, here, capsys):
    layout = ("--audio-col", "Id", "--audio-root", "train", "--audio", "mfcc", "-j", 0)
    assert call("extract", "train.csv", "-o", "new.h5", *layout) == 0
    err = capsys.readouterr().err
    assert "column 'Label' is taken as label" in err
    assert "audio: 36 paths have no ending: train/s00 is read as train/s00.wav" in err
    with FeatureStore.open("new.h5") as store:
        assert store.items.id.tolist() == [f"s{i:02}" for i in range(36)]
        assert store.items.label.tolist() == [CLASSES[i % 3] for i in range(36)]
        assert store.complete("audio").all()


def test_a_path_that_fits_two_files_is_none_of_them(tmp_path):
    for name in ("a.png", "a.jpg", "b.png", "b.wav", "c.d.png"):
        (tmp_path / name).write_bytes(b"x")
    write(tmp_path / "t.csv", [["image", "audio"], ["a", ""], ["b", "b"], ["c.d", ""], ["e", ""]])
    manifest = Manifest.read(tmp_path / "t.csv", cols={"id": "image"})
    assert manifest.items.paths["image"].tolist() == ["a", "b.png", "c.d.png", "e"]
    assert manifest.items.paths["audio"].tolist() == ["", "b.wav", "", ""]
    told = "\n".join(manifest.account())
    assert "1 paths without an ending fit several files: a may be a.jpg or a.png" in told


def test_two_columns_that_differ_by_case_are_not_guessed_between(tmp_path):
    write(tmp_path / "t.csv", [["image", "Label", "LABEL"], ["a.png", "x", "y"]])
    items = Manifest.read(tmp_path / "t.csv").items
    assert items.label.tolist() == [""]
    write(tmp_path / "t.csv", [["image", "Label", "label"], ["a.png", "x", "y"]])
    assert Manifest.read(tmp_path / "t.csv").items.label.tolist() == ["y"]


def test_labels_are_taken_from_a_header_in_capitals(here):
    write("labels.csv", [["ID", "LABEL"], ["s00", "other"]])
    assert call("store", "label", "s.h5", "labels.csv", "-q") == 0
    with FeatureStore.open("s.h5") as store:
        assert store.items.label.tolist()[:3] == ["other", "-b", "=c"]


def test_columns_in_another_order_are_matched_by_name(here, capsys):
    assert call("predict", "n.headstock", "n.h5", "-o", "a.csv", "-q") == 0
    assert call("predict", "n.headstock", "other.csv", "-o", "b.csv", "-q") == 0
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()


def test_exact_repeats_are_counted_and_named(here, capsys):
    rows = rows_of("test.csv")
    write("twice.csv", [*rows, rows[2], rows[4]])
    words = ["predict", "s.headstock", "twice.csv", *TEST[3:], "-o", "p.csv"]
    assert call(*words, "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["repeated"] == ["t1", "t3"]
    assert "6 rows (2 exact repeats left out: t1, t3)" in err


# --- what goes in comes out


def test_ids_and_classes_go_out_byte_for_byte_and_come_back_as_labels(here, capsys):
    ids = ["-a", "=b", "+1", "@c", " d", "007"]
    with FeatureStore.open("n.h5") as store:
        x = store.matrix("numbers")[0][:6]
    write("odd.csv", [["id", "x", "y", "z"], *([i, *map(float, r)] for i, r in zip(ids, x))])
    words = ("predict", "n.headstock", "odd.csv", "--store", "odd.h5", "-q")
    assert call(*words, "-o", "p.csv") == 0
    read = [i.strip() for i in ids]  # as every table is read
    assert [r[0] for r in rows_of("p.csv")[1:]] == read
    assert [r[1] for r in rows_of("p.csv")[1:]] == [CLASSES[i % 3] for i in range(6)]
    assert rows_of("p.csv")[0][3:] == [f"p_{c}" for c in CLASSES]
    assert call("store", "label", "odd.h5", "p.csv", "--label-col", "prediction", "-q") == 0
    with FeatureStore.open("odd.h5") as store:
        assert store.items.id.tolist() == read
        assert store.items.label.tolist() == [CLASSES[i % 3] for i in range(6)]
    assert call(*words, "--submission", "Id,CLASS", "-o", "s.csv") == 0
    assert Path("s.csv").read_text() == "Id,CLASS\n" + "".join(
        f"{i},{CLASSES[k % 3]}\n" for k, i in enumerate(read)
    )
    assert call(*words, "--spreadsheet", "-o", "q.csv") == 0
    assert [r[0] for r in rows_of("q.csv")[1:]] == ["'-a", "'=b", "+1", "'@c", "d", "007"]


# --- submissions


def test_a_sample_gives_ids_order_and_columns(here, capsys):
    order = [3, 0, 5, 1, 4, 2]
    write("sample.csv", [["file", "kind"], *([f"t{k}", CLASSES[0]] for k in order)])
    assert call(*TEST, "--submission", "sample.csv", "-o", "s.csv") == 0
    assert rows_of("s.csv") == [["file", "kind"], *([f"t{k}", RIGHT[k]] for k in order)]
    columns = ["-b", "=c", "+a"]
    write("sample.csv", [["file", *columns], *([f"t{k}", 0.3, 0.3, 0.4] for k in order)])
    assert call(*TEST, "--submission", "sample.csv", "-o", "p.csv") == 0
    rows = rows_of("p.csv")
    assert rows[0] == ["file", *columns]
    assert [r[0] for r in rows[1:]] == [f"t{k}" for k in order]
    for k, row in zip(order, rows[1:]):
        p = np.array(row[1:], dtype=float)
        assert p.sum() == pytest.approx(1, abs=1e-4)
        assert columns[p.argmax()] == RIGHT[k]
    write("sample.csv", [["file", "=c"], *([f"t{k}", 0.5] for k in order)])
    assert call(*TEST, "--submission", "sample.csv", "-o", "one.csv") == 0
    assert [r[1] for r in rows_of("one.csv")[1:]] == [r[2] for r in rows[1:]]


def test_ids_of_a_sample_may_be_file_names_of_paths(here, capsys):
    rows = [[f"test/t{k}.wav", f"test/t{k}.wav"] for k in range(6)]
    write("paths.csv", [["id", "audio"], *rows])
    words = ("predict", "s.headstock", "paths.csv", "-j", 0)
    for shorten, way in (("t{}.wav", "without their folder"), ("t{}", "without folder and ending")):
        write("sample.csv", [["id", "label"], *([shorten.format(k), "+a"] for k in range(5))])
        assert call(*words, "--submission", "sample.csv", "-o", "s.csv") == 0
        assert [r[1] for r in rows_of("s.csv")[1:]] == RIGHT[:5]
        err = capsys.readouterr().err
        assert f"ids of sample.csv are file names {way}" in err
        assert "1 rows are not in sample.csv and left out: test/t5.wav" in err
        assert "written: s.csv, 5 rows" in err


@pytest.mark.parametrize(
    ("header", "cells", "says"),
    [
        (
            ["id", "+a", "-b", "=d"],
            [0.1, 0.1, 0.1],
            "=d is no class of the model; no column for =c",
        ),
        (["id", "+a", "-b"], [0.1, 0.1], "no column for =c"),
        (["id", "label"], ["zebra"], "'zebra' in label is no class of the model"),
        (["id", "target"], [0.5], "target holds a probability, and of which class is not said"),
    ],
)
def test_columns_that_do_not_fit_the_model_are_refused_by_name(here, capsys, header, cells, says):
    write("sample.csv", [header, *([f"t{k}", *cells] for k in range(6))])
    assert call(*TEST, "--submission", "sample.csv", "-o", "s.csv") == 2
    err = capsys.readouterr().err
    assert f"headstock: sample.csv: {says}" in err
    assert err.count("\n") == 1  # nothing was computed before
    assert not Path("s.csv").exists()


def test_ids_that_were_not_predicted_are_refused_by_name(here, capsys):
    write("sample.csv", [["id", "label"], *([f"t{k}", "+a"] for k in (0, 1, 7, 8, 9, 10))])
    assert call(*TEST, "--submission", "sample.csv", "-o", "s.csv") == 2
    said = "sample.csv: 4 of 6 ids have no prediction: t7, t8, t9 and 1 more"
    assert said in capsys.readouterr().err
    assert not Path("s.csv").exists()
    assert call(*TEST, "--submission", "sample.csv", "-o", "sample.csv") == 2  # nor itself replaced
    write("twice.csv", [["id", "label"], ["t0", "+a"], ["t0", "+a"]])
    assert call(*TEST, "--submission", "twice.csv", "-o", "s.csv") == 1
    assert "the id 't0' comes twice" in capsys.readouterr().err


def test_the_sample_is_not_replaced(here, capsys):
    write("sample.csv", [["id", "label"], *([f"t{k}", "+a"] for k in range(6))])
    before = Path("sample.csv").read_bytes()
    assert call(*TEST, "--submission", "sample.csv", "-o", "sample.csv") == 2
    assert "sample.csv: is the sample itself" in capsys.readouterr().err
    assert Path("sample.csv").read_bytes() == before


def test_a_header_of_all_classes_asks_for_probabilities(here):
    assert call(*TEST, "--submission", "Id,=c,+a,-b", "-o", "p.csv", "-q") == 0
    rows = rows_of("p.csv")
    assert rows[0] == ["Id", "=c", "+a", "-b"]
    named = [rows[0][1 + int(np.argmax([float(v) for v in r[1:]]))] for r in rows[1:]]
    assert named == RIGHT


# --- rows that cannot be read


def with_broken(folder: Path) -> tuple[object, ...]:
    """A test table of which the second sound is broken and the fifth is not there."""
    rows = [[f"t{k}", str((folder / f"test/t{k}.wav").resolve())] for k in range(6)]
    Path("bad.wav").write_bytes(b"RIFF no sound")
    rows[1][1], rows[4][1] = str(Path("bad.wav").resolve()), str(Path("none.wav").resolve())
    write("broken.csv", [["id", "audio"], *rows])
    return "predict", "s.headstock", "broken.csv", "--allow-outside", "-j", 0


def test_a_row_that_cannot_be_read_is_named_or_filled_when_asked(here, capsys):
    words = with_broken(here)
    assert call(*words, "-o", "p.csv", "-q") == 3
    assert [r[0] for r in rows_of("p.csv")[1:]] == ["t0", "t2", "t3", "t5"]
    err = capsys.readouterr().err
    assert "not predicted: t1: no audio vector" in err
    assert "not predicted: t4: no audio vector (missing: " in err
    assert call(*words, "--fill", "=c", "-o", "q.csv", "-q") == 0
    rows = rows_of("q.csv")[1:]
    assert [r[0] for r in rows] == [f"t{k}" for k in range(6)]
    assert [r[1] for k, r in enumerate(rows) if k in (1, 4)] == ["=c", "=c"]
    assert rows[1][2:] == ["1", "0", "0", "1"]
    assert [rows[k] for k in (0, 2, 3, 5)] == rows_of("p.csv")[1:]
    assert "answered by =c: t1: no audio vector" in capsys.readouterr().err
    assert call(*words, "--fill", "mean", "--json") == 0
    told = json.loads(capsys.readouterr().out)["predictions"]
    good = np.array([list(told[k]["p"].values()) for k in (0, 2, 3, 5)])
    assert list(told[4]["p"].values()) == pytest.approx(good.mean(axis=0).tolist())
    assert call(*words, "--fill", "zebra", "-q") == 2
    assert "'zebra' is no class; mean, +a, -b, =c" in capsys.readouterr().err


def test_a_sample_with_rows_that_cannot_be_read_wants_a_fill(here, capsys):
    words = with_broken(here)
    write("sample.csv", [["id", "label"], *([f"t{k}", "+a"] for k in range(6))])
    assert call(*words, "--submission", "sample.csv", "-o", "s.csv", "-q") == 2
    err = capsys.readouterr().err
    assert "2 of 6 ids have no prediction: t1, t4" in err
    assert "--fill" in err
    assert call(*words, "--submission", "sample.csv", "--fill", "-b", "-o", "s.csv", "-q") == 0
    wanted = [RIGHT[k] if k not in (1, 4) else "-b" for k in range(6)]
    assert [r[1] for r in rows_of("s.csv")[1:]] == wanted


def test_when_no_file_is_there_the_table_is_named_and_no_temporary_store(here, capsys):
    Path("empty").mkdir()
    Path("empty/other.txt").write_text("x")
    write("gone.csv", [["id", "audio"], *([f"t{k}", f"empty/t{k}.wav"] for k in range(3))])
    assert call("predict", "s.headstock", "gone.csv", "-j", 0, "-q") != 0
    err = capsys.readouterr().err
    assert "gone.csv" in err or "empty" in err
    assert "/headstock-" not in err
    assert "features.h5" not in err
    assert err.count("\n") == 1
    Path("bad.wav").write_bytes(b"RIFF no sound")
    write("bad.csv", [["id", "audio"], ["a", "bad.wav"]])
    assert call("predict", "s.headstock", "bad.csv", "-j", 0, "-q") == 1
    err = capsys.readouterr().err
    assert "bad.csv: none of 1 rows has a vector in audio (first: a: no audio vector (" in err
    assert "features.h5" not in err


# --- single files


def test_single_sounds_are_predicted_by_their_names(here, capsys):
    assert call("predict", "s.headstock", "test/t1.wav", "-j", 0, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["predictions"]
    assert (row["id"], row["prediction"]) == ("test/t1.wav", RIGHT[1])
    files = [f"test/t{k}.wav" for k in (2, 0, 2, 1)]
    assert call("predict", "s.headstock", *files, "-j", 0, "-o", "p.csv", "-q") == 0
    assert [r[:2] for r in rows_of("p.csv")[1:]] == [
        [f"test/t{k}.wav", RIGHT[k]] for k in (2, 0, 1)
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("s.headstock", "test.csv", "test/t0.wav"), "test.csv: is one of several, and no picture"),
        (("n.headstock", "test/t0.wav"), "the model reads the columns x, y, z of a table"),
        (("s.headstock", "test/none.wav"), "test/none.wav"),
        (("s.headstock", "photo.png"), "photo.png: no audio column"),
    ],
)
def test_files_that_cannot_be_meant_are_one_line(here, capsys, words, says):
    Path("photo.png").write_bytes(b"x")
    assert call("predict", *words, "-j", 0, "-q") in (1, 2, 5)
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert "features.h5" not in err


def test_a_sound_is_no_table_to_extract_from(here, capsys):
    assert call("extract", "test/t0.wav", "-o", "x.h5", "-q") == 1
    err = capsys.readouterr().err
    assert "test/t0.wav: is a sound and no table; give a table or a folder" in err


def test_a_picture_and_a_sound_of_one_name_are_one_row(tmp_path):
    names = ["a.png", "b.wav", "b.png", "c.jpg", "c.png"]
    items = Manifest.of_files(names).items
    assert items.id.tolist() == ["a.png", "b.png", "c.jpg", "c.png"]
    assert [Path(p).name for p in items.paths["audio"]] == ["", "b.wav", "", ""]
    alone = Manifest.of_files(["x.wav", "y/z.png"]).items
    assert alone.id.tolist() == ["y/z.png"]
    assert Path(alone.paths["audio"][0]).name == "x.wav"


def test_a_model_that_is_cut_short_is_named(made, tmp_path, capsys):
    raw = (made / "s.headstock").read_bytes()
    for size in (0, 5, len(raw) // 2, len(raw) - 1):
        (tmp_path / "cut.headstock").write_bytes(raw[:size])
        assert call("predict", tmp_path / "cut.headstock", made / "s.h5") == 1
        err = capsys.readouterr().err
        assert "cut.headstock: is no headstock model" in err
        assert err.count("\n") == 1
    assert Bundle.load(made / "s.headstock").classes.tolist() == list(CLASSES)
