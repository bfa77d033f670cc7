"""Heads that read by blocks say what the same heads say in memory, and never hold the rows."""

import json
import subprocess
import sys

import numpy as np
import pytest

from headstock.heads import Bundle, FoldPlan, fit
from headstock.heads.blockwise import blocks, passes, stream
from headstock.heads.blockwise.stream import STREAMED, evaluate_streamed, fit_streamed
from headstock.heads.bundle import bundle
from headstock.heads.outoffold.fold_by_fold import cross_fit
from headstock.heads.rows.labelled import read_rows
from headstock.heads.statistics.chance import priors
from headstock.heads.statistics.figures import figures
from headstock.heads.statistics.metrics import ByRow, score
from headstock.store import FAILED, OK, Batch, FeatureStore, Items, Recipe
from headstock.store.care.link import link
from headstock.store.errors import HeadError, IncompleteSet, MissingSet, OptionError

N, D, K = 900, 24, 4


def fill(path, ids, labels, sets, split=None, group=None, failed=(), digests=None):
    """``sets``: {name: (n, d)}; each row's digest is that of its id unless given."""
    with FeatureStore.open(path, "a") as store:
        store.register(
            Items.of(ids, label=labels, split=split, extra={"who": group or [""] * len(ids)})
        )
        for name, x in sets.items():
            store.declare(name, Recipe("image", {"weights": name}), x.shape[1])
            rng = np.random.default_rng(abs(hash(str(path))) % 1000)
            own = digests
            if own is None:
                own = rng.integers(0, 256, (len(ids), 32), dtype=np.uint8)
            bad = np.isin(ids, list(failed))
            store.commit(
                name,
                Batch(
                    ids=list(ids), digest=own, stat=np.full((len(ids), 2), -1), x=x,
                    status=np.where(bad, FAILED, OK).astype(np.uint8),
                    errors=[(i, "bad", "bad") for i in ids if i in failed],
                ),
            )  # fmt: skip
        store.compact()
    return path


def world(seed=0, n=N):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n) % K)
    centres = rng.normal(size=(K, D))
    x = (centres[codes] + 2.0 * rng.normal(size=(n, D)) * np.linspace(0.2, 3, D) + 5).astype("f4")
    ids = [f"r{i}" for i in range(n)]
    return ids, [f"class {c}" for c in codes], x


@pytest.fixture
def stores(tmp_path):
    """The same rows in one store and in three parts; two sets; the last tenth is a test split."""
    ids, labels, x = world()
    split = ["test" if i >= 0.9 * N else "" for i in range(N)]
    sets = {"a": x, "b": np.ascontiguousarray(x[:, :7] * 3 + 1)}
    digests = np.random.default_rng(5).integers(0, 256, (N, 32), dtype=np.uint8)
    whole = fill(tmp_path / "whole.h5", ids, labels, sets, split, digests=digests)
    made = []
    for k, (lo, hi) in enumerate([(0, 100), (100, 480), (480, N)]):
        part = {name: m[lo:hi] for name, m in sets.items()}
        path = tmp_path / f"p{k}.h5"
        made.append(
            fill(path, ids[lo:hi], labels[lo:hi], part, split[lo:hi], digests=digests[lo:hi])
        )
    link(tmp_path / "all.parts.json", made)
    return whole, tmp_path / "all.parts.json"


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 4 * D * 37)


TOLERANCE = {"lda": 2e-3, "ridge": 2e-3, "logistic": 5e-3}


