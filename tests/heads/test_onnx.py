"""Models as ONNX: a graph says what its head or fusion says, and one that differs is refused."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from headstock.heads import FUSIONS, HEADS, Bundle, fit
from headstock.heads.bundle.members import Member
from headstock.heads.fusion.fusions import KINDS as FUSION_KINDS
from headstock.heads.onnx import export as exporting
from headstock.heads.onnx import export_model
from headstock.heads.onnx.probe import on_edge, random_rows
from headstock.heads.specs import KINDS
from headstock.store import FeatureStore
from headstock.store.errors import BundleError, OptionError

onnx = pytest.importorskip("onnx", reason="an extra: pip install 'headstock[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="an extra: pip install 'headstock[onnx]'")

FAST = {
    "lightgbm": {"n_estimators": 5},
    "xgboost": {"n_estimators": 5},
    "bagging": {"n_estimators": 5},
    "forest": {"n_estimators": 5},
    "extra-trees": {"n_estimators": 5},
    "mlp": {"max_iter": 3, "hidden_layer_sizes": 8},
    "learned": {"max_iter": 3, "hidden_layer_sizes": 8},
}


def fitted(store, head: str, on: str = "image+audio", **more) -> Bundle:
    return fit(store, head, on, options={head: FAST[head]} if head in FAST else None, **more)


@pytest.fixture(scope="module")
def small(tmp_path_factory, request):
    """A store of 120 rows, shared: nothing here writes to it."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("shared_rows", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    made = module_from_spec(spec)
    spec.loader.exec_module(made)
    rows = made._two_sets(120)
    with made._make_store(tmp_path_factory.mktemp("s") / "features.h5", rows) as store:
        yield store


