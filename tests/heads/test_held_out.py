"""Validation and test rows: in no fold, each split scored by itself, the valid one as the fold."""

import json

import numpy as np
import pytest

from headstock.heads import evaluate, fit, make_folds
from headstock.heads.blockwise.stream import evaluate_streamed
from headstock.heads.bundle.of_run import fit_run
from headstock.heads.fusion.complete import predict_complete
from headstock.heads.report.formats import as_csv, as_markdown
from headstock.heads.rows.labelled import read_rows
from headstock.store import Batch, FeatureStore, Items, Recipe
from headstock.store.errors import HeadError, ManifestError, OptionError
from headstock.store.exchange.views import as_arrays

WORDS = ["Training"] * 5 + ["", "Validation set", "dev", "Testing", "TEST SET"]


@pytest.fixture
def split_store(tmp_path, two_sets, make_store):
    """A store of before the vocabulary: it has the words of its table."""

    def make(n=200, words=WORDS, poison=False, **more):
        rows = two_sets(n)
        split = [words[i % len(words)] for i in range(n)]
        label = [str(c) for c in rows.classes[rows.codes]]
        if (
            poison
        ):  # validation labels that contradict all others: whoever learns from them shows it
            other = dict(zip(rows.classes, np.roll(rows.classes, 1)))
            label = [other[v] if s in ("Validation set", "dev") else v
                     for v, s in zip(label, split)]  # fmt: skip
        path = tmp_path / f"s{poison}.h5"
        with make_store(path, rows, split=split, label=label, **more):
            pass
        return FeatureStore.open(path)

    return make


def test_who_is_held_out(split_store):
    with split_store() as store:
        rows, held, account = read_rows(store, ["image"])
        assert (len(rows), len(held)) == (120, 80)
        assert (account["train"], account["valid"], account["test"]) == (120, 40, 40)
        where = dict(zip(store.items.id, store.items.split))
        assert {where[i] for i in rows.ids} == {"Training", ""}
        assert {where[i] for i in held.ids[held.held_in("valid")]} == {"Validation set", "dev"}
        assert {where[i] for i in held.ids[held.held_in("test")]} == {"Testing", "TEST SET"}


def test_each_split_has_a_score_of_its_own(split_store, tmp_path):
    with split_store() as store:
        result = evaluate(store, ["lda"], fusions=["weighted"], folds=4, test_scores="all")
        model = fit(store, "lda", on="image", folds=4)
        predicted = {split: predict_complete(model, store, split=split)[0]
                     for split in ("valid", "test")}  # fmt: skip
        truth = dict(zip(store.items.id, store.items.label))
    assert len(result.ids) == 120
    line = next(row for row in result.leaderboard if row.name == "lda@image")
    for split, said in predicted.items():
        wrong = sum(truth[i] != label for i, label in zip(said.ids, said.labels))
        assert (line.held(split).n, line.held(split).errors) == (40, wrong)
    text = result.text()
    assert "valid split, 40 rows: scored by the refit" in text
    assert "test split, 40 rows: scored by the refit" in text
    assert "valid errors" in text
    result.save(tmp_path / "run")
    with np.load(tmp_path / "run" / "valid.npz") as saved:
        assert set(saved["ids"]) == set(predicted["valid"].ids)
    with np.load(tmp_path / "run" / "test.npz") as saved:
        assert set(saved["ids"]) == set(predicted["test"].ids)
    assert "valid_accuracy_low" in as_csv({"run": result.run}).splitlines()[0]
    assert "| valid |" in as_markdown({"run": result.run})


def test_nothing_learns_from_validation_rows(split_store):
    with split_store() as plain, split_store(poison=True) as poisoned:
        heads = {"heads": ["lda", "knn"], "fusions": ["stacked"], "folds": 4, "test_scores": "all"}
        clean, other = evaluate(plain, **heads), evaluate(poisoned, **heads)
        for name in clean.proba:
            assert np.array_equal(clean.proba[name], other.proba[name])
            assert np.array_equal(clean.test_proba[name], other.test_proba[name])
        one, two = (fit(s, "lda", on="image", folds=4).predict(s).proba for s in (plain, poisoned))
        assert np.array_equal(one, two)
        assert clean.leaderboard[0].valid.accuracy.value > 0.7
        assert other.leaderboard[0].valid.accuracy.value < 0.3


