"""What a command may replace: what it would have written itself, and nothing else."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from headstock.cli import main
from headstock.heads import Bundle
from headstock.store import FeatureStore
from headstock.store.errors import OptionError


def call(*words: object) -> int:
    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A table of numbers, its store, a run, a model and predictions."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    with (folder / "t.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "label", "a", "b"])
        out.writerows([f"r{i}", "xy"[i % 2], *rng.normal(i % 2, 1, 2)] for i in range(40))
    table, store, model = folder / "t.csv", folder / "f.h5", folder / "m.headstock"
    words = ("--columns", "[ab]", "--as", "numbers", "-q")
    assert call("extract", table, "-o", store, *words) == 0
    assert call("fit", store, "--head", "lda", "-o", model, "-q") == 0
    assert call("evaluate", store, "--head", "lda", "-o", folder / "run", "-q") == 0
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch) -> Path:
    """A copy, so that a test that fails harms no other."""
    for name in ("t.csv", "f.h5", "m.headstock"):
        (tmp_path / name).write_bytes((made / name).read_bytes())
    (tmp_path / "run").mkdir()
    for path in (made / "run").iterdir():
        if path.is_file():
            (tmp_path / "run" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "photo.png").write_bytes(b"\x89PNG a photograph")
    monkeypatch.chdir(tmp_path)
    return tmp_path


EXTRACT = ("extract", "t.csv", "--columns", "[ab]", "--as", "numbers")
WRITERS = {
    "extract": (*EXTRACT, "-o"),
    "adapt": ("adapt", "t.csv", "--backbone", "cnn4", "--from-scratch", "-o"),
    "evaluate": ("evaluate", "f.h5", "--head", "lda", "-o"),
    "fit": ("fit", "f.h5", "--head", "lda", "-o"),
    "plan": ("fit", "f.h5", "--head", "lda", "-o", "new.headstock", "--save-plan"),
    "predict": ("predict", "m.headstock", "f.h5", "-o"),
    "submission": ("predict", "m.headstock", "f.h5", "--submission", "Id,CLASS", "-o"),
    "keep": ("predict", "m.headstock", "t.csv", "--store"),
    "report": ("report", "run", "-o"),
    "runs": ("runs", "run", "-o"),
    "runs csv": ("runs", "run", "--format", "csv", "-o"),
    "runs latex": ("runs", "run", "--format", "latex", "-o"),
    "export-model": ("export-model", "m.headstock", "-o"),
    "merge": ("store", "merge"),
    "link": ("store", "merge", "--link"),
    "export": ("store", "export", "f.h5"),
    "import": ("store", "import", "x.npz"),
}
TAKES = {"extract": "f.h5", "keep": "f.h5", "merge": "f.h5", "import": "f.h5", "fit": "m.headstock"}
"""The file of the four below that a command would have written."""


def words_of(name: str, output: str) -> list[str]:
    words = [*WRITERS[name], output]
    return [*words, "f.h5"] if name in ("merge", "link") else words


@pytest.mark.parametrize("name", WRITERS)
def test_an_output_that_is_something_else_is_refused_and_left(here, capsys, name) -> None:
    np.savez("x.npz", ids=["a", "b"], features=np.ones((2, 3)))
    for output in ("t.csv", "f.h5", "m.headstock", "photo.png"):
        if TAKES.get(name) == output:
            continue
        if name == "export":
            Path("other.csv").write_bytes(Path(output).read_bytes())
            output = "other.csv"
        before = Path(output).read_bytes()
        code = call(*words_of(name, output), "-q")
        err = capsys.readouterr().err
        assert code == 2, err
        assert err.count("\n") == 1
        assert f"{output}: exists and is no " in err or "is no name for a list of parts" in err
        assert Path(output).read_bytes() == before


@pytest.mark.parametrize("name", sorted(set(WRITERS) - {"adapt", "export-model", "link", "merge"}))
def test_folders_are_made_and_a_second_run_replaces_its_own(here, capsys, name) -> None:
    np.savez("x.npz", ids=["a", "b"], features=np.ones((2, 3)))
    ending = {"export": ".csv", "runs csv": ".csv"}.get(name, "")
    output = f"no/such/folder/out{ending}"
    for _ in range(2):
        assert call(*words_of(name, output), "-q") == 0, capsys.readouterr().err
        assert Path(output).exists()


def test_all_exports_make_their_folder_and_replace_their_own(here) -> None:
    for form in ("npz", "csv", "h5", "parquet"):
        if form == "parquet":
            pytest.importorskip("pyarrow", reason="pyarrow is an extra")
        for _ in range(2):
            assert call("store", "export", "f.h5", f"new/{form}/x.{form}", "-q") == 0


def test_a_description_of_somebody_else_is_left(here, capsys) -> None:
    Path("x.csv-metadata.json").write_text('{"url": "x.csv"}')
    assert call("store", "export", "f.h5", "x.csv", "-q") == 2
    assert "x.csv-metadata.json: exists and is no description" in capsys.readouterr().err
    Path("x.npz-metadata.json").write_text("{}")
    assert call("store", "export", "f.h5", "x.npz", "-q") == 0
    assert Path("x.npz-metadata.json").read_text() == "{}"


def test_a_model_and_a_table_are_safe_from_python_too(here) -> None:
    bundle = Bundle.load("m.headstock")
    before = Path("f.h5").read_bytes()
    with pytest.raises(OptionError, match=r"f\.h5: exists and is no model that fit wrote"):
        bundle.save("f.h5")
    with FeatureStore.open("f.h5") as store:
        predictions = bundle.predict(store)
    with pytest.raises(OptionError, match="exists and is no table of predictions"):
        predictions.to_csv("t.csv")
    assert Path("f.h5").read_bytes() == before
    bundle.save("a/b/m.headstock")
    bundle.save("a/b/m.headstock")
    predictions.to_csv("c/p.csv")
    predictions.to_csv("c/p.csv")


def test_a_folder_of_other_things_is_no_run(here, capsys) -> None:
    Path("photos").mkdir()
    Path("photos/a.png").write_bytes(b"a")
    assert call("evaluate", "f.h5", "--head", "lda", "-o", "photos", "-q") == 2
    assert "photos: exists and is no run folder" in capsys.readouterr().err
    assert [p.name for p in Path("photos").iterdir()] == ["a.png"]
    Path("empty").mkdir()
    assert call("evaluate", "f.h5", "--head", "lda", "-o", "empty", "-q") == 0


def test_the_demo_does_not_take_a_folder_with_another_table(here, capsys) -> None:
    Path("mine").mkdir()
    Path("mine/index.csv").write_text("id,label\n1,x\n")
    assert call("demo", "-o", "mine") == 2
    assert "mine/index.csv: exists and is not the demo's" in capsys.readouterr().err
    assert Path("mine/index.csv").read_text() == "id,label\n1,x\n"
