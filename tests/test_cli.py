"""The command line, end to end on a small part of the demo's data, and its one-line errors."""

import csv
import json
import shlex
import subprocess
import sys

import numpy as np
import pytest

from headstock.cli import main
from headstock.extract.demo import write_demo


def exit_code(words):
    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        return stop.code or 0
    return 0


@pytest.fixture
def run(capsys):
    """Call the command line in this process: (exit code, stdout, stderr)."""

    def call(*words):
        code = exit_code(words)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """100 rows to learn from and 20 to predict, in the notebook's layout and in ours."""
    folder = tmp_path_factory.mktemp("data")
    rows = list(csv.DictReader(write_demo(folder).open()))[:120]
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(10, 4)) * 3
    with (folder / "small.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "image", "audio", "label", "hand"])
        out.writerows(
            [r["id"], r["image"], r["audio"], r["label"] if i < 100 else "", f"h{i % 6}"]
            for i, r in enumerate(rows)
        )
    for name, part in (("train", rows[:100]), ("test", rows[100:])):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            out = csv.writer(file)
            head = ["IMAGE", *(f"mfcc_{i}" for i in range(1, 5))]
            out.writerow([*head, "CLASS"] if name == "train" else head)
            for r in part:
                values = centre[int(r["label"])] + rng.normal(size=4)
                line = [r["image"].split("/")[1], *(f"{v:.4f}" for v in values)]
                out.writerow([*line, r["label"]] if name == "train" else line)
    return folder


@pytest.fixture(scope="module")
def store(data):
    """Images and sounds of small.csv, extracted once."""
    path = data / "features.h5"
    words = ("extract", data / "small.csv", "-o", path, "-q", "-j", "1")
    assert exit_code((*words, "--image", "headstock:resnext_nano", "--audio", "mfcc")) == 0
    return path


def test_extract_again_does_nothing_new(run, data, store):
    before = store.read_bytes()
    code, out, _ = run(
        *("extract", data / "small.csv", "-o", store, "-q", "-j", "1", "--json"),
        *("--image", "headstock:resnext_nano", "--audio", "mfcc"),
    )
    assert code == 0
    sets = json.loads(out)["sets"]
    assert {name: (s["done"], s["reused"]) for name, s in sets.items()} == {
        "image": (0, 120),
        "audio": (0, 120),
    }
    assert store.read_bytes() == before


def test_another_backbone_is_refused_by_the_differing_fields(run, data, store):
    code, _, err = run(
        *("extract", data / "small.csv", "-o", store, "-q"),
        *("--image", "headstock:resnext_nano", "--crop-pct", "0.5"),
    )
    assert code == 1
    assert "preprocess.resize" in err
    assert err.count("\n") == 1


def test_evaluate_writes_a_run_that_report_reads(run, store, tmp_path):
    folder = tmp_path / "run"
    code, out, _ = run(
        *("evaluate", store, "--head", "lda", "--head", "knn", "--fusion", "mean"),
        *("--folds", 3, "--group", "hand", "-o", folder, "-q"),
    )
    assert code == 0
    assert "image+audio" in out
    metrics = json.loads((folder / "metrics.json").read_text())
    keys = {"head", "on", "fusion", "n", "errors", "accuracy", "balanced_accuracy", "log_loss"}
    for row in metrics["leaderboard"]:
        assert keys <= row.keys()
        assert row["n"] == 100
        assert row["accuracy"]["low"] <= row["accuracy"]["value"] <= row["accuracy"]["high"]
    code, again, _ = run("report", folder)
    assert code == 0
    assert metrics["leaderboard"][0]["head"] in again


def test_fit_then_predict_raw_files_and_store_agree(run, data, store, tmp_path):
    model, first, second = (tmp_path / n for n in ("m.headstock", "a.csv", "b.csv"))
    assert run("fit", store, "--on", "image+audio", "-o", model, "-q")[0] == 0
    assert run("predict", model, store, "-o", first, "-q")[0] == 0
    assert run("predict", model, data / "small.csv", "-o", second, "-q", "-j", "1")[0] == 0
    rows = list(csv.reader(first.open()))
    assert rows[0][:3] == ["id", "prediction", "confidence"]
    assert rows[0][3:] == [f"p_{digit}" for digit in range(10)]
    assert len(rows) == 121
    assert first.read_text() == second.read_text()


def test_a_picture_and_a_sound_are_predicted_without_a_table(run, data, store, tmp_path):
    model = tmp_path / "m.headstock"
    assert run("fit", store, "--on", "image+audio", "-o", model, "-q")[0] == 0
    code, out, _ = run("predict", model, store, "--json")
    assert code == 0
    wanted = json.loads(out)["predictions"][7]["p"]
    row = list(csv.DictReader((data / "small.csv").open()))[7]
    files = [data / row["image"], data / row["audio"]]
    code, out, _ = run("predict", model, *files, "--json", "-j", "0")
    assert code == 0
    (said,) = json.loads(out)["predictions"]
    assert said["id"] == str(files[0])
    assert list(said["p"].values()) == pytest.approx(list(wanted.values()), abs=1e-5)
    code, _, err = run("predict", model, files[0], "-q", "-j", "0")
    assert code == 1
    assert f"{files[0]}: no audio column" in err


def test_a_model_uses_the_plan_of_a_run_and_says_so(run, store, tmp_path):
    folder, model, plan = (tmp_path / n for n in ("run", "m.headstock", "plan.json"))
    words = ("--head", "lda", "--head", "ridge", "--fusion", "weighted", "-q")
    assert run("evaluate", store, *words, "--folds", 4, "--seed", 5, "-o", folder)[0] == 0
    told = json.loads((folder / "metrics.json").read_text())["folds"]
    plans = ("--folds", folder / "folds.json", "--save-plan", plan)
    code, out, _ = run("fit", store, *words, *plans, "-o", model, "--json")
    assert code == 0
    assert json.loads(out)["settings"]["folds"] == told
    assert json.loads(plan.read_text()) == json.loads((folder / "folds.json").read_text())
    hands = ("--folds", "group-out", "--group", "hand")
    code, out, _ = run("fit", store, "--head", "ridge", *hands, "-o", model, "--json")
    assert code == 0
    found = json.loads(out)["settings"]["folds"]
    assert (found["kind"], found["group"], found["folds"]) == ("group-out", "hand", 6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--folds", "nosuch.json"), "'nosuch.json' is no plan; a number from 2, group-out"),
        (("--folds", "group-out"), "group-out needs a column"),
        (("--folds", "PLAN"), "has 2 repeats, and a model holds out by one; give the folds.json"),
        (("--folds", "PLAN", "--stream"), "a saved plan is no plan for rows by blocks"),
        (("--save-plan", "/dev/null/p.json"), "/dev/null"),
        (("--set", "C=0.1..10"), "C=0.1..10 is a range; say how many points to draw"),
        (("--tune", "lda:many"), "tune lda:many: it has no usual values to choose from"),
        (("--tune", "knn:5"), "knn is not among the heads"),
    ],
)
def test_a_plan_or_search_that_cannot_be_is_one_line(run, store, tmp_path, words, said):
    if "PLAN" in words:
        folder = tmp_path / "run"
        twice = ("evaluate", store, "--head", "lda", "--on", "audio", "--repeats", 2)
        assert run(*twice, "-o", folder, "-q")[0] == 0
        words = [folder / "folds.json" if w == "PLAN" else w for w in words]
    model = tmp_path / "m.headstock"
    code, _, err = run(
        "fit", store, "--head", "logistic", "--on", "audio", *words, "-o", model, "-q"
    )
    assert code in (1, 2, 5)
    assert said in err
    assert err.count("\n") == 1
    assert not model.exists()


