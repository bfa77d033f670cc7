"""The contract every head of the table keeps."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from headstock.heads import HEADS, Bundle, check_head, evaluate, fit, load_head, make_head
from headstock.heads.head import head_options
from headstock.heads.specs import KINDS, RENAMED, HeadSpec
from headstock.store.errors import HeadError, OptionError

FAST = {
    "lightgbm": {"n_estimators": 8},
    "xgboost": {"n_estimators": 8},
    "bagging": {"n_estimators": 10},
    "forest": {"n_estimators": 10},
    "extra-trees": {"n_estimators": 10},
    "mlp": {"max_iter": 30, "hidden_layer_sizes": 16, "learning_rate_init": 0.01},
}


def easy(n: int = 90, d: int = 12, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    X = rng.normal(size=(n, d)) * 3 + 10
    X[np.arange(n), y] += 9
    return X.astype(np.float32), np.array(["ant", "bee", "cat", "dog"])[y]


@pytest.fixture(params=list(HEADS))
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "xgboost":
        pytest.importorskip("xgboost", reason="the extra xgboost is not installed")
    return request.param


def test_the_contract_that_heads_of_ones_own_are_held_to(name: str) -> None:
    assert "it learns" in check_head(name, FAST.get(name))


def test_contract(name: str) -> None:
    X, y = easy()
    head = make_head(name, 0, FAST.get(name))
    head.fit(X[:60], y[:60])
    proba = head.predict_proba(X[60:])
    assert list(head.classes_) == ["ant", "bee", "cat"]
    assert proba.shape == (30, 3)
    assert (proba > 0).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-9)
    assert (head.classes_[proba.argmax(axis=1)] == y[60:]).mean() > 0.75
    again = make_head(name, 0, FAST.get(name))
    again.fit(X[:60], y[:60])
    np.testing.assert_array_equal(again.predict_proba(X[60:]), proba)


def test_two_classes_and_a_constant_column(name: str) -> None:
    X, y = easy(k=2)
    X[:, -1] = 7
    head = make_head(name, 0, FAST.get(name))
    head.fit(X[:60], y[:60])
    proba = head.predict_proba(X[60:])
    assert proba.shape == (30, 2)
    assert (head.classes_[proba.argmax(axis=1)] == y[60:]).mean() > 0.75


def test_a_class_may_be_rarer_than_the_inner_folds(name: str) -> None:
    X, y = easy()
    keep = (y != "cat") | (np.cumsum(y == "cat") <= 2)
    head = make_head(name, 0, FAST.get(name))
    head.fit(X[keep], y[keep])
    assert np.isfinite(head.predict_proba(X)).all()


def test_one_class_is_refused(name: str) -> None:
    X, _ = easy()
    with pytest.raises(HeadError, match="two classes"):
        make_head(name, 0, FAST.get(name)).fit(X, np.full(len(X), "ant"))


def test_state_gives_the_same_bits(name: str) -> None:
    X, y = easy()
    head = make_head(name, 0, FAST.get(name))
    head.fit(X, y)
    meta, arrays = head.state()  # type: ignore[attr-defined]
    assert head.kind in KINDS  # type: ignore[attr-defined]
    back = type(head).from_state(meta, arrays, 3)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(back.predict_proba(X), head.predict_proba(X))


def test_importances_are_one_a_column(name: str) -> None:
    X, y = easy()
    head = make_head(name, 0, FAST.get(name))
    head.fit(X, y)
    if hasattr(head, "importances"):
        importances = head.importances()
        assert importances.shape == (12,)
        assert importances[:3].mean() > importances[3:].mean()


def test_unknown_names_and_options_say_what_exists() -> None:
    with pytest.raises(OptionError, match="did you mean logistic"):
        make_head("logistics")
    with pytest.raises(OptionError, match=r"it has C=.*tol"):
        make_head("logistic", 0, {"c": 1})
    with pytest.raises(OptionError, match="depth"):
        make_head("tree", 0, {"n_estimators": 1})
    with pytest.raises(OptionError, match="shrinkage"):
        make_head("lda", 0, {"shrinkage": "2"})


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("knn", "neighbours", "n_neighbors"), ("lightgbm", "leaves", "num_leaves"),
        ("lightgbm", "min_leaf", "min_child_samples"), ("tree", "min_leaf", "min_samples_leaf"),
        ("forest", "trees", "n_estimators"), ("forest", "columns", "max_features"),
        ("xgboost", "columns", "colsample_bytree"), ("mlp", "rate", "learning_rate_init"),
        ("knn", "n_neighbours", "n_neighbors"), ("tree", "max_dept", "max_depth"),
    ],
)  # fmt: skip
def test_an_old_name_and_a_near_miss_are_answered_with_the_name(name, old, new) -> None:
    with pytest.raises(OptionError) as error:
        make_head(name, 0, {old: 3})
    assert error.value.what == f"unknown option {old}"
    assert str(error.value.fix).startswith(f"write {new}; it has ")


def test_every_old_name_has_a_new_one_that_a_head_knows() -> None:
    known = {option for name in HEADS for option in head_options(name)}
    for old, news in RENAMED.items():
        assert old not in known
        assert set(news) <= known


def test_option_values_may_be_text() -> None:
    X, y = easy()
    number, text = (make_head("knn", 0, {"n_neighbors": value}) for value in (3, "3"))
    for head in (number, text):
        head.fit(X, y)
    np.testing.assert_array_equal(number.predict_proba(X), text.predict_proba(X))


def test_a_head_of_ones_own(tmp_path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from sklearn.naive_bayes import GaussianNB\n"
        "def bayes(seed, smoothing=1e-9):\n    return GaussianNB(var_smoothing=smoothing)\n"
        "def nothing(seed):\n    return 3\n"
    )
    X, y = easy()
    head = make_head(f"{file}:bayes", 0, {"smoothing": 1e-6})
    head.fit(X, y)
    assert head.predict_proba(X).shape == (90, 3)
    with pytest.raises(HeadError, match="without fit"):
        make_head(f"{file}:nothing")
    with pytest.raises(OptionError, match="no function other"):
        load_head(f"{file}:other")
    with pytest.raises(OptionError, match="there is no file"):
        load_head("./absent.py:f")
    bundle = Bundle([], None, np.array(["a", "b"]), {}, {})
    assert bundle.members == []


def test_importing_heads_is_cheap() -> None:
    code = (
        "import sys, headstock.heads as h; h.HEADS; h.evaluate; h.fit;"
        "heavy = ('torch', 'lightgbm', 'sklearn', 'xgboost', 'pandas', 'h5py');"
        "print([m for m in heavy if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_lightgbm_takes_its_defaults_from_the_width_and_the_rows(monkeypatch) -> None:
    def told(d: int, **options: Any) -> list[float]:
        head = make_head("lightgbm", 0, options).fit(X[:, :d], y)
        text = head.text_  # type: ignore[attr-defined]
        lines = dict(line[1:-1].split(": ") for line in text.splitlines() if line[:1] == "[")
        names = ("num_leaves", "feature_fraction", "extra_trees", "bagging_fraction")
        return [text.count("Tree=") / 3, *(round(float(lines[name]), 3) for name in names)]

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 800)).astype(np.float32), np.arange(90) % 3
    assert told(20) == [100, 15, 0.3, 1, 1]
    assert told(800) == [300, 4, round(30 / 89, 3), 1, 1]  # 90 rows have 89 components
    assert told(800, n_components=0) == [100, 15, 0.25, 1, 1]
    assert told(20, n_components=5, num_leaves=9, n_estimators=3, max_samples=45) == [
        3,
        9,
        1,
        1,
        0.5,
    ]
    monkeypatch.setattr("headstock.heads.kinds.boosted.ROWS", 60)
    assert told(800) == [150, 4, round(30 / 89, 3), 0, 0.667]
    assert told(20) == [100, 15, 0.3, 1, 0.667]


def centroid(seed: int, spread: float = 1.0) -> Any:
    """A head as CONTRIBUTING adds one: the discriminant with nothing of the covariance left."""
    from headstock.heads.kinds.discriminant import lda

    return lda(seed, shrinkage=spread)


def test_a_head_is_added_by_a_function_and_one_entry(monkeypatch, tmp_path, store) -> None:
    spec = HeadSpec(
        make=f"{__name__}:centroid", kind="linear",
        grid={"spread": [0.5, 1.0]}, ranges={"spread": "0.2..1.0"},
    )  # fmt: skip
    monkeypatch.setitem(HEADS, "centroid", spec)  # type: ignore[misc]
    assert head_options("centroid") == {"spread": 1.0}
    result = evaluate(store, ("centroid", "lda"), fusions=("mean",), tune=("centroid:3",))
    line = next(row for row in result.leaderboard if row.head == "centroid")
    assert len(line.tried.points) == 3
    shared = evaluate(store, ("centroid",), on=("audio",), fusions=())
    assert shared.leaderboard[0].how == "all folds at once"
    model = fit(store, "centroid", on="audio")
    model.save(tmp_path / "m.headstock")
    X = store.feature_set("audio").x(np.arange(9))
    back = Bundle.load(tmp_path / "m.headstock")
    said = model.predict_arrays({"audio": X})
    np.testing.assert_array_equal(back.predict_arrays({"audio": X}), said)


def test_every_head_is_held_as_the_table_says(name: str) -> None:
    assert getattr(make_head(name), "kind", None) == HEADS[name].kind
