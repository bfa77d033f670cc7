"""Earlier runs listed, held against each other, and exported."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstock.heads import evaluate
from headstock.heads.report.contest import pair
from headstock.heads.report.formats import as_csv, as_latex, as_markdown, leaderboard_as
from headstock.heads.report.runs import Listing, Single, list_runs, look
from headstock.heads.report.standing import Standing, standing
from headstock.heads.run.folder import read_run
from headstock.heads.statistics.metrics import score
from headstock.store import Items
from headstock.store.errors import OptionError


@pytest.fixture
def runs(tmp_path: Path, rows, make_store) -> Path:
    """first and second on the same rows, with other heads and folds; third with a label changed and
    a row more in its test split; broken is no run any more."""
    folder = tmp_path / "runs"
    split = ["test" if i % 8 == 0 else "train" for i in range(len(rows))]
    with make_store(tmp_path / "s.h5", rows, split=split) as store:
        evaluate(store, ("lda",), fusions=("mean",), folds=3).save(folder / "first")
        evaluate(store, ("knn",), fusions=(), folds=4, seed=7).save(folder / "second")
        ids = store.items.id
        other = "ant" if store.items.label[1] != "ant" else "bee"
        store.register(Items.of([ids[1], ids[2]], label=[other, ""], split=["", "test"]))
        evaluate(store, ("lda",), on=("image",), fusions=(), folds=3).save(folder / "third")
    for number, name in enumerate(("first", "second", "third")):
        path = folder / name / "metrics.json"
        body = json.loads(path.read_text())
        body["settings"]["when"] = f"2026-11-22T10:0{number}:00+00:00"
        path.write_text(json.dumps(body))
    (folder / "broken").mkdir()
    (folder / "broken/metrics.json").write_text("{}")
    return folder


def test_a_folder_is_listed_and_same_rows_are_compared(runs: Path) -> None:
    found = look([runs])
    assert isinstance(found, Listing)
    assert [line.folder.name for line in found.lines] == ["first", "second", "third"]
    rows = [line.rows for line in found.lines]
    assert rows[0] == rows[1] != rows[2]
    (group,) = found.alike
    assert [run.name for run in group.runs] == ["first", "second"]
    text = found.text()
    lines = text.splitlines()
    assert lines[2].split()[:2] == ["first", "2026-11-22"]
    assert "140 A" in lines[2]
    assert "140 A" in lines[3]
    assert "139 B" in lines[4]
    assert "broken/metrics.json: is no run of this headstock" in text
    for width in (50, 80, 120):
        table = found.text(width).split("\n\n", maxsplit=1)[0]
        assert max(map(len, table.splitlines())) <= width
    body = json.loads(json.dumps(found.to_json()))
    assert len(body["runs"]) == 3
    assert len(body["comparisons"]) == 1


def test_the_paired_test_is_that_of_the_saved_probabilities(runs: Path) -> None:
    found = standing([runs / "first", runs / "second"])
    assert found.whole
    (line,) = found.to_json()["comparisons"]
    right = {}
    for name in ("first", "second"):
        with np.load(runs / name / "oof.npz") as z:
            best = max(
                (k for k in z.files if k.startswith("proba/")),
                key=lambda k: (z[k].argmax(axis=1) == z["codes"]).mean(),
            )
            right[name] = z[best].argmax(axis=1) == z["codes"]
    a, b = line["a"]["run"], line["b"]["run"]
    assert {a, b} == {"first", "second"}
    told = pair(right[a], right[b])
    assert (line["only_a_right"], line["only_b_right"]) == (told.only_a, told.only_b)
    assert line["mcnemar_p"] == pytest.approx(told.p)
    assert line["verdict"] == ("better" if told.p < 0.05 else "not distinguishable")


def test_runs_on_other_rows_are_compared_on_the_shared_ones(runs: Path) -> None:
    found = look([runs / "first", runs / "third"])
    assert isinstance(found, Standing)
    assert not found.whole
    with np.load(runs / "first/oof.npz") as a, np.load(runs / "third/oof.npz") as b:
        first = dict(zip(a["ids"], a["classes"][a["codes"]]))
        third = dict(zip(b["ids"], b["classes"][b["codes"]]))
        shared = [i for i in first if third.get(i) == first[i]]
        which = np.isin(a["ids"], shared)
        own = score(a["proba/lda@image"][which][None], a["codes"][which])["accuracy"]["value"]
    assert len(found.contest.ids) == len(shared) == 138
    text = found.text()
    assert "138 rows with the same labels are in each of 2 runs" in text
    assert "first 140, third 139" in text
    line = next(x for x in text.splitlines() if x.split()[:2] == ["first", "lda@image"])
    assert line.split()[2] == f"{own:.4f}"
    assert re.search(r"third differs: on: \['image'.* -> \['image'\]", text)


def test_what_differs_is_named(runs: Path) -> None:
    lines = look([runs / "first", runs / "second"]).differences()
    said = "\n".join(lines)
    assert "heads: ['lda'] -> ['knn']" in said
    assert "folds.folds: 3 -> 4" in said
    assert "seed: 0 -> 7" in said
    assert "when" not in said


def test_one_run_is_its_leaderboard(runs: Path) -> None:
    found = look([runs / "second"])
    assert isinstance(found, Single)
    assert "knn" in found.text()
    assert found.to_json()["leaderboard"][0]["head"] == "knn"


def test_errors(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="is no run folder and holds none; make one"):
        look([tmp_path / "nothing"])
    for name in ("first", "second"):
        path = runs / name / "oof.npz"
        with np.load(path) as held:
            arrays = dict(held)
        arrays["ids"] = np.array([f"{name}{i}" for i in range(len(arrays["ids"]))])
        np.savez(path, **arrays)
        metrics = json.loads((runs / name / "metrics.json").read_text())
        metrics["files"]["oof.npz"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (runs / name / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(OptionError, match="share no row"):
        standing([runs / "first", runs / "second"])
    assert len(list_runs([runs]).alike) == 0


def test_groups_are_resampled_where_the_store_is_there(tmp_path, rows, make_store) -> None:
    speaker = {"speaker": [f"s{i % 10}" for i in range(len(rows))]}
    with make_store(tmp_path / "s.h5", rows, group=speaker) as store:
        for head in ("lda", "knn"):
            evaluate(store, (head,), on=("image",), fusions=(), group="speaker").save(
                tmp_path / head
            )
    (line,) = standing([tmp_path / "lda", tmp_path / "knn"]).verdicts()[1:]
    assert "by group" in line


@pytest.fixture
def boards(runs: Path) -> dict:
    return {name: read_run(runs / name) for name in ("first", "second")}


def called(boards: dict, head: str) -> dict:
    """The boards, with another name of the first system's head."""
    first, *others = boards["first"].leaderboard
    lines = (replace(first, head=head), *others)
    return {**boards, "first": replace(boards["first"], leaderboard=lines)}