def test_a_random_search_by_flags_and_by_a_file_is_the_same(run, store, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    words = ("--head", "knn", "--tune", "knn:4", "--set", "n_neighbors=2..20", "--on", "audio")
    assert run("evaluate", store, *words, "-o", one, "-q")[0] == 0
    (tmp_path / "r.toml").write_text(
        'head = ["knn"]\ntune = ["knn:4"]\nset = ["n_neighbors=2..20"]\non = ["audio"]\n'
    )
    config = ("--config", tmp_path / "r.toml", "--no-reuse")
    assert run("evaluate", store, *config, "-o", two, "-q")[0] == 0
    first, second = (
        json.loads((f / "metrics.json").read_text())["leaderboard"] for f in (one, two)
    )
    assert len(first[0]["tried"]["points"]) == 4
    assert {p["n_neighbors"] for p in first[0]["tried"]["points"]} <= set(range(2, 21))
    assert second[0]["tried"] == first[0]["tried"]
    assert second[0]["log_loss"] == first[0]["log_loss"]


def test_the_hint_after_a_run_fits_by_its_plan(run, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("--head", "knn", "--tune", "knn:3", "--on", "audio", "--folds", 3, "--seed", 2)
    code, _, err = run("evaluate", store, *words, "-o", "runs/a")
    assert code == 0
    (said,) = [line for line in err.splitlines() if line.startswith("next: headstock fit")]
    code, out, _ = run(*shlex.split(said)[2:], "--json")
    assert code == 0
    told = json.loads((tmp_path / "runs/a/metrics.json").read_text())
    made = json.loads(out)["settings"]
    assert made["folds"] == told["folds"]
    assert made["tried"][0]["points"] == told["leaderboard"][0]["tried"]["points"]


def test_the_notebooks_layout_by_flags_alone(run, data, tmp_path):
    store, model, out = (tmp_path / n for n in ("f.h5", "m.headstock", "submission.csv"))
    names = ("--image-col", "IMAGE", "--image-root", data / "images", "-q", "-j", "1")
    code, *_ = run(
        *("extract", data / "train.csv", "-o", store, "--label-col", "CLASS", *names),
        *("--image", "headstock:resnext_nano", "--columns", "mfcc_*", "--as", "audio"),
    )
    assert code == 0
    assert run("fit", store, "--on", "image+audio", "-o", model, "-q")[0] == 0
    code, *_ = run(
        "predict", model, data / "test.csv", "--submission", "Id,CLASS", "-o", out, *names
    )
    assert code == 0
    rows = list(csv.reader(out.open()))
    assert rows[0] == ["Id", "CLASS"]
    assert [r[0] for r in rows[1:]] == [f"{i:04d}.png" for i in range(100, 120)]
    truth = list(csv.DictReader((data / "index.csv").open()))[100:120]
    assert sum(r[1] == t["label"] for r, t in zip(rows[1:], truth)) > 12


def test_predict_names_the_missing_modality(run, data, store, tmp_path):
    model = tmp_path / "m.headstock"
    assert run("fit", store, "--on", "image+audio", "-o", model, "-q")[0] == 0
    code, _, err = run("predict", model, data / "images", "-q")
    assert code == 1
    assert "no audio column" in err


def test_evaluate_and_predict_from_a_store_do_without_torch(store, tmp_path):
    code = (
        "import sys\nfrom headstock.cli import main\n"
        "for words in ({!r}, {!r}, {!r}):\n"
        "    try: main(words)\n"
        "    except SystemExit as stop: assert not stop.code, stop.code\n"
        "assert 'torch' not in sys.modules"
    ).format(
        ["evaluate", str(store), "--head", "lda", "--folds", "3"],
        ["fit", str(store), "--head", "lda", "-o", str(tmp_path / "m")],
        ["predict", str(tmp_path / "m"), str(store), "-o", str(tmp_path / "p.csv")],
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["evaluat"], 2, "did you mean 'evaluate'"),
        (["extract", "none.csv", "-o", "f.h5"], 5, "none.csv"),
        (["evaluate", "none.h5"], 2, "none.h5"),
        (["extract", "m.csv", "-o", "f.h5", "--model-arg", "x"], 2, "key=value"),
        (["extract", "m.csv", "-o", "f.h5", "--columns", "a*"], 2, "--as"),
        (["extract", "m.csv", "-o", "f.h5", "--mean", "a,b"], 2, "numbers"),
        (["evaluate", "m.csv"], 4, "m.csv"),
    ],
)
def test_errors_are_one_line_with_a_fixed_code(run, tmp_path, monkeypatch, words, code, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.csv").write_text("id,image\n1,a.png\n")
    got, _, err = run(*words)
    assert got == code, err
    assert says in err
    assert len(err.splitlines()) == 1 or "Usage:" in err


def test_config_supplies_defaults_and_refuses_unknown_keys(run, store, tmp_path):
    config = tmp_path / "run.toml"
    config.write_text('haed = ["lda"]\non = ["image"]\nfolds = 3\n')
    code, _, err = run("evaluate", store, "--config", config)
    assert code == 2
    assert "did you mean 'head'" in err
    config.write_text('head = ["lda"]\non = ["image"]\nfolds = 3\n')
    code, out, _ = run("evaluate", store, "--config", config, "--json")
    assert code == 0
    assert {row["head"] for row in json.loads(out)["leaderboard"]} == {"lda"}
