from __future__ import annotations

import contextlib
import csv
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from headstock.heads import HEADS, Bundle, Predictions, fit
from headstock.heads.bundle.fitting import fit_rows
from headstock.heads.bundle.modelfile import VERSION
from headstock.heads.rows.folds import make_folds
from headstock.heads.rows.labelled import Rows
from headstock.store import FeatureStore, Items, Recipe
from headstock.store.errors import (
    BundleError,
    HeadError,
    HeadstockError,
    IncompleteSet,
    OptionError,
    RecipeMismatch,
    UnsafeInput,
    VersionError,
)

FAST = {
    "lightgbm": {"n_estimators": 5},
    "xgboost": {"n_estimators": 5},
    "bagging": {"n_estimators": 5},
    "forest": {"n_estimators": 5},
    "extra-trees": {"n_estimators": 5},
    "mlp": {"max_iter": 3, "hidden_layer_sizes": 8},
}


@pytest.mark.parametrize("name", list(HEADS))
def test_every_head_comes_back_the_same(name: str, store, tmp_path: Path) -> None:
    if name == "xgboost":
        pytest.importorskip("xgboost", reason="the extra xgboost is not installed")
    bundle = fit(store, name, options={name: FAST[name]} if name in FAST else None)
    bundle.save(tmp_path / "m.headstock")
    back = Bundle.load(tmp_path / "m.headstock")
    before, after = bundle.predict(store), back.predict(store)
    np.testing.assert_array_equal(before.proba, after.proba)
    assert list(after.ids) == list(store.items.id)
    assert list(after.classes) == ["ant", "bee", "cat", "dog"]
    assert back.recipes == {n: store.feature_set(n).recipe for n in ("image", "audio")}


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_axes_come_back_and_must_fit(name: str, store, tmp_path: Path) -> None:
    pytest.importorskip(name)
    bundle = fit(store, name, options={name: {"n_estimators": 9, "n_components": 4}})
    head = bundle.members[0].fitted
    assert [c is not None for c in head.components_] == [True, True]
    assert head.importances().shape == (sum(bundle.widths.values()),)
    gains = (
        head._booster.feature_importance("gain")
        if name == "lightgbm"
        else [*head._booster.get_score(importance_type="total_gain").values()]
    )
    np.testing.assert_allclose(head.importances().sum(), np.sum(gains), rtol=1e-5)
    bundle.save(tmp_path / "m.headstock")
    proba = Bundle.load(tmp_path / "m.headstock").predict(store).proba
    np.testing.assert_array_equal(proba, bundle.predict(store).proba)
    head.components_[0].mean = head.components_[0].mean[:-1]
    bundle.save(tmp_path / "n.headstock")
    with pytest.raises(BundleError, match="axes have another width"):
        Bundle.load(tmp_path / "n.headstock")


@pytest.mark.parametrize(
    "fusion", ["early", "mean", "weighted", "product", "stacked", "gated", "learned"]
)
def test_every_fusion_comes_back_the_same(fusion: str, store, tmp_path: Path) -> None:
    heads = ["logistic", "knn"] if fusion == "stacked" else None
    bundle = fit(store, "logistic", "image+audio", fusion, heads)
    bundle.save(tmp_path / "m.headstock")
    proba = Bundle.load(tmp_path / "m.headstock").predict(store).proba
    np.testing.assert_array_equal(proba, bundle.predict(store).proba)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    right = (proba.argmax(axis=1) == np.searchsorted(bundle.classes, store.items.label)).mean()
    assert right > 0.8


def test_predictions_as_files(tmp_path: Path) -> None:
    said = Predictions(
        np.array(["a", "=HYPERLINK(1)", "-3", "x,y"], dtype=object),
        np.array(["+cat", "dog"], dtype=object),
        np.array([[0.9, 0.1], [0.2, 0.8], [0.25, 0.75], [1.0, 0.0]]),
    )
    said.to_csv(tmp_path / "p.csv")
    table = list(csv.reader((tmp_path / "p.csv").open()))
    assert table[0] == ["id", "prediction", "confidence", "p_+cat", "p_dog"]
    assert table[1] == ["a", "+cat", "0.9", "0.9", "0.1"]
    assert [line[0] for line in table[2:]] == ["=HYPERLINK(1)", "-3", "x,y"]
    said.to_csv(tmp_path / "p.csv", spreadsheet=True)
    table = list(csv.reader((tmp_path / "p.csv").open()))
    assert [line[:2] for line in table[1:3]] == [["a", "'+cat"], ["'=HYPERLINK(1)", "dog"]]
    said.submission(tmp_path / "s.csv", "Id,CLASS")
    assert (tmp_path / "s.csv").read_text().splitlines()[:2] == ["Id,CLASS", "a,+cat"]
    with pytest.raises(OptionError, match="no sample file and no header"):
        said.submission(tmp_path / "s.csv", "Id")


