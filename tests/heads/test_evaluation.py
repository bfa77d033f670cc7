from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headstock.heads import FoldPlan, evaluate, make_folds
from headstock.heads.evaluate_classes import evaluate_rows
from headstock.heads.evaluation import answers
from headstock.heads.outoffold.fold_by_fold import cross_fit
from headstock.heads.rows.labelled import Rows
from headstock.store.errors import HeadError, IncompleteSet, MissingSet, OptionError

HEADS = ("logistic", "knn")


def test_the_whole_job_from_a_store(store, tmp_path: Path) -> None:
    seen = []
    result = evaluate(
        store,
        HEADS,
        fusions=("mean", "weighted", "product", "stacked"),
        progress=lambda done, total, name: seen.append((done, total, name)),
    )
    names = {row.name for row in result.leaderboard}
    assert names == {
        *(f"{h}@{o}" for h in HEADS for o in ("image", "audio", "image+audio")),
        *(f"{h}@image+audio:{f}" for h in HEADS for f in ("mean", "weighted", "product")),
        "all@image+audio:stacked",
    }
    nested = 4 * 10  # four heads without each pair of folds
    assert seen[-1][0] == seen[-1][1] == 6 * 5 + 7 + nested
    assert [s[0] for s in seen] == sorted(s[0] for s in seen)
    row = next(r for r in result.leaderboard if r.name == "logistic@image+audio")
    assert (row.head, row.on, row.fusion, row.n) == (
        "logistic",
        "image+audio",
        "early",
        160,
    )
    assert row.accuracy.low < row.accuracy.value < row.accuracy.high
    body = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert set(body) == {
        *("leaderboard", "folds", "settings", "recipes", "hygiene", "comparisons", "selection"),
        *("baseline", "fold_table", "checks", "format", "version"),
    }
    assert body["recipes"]["image"]["fields"] == {"width": 20}
    best = {r.name: r.accuracy.value for r in result.leaderboard}
    alone = max(best["logistic@image"], best["logistic@audio"])
    assert best["logistic@image+audio"] > alone
    assert best["logistic@image+audio:product"] > alone

    result.save(tmp_path / "run")
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["leaderboard"] == body["leaderboard"]
    with np.load(tmp_path / "run/oof.npz", allow_pickle=False) as z:
        assert list(z["ids"]) == list(store.items.id)
        proba = z["proba/logistic@image+audio"]
        assert (proba.argmax(axis=1) != z["codes"]).sum() == row.errors
    table = list(csv.reader((tmp_path / "run/confusion/logistic@image+audio.csv").open()))
    assert sum(int(c) for line in table[1:] for c in line[1:]) == 160
    plan = FoldPlan.load(tmp_path / "run/folds.json")
    again = evaluate(store, HEADS, fusions=("mean", "weighted", "product", "stacked"), folds=plan)
    for name, proba in result.proba.items():
        np.testing.assert_array_equal(again.proba[name], proba)


