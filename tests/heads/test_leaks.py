"""A single feature that tells the label: found where it does, never in noise, named everywhere."""

import numpy as np
import pytest

from headstock.heads import evaluate
from headstock.heads.blockwise.stream import evaluate_streamed
from headstock.heads.rows.leaks import right_alone, suspects
from headstock.store import Batch, FeatureStore, Items, Recipe

rng = np.random.default_rng(0)
CODES = rng.permutation(np.arange(200) % 4)


def slow(x, codes):
    """``right_alone`` row by row."""
    right = 0
    for i in range(len(x)):
        others = np.arange(len(x)) != i
        same = others & (x == x[i])
        if not same.any():
            distance = np.abs(x.astype(float) - float(x[i]))
            distance[i] = np.inf
            nearest = x[distance == distance.min()].min()
            same = others & (x == nearest)
            counts = np.bincount(codes[same], minlength=codes.max() + 1)
            best = np.flatnonzero(counts == counts.max())
            right += len(best) == 1 and best[0] == codes[i]
            continue
        counts = np.bincount(codes[same], minlength=codes.max() + 1)
        right += counts[codes[i]] > np.delete(counts, codes[i]).max(initial=0)
    return right


@pytest.mark.parametrize("seed", range(20))
def test_the_sorted_way_is_the_slow_way(seed):
    random = np.random.default_rng(seed)
    codes = random.integers(0, 3, 60)
    for x in (random.normal(size=60), np.r_[random.permutation(30), np.full(30, 99)]):
        x = x.astype(np.float32)
        assert right_alone(x, codes) == slow(x, codes)


LEAKS = {
    "the label": CODES,
    "its name as another number": np.array([7, -3, 100, 2])[CODES],
    "with noise": CODES + rng.normal(scale=0.02, size=200),
    "not in order": (CODES * 2 + rng.integers(0, 2, 200)) * 37 % 11,
    "wrong on two rows": np.r_[(CODES[:2] + 1) % 4, CODES[2:]],
}


@pytest.mark.parametrize("name", LEAKS)
def test_the_label_in_disguise(name):
    x = LEAKS[name].astype(np.float32)
    found = suspects(
        np.stack([rng.normal(size=200).astype(np.float32), x], axis=1), CODES, ["a", "b"]
    )
    assert [one["feature"] for one in found] == ["b"]
    assert found[0]["accuracy"] > 0.97
    assert found[0]["guessing"] == 0.25


@pytest.mark.parametrize(("n", "k", "d"), [(12, 2, 2000), (40, 2, 500), (200, 10, 100)])
def test_noise_is_not_suspected(n, k, d):
    for seed in range(8):
        random = np.random.default_rng(seed)
        codes = random.permutation(np.arange(n) % k)
        X = random.normal(size=(n, d)).astype(np.float32)
        X[:, ::2] = random.integers(0, 3, (n, (d + 1) // 2))  # with many ties too
        assert suspects(X, codes) == []


def test_a_good_feature_and_a_rare_class_are_not_suspected():
    good = (CODES + rng.normal(scale=0.35, size=200)).astype(np.float32)[:, None]
    assert right_alone(good[:, 0], CODES) > 120
    assert suspects(good, CODES) == []
    rare = (np.arange(200) < 4).astype(int)
    assert suspects(rng.normal(size=(200, 1)).astype(np.float32), rare) == []
    assert suspects(np.zeros((200, 1), np.float32), CODES) == []
    assert suspects(np.zeros((3, 1), np.float32), np.array([0, 1, 0])) == []


@pytest.fixture
def leaky(tmp_path):
    def make(recipe):
        path = tmp_path / f"{recipe.modality}.h5"
        ids = [f"r{i}" for i in range(200)]
        x = rng.normal(size=(200, 3)).astype(np.float32)
        x[:, 1] = CODES
        with FeatureStore.open(path, "a") as store:
            store.register(Items.of(ids, label=[f"c{c}" for c in CODES]))
            store.declare("t", recipe, 3, feature_names=["pixel0", "target", "pixel1"])
            stat = np.full((200, 2), -1, np.int64)
            digest = rng.integers(1, 255, (200, 32)).astype(np.uint8)
            store.commit("t", Batch(ids, digest, stat, x, np.ones(200, np.uint8), []))
        return FeatureStore.open(path)

    return make


LINE = "suspected leak: target of set t tells the label alone (right on 100 % of 200 rows"


@pytest.mark.parametrize("run", [evaluate, evaluate_streamed])
@pytest.mark.parametrize("fields", [{"columns": ["a"]}, {"unknown": "import of x.csv"}])
def test_it_is_named_before_the_scores(leaky, run, fields):
    modality = "columns" if "columns" in fields else "image"
    more = {"fusions": []} if run is evaluate else {}
    with leaky(Recipe(modality, fields)) as store:
        result = run(store, ["lda"], folds=4, **more)
    text = result.text()
    assert text.index(LINE) < text.index("accuracy")
    assert [one.feature for one in result.run.hygiene.leaks] == ["target"]


def test_a_network_is_not_asked(leaky):
    with leaky(Recipe("image", {"weights": "w"})) as store:
        assert evaluate(store, ["lda"], fusions=[], folds=4).run.hygiene.leaks == ()