def test_the_valid_split_as_the_one_fold(split_store):
    with split_store() as store:
        every = {"fusions": ["weighted"], "test_scores": "all"}
        usual = evaluate(store, ["lda", "knn"], folds=5, **every)
        result = evaluate(store, ["lda", "knn"], folds="Validation", **every)
    assert len(result.ids) == 40
    for line in result.leaderboard:
        same = next(row for row in usual.leaderboard if row.name == line.name)
        assert (line.n, line.errors) == (40, same.valid.errors)
        assert line.test == same.test
        assert line.valid is None
        assert np.array_equal(result.proba[line.name], usual.held["valid"].proba[line.name])
    errors = [line.errors for line in result.leaderboard]
    assert errors == sorted(errors)
    assert {c.a for c in result.run.comparisons} == {result.leaderboard[0].name}
    head = result.text().splitlines()[0]
    assert head.startswith("40 rows of the valid split, 4 classes, the one fold")
    assert "120 training rows" in head
    json.dumps(result.to_json(), allow_nan=False)


def test_what_scored_on_the_valid_split_is_what_is_fitted(split_store, tmp_path):
    with split_store() as store:
        result = evaluate(store, ["lda", "knn"], fusions=["stacked"], folds="valid")
        result.save(tmp_path / "run")
        for line in result.leaderboard[:3]:
            model = fit_run(store, tmp_path / "run", line.name)
            said = predict_complete(model, store, ids=list(result.ids))[0]
            np.testing.assert_allclose(said.proba, result.proba[line.name], atol=1e-6)
        one, two = (fit(store, "lda", folds=f).predict(store).proba for f in ("Validation", None))
    assert np.array_equal(one, two)


def test_one_fold_that_is_not_there(split_store):
    with split_store(words=["train", "test"]) as store:
        with pytest.raises(HeadError, match="no labelled row in split valid"):
            evaluate(store, ["lda"], fusions=[], folds="valid")
        with pytest.raises(OptionError, match="repeats"):
            evaluate(store, ["lda"], fusions=[], folds="valid", repeats=2)


def test_by_blocks_alike(split_store):
    with split_store() as store:
        rows = evaluate_streamed(store, ["lda"], ["image"], folds=4).leaderboard[0]
        at_once = evaluate(store, ["lda"], ["image"], fusions=[], folds=4).leaderboard[0]
    for split in ("valid", "test"):
        assert rows.held(split).n == at_once.held(split).n == 40
        assert rows.held(split).errors == at_once.held(split).errors
    assert rows.n == 120


def test_a_word_that_is_no_split_is_refused(split_store):
    with split_store(words=["train", "fold 2"]) as store:
        with pytest.raises(ManifestError, match=r"row r0001: the split 'fold 2' .* store label"):
            evaluate(store, ["lda"], fusions=[])
        with pytest.raises(ManifestError, match="fold 2"):
            evaluate_streamed(store, ["lda"])


def test_rows_by_split_in_views(split_store):
    with split_store() as store:
        assert len(as_arrays(store, split="val").ids) == 40
        assert len(as_arrays(store, split="train").ids) == 120


def test_groups_and_labels_in_two_unicode_forms(tmp_path):
    import unicodedata

    nfc, nfd = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    path = tmp_path / "u.h5"
    rng = np.random.default_rng(0)
    with FeatureStore.open(path, "a") as store:
        ids = [f"r{i}" for i in range(24)]
        label = [(nfc, nfd, "tea", "tea")[i % 4] for i in range(24)]
        store.register(
            Items.of(
                ids, label=label, extra={"who": [(nfd, nfc, "x", "y")[i % 4] for i in range(24)]}
            )
        )
        store.declare("image", Recipe("image", {"a": 1}), 3)
        x = rng.normal(size=(24, 3)).astype(np.float32)
        digest = rng.integers(1, 255, (24, 32)).astype(np.uint8)
        stat = np.full((24, 2), -1, np.int64)
        store.commit("image", Batch(ids, digest, stat, x, np.ones(24, np.uint8), []))
    with FeatureStore.open(path) as store:
        rows, _, account = read_rows(store, ["image"], group="who")
        assert len(rows.classes) == 2
        assert len(account["joined_labels"]) == 1
        assert len(set(rows.groups)) == 3
        assert len(evaluate_streamed(store, ["lda"], folds=2).run.settings.classes) == 2
    assert make_folds(rows.codes, "group-out", groups=rows.groups).folds == 3
