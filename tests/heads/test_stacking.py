"""Stacks of any head, with features, and fusions whose members never saw the scored fold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstock.heads import Bundle, evaluate, fit, make_folds
from headstock.heads.evaluate_classes import evaluate_rows
from headstock.heads.evaluation.answers import How, answer_systems
from headstock.heads.evaluation.systems import System
from headstock.heads.fusion.fusions import KINDS, listing, make_fusion
from headstock.heads.fusion.stacking import Stacked
from headstock.heads.rows.labelled import Rows
from headstock.heads.specs import KINDS as HEAD_KINDS
from headstock.store.errors import BundleError, OptionError

MEMBERS = ("knn@image", "knn@audio")
SYSTEMS = [
    System("knn", "image"),
    System("knn", "audio"),
    System("knn", "image+audio", "stacked", MEMBERS),
    System("knn", "image+audio", "weighted", MEMBERS),
]
SLOW = pytest.mark.slow
LIGHT = {"stacked": {"meta": "lightgbm", "features": True, "n_estimators": 5}}


def odd_ones(n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two systems, of which column 0 of X says which to believe: only a stack that reads both the
    answers and the features can know, and only by splits, not by weights."""
    rng = np.random.default_rng(0)
    codes, first = np.arange(n) % 3, rng.random(n) < 0.5
    right = np.full((n, 3), 0.1) + 0.7 * np.eye(3)[codes]
    wrong = np.full((n, 3), 0.1) + 0.7 * np.eye(3)[(codes + rng.integers(1, 3, n)) % 3]
    a, b = np.where(first[:, None], right, wrong), np.where(first[:, None], wrong, right)
    X = np.stack([first, rng.normal(size=n)], axis=1).astype(np.float32)
    return np.stack([a, b], axis=1), codes, X


def test_a_boosted_stack_with_features_learns_whom_to_believe_when() -> None:
    P, codes, X = odd_ones()
    train, test = np.arange(0, 300), np.arange(300, 400)
    right = {}
    for options in ({}, {"features": True}, {"meta": "lightgbm", "features": "true"}):
        stack = make_fusion("stacked", 0, options)
        stack.fit(P[train], codes[train], train % 5, X[train])
        said = stack.predict(P[test], X[test])
        right[str(options)] = (said.argmax(axis=1) == codes[test]).mean()
    plain, with_features, boosted = right.values()
    assert boosted > 0.95
    assert plain < 0.8
    assert with_features < 0.8


@pytest.mark.parametrize("meta", ["logistic", "lightgbm", "forest", "rbf-svm", "knn"])
def test_any_head_may_be_the_meta_learner_and_comes_back(meta: str) -> None:
    P, codes, X = odd_ones(150)
    stack = Stacked(0, meta, features=True, **({"n_estimators": 5} if meta == "forest" else {}))
    stack.fit(P, codes, np.arange(150) % 5, X)
    assert stack.head_.kind in HEAD_KINDS
    stack.reads = ("image",)
    said, state = stack.predict(P, X), stack.state()
    back = KINDS["stacked"].from_state("stacked", *state, 3)
    np.testing.assert_array_equal(back.predict(P, X), said)
    assert back.wants_features
    assert back.reads == ("image",)


def test_options_of_a_stack_are_checked_before_any_fit(store) -> None:
    with pytest.raises(OptionError, match="not in the table"):
        evaluate(store, ("knn",), options={"stacked": {"meta": "magic"}}, fusions=("stacked",))
    with pytest.raises(OptionError, match="it has C="):
        evaluate(store, ("knn",), options={"stacked": {"n_estimators": 3}}, fusions=("stacked",))
    with pytest.raises(OptionError, match="unknown option C"):
        evaluate(store, ("knn",), options={"gated": {"C": 3}}, fusions=("gated",))
    with pytest.raises(OptionError, match="not among the heads"):
        evaluate(store, ("knn",), options={"stacked": {"C": 3}}, fusions=("mean",))
    with pytest.raises(OptionError, match="three or more"):
        evaluate(store, ("knn",), options=LIGHT, fusions=("stacked",), folds=2)
    assert "stacked   meta=logistic, features=False" in listing()


@pytest.mark.parametrize("options", [{}, LIGHT])
def test_a_nested_fusion_never_meets_the_labels_of_the_fold_it_is_scored_on(
    options: dict, rows: Rows
) -> None:
    """Other labels on a fold's rows change members that answer other rows, and so what a fusion
    learns from; members fitted again without the fold know nothing of it."""
    plan = make_folds(rows.codes, 4)
    mine = plan.codes[0] == 1
    other = replace(rows, codes=np.where(mine, (rows.codes + 1) % 4, rows.codes))
    nested = [
        answer_systems(SYSTEMS, r, plan, How(options, nested=True)).by_name for r in (rows, other)
    ]
    plain = [answer_systems(SYSTEMS, r, plan, How(nested=False)).by_name for r in (rows, other)]
    for system in SYSTEMS[2:]:
        before, after = (a[system.name].proba[0, mine] for a in nested)
        np.testing.assert_array_equal(before, after)
        before, after = (a[system.name].proba[0, mine] for a in plain)
        assert (before != after).any()  # the gap that nesting closes
        assert nested[0][system.name].how.endswith("never saw the scored fold")
        assert not nested[0][system.name].notes
        assert "approximate" in plain[0][system.name].notes[0]