def test_the_default_heads_do_without_torch(store) -> None:
    code = (
        "import sys\nfrom headstock.heads import evaluate\n"
        "from headstock.store import FeatureStore\n"
        "with FeatureStore.open(sys.argv[1]) as store:\n"
        "    evaluate(store, folds=2, options={'lightgbm': {'n_estimators': 2}}).text()\n"
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(store.path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_text_has_the_figures(store) -> None:
    text = evaluate(store, ("knn",), on=("image",), fusions=()).text(118)
    assert "160 rows, 4 classes, 5 folds stratified" in text
    assert "95 %" in text
    assert "/160" in text
    assert max(map(len, text.splitlines())) < 120


def test_a_row_never_meets_its_own_label(rows: Rows) -> None:
    """Labels that are pure noise for the fold's rows cannot be foretold: swapping the labels of
    held-out rows changes none of their probabilities."""
    plan = make_folds(rows.codes, 4)
    X, spans = rows.matrix("image+audio")
    for name in ("logistic", "lda", "rbf-svm"):
        before = cross_fit(name, X, spans, rows.codes, 4, plan).proba[0]
        train, test = plan.split()[1]
        changed = rows.codes.copy()
        changed[test] = (changed[test] + 1) % 4
        after = cross_fit(name, X, spans, changed, 4, plan).proba[0]
        np.testing.assert_array_equal(before[test], after[test])
        assert (before[train] != after[train]).any()


def test_the_test_split_is_scored_apart(tmp_path: Path, rows: Rows, make_store) -> None:
    split = ["test" if i % 4 == 0 else "train" for i in range(len(rows))]
    with make_store(tmp_path / "s.h5", rows, split=split) as store:
        result = evaluate(store, HEADS, test_scores="all")
    assert len(result.ids) == 120
    assert all(row.test.n == 40 and row.n == 120 for row in result.leaderboard)
    assert "test split, 40 rows" in result.text()
    assert result.test_proba["all@image+audio:stacked"].shape == (40, 4)


def test_groups_stay_whole_and_speak_up(tmp_path: Path, make_store, two_sets) -> None:
    rows = two_sets(160)
    speaker = [f"s{i % 8}" for i in range(160)]
    with make_store(tmp_path / "s.h5", rows, group={"speaker": speaker}) as store:
        result = evaluate(store, ("knn",), on=("image",), group="speaker", folds=4)
        assert result.folds.group == "speaker"
        for s in set(speaker):
            assert len(np.unique(result.folds.codes[0][np.array(speaker) == s])) == 1
        out = evaluate(store, ("knn",), on=("image",), group="speaker", folds="group-out")
        assert out.folds.folds == 8
        given = evaluate(store, ("knn",), on=("image",), folds="given:speaker")
        np.testing.assert_array_equal(given.folds.codes, out.folds.codes)
        with pytest.raises(OptionError, match=r"no column take.*speaker"):
            evaluate(store, ("knn",), group="take")


def test_rows_without_label_or_vector(tmp_path: Path, rows: Rows, make_store) -> None:
    labels = [str(c) for c in rows.classes[rows.codes]]
    labels[3] = labels[7] = ""
    with make_store(tmp_path / "s.h5", rows, label=labels) as store:
        result = evaluate(store, ("knn",), on=("image",), fusions=())
        assert len(result.ids) == 158
        assert result.run.settings.rows.unlabelled == 2
        assert "2 rows without a label" in result.text()
        store.register(type(store.items).of(["late", "lone"], label=["ant", "yak"]))
        with pytest.raises(IncompleteSet, match=r"2 of 160 labelled rows .*late.*--missing excl"):
            evaluate(store, ("knn",), on=("image",), fusions=())
        kept = evaluate(store, ("knn",), on=("image",), fusions=(), missing="exclude")
        assert len(kept.ids) == 158
        assert "2 labelled rows lack a vector" in kept.text()
        assert "left out: 1 class without a single vector: yak (1)" in kept.text()
        with pytest.raises(MissingSet, match="smell"):
            evaluate(store, ("knn",), on=("smell",))


def test_wrong_requests_cost_no_fit(store) -> None:
    with pytest.raises(OptionError, match="early, mean"):
        evaluate(store, ("knn",), fusions=("median",))
    with pytest.raises(OptionError, match="not among the heads"):
        evaluate(store, ("knn",), options={"tree": {"max_depth": 3}})
    with pytest.raises(OptionError, match="it has n_neighbors"):
        evaluate(store, ("knn",), options={"knn": {"k": 3}})


def test_a_class_absent_from_a_folds_training_rows(rows: Rows) -> None:
    """With a group that is a class, leaving it out leaves no row of that class to learn from."""
    plan = make_folds(rows.codes, "given", given=rows.codes.astype(str))
    X, spans = rows.matrix("image")
    for name in ("logistic", "ridge", "lda", "linear-svm", "rbf-svm", "knn", "lightgbm", "tree"):
        proba = cross_fit(name, X, spans, rows.codes, 4, plan).proba[0]
        assert (proba[np.arange(160), rows.codes] == 0).all()
        np.testing.assert_allclose(proba.sum(axis=1), 1)


def test_a_head_that_gives_no_probabilities_is_named(tmp_path: Path, store) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "class Wrong:\n"
        "    def fit(self, X, y):\n        self.classes_ = np.unique(y)\n"
        "    def predict_proba(self, X):\n        return np.ones((len(X), 4))\n"
        "class Broken(Wrong):\n"
        "    def fit(self, X, y):\n        raise KeyError('lost')\n"
        "def wrong(seed):\n    return Wrong()\n"
        "def broken(seed):\n    return Broken()\n"
    )
    with pytest.raises(HeadError, match="no probabilities"):
        evaluate(store, (f"{file}:wrong",), on=("image",), fusions=())
    with pytest.raises(HeadError, match=r"broken: KeyError: .lost"):
        evaluate(store, (f"{file}:broken",), on=("image",), fusions=())


def test_repeats_give_a_spread_and_the_same_n(store) -> None:
    result = evaluate(store, ("knn",), on=("audio",), fusions=(), repeats=3)
    row = result.leaderboard[0]
    assert row.n == 160
    assert len(row.repeats.accuracy) == 3
    assert row.accuracy.value == pytest.approx(np.mean(row.repeats.accuracy))


def test_learned_fusion_is_one_network_with_a_branch_a_set(store) -> None:
    options = {"learned": {"max_iter": 10, "hidden_layer_sizes": 16, "learning_rate_init": 0.01}}
    result = evaluate(store, ("knn",), fusions=("learned",), options=options, folds=3)
    row = next(r for r in result.leaderboard if r.fusion == "learned")
    assert row.accuracy.value > 0.6


def test_the_memory_that_heads_may_share_reaches_them(rows: Rows, monkeypatch) -> None:
    """Whatever fits: the members of a nested fusion as well."""
    seen = []
    real = answers.Shared

    def watched(*given, **named):
        shared = real(*given, **named)
        seen.append(shared.memory)
        return shared

    monkeypatch.setattr(answers, "Shared", watched)
    plan = make_folds(rows.codes, 3, ids=rows.ids)
    told = {"nested": True, "memory": 123e6}
    evaluate_rows(rows, ["knn"], ["image", "audio"], ["weighted"], plan, **told)
    assert len(seen) == 2  # the folds, and all pairs of them
    assert set(seen) == {123e6}


def test_an_empty_cell_of_a_given_column_is_no_fold(tmp_path, two_sets, make_store):
    """Were it one, it would be scored as a fold, and lie in no other."""
    rows = two_sets(60)
    take = ["ab"[i % 2] if i % 5 else " " for i in range(60)]
    with make_store(tmp_path / "f.h5", rows, group={"take": take}) as store:
        result = evaluate(store, ("knn",), on=("image",), folds="given:take", dedupe="keep")
        assert (result.folds.folds, result.folds.n) == (2, 48)
        assert not {f"r{i:04d}" for i in range(0, 60, 5)} & set(result.ids)
        assert "left out: 12 rows whose cell in column take is empty" in result.text()
        with pytest.raises(HeadError, match="no labelled row has a value in column group"):
            evaluate(store, ("knn",), on=("image",), folds="given:group")
