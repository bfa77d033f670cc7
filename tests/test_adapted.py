"""Vectors of networks that were adapted on labels: planted leaks, and the honest way past them."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstock.extract.adapt import Settings, adapt
from headstock.extract.job import extract_like, extract_manifest
from headstock.heads import FoldPlan, evaluate, fit, make_folds
from headstock.store import Batch, FeatureStore, Manifest, Recipe
from headstock.store.errors import HeadError

sys.path.insert(0, str(Path(__file__).parent / "extract" / "adapt"))
from tiny import TINY, draw

LEARNS = Settings(
    epochs=25, lr=0.01, batch_size=40, from_scratch=True, crop=1.0, colour=0.0, smoothing=0.0,
    patience=99, weight_decay=0.0, flip=False,
)  # fmt: skip


def filled(folder: Path, items, settings: Settings, **more) -> Path:
    """A store of the vectors of a network adapted on ``items``, and a set of noise beside them."""
    weights, store = folder / "w.safetensors", folder / "f.h5"
    more = {**TINY, **more}
    adapt(items, weights, "headstock:cnn4", divide=make_folds, settings=settings, **more)
    extract_manifest(Manifest("rows", items), store, weights=weights, workers=0, runtime="torch")
    with FeatureStore.open(store, "a") as features:
        features.declare("other", Recipe("columns", {"columns": ["a"] * 12}), 12)
        rng = np.random.default_rng(5)
        n = len(items)
        features.commit("other", Batch(
            ids=items.id.tolist(), digest=rng.integers(0, 256, (n, 32), dtype=np.uint8),
            stat=np.full((n, 2), -1), x=rng.normal(size=(n, 12)).astype(np.float32),
            status=np.ones(n, np.uint8), errors=[],
        ))  # fmt: skip
        features.compact()
    return store


@pytest.fixture(scope="module")
def leak(tmp_path_factory) -> Path:
    """Noise with labels at random, 120 rows and 40 of split test; three folds. The network of all
    rows knows them by heart."""
    folder = tmp_path_factory.mktemp("leak")
    items = draw(folder, 160, classes=2, noise=True)
    items.split[120:] = "test"
    memory = replace(LEARNS, epochs=40, held_out=0.1)
    return by_heart(filled, folder, items, memory, folds=3)


def by_heart(make, folder, items, settings, **more) -> Path:
    """Early stopping sees at once that noise cannot be learned; here the last epoch is kept."""
    from headstock.extract.adapt.train import Training

    with pytest.MonkeyPatch.context() as patch:
        close = Training._close

        def keep_the_last(self: Training, epoch: int) -> None:
            close(self, epoch)
            self.best = self.model.weights()

        patch.setattr(Training, "_close", keep_the_last)
        return make(folder, items, settings, **more)


def is_chance(line: dict) -> bool:
    """Within four standard deviations of a coin's: a seed's luck is no failure."""
    return abs(line.accuracy.value - 0.5) < 4 * np.sqrt(0.25 / line.n)


def test_the_honest_estimate_of_noise_is_chance_and_the_dishonest_one_is_not(leak):
    with FeatureStore.open(leak) as store:
        honest = evaluate(store, ["logistic", "knn"], ["image"], (), test_scores="all")
        # what a careless look at the network of all rows would say
        column = store.feature_set("image")
        train = np.flatnonzero(store.items.split != "test")
        copied = leak.with_name("careless.h5")
        with FeatureStore.open(copied, "a") as careless:
            careless.register(store.items.take(train))
            plain = {k: v for k, v in column.recipe.fields.items() if k != "weights"}
            careless.declare("image", Recipe("image", plain), column.dim)
            careless.commit("image", Batch(
                ids=store.items.id[train].tolist(), digest=column.digest[train],
                stat=np.full((len(train), 2), -1), x=column.x(train),
                status=np.ones(len(train), np.uint8), errors=[],
            ))  # fmt: skip
        with FeatureStore.open(copied) as careless:
            dishonest = evaluate(careless, ["logistic"], ["image"], (), dedupe="keep")
    for line in honest.leaderboard:
        assert is_chance(line), line.name
        assert is_chance(line.test)
        assert line.how == "fold by fold, on a network that did not see the fold"
    assert dishonest.leaderboard[0].accuracy.low > 0.7  # many deviations above


def test_each_fold_is_scored_on_the_network_that_did_not_see_it(leak):
    """The same numbers by hand, from the sets of the folds alone."""
    from headstock.heads.head import make_head
    from headstock.heads.outoffold.answer import fit_head, full_proba

    with FeatureStore.open(leak) as store:
        result = evaluate(store, ["lda"], ["image+other"], ())
        where = {i: r for r, i in enumerate(store.items.id)}
        rows = np.array([where[i] for i in result.ids])
        for fold, (train, held) in enumerate(result.folds.split()):
            X = np.hstack([store.feature_set(s).x(rows) for s in (f"image.fold{fold}", "other")])
            head, codes = make_head("lda", 0), result.codes
            fit_head(head, "lda", X[train], codes[train], result.folds.codes[0][train], {})
            said = result.proba["lda@image+other"][held]
            assert np.allclose(full_proba(head, "lda", X[held], 2), said, atol=1e-6)


def test_the_plan_is_that_of_the_networks_and_no_other(leak):
    plan = FoldPlan.load(leak.with_name("w.folds.json"))
    with FeatureStore.open(leak) as store:
        for folds in (None, 3, plan):
            result = evaluate(store, ["knn"], ["image"], (), folds=folds)
            assert (result.folds.codes == plan.align(result.ids).codes).all()
        other = make_folds(store.items.label[:120], 3, ids=store.items.id[:120], seed=3)
        for wrong in (4, 5, "group-out", other):
            with pytest.raises(HeadError, match="was adapted on"):
                evaluate(store, ["knn"], ["image"], (), folds=wrong)
        with pytest.raises(HeadError, match="2 repeats"):
            evaluate(store, ["knn"], ["image"], (), repeats=2)
        free = evaluate(store, ["knn"], ["other"], (), folds=4)  # a set without a network
        assert free.folds.folds == 4


def test_the_sets_of_the_folds_are_not_evaluated_by_themselves(leak):
    with FeatureStore.open(leak) as store:
        result = evaluate(store, ["knn"], fusions=["mean"])
        assert {line.on for line in result.leaderboard} == {"image", "other", "image+other"}
        with pytest.raises(HeadError, match="saw the labels of 80 of these 120 rows"):
            evaluate(store, ["knn"], ["image.fold0"], ())


def test_fusions_learn_from_what_networks_say_of_rows_they_did_not_see(leak):
    with FeatureStore.open(leak) as store:
        late = ["mean", "weighted", "stacked", "gated"]
        result = evaluate(store, ["logistic"], ["image", "other"], ["early", *late])
        lines = [line for line in result.leaderboard if line.fusion]
        assert len(lines) == 5
        for line in lines:
            assert is_chance(line), line.name
        bundle = fit(store, "logistic", "image+other", "weighted", heads=["logistic"])
        # a network that remembers would be all that counts
        assert bundle.fusion.weights_[0] < 1.0
        for more in ({"nested": True}, {"options": {"stacked": {"features": True}}}):
            asked = evaluate(store, ["logistic"], ["image", "other"], ["stacked"], **more)
            (line,) = asked.run.failed
            assert line.fusion == "stacked"
            assert "network" in line.reason


def test_a_learning_curve_asks_each_fold_for_its_own_network(leak):
    with FeatureStore.open(leak) as store:
        result = evaluate(store, ["logistic"], ["image"], (), learning_curve=True)
    assert all(is_chance(replace(point, n=120)) for point in result.run.learning_curve)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Adapted on all rows, without folds; what can be seen in the pictures is learned."""
    folder = tmp_path_factory.mktemp("whole")
    items = draw(folder, 60)
    items.split[48:] = "test"
    return filled(folder, items, replace(LEARNS, epochs=4, flip=False))