@pytest.mark.parametrize("head", STREAMED)
@pytest.mark.parametrize("on", ["a", "a+b"])
def test_blocks_of_parts_give_the_numbers_of_the_head_in_memory(stores, small_blocks, head, on):
    whole, parts = stores
    with FeatureStore.open(parts) as store:
        result = evaluate_streamed(store, [head], [on], folds=3)
        kept = blocks.read_streamed(store, on, folds=3)
    with FeatureStore.open(whole) as store:
        rows, test, _ = read_rows(store, [on])
        fold = kept.fold[kept.fold >= 0].astype(int)
        plan = FoldPlan(tuple(rows.ids), fold[None])
        X, spans = rows.matrix(on)
        answer = cross_fit(head, X, spans, rows.codes, K, plan, fresh=test.matrix(on)[0])
    scores = score(answer.proba, rows.codes)
    own = answer.proba[0][np.arange(len(rows)), rows.codes]
    line = result.leaderboard[0]
    assert line.n == len(rows) == 810
    assert line.log_loss == pytest.approx(-np.log(own).mean(), abs=TOLERANCE[head])
    for name in ("brier", "calibration_error", "balanced_accuracy", "macro_f1"):
        assert getattr(line, name) == pytest.approx(scores[name], abs=0.015)
    assert abs(line.errors - (answer.proba[0].argmax(1) != rows.codes).sum()) <= 2
    assert line.test.n == 90
    wrong = (answer.test.argmax(1) != test.codes).sum()
    assert abs(line.test.errors - wrong) <= 1
    assert line.errors < 0.55 * line.n  # it learned something
    same = figures([ByRow.of(answer.proba[0], rows.codes)], rows.codes, K)
    for name, ends in same["intervals"].items():
        found = line.intervals[name]
        assert (found.low, found.high) == pytest.approx((ends["low"], ends["high"]), abs=0.02)
    for mine, theirs in zip(line.per_class, same["per_class"]):
        assert mine.interval == pytest.approx(theirs["interval"], abs=0.05)
    assert line.chance_p < 0.01
    prior = priors(rows.codes, plan.codes, K)
    guess = figures([ByRow.of(prior[0], rows.codes)], rows.codes, K)
    assert result.run.baseline.accuracy.value == guess["accuracy"]["value"]
    assert result.run.baseline.log_loss == pytest.approx(guess["log_loss"], rel=1e-6)
    assert result.run.baseline.test.n == 90
    (folds,) = result.run.fold_table
    assert [part.n for part in folds] == np.bincount(plan.codes[0]).tolist()
    assert "a fold holds out" in result.text()
    assert "guessing by how frequent the classes are" in result.text()


@pytest.mark.parametrize("head", STREAMED)
def test_a_model_fitted_by_blocks_is_a_model(stores, small_blocks, tmp_path, monkeypatch, head):
    whole, parts = stores
    with FeatureStore.open(parts) as store:
        fit_streamed(store, head, "a", folds=3).save(tmp_path / "m.headstock")
        model = Bundle.load(tmp_path / "m.headstock")
        said = model.predict(store)
        monkeypatch.setattr(bundle, "BLOCK", 100)
        assert np.allclose(model.predict(store).proba, said.proba, atol=1e-6)
    with FeatureStore.open(whole) as store:
        same = fit(store, head, "a", dedupe="keep").predict(store)
    assert said.ids.tolist() == same.ids.tolist()
    assert (said.labels == same.labels).mean() > 0.99
    assert np.abs(said.proba - same.proba).max() < 0.06  # temperatures of other folds


def test_the_sample_of_a_temperature_is_near_the_whole(stores, small_blocks, monkeypatch):
    with FeatureStore.open(stores[1]) as store:
        whole = fit_streamed(store, "lda", "a").members[0].fitted.multiplier_
        monkeypatch.setattr(passes, "SAMPLE", 400 * K)
        part = fit_streamed(store, "lda", "a").members[0].fitted.multiplier_
    assert part != whole
    assert part == pytest.approx(whole, rel=0.3)


