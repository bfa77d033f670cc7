"""What wrong answers cost: as a metric that decides, and as what a model answers by."""

from __future__ import annotations

import csv
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from headstock.heads import Bundle, evaluate, fit, fit_run
from headstock.heads.metrics.cost import cheapest, costs_of
from headstock.heads.metrics.table import metric_named
from headstock.heads.report.contest import Contest
from headstock.heads.report.saved import read_saved
from headstock.heads.rows.labelled import Rows
from headstock.heads.statistics.measured import metric_record
from headstock.store.errors import BundleError, HeadstockError


@pytest.fixture
def store(tmp_path: Path, rows: Rows, make_store):
    split = ["test" if i >= 120 else "" for i in range(len(rows))]
    with make_store(tmp_path / "s.h5", rows, split=split) as made:
        yield made


def table(path: Path, *lines: tuple[object, object, object]) -> str:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("true", "answer", "cost"), *lines])
    return f"cost:{path}"


@pytest.fixture
def name(tmp_path: Path, rows: Rows) -> str:
    """To miss the first class is dear, to take the last for the second is cheap."""
    first, second, *_, last = rows.classes
    dear = [(first, other, 20) for other in rows.classes[1:]]
    return table(tmp_path / "costs.csv", *dear, (last, second, 0.25))


def test_what_is_not_named_costs_nothing_or_one(tmp_path: Path) -> None:
    name = table(tmp_path / "c.csv", ("ill", "well", 10), ("well", "well", 0.5))
    np.testing.assert_array_equal(costs_of(name, ["ill", "well"]), [[0, 10], [1, 0.5]])
    proba = np.array([[0.2, 0.8], [0.01, 0.99], [0.6, 0.4]])
    codes = np.array([1, 0, 0])
    metric = metric_named(name, ["ill", "well"])
    assert cheapest(proba, costs_of(name, ["ill", "well"])).tolist() == [0, 1, 0]
    assert metric.score(proba, codes) == pytest.approx((1 + 10 + 0) / 3)
    assert (metric.greater_is_better, metric.high, metric.interval) == (
        False,
        10.0,
        "pseudo-values",
    )
    plain = metric_named(table(tmp_path / "d.csv", ("ill", "ill", 0)), ["ill", "well"])
    assert plain.score(proba, codes) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([("sick", "well", 1)], r"c\.csv:2: 'sick' is no class; one of ill, well"),
        ([("ill", "wel", 1)], r"c\.csv:2: 'wel' is no class; did you mean well\? one of ill, well"),
        ([("ill", "well", -1)], r"c\.csv:2: '-1' is no cost"),
        ([("ill", "well", "inf")], r"c\.csv:2: 'inf' is no cost"),
        ([("ill", "well", 1), ("ill", "well", 2)], r"c\.csv:3: ill answered by well stands twice"),
    ],
)
def test_a_table_that_is_none_is_one_line(lines, says, tmp_path: Path) -> None:
    with pytest.raises(HeadstockError, match=says):
        costs_of(table(tmp_path / "c.csv", *lines), ["ill", "well"])


def test_it_decides_a_leaderboard(store, name: str) -> None:
    result = evaluate(store, ["lda", "knn", "tree"], ["image"], ["weighted"], metric=name)
    values = [line.metrics[name].value for line in result.leaderboard]
    assert values == sorted(values)
    first = result.leaderboard[0]
    costs = costs_of(name, result.classes)
    proba = result.proba[first.name].reshape(120, -1)
    assert values[0] == pytest.approx(costs[result.codes, cheapest(proba, costs)].mean())
    metric = metric_named(name, result.classes)
    known = metric_record(metric, proba[None], result.codes)
    assert known["low"] < values[0] < known["high"]


def test_a_model_answers_by_it(store, name: str, rows: Rows, tmp_path: Path) -> None:
    bundle = fit(store, "lda", "image", metric=name, coverage=0.9)
    plain = fit(store, "lda", "image").predict(store)
    bundle.save(tmp_path / "m.headstock")
    said = Bundle.load(tmp_path / "m.headstock").predict(store)
    np.testing.assert_array_equal(said.proba, plain.proba)
    answers = cheapest(said.proba, costs_of(name, said.classes))
    assert said.labels.tolist() == said.classes[answers].tolist()
    assert (said.labels != plain.labels).any()
    lines = list(csv.DictReader(said.to_csv().splitlines()))
    assert [line["prediction"] for line in lines] == said.labels.tolist()
    assert float(lines[0]["confidence"]) == pytest.approx(said.proba[0, answers[0]], abs=1e-5)
    result = evaluate(store, ["lda"], ["image"], (), metric=name)
    result.save(tmp_path / "run")
    assert Contest.of([read_saved([tmp_path / "run"])[0]]).decides == name
    again = fit_run(store, tmp_path / "run").predict(store)
    assert again.labels.tolist() == said.labels.tolist()
    with open(name.removeprefix("cost:"), "a") as file:
        file.write(f"{rows.classes[1]},{rows.classes[2]},3\n")
    with pytest.raises(HeadstockError, match="its file is another one now; evaluate again"):
        fit_run(store, tmp_path / "run")
    assert Contest.of([read_saved([tmp_path / "run"])[0]]).decides == "accuracy"
    for odd in ([[0.0]], [[-1.0] * len(said.classes)] * len(said.classes), "x"):
        bundle.settings["costs"] = odd
        bundle.save(tmp_path / "m.headstock")
        with pytest.raises(BundleError, match="its costs are no numbers"):
            Bundle.load(tmp_path / "m.headstock")


def test_so_do_a_graph_and_the_service(store, name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="pip install 'headstock[onnx]'")
    testclient = pytest.importorskip(
        "starlette.testclient", reason="pip install 'headstock[serve]'"
    )
    pytest.importorskip("python_multipart", reason="pip install 'headstock[serve]'")
    export_model = import_module("headstock.heads.onnx").export_model
    make_app = import_module("headstock.heads.service.app").make_app
    bundle = fit(store, "lda", "image", metric=name)
    want, x = bundle.predict(store), store.feature_set("image").x()
    export_model(bundle, tmp_path / "m.onnx")
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"))
    (labels,) = session.run(["labels"], {"image": x})
    assert labels.tolist() == want.labels.tolist()
    row = int(np.flatnonzero(want.labels != want.classes[want.proba.argmax(axis=1)])[0])
    client = testclient.TestClient(make_app(bundle, lambda _: {"image": x[[row]]}))
    said = client.post("/predict", files={"image": ("image", b"x")}).json()
    assert said["prediction"] == want.labels[row]
    assert said["confidence"] == pytest.approx(want.confidence[row])
