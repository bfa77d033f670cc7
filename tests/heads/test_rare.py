"""Classes too rare for the folds never end a run: a rule says what becomes of them, and is said."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from headstock.heads import evaluate, fit
from headstock.heads.rows import adapted, prepare
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.hygiene import find_duplicates
from headstock.store.errors import HeadError, OptionError

HEADS = ["lda", "knn", "rbf-svm"]


@pytest.fixture
def uneven(two_sets):
    """90 rows of three classes, then three of ``eel`` and one of ``fox``."""
    rows = two_sets(94, k=3)
    codes = rows.codes.copy()
    codes[90:] = [3, 3, 3, 4]
    return replace(rows, codes=codes, classes=np.array(["ant", "bee", "cat", "eel", "fox"]))


def test_by_default_they_are_left_out_and_named(uneven, make_store, tmp_path, run_headstock):
    with make_store(tmp_path / "f.h5", uneven) as store:
        result = evaluate(store, HEADS, ["image"], [], 5)
    assert list(result.classes) == ["ant", "bee", "cat"]
    assert len(result.ids) == 90
    assert result.run.settings.rows.rare.classes == {"eel": 3, "fox": 1}
    code, out, _ = run_headstock("evaluate", tmp_path / "f.h5", "--head", "lda", "-q")
    assert code == 0
    assert "left out: 2 classes too rare for the folds, 4 rows: eel (3), fox (1)" in out


def test_keep_scores_what_can_be_learned(uneven, make_store, tmp_path):
    with make_store(tmp_path / "f.h5", uneven) as store:
        result = evaluate(store, HEADS, ["image"], [], 5, rare="keep")
        assert list(result.classes) == ["ant", "bee", "cat", "eel"]
        assert len(result.ids) == 93
        assert not result.run.failed
        assert result.run.settings.rows.rare.classes == {"fox": 1}
        folds = result.folds.codes[0][result.codes == 3]
        assert len(set(folds)) == 3
        model = fit(store, "lda", "image", rare="keep")
    assert list(model.classes) == ["ant", "bee", "cat", "eel"]


def test_refuse_refuses_and_its_advice_can_be_taken(uneven, make_store, tmp_path, run_headstock):
    with make_store(tmp_path / "f.h5", uneven) as store:
        with pytest.raises(HeadError, match=r"--rare drop"):
            evaluate(store, HEADS, ["image"], [], 5, rare="refuse")
        with pytest.raises(OptionError, match="no setting"):
            evaluate(store, HEADS, ["image"], [], 5, rare="often")
    words = ["evaluate", tmp_path / "f.h5", "--head", "lda", "-q"]
    assert run_headstock(*words, "--rare", "refuse")[0] == 1
    assert run_headstock(*words, "--rare", "drop")[0] == 0


def test_test_rows_of_a_class_that_is_gone_are_counted(uneven, make_store, tmp_path):
    split = ["test" if i % 9 == 0 or i == 93 else "train" for i in range(94)]
    with make_store(tmp_path / "f.h5", uneven, split=split) as store:
        result = evaluate(store, ["lda"], ["image"], [], 5)
    rare = result.run.settings.rows.rare
    assert rare.test == 2  # one eel, whose class is too rare, and the fox, which none can know
    assert set(rare.classes) == {"eel", "fox"}
    assert len(result.test_ids) == 10


def test_groups_count_and_not_rows(two_sets, make_store, tmp_path):
    """A class of one group cannot be learned from while it is scored."""
    rows = two_sets(120, k=4)
    hand = [f"h{i % 30}" if rows.codes[i] != 3 else "h-dog" for i in range(120)]
    with make_store(tmp_path / "f.h5", rows, group={"hand": hand}) as store:
        for rule in ("drop", "keep"):
            result = evaluate(store, ["lda"], ["image"], [], 5, group="hand", rare=rule)
            assert list(result.classes) == ["ant", "bee", "cat"]
            assert result.run.settings.rows.rare.classes == {"dog": 30}
            assert "dog (30 rows in 1 groups or copies)" in result.text()


def test_where_one_class_would_be_left_drop_does_as_keep(two_sets, make_store, tmp_path):
    """Of three classes two have three groups, a fourth has one: five folds would leave one class,
    and nothing to tell apart."""
    rows = two_sets(61, k=3)
    rows = replace(rows, codes=np.append(rows.codes[:60], 3), classes=np.array([*"abcd"]))
    hand = [f"{rows.codes[i]} {i % 9 if rows.codes[i] == 0 else i % 3}" for i in range(61)]
    with make_store(tmp_path / "f.h5", rows, group={"hand": hand}) as store:
        run = evaluate(store, ["lda"], ["image"], [], 5, group="hand").run
        assert run.settings.rows.rare.classes == {"d": 1}
        assert "HS19" in {one.code for one in run.checks}
        assert list(fit(store, "lda", "image", group="hand").classes) == ["a", "b", "c"]
        with pytest.raises(HeadError, match=r"too few groups of class.*--rare drop"):
            evaluate(store, ["lda"], ["image"], [], 5, group="hand", rare="refuse")


@pytest.mark.parametrize("rule", ["drop", "refuse"])
def test_where_all_classes_are_too_rare_the_folds_are_too_many(
    rule, two_sets, make_store, tmp_path
):
    """And no rule that leaves classes out is advised."""
    with make_store(tmp_path / "f.h5", two_sets(60, k=3)) as store:
        for act in (evaluate, fit):
            with pytest.raises(HeadError, match="use at most 20 folds, or label more") as found:
                act(store, folds=30, rare=rule)
            assert "--rare" not in str(found.value)


def test_a_saved_plan_leaves_out_what_it_left_out(uneven, make_store, tmp_path, run_headstock):
    with make_store(tmp_path / "f.h5", uneven) as store:
        first = evaluate(store, ["lda"], ["image"], [], 5)
        first.save(tmp_path / "run")
        plan = FoldPlan.load(tmp_path / "run/folds.json")
        again = evaluate(store, ["lda"], ["image"], [], plan)
        np.testing.assert_array_equal(again.proba["lda@image"], first.proba["lda@image"])
    words = ["fit", tmp_path / "f.h5", "--run", tmp_path / "run", "-o", tmp_path / "m"]
    assert run_headstock(*words)[0] == 0
    assert json.loads((tmp_path / "run/settings.json").read_text())["rare"] == "drop"


def test_fit_says_what_it_left_out(uneven, make_store, tmp_path, run_headstock):
    make_store(tmp_path / "f.h5", uneven).close()
    code, _, err = run_headstock("fit", tmp_path / "f.h5", "-o", tmp_path / "m.headstock")
    assert code == 0
    assert "left out: 2 classes too rare for the folds, 4 rows: eel (3), fox (1)" in err


def test_copies_are_searched_once_and_cut_to_what_stays(uneven, make_store, monkeypatch, tmp_path):
    """Without the rare class its row is a copy of nothing, and later rows have other numbers."""
    X = uneven.X["image"].copy()
    X[1], X[40], X[92], X[89] = X[0], X[2], X[2], X[88]
    order = np.r_[90:94, :90]  # the rare rows first
    rows = replace(uneven, X={"image": X}).take(order)
    searches = []

    def counted(*given, **more):
        searches.append(len(given[0]))
        return find_duplicates(*given, **more)

    monkeypatch.setattr(prepare, "find_duplicates", counted)
    with make_store(tmp_path / "f.h5", rows) as store:
        found = prepare.prepare(store, ["image"], prepare.Rules(), 5)
    assert searches == [94]
    assert len(found.read) == 90
    tied = {frozenset(found.read.ids[c].tolist()) for c in found.duplicates.near["image"]}
    assert tied == {frozenset(uneven.ids[list(c)].tolist()) for c in ((0, 1), (2, 40), (88, 89))}
    again = find_duplicates(found.read)
    assert tied == {frozenset(found.read.ids[c].tolist()) for c in again.near["image"]}


def test_a_class_that_an_adaptation_left_out_is_left_out(
    two_sets, make_store, tmp_path, monkeypatch
):
    """The folds that a network was adapted on left it out as too rare; other rows that the network
    has not met are refused, as they were."""
    rows = two_sets(94, k=4)
    with make_store(tmp_path / "f.h5", rows) as store:
        met = {bytes(d) for d, c in zip(store.feature_set("image").digest, rows.codes) if c != 3}
        fold_of = lambda digests: np.array([0 if bytes(d) in met else -1 for d in digests])  # noqa: E731
        seen = SimpleNamespace(folds=3, own=None, fold_of=fold_of)
        monkeypatch.setattr(
            adapted, "seen_by", lambda column: seen if column.name == "image" else None
        )
        monkeypatch.setattr(prepare, "with_views", lambda _, read, *__: (read, {}))
        found = prepare.prepare(store, ["image"], prepare.Rules(), 5)
        assert found.rows.classes.tolist() == rows.classes[:3].tolist()
        assert found.account["rare"]["classes"] == {rows.classes[3]: int((rows.codes == 3).sum())}
        assert adapted.unmet_classes(store, found.read) == []
        kept = prepare.prepare(store, ["image"], prepare.Rules(rare="refuse"), 5)
        assert len(kept.rows.classes) == 4