def test_rows_of_one_group_or_one_file_are_never_parted(tmp_path):
    ids, labels, x = world(n=300)
    who = [f"speaker {i % 20}" for i in range(300)]
    digests = np.repeat(np.random.default_rng(0).integers(0, 256, (100, 32), dtype=np.uint8), 3, 0)
    path = fill(tmp_path / "f.h5", ids, labels, {"a": x}, group=who, digests=digests)
    with FeatureStore.open(path) as store:
        by_file = blocks.read_streamed(store, "a").fold
        by_group = blocks.read_streamed(store, "a", group="who").fold
        again = blocks.read_streamed(store, "a", group="who", seed=1).fold
    assert (by_file.reshape(100, 3) == by_file[::3][:, None]).all()
    for name in set(who):
        assert len(set(by_group[np.array(who) == name])) == 1
    assert len(set(by_group)) > 2
    assert (again != by_group).any()
    sizes = np.bincount(by_file, minlength=5)
    assert sizes.min() > 25  # 60 on average, in triples


def test_what_it_refuses(tmp_path, stores):
    ids, labels, x = world(n=60)
    path = fill(tmp_path / "f.h5", ids, labels, {"a": x}, failed=["r3"])
    with FeatureStore.open(path) as store:
        with pytest.raises(IncompleteSet, match="1 of 60 labelled rows"):
            fit_streamed(store, "lda")
        assert fit_streamed(store, "lda", missing="exclude").settings["rows"]["train"] == 59
        with pytest.raises(MissingSet):
            fit_streamed(store, "lda", "b")
        with pytest.raises(OptionError, match="cannot read by blocks"):
            evaluate_streamed(store, ["knn"])
        with pytest.raises(OptionError, match="unknown option C"):
            evaluate_streamed(store, ["lda"], options={"lda": {"C": 1}})
        with pytest.raises(OptionError, match="is a list"):
            evaluate_streamed(store, ["logistic"], options={"logistic": {"C": [1, 2]}})
        with pytest.raises(OptionError, match="no column nobody"):
            evaluate_streamed(store, ["lda"], group="nobody", missing="exclude")
        with pytest.raises(OptionError, match="--repeat: has no meaning"):
            evaluate_streamed(store, ["lda"], repeats=2, missing="exclude")
        with pytest.raises(OptionError, match="--fusion: has no meaning"):
            fit_streamed(store, "lda", fusion="mean", heads=("lda",), missing="exclude")
    alone = fill(tmp_path / "h.h5", ids, ["yak", *labels[1:]], {"a": x}, failed=["r0"])
    with FeatureStore.open(alone) as store:
        model = fit_streamed(store, "lda", missing="exclude")
        assert model.classes.tolist() == sorted(set(labels))
        assert model.settings["rows"]["vectorless"] == {"yak": 1}
    bare = fill(tmp_path / "g.h5", ids, [""] * 60, {"a": x})
    with FeatureStore.open(bare) as store, pytest.raises(HeadError, match="no row has a label"):
        fit_streamed(store, "lda")


def test_a_run_is_saved_and_read_again(stores, small_blocks, tmp_path):
    from headstock.heads.report.text import leaderboard_text
    from headstock.heads.run.folder import read_run

    with FeatureStore.open(stores[1]) as store:
        result = evaluate_streamed(store, ["lda", "ridge"], ["a", "a+b"])
    result.save(tmp_path / "run")
    body = json.loads((tmp_path / "run/metrics.json").read_text())
    assert [r["name"] for r in body["leaderboard"]] == [line.name for line in result.leaderboard]
    assert leaderboard_text(read_run(tmp_path / "run")) == result.text()
    assert "by hash of the file" in result.text()


def test_the_commands_take_a_store_in_parts(stores, tmp_path):
    from click.testing import CliRunner

    from headstock.cli import cli

    _, parts = stores
    run, model, out = tmp_path / "run", tmp_path / "m.headstock", tmp_path / "p.csv"
    for words in (
        ["evaluate", parts, "--stream", "--head", "ridge", "--on", "a", "-o", run],
        ["fit", parts, "--stream", "--head", "ridge", "--on", "a", "-o", model],
        ["predict", model, parts, "--only", "test", "-o", out],
        ["store", "info", parts],
        ["store", "verify", parts],
    ):
        done = CliRunner().invoke(cli, list(map(str, words)))
        assert done.exit_code == 0, (words, done.output, done.exception)
    assert len(out.read_text().splitlines()) == 91
    assert (run / "run.toml").is_file()


