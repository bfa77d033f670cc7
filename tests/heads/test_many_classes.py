"""Heads on many classes: what a head costs with k of them is bounded, and what it does is said."""

from dataclasses import replace

import numpy as np
import pytest

from headstock.heads import Bundle, make_head
from headstock.heads.bundle.fitting import fit_rows
from headstock.heads.evaluate_classes import evaluate_rows
from headstock.heads.kinds import boosted, svm
from headstock.heads.rows.folds import make_folds
from headstock.heads.rows.labelled import Rows
from headstock.store import Recipe


@pytest.fixture(scope="module")
def many() -> Rows:
    """400 rows of 80 classes that a kernel machine can tell."""
    rng, k = np.random.default_rng(0), 80
    codes = np.arange(400) % k
    X = (rng.normal(size=(k, 24))[codes] + 0.35 * rng.normal(size=(400, 24))).astype(np.float32)
    ids = np.array([f"r{i}" for i in range(400)], dtype=object)
    return Rows(ids, {"image": X}, codes, np.array([f"c{c:02d}" for c in range(k)], dtype=object))


def test_a_kernel_machine_has_one_machine_a_class(many):
    assert len(many.classes) > svm.PAIRED
    result = evaluate_rows(many, ["rbf-svm"], ["image"], [], make_folds(many.codes, 5))
    line = result.leaderboard[0]
    assert line.accuracy.value > 0.95
    assert any("one against rest" in note for note in line.notes)
    assert "too many for a machine a pair" in line.how


def test_it_answers_as_pairs_do_where_both_can(two_sets, monkeypatch):
    rows = two_sets(240, strength=1.1)
    plan = make_folds(rows.codes, 4)
    paired = evaluate_rows(rows, ["rbf-svm"], ["image"], [], plan)
    monkeypatch.setattr(svm, "PAIRED", 3)
    monkeypatch.setattr("headstock.heads.outoffold.together.PAIRED", 3)
    rest = evaluate_rows(rows, ["rbf-svm"], ["image"], [], plan)
    a, b = (r.proba["rbf-svm@image"] for r in (paired, rest))
    assert (a.argmax(axis=1) == b.argmax(axis=1)).mean() > 0.95
    lines = [r.leaderboard[0] for r in (paired, rest)]
    assert abs(lines[0].log_loss - lines[1].log_loss) < 0.05


def test_a_saved_model_answers_the_same(many, tmp_path):
    bundle = fit_rows(many, make_folds(many.codes, 5), "rbf-svm", "image")
    bundle.recipes["image"] = Recipe("image", {"width": 24})
    bundle.save(tmp_path / "m.headstock")
    again = Bundle.load(tmp_path / "m.headstock")
    np.testing.assert_array_equal(again.predict_arrays(many.X), bundle.predict_arrays(many.X))


def test_its_graph_answers_the_same(many, tmp_path):
    pytest.importorskip("onnxruntime")
    from headstock.heads.onnx import export_model

    bundle = fit_rows(many, make_folds(many.codes, 5), "rbf-svm", "image")
    told = export_model(bundle, tmp_path / "m.onnx")  # it compares before it writes
    assert (tmp_path / "m.onnx").exists(), told


def test_rounds_are_fewer_and_that_is_said(many, monkeypatch):
    assert boosted.rounds_within(300, 9) == (300, "")
    monkeypatch.setattr(boosted, "MOST_TREES", 12 * 80)
    result = evaluate_rows(many, ["lightgbm"], ["image"], [], make_folds(many.codes, 5))
    assert any(note.startswith("12 rounds of the 100") for note in result.leaderboard[0].notes)


def test_a_forest_that_would_not_fit_is_a_line_before_it_grows(many, monkeypatch):
    monkeypatch.setattr("headstock.heads.kinds.trees.MOST_BYTES", 5e7)
    result = evaluate_rows(many, ["forest", "lda"], ["image"], [], make_folds(many.codes, 5))
    assert [line.head for line in result.leaderboard] == ["lda"]
    assert "200 of 320 rows and 80 classes could take 0.1 GB" in result.run.failed[0].reason
    fewer = {"forest": {"n_estimators": 20}}  # the way out that it names
    good = evaluate_rows(many, ["forest"], ["image"], [], make_folds(many.codes, 5), options=fewer)
    assert not good.run.failed
    assert make_head("forest", 0, fewer["forest"])


def test_a_stack_has_a_weight_a_member_and_goes_all_the_way(many, tmp_path):
    """It says so, answers as the weighted fusion does, and is saved and drawn like it."""
    pytest.importorskip("onnxruntime")
    from headstock.heads.onnx import export_model

    rng = np.random.default_rng(1)
    sound = (0.5 * many.X["image"] + rng.normal(size=many.X["image"].shape)).astype(np.float32)
    rows = replace(many, X={"image": many.X["image"], "audio": sound})
    plan = make_folds(rows.codes, 5)
    result = evaluate_rows(rows, ["lda"], ["image", "audio"], ["stacked", "weighted"], plan)
    stacked, weighted = (result.proba[f"lda@image+audio:{f}"] for f in ("stacked", "weighted"))
    np.testing.assert_array_equal(stacked, weighted)
    notes = {line.name: list(line.notes) for line in result.leaderboard}
    assert notes["lda@image+audio:stacked"] == ["80 classes: a weight a member, as weighted"]
    assert not notes["lda@image+audio:weighted"]
    bundle = fit_rows(rows, plan, "lda", "image+audio", fusion="stacked")
    bundle.recipes |= {name: Recipe(name, {"width": 24}) for name in rows.X}
    bundle.save(tmp_path / "m.headstock")
    again = Bundle.load(tmp_path / "m.headstock")
    np.testing.assert_array_equal(again.predict_arrays(rows.X), bundle.predict_arrays(rows.X))
    export_model(again, tmp_path / "m.onnx")  # it compares before it writes
