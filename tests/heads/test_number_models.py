"""A model of numbers: fitted, saved, read, predicted, submitted, served; and what it cannot do."""

from __future__ import annotations

import csv
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scipy.special import expm1, log1p
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from headstock.heads import REGRESSORS, Bundle, evaluate, fit, make_folds, make_head
from headstock.heads.bundle.coverage import (
    Coverage,
    conformal_quantile,
    held_out,
    promise,
)
from headstock.heads.bundle.fitting import fit_rows
from headstock.heads.bundle.modelfile import VERSION
from headstock.heads.bundle.submission import Submission
from headstock.heads.fusion.complete import predict_complete
from headstock.heads.regressors.linear import ALPHAS
from headstock.heads.rows.labelled import Rows
from headstock.heads.specs import NUMBER
from headstock.store import FeatureStore
from headstock.store.errors import BundleError, HeadError, HeadstockError, OptionError

FAST: dict[str, dict[str, Any]] = {
    "lightgbm": {"n_estimators": 20},
    "xgboost": {"n_estimators": 20},
    "forest": {"n_estimators": 10},
    "extra-trees": {"n_estimators": 10},
    "mlp": {"max_iter": 30, "hidden_layer_sizes": 16, "learning_rate_init": 0.01},
}


def numbers(rows: Rows, seed: int = 0) -> np.ndarray:
    """(n,) of which each set knows a part."""
    rng = np.random.default_rng(seed)
    known = rows.X["image"][:, :3].sum(axis=1) + 2 * rows.X["audio"][:, 0]
    return np.round(20 + known.astype(float) + rng.normal(size=len(rows)), 3)


@pytest.fixture
def numbered(tmp_path: Path, rows: Rows, make_store):
    labels = [f"{y:g}" for y in numbers(rows)]
    labels[0] = ""
    split = ["test" if i >= 140 else "" for i in range(len(rows))]
    with make_store(tmp_path / "n.h5", rows, label=labels, split=split) as made:
        yield made


def truth(store: FeatureStore) -> np.ndarray:
    return np.array([float(label or "nan") for label in store.items.label])


@pytest.mark.parametrize("name", list(REGRESSORS))
def test_every_head_for_numbers_comes_back_the_same(name: str, numbered, tmp_path: Path) -> None:
    if name == "xgboost":
        pytest.importorskip("xgboost", reason="the extra xgboost is not installed")
    for options in ({}, {"transform": "log"}, {"transform": "rank"}):
        own = {**FAST.get(name, {}), **options}
        bundle = fit(numbered, name, options={name: own} if own else None)
        assert bundle.target == NUMBER
        bundle.save(tmp_path / "m.headstock")
        back = Bundle.load(tmp_path / "m.headstock")
        before, after = bundle.predict(numbered), back.predict(numbered)
        np.testing.assert_array_equal(before.proba, after.proba)
        learned = slice(1, 140)
        assert np.corrcoef(after.numbers[learned], truth(numbered)[learned])[0, 1] > 0.7


def test_it_learns_from_labelled_rows_outside_the_test_split(numbered) -> None:
    X = np.hstack([numbered.feature_set(name).x() for name in ("image", "audio")])
    y = truth(numbered)
    theirs = make_pipeline(StandardScaler(), RidgeCV(ALPHAS)).fit(X[1:140], y[1:140]).predict(X)
    bundle = fit(numbered)
    assert bundle.settings["heads"] == ["ridge"]
    np.testing.assert_allclose(bundle.predict(numbered).proba[:, 0], theirs, rtol=1e-4)
    assert bundle.settings["rows"]["target"].startswith("a number from ")


@pytest.mark.parametrize("fusion", ["mean", "stacked"])
def test_fusions_join_numbers(fusion: str, numbered, tmp_path: Path) -> None:
    bundle = fit(numbered, fusion=fusion, heads=["ridge", "knn"])
    said = bundle.predict(numbered)
    single = [
        fit(numbered, head, on).predict(numbered).proba
        for head in ("ridge", "knn") for on in ("image", "audio")
    ]  # fmt: skip
    if fusion == "mean":
        np.testing.assert_allclose(said.proba, np.mean(single, axis=0))
    held, y = slice(140, None), truth(numbered)
    errors = [np.mean((one[held, 0] - y[held]) ** 2) for one in [said.proba, *single]]
    assert errors[0] < min(errors[1:])
    bundle.save(tmp_path / "m.headstock")
    again = Bundle.load(tmp_path / "m.headstock").predict(numbered)
    np.testing.assert_array_equal(again.proba, said.proba)