PEAK = """
import sys
from headstock.heads.blockwise import blocks
from headstock.heads.blockwise.stream import evaluate_streamed, fit_streamed
from headstock.store import FeatureStore
import scipy.linalg, scipy.optimize, scipy.special, sklearn
def peak():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM"))
blocks.BLOCK = 1 << 20
with FeatureStore.open(sys.argv[1]) as store:
    options = {"logistic": {"tol": 1e-2}} if sys.argv[2] == "logistic" else None
    fit_streamed(store, sys.argv[2], "small", options=options)
    before = peak()
    model = fit_streamed(store, sys.argv[2], "a", options=options)
print((peak() - before) / 1024)
"""


@pytest.mark.parametrize("head", ["lda", "logistic"])
def test_the_memory_is_that_of_a_block(tmp_path, head):
    """48 MiB of vectors in three parts, learned from in less than half of it."""
    rng, d, n, made = np.random.default_rng(0), 512, 8192, []
    for k in range(3):
        codes = rng.integers(0, 3, n)
        x = rng.standard_normal((n, d), dtype=np.float32)
        x[:, 0] += 3 * codes
        ids = [f"{k}-{i}" for i in range(n)]
        sets = {"a": x, "small": x[:, :4].copy()}
        made.append(fill(tmp_path / f"p{k}.h5", ids, [f"c{c}" for c in codes], sets))
    link(tmp_path / "all.parts.json", made)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path / "all.parts.json", head],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 24, done.stdout


@pytest.mark.parametrize("head", STREAMED)
def test_blocks_of_ugly_columns_give_the_numbers_of_the_head_in_memory(tmp_path, monkeypatch, head):
    """A flag of one fold, a sentinel of one row, columns of one value and of a large mean; the
    first block is of one kind."""
    monkeypatch.setattr(blocks, "BLOCK", 4 * 16 * 60)
    ids, labels, x = world(n=360)
    with FeatureStore.open(fill(tmp_path / "plain.h5", ids, labels, {"a": x})) as store:
        fold = blocks.read_streamed(store, "a", folds=3).fold
        digests = np.asarray(store.feature_set("a").digest)
    ugly = np.hstack([x[:, :8], np.zeros((360, 8), "f4")])
    ugly[np.flatnonzero(fold == 0)[:3], 8] = 1
    ugly[np.flatnonzero(fold == 1)[0], 9] = 1e7
    ugly[:, 9] += x[:, 9]
    ugly[:, 10], ugly[:, 11] = 0.1, 1e7
    ugly[:, 12] = 1e6 + x[:, 12]
    ugly[:, 13] = np.where(fold == 2, 255, 0)
    ugly[:, 14] = 1e-20 * x[:, 14]
    ugly[60:, 15] = x[60:, 15]
    path = fill(tmp_path / "ugly.h5", ids, labels, {"a": ugly}, digests=digests)
    with FeatureStore.open(path) as store:
        kept = blocks.read_streamed(store, "a", folds=3)
        np.testing.assert_array_equal(kept.fold, fold)
        moments, weights = passes.learn(kept, head, stream._options(head, None), False, True)
        rows, _, _ = read_rows(store, ["a"])
    plan = FoldPlan(tuple(rows.ids), fold[None].astype(int))
    slow = cross_fit(head, rows.X["a"], {"a": slice(0, 16)}, rows.codes, K, plan).proba[0]
    for f in range(3):
        mine = fold == f
        said = weights[(f,)].proba(moments(rows.X["a"][mine]))
        np.testing.assert_allclose(said, slow[mine], atol=5e-3 if head == "logistic" else 1e-3)