def test_rows_that_the_network_saw_are_refused_or_marked(whole):
    with FeatureStore.open(whole) as store:
        with pytest.raises(HeadError, match="saw the labels of 48 of these 48 rows") as caught:
            evaluate(store, ["knn"], ["image"], ())
        assert "--folds" in str(caught.value)
        evaluate(store, ["knn"], ["other"], ())
        marked = evaluate(store, ["knn"], ["image", "other"], ["early", "mean"], seen="mark")
    saw = {line.name: line.saw for line in marked.leaderboard}
    assert saw == {
        "knn@image": 48,
        "knn@other": 0,
        "knn@image+other": 48,
        "knn@image+other:mean": 48,
    }
    assert marked.run.hygiene.seen == {"image": 48}
    assert "saw the labels of 48 rows" in marked.text()
    assert all("not honest" in " ".join(x.notes) for x in marked.leaderboard if x.saw)


def test_rows_that_came_later_are_not_taken_for_seen(whole, tmp_path):
    """The same network, other pictures: nothing was seen, nothing is refused."""
    folder = tmp_path / "new"
    folder.mkdir()
    items = draw(folder, 40, seed=9)
    store = tmp_path / "new.h5"
    weights = whole.with_name("w.safetensors")
    extract_manifest(Manifest("rows", items), store, weights=weights, workers=0, runtime="torch")
    with FeatureStore.open(store) as features:
        result = evaluate(features, ["logistic"], ["image"], ())
    assert result.leaderboard[0].accuracy.value > 0.9
    assert not result.leaderboard[0].saw