def test_a_stack_may_read_features_beside_the_answers(numbered, tmp_path: Path) -> None:
    options = {"stacked": {"features": True, "meta": "lightgbm", "n_estimators": 20}}
    bundle = fit(numbered, fusion="stacked", heads=["ridge", "knn"], options=options)
    bundle.save(tmp_path / "m.headstock")
    again = Bundle.load(tmp_path / "m.headstock").predict(numbered)
    np.testing.assert_array_equal(again.proba, bundle.predict(numbered).proba)


def test_rows_may_lack_a_set(rows: Rows, make_store, tmp_path: Path) -> None:
    from dataclasses import replace

    has = {"image": np.arange(160) % 4 != 0, "audio": np.arange(160) % 3 != 0}
    has["image"] |= ~has["audio"]
    gaps = replace(rows, present=has)
    labels = [f"{y:g}" for y in numbers(rows)]
    with make_store(tmp_path / "g.h5", gaps, label=labels) as store:
        for fusion in (None, "mean", "stacked"):
            bundle = fit(store, "ridge", "image+audio", fusion, missing="patterns")
            bundle.save(tmp_path / "m.headstock")
            back = Bundle.load(tmp_path / "m.headstock")
            said = back.predict(store)
            assert set(said.answered_by) == {"image+audio", "image", "audio"}
            assert np.isfinite(said.proba).all()
            assert said.to_csv().splitlines()[0] == "id,prediction,answered_by"


def test_predictions_and_submissions_hold_numbers(numbered, tmp_path: Path) -> None:
    bundle = fit(numbered)
    said = bundle.predict(numbered, np.arange(140, 160))
    lines = list(csv.reader(said.to_csv().splitlines()))
    assert lines[0] == ["id", "prediction"]
    assert lines[1] == ["r0140", f"{said.numbers[0]:.9g}"]
    assert said.to_json()[0] == {"id": "r0140", "prediction": float(said.numbers[0])}
    sample = tmp_path / "sample.csv"
    sample.write_text("Id,Price\nr0141,0\nr0140,0.5\n")
    form = Submission.of(sample, bundle.classes.tolist())
    text = form.write(said)
    assert text.splitlines() == [
        "Id,Price", f"r0141,{said.numbers[1]:.9g}", f"r0140,{said.numbers[0]:.9g}",
    ]  # fmt: skip
    with pytest.raises(OptionError, match="2 columns, and the model answers with one number"):
        Submission.of("Id,a,b", bundle.classes.tolist())
    named = said.named({"r0140": "first"})
    assert named.to_json()[0]["id"] == "first"
    full = said.filled(["r0141", "gone"], "mean")
    np.testing.assert_allclose(full.numbers, [said.numbers[1], said.numbers.mean()])
    assert said.filled(["gone"], "-1.5").numbers[0] == -1.5
    with pytest.raises(OptionError, match="'cat' is no number"):
        said.filled(["gone"], "cat")
    complete, _ = predict_complete(bundle, numbered, split="test", fill="0")
    np.testing.assert_array_equal(complete.proba, said.proba)


def test_a_file_of_numbers_is_of_its_own_version_and_is_checked(numbered, tmp_path: Path) -> None:
    path = tmp_path / "m.headstock"
    fit(numbered).save(path)
    with safe_open(path, framework="numpy") as file:
        meta = file.metadata()
    assert f'"version": {VERSION}' in meta["headstock"]
    arrays = load_file(path)

    def told(old: str, new: str) -> dict[str, str]:
        return {"headstock": meta["headstock"].replace(old, new)}

    assert "0/classes" not in arrays
    broken = {
        "weights": ({**arrays, "0/weights": arrays["0/weights"][:-1]}, meta),
        "nan": ({**arrays, "0/weights": arrays["0/weights"] * np.nan}, meta),
        "classes": (arrays, told('"classes": []', '"classes": ["a"]')),
        "older": (arrays, told('"version": 3', '"version": 2')),
        "of classes": (arrays, told("linear-number", "linear")),
        "unknown": (arrays, told("linear-number", "os:system")),
    }
    for name, (held, body) in broken.items():
        save_file(held, tmp_path / "b.headstock", body)
        with pytest.raises(HeadstockError) as found:
            Bundle.load(tmp_path / "b.headstock")
        assert "\n" not in str(found.value), name


