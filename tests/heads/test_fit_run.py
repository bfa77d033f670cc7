"""``fit --run`` fits exactly what the run scored; the same words mean the same everywhere."""

from dataclasses import replace

import numpy as np
import pytest

from headstock.heads import Bundle, evaluate, fit, fit_run
from headstock.heads.evaluation.systems import DEFAULTS, Defaults
from headstock.store import FeatureStore
from headstock.store.errors import OptionError

HEADS = ["lda", "knn", "logistic"]


@pytest.fixture(scope="module")
def made(tmp_path_factory, two_sets, make_store):
    """A store with a test split and groups, and the folder of a run on it."""
    folder = tmp_path_factory.mktemp("run")
    rows = two_sets(200, strength=0.6)
    split = ["test" if i % 5 == 0 else "train" for i in range(200)]
    group = {"hand": [f"h{i % 16}" for i in range(200)]}
    make_store(folder / "f.h5", rows, split=split, group=group).close()
    with FeatureStore.open(folder / "f.h5") as store:
        result = evaluate(
            store, HEADS, fusions=["mean", "weighted", "stacked", "gated"], folds=4, seed=3,
            group="hand", options={"knn": {"n_neighbors": 7}, "lda": {"shrinkage": 0.3}},
            test_scores="all",
        )  # fmt: skip
        result.save(folder / "run")
    return folder, result


def test_each_line_is_fitted_as_it_was_scored(made):
    folder, result = made
    with FeatureStore.open(folder / "f.h5") as store:
        tested = np.flatnonzero(store.items.split == "test")
        for line in result.leaderboard:
            bundle = fit_run(store, folder / "run", line.name)
            proba = bundle.predict(store, tested).proba
            np.testing.assert_allclose(proba, result.test_proba[line.name], atol=2e-4)
            right = proba.argmax(axis=1) == result.test_codes
            assert int((~right).sum()) == line.test.errors, line.name


def test_the_first_line_is_the_default_and_a_wrong_name_is_answered(made):
    folder, result = made
    with FeatureStore.open(folder / "f.h5") as store:
        assert fit_run(store, folder / "run").settings["system"] == result.leaderboard[0].name
        with pytest.raises(OptionError, match="did you mean lda@image"):
            fit_run(store, folder / "run", "lda@imagge")


def test_from_the_prompt(made, run_headstock, tmp_path):
    folder, _ = made
    words = ["fit", folder / "f.h5", "--run", folder / "run", "-o", tmp_path / "m.headstock"]
    assert run_headstock(*words, "--system", "all@image+audio:stacked")[0] == 0
    bundle = Bundle.load(tmp_path / "m.headstock")
    assert [m.head for m in bundle.members] == [h for h in HEADS for _ in ("image", "audio")]
    code, _, err = run_headstock(*words, "--head", "lda", "--folds", "3")
    assert code == 2
    assert "--head" in err
    assert "--folds" in err
    code, _, err = run_headstock("fit", folder / "f.h5", "--system", "x", "-o", tmp_path / "n")
    assert code == 2
    assert "--run" in err


def test_a_stack_is_of_the_heads_that_are_named_and_of_the_default_ones_where_none_is(
    made, run_headstock, tmp_path, monkeypatch
):
    folder, _ = made
    few = ("lda", "knn")
    assert {"logistic", *few} <= set(DEFAULTS["classes"].heads)
    monkeypatch.setitem(DEFAULTS, "classes", Defaults(few, ()))
    with FeatureStore.open(folder / "f.h5") as store:
        by_default = fit(store, fusion="stacked")
        named = fit(store, "logistic", fusion="stacked")
    heads = [m.head for m in by_default.members]
    assert heads == [h for h in few for _ in ("image", "audio")]
    assert [m.head for m in named.members] == ["logistic"] * 2
    out = tmp_path / "m.headstock"
    assert run_headstock("fit", folder / "f.h5", "--fusion", "stacked", "-o", out)[0] == 0
    assert [m.head for m in Bundle.load(out).members] == heads
    assert run_headstock("fit", folder / "f.h5", "-o", tmp_path / "n.headstock")[0] == 0
    assert [m.head for m in Bundle.load(tmp_path / "n.headstock").members] == ["logistic"]


def test_rows_that_other_sets_lack_are_left_out_as_in_the_run(two_sets, make_store, tmp_path):
    """``--missing exclude`` is of the run's sets, not of the line's alone."""
    rows = two_sets(120)
    absent = {"audio": np.arange(120) % 10 != 3, "image": np.ones(120, dtype=bool)}
    with make_store(tmp_path / "f.h5", replace(rows, present=absent)) as store:
        result = evaluate(store, ["lda"], fusions=[], folds=3, missing="exclude")
        result.save(tmp_path / "run")
        bundle = fit_run(store, tmp_path / "run", "lda@image")
        assert bundle.settings["folds"]["n"] == len(result.ids) == 108