def test_another_recipe_is_refused_by_its_difference(store, tmp_path: Path) -> None:
    bundle = fit(store, "knn")
    bundle.recipes["audio"] = Recipe("audio", {"width": 7})
    with pytest.raises(RecipeMismatch, match="width: 7 -> 6"):
        bundle.predict(store)


def test_a_row_without_a_vector_is_refused_by_name(tmp_path: Path, make_store, rows: Rows) -> None:
    with make_store(tmp_path / "s.h5", rows) as store:
        bundle = fit(store, "knn")
        store.register(Items.of(["late"]))
        with pytest.raises(IncompleteSet, match=r"1 of 161 rows have no vector.*late"):
            bundle.predict(store)
        assert len(bundle.predict(store, store.complete(["image", "audio"]))) == 160
        assert list(bundle.predict(store, np.array([5, 2])).ids) == ["r0005", "r0002"]


def test_fit_refuses_what_has_no_meaning(store) -> None:
    with pytest.raises(OptionError, match="one system"):
        fit(store, "knn", "image", "mean")
    with pytest.raises(OptionError, match="not in the table"):
        fit(store, "knn", fusion="median")
    with pytest.raises(OptionError, match="not among the heads"):
        fit(store, "knn", options={"tree": {}})


def test_a_head_that_only_pickle_could_save_is_refused(tmp_path: Path, store) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from sklearn.naive_bayes import GaussianNB\ndef bayes(seed):\n    return GaussianNB()\n"
        "from headstock.heads import make_head\n"
        "def sharp(seed):\n    return make_head('knn', seed, {'n_neighbors': 1})\n"
    )
    bundle = fit(store, f"{file}:bayes")
    assert bundle.predict(store).proba.shape == (160, 4)
    with pytest.raises(BundleError, match="GaussianNB cannot be saved without pickle"):
        bundle.save(tmp_path / "m.headstock")
    assert not (tmp_path / "m.headstock").exists()
    fit(store, f"{file}:sharp").save(tmp_path / "m.headstock")  # its inside is headstock's own
    assert Bundle.load(tmp_path / "m.headstock").predict(store).proba.shape == (160, 4)


def saved(store: FeatureStore, path: Path, name: str) -> tuple[dict, dict]:
    fit(store, name, options={name: FAST[name]} if name in FAST else None).save(path)
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["headstock"]), load_file(path)


def rewrite(path: Path, body: dict, arrays: dict) -> None:
    whole = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    save_file(whole, path, {"headstock": json.dumps(body)})


def test_files_that_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "m.headstock"
    for content in (b"", b"PK\x03\x04", pickle.dumps({"a": 1}), b"\xff" * 64, b"\x08" + b"\0" * 7):
        path.write_bytes(content)
        with pytest.raises(BundleError, match="is no headstock model"):
            Bundle.load(path)
    save_file({"x": np.zeros(2)}, path, {"other": "1"})
    with pytest.raises(BundleError, match="fit wrote"):
        Bundle.load(path)
    save_file({"x": np.zeros(2)}, path, {"headstock": "[" * 100_000})
    with pytest.raises(BundleError, match="is no headstock model"):
        Bundle.load(path)
    with pytest.raises(BundleError, match="no such file"):
        Bundle.load(tmp_path / "absent")


@pytest.mark.filterwarnings("error")
def test_an_answer_that_overflows_is_refused_without_a_word_more(store) -> None:
    bundle = fit(store, "lda")
    bundle.members[0].fitted.multiplier_ = 1e308  # type: ignore[attr-defined]
    with pytest.raises(HeadError, match="no probabilities"):
        bundle.predict(store)


def test_a_newer_model_is_refused(store, tmp_path: Path) -> None:
    body, arrays = saved(store, tmp_path / "m", "knn")
    rewrite(tmp_path / "m", {**body, "version": VERSION + 1}, arrays)
    with pytest.raises(VersionError, match="newer headstock"):
        Bundle.load(tmp_path / "m")


def test_damage_is_one_line_whatever_it_is(store, tmp_path: Path) -> None:
    path = tmp_path / "m"
    for name in ("logistic", "rbf-svm", "knn", "tree", "mlp"):
        body, arrays = saved(store, path, name)
        for key in list(arrays):
            for change in (lambda a: a[:-1], lambda a: a * 0 - 7, lambda a: a.reshape(-1)[:0]):
                rewrite(path, body, {**arrays, key: change(arrays[key])})
                # Other numbers of the right form are another model, not a broken one
                with contextlib.suppress(HeadstockError):
                    assert np.isfinite(Bundle.load(path).predict(store).proba).all()
            less = {k: v for k, v in arrays.items() if k != key}
            rewrite(path, body, less)
            with pytest.raises(BundleError):
                Bundle.load(path)
        for key in body:
            rewrite(path, {k: v for k, v in body.items() if k != key}, arrays)
            with pytest.raises(HeadstockError):
                Bundle.load(path)
        member = body["members"][0]
        for hostile in ({"kind": "os:system"}, {"on": "image+smell"}, {"meta": None}):
            rewrite(path, {**body, "members": [{**member, **hostile}]}, arrays)
            with pytest.raises(BundleError):
                Bundle.load(path)