@pytest.mark.parametrize("how", ["log", "rank"])
def test_a_transform_is_scikit_learns_inside_the_training_rows(how: str, numbered) -> None:
    X, y = numbered.feature_set("audio").x()[1:140], truth(numbered)[1:140]
    head: Any = make_head("ridge", 0, {"transform": how}, NUMBER)
    head.fit(X, y)
    if how == "log":
        mine: dict[str, Any] = {"func": log1p, "inverse_func": expm1}
    else:
        mine = {"transformer": QuantileTransformer(n_quantiles=139, output_distribution="normal")}
    model = TransformedTargetRegressor(make_pipeline(StandardScaler(), RidgeCV(ALPHAS)), **mine)
    np.testing.assert_allclose(head.predict(X), model.fit(X, y).predict(X), rtol=1e-4)


def test_a_transform_of_what_it_cannot_take_is_refused(numbered) -> None:
    X = numbered.feature_set("audio").x()
    head: Any = make_head("ridge", 0, {"transform": "log"}, NUMBER)
    with pytest.raises(HeadError, match="there is -3"):
        head.fit(X, np.arange(160) - 3.0)
    with pytest.raises(OptionError, match="transform is one of log, rank"):
        make_head("ridge", 0, {"transform": "sqrt"}, NUMBER)
    with pytest.raises(OptionError, match="unknown option transform"):
        make_head("logistic", 0, {"transform": "log"})
    with pytest.raises(OptionError, match="transform: log is of numbers, and these are classes"):
        fit(numbered, "lda", target="classes", rare="keep", transform="log")
    bundle = fit(numbered, transform="rank")
    assert bundle.settings["options"] == {"ridge": {"transform": "rank"}}


def test_it_is_what_is_asked_for(numbered) -> None:
    with pytest.raises(OptionError, match="head lda: learns classes and no numbers"):
        fit(numbered, "lda")
    with pytest.raises(HeadstockError, match="class"):
        fit(numbered, "lda", target="classes")  # each number a class of its own: too rare
    with pytest.raises(OptionError, match="fusion weighted: joins no numbers"):
        fit(numbered, fusion="weighted", heads=["ridge", "knn"])