def test_csv_holds_every_digit(boards) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(boards))))
    lines = [(n, row) for n, run in boards.items() for row in run.leaderboard]
    assert len(rows) == len(lines)
    for cells, (name, row) in zip(rows, lines):
        assert (cells["run"], cells["system"]) == (name, row.name)
        assert float(cells["accuracy"]) == row.accuracy.value
        assert float(cells["accuracy_high"]) == row.accuracy.high
        assert float(cells["log_loss"]) == row.log_loss
        tested = repr(row.test.accuracy.value) if row.test else ""
        assert cells["test_accuracy"] == tested
        assert cells["reused"] == "no"
    boards = called(boards, "=cmd()")
    assert list(csv.reader(io.StringIO(as_csv(boards))))[1][2].startswith("=")
    assert list(csv.reader(io.StringIO(as_csv(boards, True))))[1][2].startswith("'=")


def test_markdown_is_one_table(boards) -> None:
    boards = called(boards, "a|b*c_d")
    text = as_markdown(boards)
    lines = text.splitlines()
    cells = [re.split(r"(?<!\\)\|", line) for line in lines]
    assert len({len(c) for c in cells}) == 1
    assert r"a\|b\*c\_d" in lines[2]
    assert lines[1].startswith("| :-- ")
    one = as_markdown({"first": boards["first"]})
    assert "run" not in one.splitlines()[0]


def test_latex_is_escaped_and_balanced(boards) -> None:
    boards = called(boards, r"50% & \x_{1} #^~")
    text = as_latex(boards)
    assert r"50\% \& \textbackslash{}x\_\{1\} \#\textasciicircum{}\textasciitilde{}" in text
    rows = [x for x in text.splitlines() if x.endswith(r"\\")]
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)[1]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(columns) - 1}
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")
    assert text.count(r"\textbf") == 2
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1


def test_another_format_is_refused(boards) -> None:
    with pytest.raises(OptionError, match="csv, markdown, latex"):
        leaderboard_as("html", boards)