def test_a_tree_that_runs_in_a_circle_is_refused(store, tmp_path: Path) -> None:
    body, arrays = saved(store, tmp_path / "m", "tree")
    left = arrays["0/left"].copy()
    left[np.flatnonzero(left > 0)[-1]] = 0
    rewrite(tmp_path / "m", body, {**arrays, "0/left": left})
    with pytest.raises(BundleError, match="not a tree's"):
        Bundle.load(tmp_path / "m")


def test_trees_on_columns_that_no_row_has_are_refused(store, tmp_path: Path) -> None:
    body, arrays = saved(store, tmp_path / "m", "tree")
    body["members"][0]["meta"]["columns"] += 99
    far = arrays["0/feature"] + 99
    rewrite(tmp_path / "m", body, {**arrays, "0/feature": far})
    with pytest.raises(BundleError, match="26 columns, and they read 125"):
        Bundle.load(tmp_path / "m")


LIGHTGBM = [
    ("left_child=", "left_child=99999999 "),
    ("left_child=", "left_child=-99999999 "),
    ("left_child=", "left_child=0 "),
    ("split_feature=", "split_feature=123456 "),
    ("split_feature=", "split_feature=-1 "),
    ("decision_type=", "decision_type=1 "),
    ("num_leaves=", "num_leaves=9"),
    ("num_cat=", "num_cat=1"),
    ("leaf_value=", "leaf_value=x "),
    ("max_feature_idx=", "max_feature_idx=99999999"),
    ("num_class=", "num_class=9"),
    ("num_tree_per_iteration=", "num_tree_per_iteration=0\nx="),
    ("tree_sizes=", "tree_sizes=1 "),
    ("version=v4", "version=v3"),
    ("tree\n", "three\n"),
    ("end of trees", "end"),
    ("leaf_value=", "left_child=1\nleaf_value="),
]


@pytest.mark.parametrize(("old", "new"), LIGHTGBM)
def test_lightgbm_text_is_checked_before_the_library_sees_it(
    old: str, new: str, rows: Rows
) -> None:
    from headstock.heads.kinds.boosted import lightgbm
    from headstock.heads.kinds.modeltext import check_lightgbm

    X, _ = rows.matrix("image+audio")
    text = lightgbm(0, n_estimators=3).fit(X, rows.codes).text_
    check_lightgbm(text)
    head, value, tail = text.partition(old)
    assert value
    with pytest.raises(UnsafeInput, match="LightGBM model"):
        check_lightgbm(head + new + (tail.split(" ", 1)[1] if new.endswith(" ") else tail))


def test_xgboost_text_is_checked_before_the_library_sees_it(rows: Rows) -> None:
    pytest.importorskip("xgboost", reason="the extra xgboost is not installed")
    from headstock.heads.kinds.boosted import xgboost
    from headstock.heads.kinds.modeltext import check_xgboost

    X, _ = rows.matrix("image+audio")
    text = xgboost(0, n_estimators=3).fit(X, rows.codes).text_
    check_xgboost(text)
    for key, value in (("left_children", 10**6), ("split_indices", 10**6), ("right_children", -5)):
        body = json.loads(text)
        body["learner"]["gradient_booster"]["model"]["trees"][0][key][0] = value
        with pytest.raises(UnsafeInput, match="XGBoost model"):
            check_xgboost(json.dumps(body).encode())
    with pytest.raises(UnsafeInput, match="does not read as one"):
        check_xgboost(b"{}")


def test_an_unsafe_model_text_in_a_bundle(store, tmp_path: Path) -> None:
    body, arrays = saved(store, tmp_path / "m", "lightgbm")
    text = arrays["0/text"].tobytes().decode().replace("split_feature=", "split_feature=7777 ", 1)
    arrays["0/text"] = np.frombuffer(text.encode(), dtype=np.uint8)
    rewrite(tmp_path / "m", body, arrays)
    with pytest.raises(UnsafeInput):
        Bundle.load(tmp_path / "m")


def test_arrays_alone_are_enough(rows: Rows) -> None:
    plan = make_folds(rows.codes, 5, ids=rows.ids)
    bundle = fit_rows(rows, plan, "logistic", "image+audio", "stacked", ["logistic", "lda"])
    assert [m.on for m in bundle.members] == ["image", "audio", "image", "audio"]
    assert bundle.predict_arrays(rows.X).shape == (160, 4)
    with pytest.raises(BundleError, match="reads 20 columns"):
        bundle.predict_arrays({**rows.X, "image": rows.X["audio"]})


def test_importances_are_told_set_by_set(store) -> None:
    (weighed,) = fit(store, "logistic").settings["importances"]
    assert set(weighed) == {"image", "audio"}
    assert sum(w["share"] for w in weighed.values()) == pytest.approx(1)
    assert len(weighed["audio"]["columns"]) == 6
    assert fit(store, "knn").settings["importances"] == [None]