def test_what_numbers_cannot_have_is_refused_by_name(numbered, tmp_path: Path) -> None:
    from headstock.heads.blockwise.stream import evaluate_streamed, fit_streamed
    from headstock.heads.onnx import export_model

    bundle = fit(numbered)
    with pytest.raises(
        BundleError, match="it learns numbers, and graphs are drawn of models for cl"
    ):
        export_model(bundle, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()
    for streamed in (evaluate_streamed, fit_streamed):
        with pytest.raises(OptionError, match="--stream: rows that are read by blocks"):
            streamed(numbered)


def test_it_is_served(numbered) -> None:
    httpx = pytest.importorskip("httpx", reason="the tests of the service need httpx")
    pytest.importorskip("starlette", reason="an extra: pip install 'headstock[serve]'")
    pytest.importorskip("python_multipart", reason="an extra: pip install 'headstock[serve]'")
    import asyncio

    make_app = import_module("headstock.heads.service.app").make_app
    bundle = fit(numbered)
    X = {name: numbered.feature_set(name).x()[:1] for name in bundle.widths}
    app = make_app(bundle, lambda files: X)

    async def asked() -> Any:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            files = {name: (name, b"x") for name in X}
            return [
                await client.post("/predict", files=files), await client.get("/model"),
                await client.get("/"),
            ]  # fmt: skip

    answer, about, page = asyncio.run(asked())
    assert answer.json()["prediction"] == bundle.predict(numbered, np.array([0])).numbers[0]
    assert set(answer.json()) == {"prediction", "seconds", "from"}
    assert about.json()["target"] == "number"
    assert "the model says its number." in page.text


def test_the_conformal_quantile_counts_one_row_more() -> None:
    off = np.array([3.0, 1.0, 2.0, 5.0, 4.0, 0.5, 0.2, 1.5, 2.5])  # of nine rows and a tenth
    assert conformal_quantile(off, 0.9) == 5.0
    assert conformal_quantile(off, 0.5) == 2.0
    with pytest.raises(HeadError, match=r"9 rows promise no 0\.95; 19 are needed"):
        conformal_quantile(off, 0.95)
    assert conformal_quantile(np.arange(19.0), 0.95) == 18.0
    groups = np.array(["a"] * 50 + ["b", "c", "d"])
    off = np.r_[np.full(50, 9.0), 1.0, 2.0, 3.0]
    assert conformal_quantile(off, 0.6, groups) == 3.0  # by rows it would be 9
    with pytest.raises(HeadError, match=r"4 groups promise no 0\.9"):
        conformal_quantile(off, 0.9, groups)


@pytest.mark.parametrize("fusion", [None, "mean", "stacked"])
def test_predictions_come_with_an_interval(fusion, numbered, tmp_path: Path) -> None:
    bundle = fit(numbered, fusion=fusion, heads=["ridge", "knn"][: 1 + bool(fusion)], coverage=0.9)
    (half,) = bundle.halves.values()
    bundle.save(tmp_path / "m.headstock")
    said = Bundle.load(tmp_path / "m.headstock").predict(numbered, np.arange(140, 160))
    assert (said.half == half).all()
    lines = list(csv.reader(said.to_csv().splitlines()))
    assert lines[0] == ["id", "prediction", "low", "high"]
    assert float(lines[1][2]) == pytest.approx(said.numbers[0] - half)
    row = said.to_json()[0]
    assert row["high"] - row["low"] == pytest.approx(2 * half)
    inside = np.abs(said.numbers - truth(numbered)[140:]) <= half
    assert inside.mean() >= 0.7
    if fusion is None:
        result = evaluate(numbered, ["ridge"], ["image+audio"], (), target="number")
        off = np.abs(result.said["ridge@image+audio"] - result.y)
        assert half == np.sort(off)[int(np.ceil(0.9 * (len(off) + 1))) - 1]


def test_new_rows_lie_in_the_interval_as_often_as_promised() -> None:
    held = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(260, 12)).astype(np.float32)
        y = X[:, 0] + rng.standard_t(4, 260)
        ids = np.arange(60).astype(str)
        rows = Rows(ids, {"t": X[:60]}, np.zeros(60, int), np.array(["number"]), numbers=y[:60])
        plan = make_folds(np.arange(60) % 2, 5, ids=ids, seed=seed)
        answers = held_out(rows, plan, ["t"], [("ridge", "t")], None, {})
        (half,) = promise(answers, Coverage(0.9))["half"].values()
        bundle = fit_rows(rows, plan, "ridge", "t")
        said = bundle.predict_arrays({"t": X[60:]})[:, 0]
        held.append(np.mean(np.abs(said - y[60:]) <= half))
    assert abs(np.mean(held) - 0.9) < 0.025


def test_each_pattern_has_an_interval_of_its_own(rows: Rows, make_store, tmp_path: Path) -> None:
    from dataclasses import replace

    has = {"image": np.arange(160) % 3 != 0, "audio": np.ones(160, dtype=bool)}
    labels = [f"{y:g}" for y in numbers(rows)]
    with make_store(tmp_path / "g.h5", replace(rows, present=has), label=labels) as store:
        bundle = fit(store, "ridge", "image+audio", missing="patterns", coverage=0.8)
        said = bundle.predict(store)
        assert set(bundle.halves) == {"image+audio", "image", "audio"}
        for name, half in bundle.halves.items():
            assert (said.half[said.answered_by == name] == half).all()


def test_a_coverage_that_is_none_is_refused(numbered, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"coverage: 1\.5 is no share"):
        fit(numbered, coverage=1.5)
    with pytest.raises(OptionError, match="coverage_per_class: is of classes"):
        fit(numbered, coverage=0.9, coverage_per_class=True)
    with pytest.raises(OptionError, match="coverage_per_class: needs a coverage"):
        fit(numbered, coverage_per_class=True)
    bundle = fit(numbered, coverage=0.9)
    for odd in ({"other": 1.0}, {"image+audio": -1.0}, {"image+audio": "wide"}):
        bundle.settings["promise"]["half"] = odd
        bundle.save(tmp_path / "m.headstock")
        with pytest.raises(BundleError, match="its intervals are"):
            Bundle.load(tmp_path / "m.headstock")