def ran(path: Path, X: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    proba, labels = session.run(["probabilities", "labels"], X)
    return proba, labels


@pytest.mark.parametrize("name", list(HEADS))
def test_every_head_gives_the_same(name: str, small, tmp_path: Path) -> None:
    if name == "xgboost":
        pytest.importorskip("xgboost", reason="the extra xgboost is not installed")
    bundle = fitted(small, name)
    told = export_model(bundle, tmp_path / "m.onnx", store=small)
    assert (told.random, told.real) == (256, 120)
    assert told.difference < 1e-5
    assert told.edge <= 10
    X = {name: small.feature_set(name).x() for name in bundle.widths}
    proba, labels = ran(tmp_path / "m.onnx", X)
    sure = ~on_edge(bundle, X)
    assert sure.sum() > 100
    np.testing.assert_allclose(proba[sure], bundle.predict(small).proba[sure], atol=1e-5)
    same = labels == bundle.predict(small).labels
    assert same[sure].mean() > 0.98
    onnx.checker.check_model(onnx.load(tmp_path / "m.onnx"), full_check=True)


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_trees_on_components(name: str, small, tmp_path: Path) -> None:
    pytest.importorskip(name)
    options = {name: {"n_estimators": 20, "n_components": 4}}
    bundle = fit(small, name, "image+audio", options=options)
    assert any(bundle.members[0].fitted.components_)
    told = export_model(bundle, tmp_path / "m.onnx", store=small)
    assert told.difference < 1e-5
    # XGBoost cuts at the very values of training rows, of which 120 are asked
    assert told.edge < (10 if name == "lightgbm" else 60)


def test_kernels_on_landmarks(small, tmp_path: Path) -> None:
    bundle = fit(small, "rbf-svm", "image+audio", options={"rbf-svm": {"landmarks": 40}})
    assert "landmarks" in bundle.members[0].fitted.how_
    assert export_model(bundle, tmp_path / "m.onnx", store=small).difference < 1e-5


@pytest.mark.parametrize("fusion", list(FUSIONS))
def test_every_fusion_gives_the_same(fusion: str, small, tmp_path: Path) -> None:
    head = "learned" if fusion == "learned" else "logistic"
    heads = ["logistic", "lda"] if fusion == "stacked" else None
    options = {head: FAST[head]} if head in FAST else None
    bundle = fit(small, "logistic", "image+audio", fusion, heads, options=options)
    told = export_model(bundle, tmp_path / "m.onnx", store=small)
    assert told.difference < 1e-5
    proba, _ = ran(tmp_path / "m.onnx", {n: small.feature_set(n).x() for n in bundle.widths})
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("meta", ["lightgbm", "knn", "lda"])
@pytest.mark.parametrize("features", [False, True])
def test_stacks_of_other_heads(meta: str, features: bool, small, tmp_path: Path) -> None:
    options = {"stacked": {"meta": meta, "features": features}}
    heads = ["logistic", "lda"]
    bundle = fit(small, "logistic", "image+audio", "stacked", heads, options=options)
    told = export_model(bundle, tmp_path / "m.onnx", store=small)
    assert told.difference < 1e-5
    assert told.edge < 20
    bundle.save(tmp_path / "m.headstock")
    back = Bundle.load(tmp_path / "m.headstock")
    export_model(back, tmp_path / "n.onnx", store=small)
    assert (tmp_path / "n.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()


def test_a_model_of_rows_that_may_lack_a_set_is_exported_by_what_they_have(
    small, tmp_path: Path
) -> None:
    from headstock.heads.bundle.members import Pattern

    both = fit(small, "logistic", "image+audio", "mean")
    members = [*both.members, fitted(small, "lda", "audio").members[0]]
    patterns = {"image+audio": Pattern([0, 1], both.fusion), "audio": Pattern([2])}
    bundle = Bundle(members, None, both.classes, both.recipes, both.widths, patterns=patterns)
    X = {n: small.feature_set(n).x() for n in both.widths}
    told = export_model(bundle, tmp_path / "m.onnx", store=small)
    assert told.inputs == ["image", "audio"]
    proba, _ = ran(tmp_path / "m.onnx", X)
    np.testing.assert_allclose(proba, both.predict_arrays(X), atol=1e-5)
    told = export_model(bundle, tmp_path / "m.onnx", on="audio", store=small)
    assert told.inputs == ["audio"]
    proba, _ = ran(tmp_path / "m.onnx", {"audio": X["audio"]})
    np.testing.assert_allclose(proba, bundle.predict_arrays({"audio": X["audio"]}), atol=1e-5)
    with pytest.raises(OptionError, match=r"no answer for image; one of image\+audio, audio"):
        export_model(bundle, tmp_path / "m.onnx", on="image")


def test_a_gate_that_hands_over_is_a_choice_by_row(small, tmp_path: Path) -> None:
    bundle = fit(small, "logistic", "image+audio", "gated")
    bundle.fusion.first_, bundle.fusion.second_, bundle.fusion.threshold_ = 0, 1, 0.9
    export_model(bundle, tmp_path / "m.onnx", store=small)
    X = {n: small.feature_set(n).x() for n in bundle.widths}
    first = bundle.members[0].fitted.predict_proba(X["image"])
    proba, _ = ran(tmp_path / "m.onnx", X)
    kept = np.abs(proba - first).max(axis=1) < 1e-5
    assert 0 < kept.sum() < len(kept)
    np.testing.assert_array_equal(kept, first.max(axis=1) >= 0.9)


def test_every_kind_that_a_bundle_of_classes_holds_has_a_graph() -> None:
    drawn = {name: one for name, one in KINDS.items() if one.graph}
    assert {spec.kind for spec in HEADS.values()} <= set(drawn)
    for one in drawn.values():
        module, _, name = one.graph.partition(":")
        assert callable(getattr(import_module(f"headstock.heads.onnx.{module}"), name))
    assert set(FUSION_KINDS) <= set(exporting.FUSIONS)


def test_a_class_that_a_member_never_saw_has_probability_zero(small, tmp_path: Path) -> None:
    bundle = fitted(small, "logistic")
    (member,) = bundle.members
    member.fitted.classes_ = np.array([1, 2, 4, 3])
    bundle.classes = np.array(["aunt", "ant", "bee", "cat", "dog"], dtype=object)
    export_model(bundle, tmp_path / "m.onnx", store=small)
    proba, _ = ran(tmp_path / "m.onnx", {n: small.feature_set(n).x() for n in bundle.widths})
    assert (proba[:, 0] == 0).all()
    assert proba[:, 1:].min() > 0


@pytest.mark.parametrize("k", [2, 3])
def test_few_classes(k: int, tmp_path: Path, two_sets, make_store) -> None:
    with make_store(tmp_path / "s.h5", two_sets(60, k)) as store:
        for head in ("rbf-svm", "lightgbm", "tree"):
            told = export_model(fitted(store, head, "audio"), tmp_path / "m.onnx", store=store)
            assert told.difference < 1e-5


def test_metadata_names_classes_recipes_and_inputs(small, tmp_path: Path) -> None:
    bundle = fitted(small, "logistic")
    told = export_model(bundle, tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    words = json.loads({p.key: p.value for p in model.metadata_props}["headstock"])
    assert words["classes"] == ["ant", "bee", "cat", "dog"]
    assert words["recipes"]["image"]["fields"] == {"width": 20}
    assert words["widths"] == {"image": 20, "audio": 6}
    assert [i.name for i in model.graph.input] == ["image", "audio"] == told.inputs
    assert "256 random rows" in told.text()
    assert json.loads(json.dumps(told.to_json()))["difference"] == told.difference


def test_thresholds_are_met_exactly(small, tmp_path: Path) -> None:
    bundle = fitted(small, "forest")
    X = random_rows(bundle, 400, 3)
    tree = bundle.members[0].fitted
    matrix = np.hstack([X["image"], X["audio"]])
    inner = tree.left_ >= 0
    met = [
        (matrix[:, f] == np.float32(t)).any()
        for f, t in zip(tree.feature_[inner], tree.threshold_[inner])
    ]
    assert np.mean(met) > 0.5
    export_model(bundle, tmp_path / "m.onnx")
    proba, _ = ran(tmp_path / "m.onnx", X)
    np.testing.assert_allclose(proba, bundle.predict_arrays(X), atol=1e-6)


def test_rows_that_hang_on_rounding_are_found(small) -> None:
    bundle = fitted(small, "knn")
    head = bundle.members[0].fitted
    head.neighbours, twin = 1, np.flatnonzero(head.codes_ != head.codes_[0])[0]
    head.rows_[twin] = head.rows_[0]
    X = {n: small.feature_set(n).x() for n in bundle.widths}
    edge = on_edge(bundle, X)
    assert edge[0]
    assert edge.sum() < 10


@pytest.mark.parametrize("spoilt", ["weights_", "bias_", "multiplier_"])
def test_a_graph_that_says_other_than_the_model_is_not_written(
    spoilt: str, small, tmp_path: Path, monkeypatch
) -> None:
    bundle = fitted(small, "logistic")
    honest = exporting._graph

    def other(bundle: Bundle):
        head = bundle.members[0].fitted
        kept = getattr(head, spoilt)
        setattr(head, spoilt, kept * 1.01)
        graph = honest(bundle)
        setattr(head, spoilt, kept)
        return graph

    monkeypatch.setattr(exporting, "_graph", other)
    with pytest.raises(BundleError, match=r"logistic: ONNX gives other prob.*nothing was written"):
        export_model(bundle, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_what_has_no_graph_is_refused_by_name(small, tmp_path: Path) -> None:
    class Odd:
        kind = "odd"

    bundle = fitted(small, "logistic")
    bundle.members = [Member("mine.py:odd", "image", Odd())]  # type: ignore[arg-type]
    with pytest.raises(BundleError, match=r"head mine.py:odd: cannot be expressed in ONNX"):
        export_model(bundle, tmp_path / "m.onnx")
    bundle = fit(small, "logistic", "image+audio", "mean")
    bundle.fusion.kind = "median"
    with pytest.raises(BundleError, match=r"fusion median: cannot be expressed in ONNX"):
        export_model(bundle, tmp_path / "m.onnx")


def test_a_store_without_rows_to_check_on_is_refused(small, tmp_path: Path) -> None:
    with FeatureStore.open(tmp_path / "empty.h5", "a") as empty:
        for name in small.sets:
            there = small.feature_set(name)
            empty.declare(name, there.recipe, there.dim)
        with pytest.raises(OptionError, match="no row with every vector"):
            export_model(fitted(small, "logistic"), tmp_path / "m.onnx", store=empty)


def test_too_large_for_one_file(small, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(exporting, "LARGEST", 1000)
    with pytest.raises(BundleError, match=r"head knn: holds .* ends at 2 GB"):
        export_model(fitted(small, "knn"), tmp_path / "m.onnx")


def test_onnx_missing_is_one_line(small, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(OptionError, match=r"pip install 'headstock\[onnx\]'"):
        export_model(fitted(small, "logistic"), tmp_path / "m.onnx")


def test_a_front_goes_before_its_set_and_is_held_to_its_vectors(small, tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    W = np.random.default_rng(0).normal(size=(3, 20)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["pixels"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["wide", "w"], ["vectors"]),
        ],
        "front",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 3])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", 20])],
        [numpy_helper.from_array(W, "w")],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
    inputs = np.random.default_rng(1).integers(0, 9, (6, 3), dtype=np.uint8)
    front = exporting.Front(model, inputs, inputs.astype(np.float32) @ W)
    bundle = fitted(small, "lda")
    told = export_model(bundle, tmp_path / "m.onnx", fronts={"image": front})
    assert told.inputs == ["image_pixels", "audio"]
    assert told.fronts["image"] < 1e-5
    assert "the backbone's vectors" in told.text()
    audio = small.feature_set("audio").x(np.arange(6))
    proba, _ = ran(tmp_path / "m.onnx", {"image_pixels": inputs, "audio": audio})
    mine = bundle.predict_arrays({"image": front.vectors, "audio": audio})
    np.testing.assert_allclose(proba, mine, atol=1e-5)
    bad = exporting.Front(model, inputs, front.vectors * 1.01)
    with pytest.raises(BundleError, match="backbone of image: ONNX gives other vectors"):
        export_model(bundle, tmp_path / "n.onnx", fronts={"image": bad})