def test_a_test_row_that_the_network_saw_is_refused(whole, tmp_path):
    with FeatureStore.open(whole) as store:
        items = store.items.take(np.arange(48))
    items.split[24:] = "test"
    other = tmp_path / "f.h5"
    extract_manifest(
        Manifest("rows", items),
        other,
        weights=whole.with_name("w.safetensors"),
        workers=0,
        runtime="torch",
    )
    with FeatureStore.open(other) as store, pytest.raises(HeadError, match="24 of these 24"):
        evaluate(store, ["knn"], ["image"], ())


def test_a_fusion_that_learns_is_not_fitted_on_what_the_network_remembers(whole):
    with FeatureStore.open(whole) as store:
        fit(store, "logistic", "image")
        fit(store, "logistic", "image+other", "mean", heads=["logistic"])
        with pytest.raises(HeadError, match="learns whom to trust"):
            fit(store, "logistic", "image+other", "weighted", heads=["logistic"])


def test_a_model_on_adapted_vectors_predicts_new_files(whole, tmp_path):
    with FeatureStore.open(whole) as store:
        bundle = fit(store, "logistic", "image")
    folder = tmp_path / "new"
    folder.mkdir()
    items = draw(folder, 20, seed=3)
    with extract_like(
        Manifest("rows", items), bundle.recipes, provenance=bundle.provenance, workers=0
    ) as (features, _):
        assert (bundle.predict(features).labels == items.label).mean() > 0.9


def test_rows_that_no_network_knows_are_named(leak, tmp_path):
    folder = tmp_path / "more"
    folder.mkdir()
    items = draw(folder, 6, seed=4)
    items.id[:] = [f"more/{name}" for name in items.id]  # other files are other rows
    store = tmp_path / "f.h5"
    store.write_bytes(leak.read_bytes())
    extract_manifest(
        Manifest("rows", items),
        store,
        weights=leak.with_name("w.safetensors"),
        workers=0,
        runtime="torch",
    )
    with FeatureStore.open(store) as features, pytest.raises(HeadError, match="6 rows were not"):
        evaluate(features, ["knn"], ["image"], (), missing="exclude")


def test_groups_that_the_folds_part_are_refused(leak):
    with FeatureStore.open(leak, "a") as store:
        items = store.items
        items.group[:] = [f"g{i % 10}" for i in range(len(items))]
        store.register(items)
        with pytest.raises(HeadError, match=r"part \d+ values of group; adapt with --group group"):
            evaluate(store, ["knn"], ["image"], (), group="group")
