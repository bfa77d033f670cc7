"""Sets of classes: how often they hold the right one, and how they reach a user."""

from __future__ import annotations

import csv
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from headstock.heads import Bundle, evaluate, fit, fit_run, make_folds
from headstock.heads.bundle.coverage import Coverage, conformal_quantile, held_out, promise
from headstock.heads.bundle.fitting import fit_rows
from headstock.heads.bundle.prior import with_prior
from headstock.heads.rows.labelled import Rows
from headstock.store.errors import BundleError, HeadError, OptionError

NAMES = np.array(["a", "b", "c"], dtype=object)


@pytest.fixture
def store(tmp_path: Path, rows: Rows, make_store):
    split = ["test" if i >= 120 else "" for i in range(len(rows))]
    with make_store(tmp_path / "s.h5", rows, split=split) as made:
        yield made


def world(seed: int, n: int) -> Rows:
    """Three classes that overlap, the last one rare."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(3, n, p=[0.5, 0.35, 0.15])
    X = rng.normal(size=(n, 4)) + 1.6 * np.eye(3, 4)[codes]
    return Rows(np.arange(n).astype(str), {"t": X.astype(np.float32)}, codes, NAMES)


def made(rows: Rows, coverage: Coverage, head: str = "lda") -> tuple[dict, Bundle]:
    plan = make_folds(rows.codes, 5, ids=rows.ids, groups=rows.groups)
    promised = promise(held_out(rows, plan, ["t"], [(head, "t")], None, {}), coverage)
    return promised, fit_rows(rows, plan, head, "t")


def test_the_least_probability_is_the_conformal_quantile_of_held_out_answers(store) -> None:
    bundle = fit(store, "lda", "image", coverage=0.9)
    result = evaluate(store, ["lda"], ["image"], ())
    right = result.proba["lda@image"].reshape(120, -1)[np.arange(120), result.codes]
    (least,) = bundle.least.values()
    # of 121 rows 0.9 are 108.9: the 109th likeliest
    np.testing.assert_allclose(least, np.sort(right)[::-1][108])


def test_what_was_measured_is_by_thresholds_of_the_other_folds() -> None:
    rows = world(1, 150)
    promised, _ = made(rows, Coverage(0.9, per_class=True))
    told = promised["measured"]
    plan = make_folds(rows.codes, 5, ids=rows.ids)
    ((_, _, cut, said),) = held_out(rows, plan, ["t"], [("lda", "t")], None, {})
    inside = np.zeros((150, 3), dtype=bool)
    for fold in range(5):
        own = cut.codes[0] == fold
        for c in range(3):
            others = -said[~own & (rows.codes == c), c]
            inside[own, c] = said[own, c] >= -conformal_quantile(others, 0.9)
    right = inside[np.arange(150), rows.codes]
    assert told["held"] == pytest.approx(right.mean())
    assert told["size"] == pytest.approx(inside.sum() / 150)
    assert told["one"] == pytest.approx((inside.sum(axis=1) == 1).mean())
    assert told["by_class"] == pytest.approx([right[rows.codes == c].mean() for c in range(3)])


def test_a_class_of_too_few_rows_is_in_every_set() -> None:
    rows = world(0, 60)
    rows = rows.take(np.flatnonzero(np.cumsum(rows.codes == 2) <= 6))
    promised, _ = made(rows, Coverage(0.9, per_class=True))
    few = np.bincount(rows.codes) < 9
    assert few.tolist() == [least == 0 for least in promised["least"]["t"]]
    assert few.any()
    with pytest.raises(HeadError, match=rf"{len(rows)} rows promise no 0\.99; 99 are needed"):
        made(rows, Coverage(0.99))


def test_mapie_finds_the_same_sets() -> None:
    mapie = pytest.importorskip("mapie.classification", reason="MAPIE is not installed")
    from sklearn.linear_model import LogisticRegression

    rows = world(3, 500)
    X, y = rows.X["t"], rows.codes
    known = LogisticRegression().fit(X[:200], y[:200])
    peer = mapie.SplitConformalClassifier(known, confidence_level=0.9, prefit=True)
    peer.conformalize(X[200:400], y[200:400])
    theirs = peer.predict_set(X[400:])[1][:, :, 0]
    right = known.predict_proba(X[200:400])[np.arange(200), y[200:400]]
    ours = known.predict_proba(X[400:]) >= -conformal_quantile(-right, 0.9)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("fusion", [None, "weighted", "stacked", "gated", "learned"])
def test_a_saved_model_answers_with_sets(fusion, store, tmp_path: Path) -> None:
    head = None if fusion == "stacked" else "lda"
    heads = ["lda", "knn"] if fusion == "stacked" else None
    bundle = fit(store, head, fusion=fusion, heads=heads, coverage=0.8)
    bundle.save(tmp_path / "m.headstock")
    said = Bundle.load(tmp_path / "m.headstock").predict(store, np.arange(120, 160))
    (least,) = bundle.least.values()
    for own, p, label in zip(said.sets, said.proba, said.labels, strict=True):
        assert set(own) == {str(c) for c, v, low in zip(said.classes, p, least) if v >= low}
        assert not own or own[0] == label
    lines = list(csv.DictReader(said.to_csv().splitlines()))
    assert [line["set"].split("|") if line["set"] else [] for line in lines] == said.sets
    assert list(lines[0])[:4] == ["id", "prediction", "confidence", "set"]
    assert [line["set"] for line in said.to_json()] == said.sets
    filled = said.filled([*said.ids[:2], "new"], "mean")
    assert filled.sets[:2] == said.sets[:2]
    assert len(filled.sets[2]) == len(said.classes)
    k = len(said.classes)
    assert with_prior(said, np.full(k, 1 / k), bundle.settings).sets is None


def test_a_run_is_fitted_with_sets(store, tmp_path: Path, run_headstock) -> None:
    evaluate(store, ["lda"], ["image"], ()).save(tmp_path / "run")
    bundle = fit_run(store, tmp_path / "run", coverage=0.9, coverage_per_class=True)
    assert bundle.settings["promise"]["per_class"]
    store.close()
    where, model = tmp_path / "s.h5", tmp_path / "m.headstock"
    code, _, err = run_headstock(
        "fit", where, "--run", tmp_path / "run", "--coverage", 0.9, "-o", model
    )
    assert code == 0
    assert "sets of classes hold the right one of 0." in err
    assert "of the 120 held-out rows (0.9 asked)" in err
    share = tmp_path / "prior.csv"
    share.write_text("class,share\n" + "".join(f"{c},1\n" for c in bundle.classes))
    code, out, err = run_headstock("predict", model, where, "--only", "test", "--prior", share)
    assert code == 0
    assert "set" not in out.splitlines()[0].split(",")
    assert "sets of classes are left out" in err


def test_each_pattern_has_sets_of_its_own(rows: Rows, make_store, tmp_path: Path) -> None:
    has = {"image": np.arange(160) % 3 != 0, "audio": np.ones(160, dtype=bool)}
    with make_store(tmp_path / "g.h5", replace(rows, present=has)) as store:
        bundle = fit(store, "lda", "image+audio", missing="patterns", coverage=0.8)
        said = bundle.predict(store)
    assert set(bundle.least) == {"image+audio", "image", "audio"}
    for name, least in bundle.least.items():
        assert (said.least[said.answered_by == name] == least).all()


def test_what_is_no_promise_is_refused(store, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"coverage: 1\.5 is no share"):
        fit(store, "lda", coverage=1.5)
    with pytest.raises(OptionError, match="coverage_per_class: needs a coverage"):
        fit(store, "lda", coverage_per_class=True)
    bundle = fit(store, "lda", "image", coverage=0.9)
    k = len(bundle.classes)
    for odd in ({"other": [0.5] * k}, {"image": [0.5]}, {"image": [2.0] * k}, {"image": ["x"] * k}):
        bundle.settings["promise"]["least"] = odd
        bundle.save(tmp_path / "m.headstock")
        with pytest.raises(BundleError, match="sets of classes"):
            Bundle.load(tmp_path / "m.headstock")


def test_the_service_says_the_set(store) -> None:
    testclient = pytest.importorskip(
        "starlette.testclient", reason="pip install 'headstock[serve]'"
    )
    pytest.importorskip("python_multipart", reason="pip install 'headstock[serve]'")
    make_app = import_module("headstock.heads.service.app").make_app
    bundle = fit(store, "lda", "image", coverage=0.99)
    x = store.feature_set("image").x()
    want = bundle.predict(store).sets
    for row in (0, 7):
        client = testclient.TestClient(make_app(bundle, lambda _, row=row: {"image": x[[row]]}))
        said = client.post("/predict", files={"image": ("image", b"x")}).json()
        assert said["set"] == want[row]