@pytest.mark.parametrize(
    "how",
    ["as they are", *(pytest.param(how, marks=SLOW) for how in ("in groups", "some lack a set"))],
)
def test_on_random_labels_no_fusion_knows_more_than_chance(how: str) -> None:
    """Members that answered a fusion's training rows must not have seen the scored fold: were they
    to, the stack here would be right on 0.39, four standard errors above chance."""
    right, all_rows = dict[str, int](), 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        n, group = 120, np.array([f"g{i // 2}" for i in range(120)], dtype=object)
        X = {name: rng.normal(size=(n, 12)).astype(np.float32) for name in ("image", "audio")}
        ids = np.array([f"r{i}" for i in range(n)], dtype=object)
        classes = np.array(["a", "b", "c"], dtype=object)
        rows = Rows(ids, X, rng.permutation(n) % 3, classes)
        if how == "in groups":
            rows = replace(rows, groups=group)
        if how == "some lack a set":
            image, audio = rng.random(n) < 0.8, rng.random(n) < 0.8
            image |= ~audio
            for name, there in (("image", image), ("audio", audio)):
                X[name][~there] = np.nan
            rows = replace(rows, present={"image": image, "audio": audio})
        plan = make_folds(rows.codes, 5, ids=ids, groups=rows.groups, seed=seed)
        fusions = ["mean", "weighted", "product", "stacked", "gated"]
        result = evaluate_rows(rows, ["logistic", "lda"], ["image", "audio"], fusions, plan)
        all_rows += n
        for row in result.leaderboard:
            if row.n == n:
                right[row.name] = right.get(row.name, 0) + n - row.errors
    spread = np.sqrt(all_rows * 2 / 9)
    assert len(right) >= 10
    assert max(right.values()) < all_rows / 3 + 3 * spread, right


def test_where_nothing_can_be_nested_the_line_says_so(store) -> None:
    """Of two folds none is left to learn from; whoever asks for it is refused."""
    for folds, told in ((2, True), (3, False)):
        result = evaluate(store, ("knn",), fusions=("weighted", "mean"), folds=folds)
        notes = {r.fusion: r.notes for r in result.leaderboard}
        assert any("approximate" in note for note in notes["weighted"]) == told
        assert not notes["mean"]
        assert ("note: knn@image+audio:weighted: approximate" in result.text()) == told
    with pytest.raises(OptionError, match="three or more"):
        evaluate(store, ("knn",), fusions=("weighted",), folds=2, nested=True)


def test_a_stack_that_reads_features_is_always_nested(store) -> None:
    result = evaluate(
        store, ("knn",), fusions=("stacked", "weighted"), options=LIGHT, folds=3, nested=False
    )
    how = {r.fusion: r.how for r in result.leaderboard}
    assert "never saw" in how["stacked"]
    assert "never saw" not in how["weighted"]
    assert result.run.settings.options["stacked"]["meta"] == "lightgbm"


@pytest.mark.parametrize("options", [LIGHT["stacked"], {"C": [0.01, 1.0]}])
def test_a_model_with_such_a_stack(options: dict, store, tmp_path: Path) -> None:
    bundle = fit(
        store, on="image+audio", fusion="stacked", heads=["logistic", "knn"],
        options={"stacked": options},
    )  # fmt: skip
    bundle.save(tmp_path / "m")
    back = Bundle.load(tmp_path / "m")
    said = back.predict(store)
    np.testing.assert_array_equal(said.proba, bundle.predict(store).proba)
    right = said.labels == store.items.label
    assert right.mean() > 0.8
    if "meta" in options:
        assert back.fusion.reads == ("image", "audio")
        back.fusion.reads = ("smell",)
        back.save(tmp_path / "wrong")
        with pytest.raises(BundleError):
            Bundle.load(tmp_path / "wrong")


def test_early_and_stacked_with_a_test_split(tmp_path: Path, rows: Rows, make_store) -> None:
    split = ["test" if i % 4 == 0 else "" for i in range(160)]
    with make_store(tmp_path / "s.h5", rows, split=split) as store:
        result = evaluate(
            store, ("knn",), fusions=("stacked",), options=LIGHT, folds=3, test_scores="all"
        )
        row = next(r for r in result.leaderboard if r.fusion == "stacked")
        bundle = fit(store, "knn", fusion="stacked", heads=["knn"], options=LIGHT, folds=3)
        tested = np.flatnonzero(store.items.split == "test")
        said = bundle.predict(store, tested).proba
    assert row.test.n == 40
    np.testing.assert_allclose(said, result.test_proba[row.name], atol=1e-6)
