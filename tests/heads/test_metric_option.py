"""A metric that the user names decides everywhere, and is shown first."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import log_loss, roc_auc_score

from headstock.cli import cli
from headstock.heads import FoldPlan, evaluate, fit_run, make_head
from headstock.heads.fusion.fusions import make_fusion
from headstock.heads.metrics.table import metric_named
from headstock.heads.report.formats import as_csv, as_latex, as_markdown
from headstock.heads.report.page import write_report
from headstock.heads.report.runs import list_runs
from headstock.heads.report.standing import standing
from headstock.heads.run.folder import read_run
from headstock.heads.search.aims import METRIC
from headstock.heads.statistics.measured import guess_p
from headstock.store.errors import OptionError

HEADS = ("lda", "knn", "tree")


@pytest.fixture
def rare(tmp_path, make_store, two_sets):
    """One row in eight of class bee, in two sets of which neither suffices."""
    rows = two_sets(240, k=2, strength=0.35)
    codes = np.where(np.arange(240) % 8 == 0, 1, 0)
    order = np.argsort(rows.codes, kind="stable")
    moved = {n: X.copy() for n, X in rows.X.items()}
    ones, zeros = order[rows.codes[order] == 1], order[rows.codes[order] == 0]
    taken = np.where(codes == 1, np.resize(ones, 240), np.resize(zeros, 240))
    for name, X in rows.X.items():
        moved[name] = (
            X[taken] + np.random.default_rng(1).normal(size=X.shape).astype(np.float32) / 9
        )
    labels = [str(rows.classes[c]) for c in codes]
    split = ["test" if i % 5 == 4 else "" for i in range(240)]
    made = type(rows)(rows.ids, moved, codes, rows.classes)
    with make_store(tmp_path / "rare.h5", made, label=labels, split=split) as store:
        yield store


def run(store, *metric: str, **more):
    return evaluate(store, HEADS, ("image", "audio"), ("mean",), folds=4, metric=metric, **more)


def test_the_first_orders_the_board_and_is_what_is_said_of_the_run(rare) -> None:
    plain, found = run(rare), run(rare, "auroc", "log_loss")
    board = found.leaderboard
    values = [line.metrics["auroc"].value for line in board]
    assert values == sorted(values, reverse=True)
    assert [line.name for line in board] != [line.name for line in plain.leaderboard]
    for line in board:
        proba = found.proba[line.name]
        assert line.metrics["auroc"].value == pytest.approx(roc_auc_score(found.codes, proba[:, 1]))
        assert line.metrics["log_loss"].value == pytest.approx(log_loss(found.codes, proba))
        record = line.metrics["auroc"]
        assert record.low < record.value < record.high
    test = board[0].test.metrics["auroc"].value
    assert test == pytest.approx(
        roc_auc_score(found.test_codes, found.test_proba[board[0].name][:, 1])
    )
    assert found.run.settings.metric == ("auroc", "log_loss")
    assert {one.difference.metric for one in found.run.comparisons} == {"auroc"}
    assert found.run.selection.apparent == pytest.approx(values[0])
    assert found.run.baseline.metrics["auroc"].value == 0.5
    alike = {line.name: line.accuracy for line in plain.leaderboard}
    assert {line.name: line.accuracy for line in board} == alike


def test_a_loss_is_better_where_it_is_less(rare) -> None:
    found = run(rare, "log_loss")
    values = [line.metrics["log_loss"].value for line in found.leaderboard]
    assert values == sorted(values)
    assert all(c.difference.value <= 0 for c in found.run.comparisons)
    assert "worse" not in {c.verdict for c in found.run.comparisons}


def test_without_a_metric_nothing_is_otherwise(rare) -> None:
    plain, named = run(rare).to_json(), run(rare, "accuracy").to_json()
    for metrics in (plain, named):
        for line in metrics["leaderboard"]:
            line.pop("seconds")
            assert "metrics" not in line
        metrics["settings"].pop("when")
    assert plain["leaderboard"] == named["leaderboard"]
    assert plain["comparisons"] == named["comparisons"]
    assert "difference" not in plain["comparisons"][0]


def test_the_text_shows_it_first(rare) -> None:
    text = run(rare, "average_precision:bee", "macro_f1").text()
    header = next(line for line in text.splitlines() if line.startswith("head "))
    words = header.split()
    assert words[3:6] == ["average_precision:bee", "average_precision:bee", "95"]
    assert header.index("macro_f1") < header.index("accuracy")
    assert "of the other 8 by average_precision:bee" in text
    assert "chosen on other rows than those that score it: average_precision:bee 0." in text
    assert "difference in average_precision:bee" in text


def test_on_the_command_line(rare, tmp_path) -> None:
    words = ["evaluate", str(rare.path), "--head", "lda", "--head", "knn", "--on", "image"]
    words += ["--folds", "3", "--metric", "auroc", "--metric", "recall:bee", "--fusion", "mean"]
    done = CliRunner().invoke(cli, [*words, "-o", str(tmp_path / "run"), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert list(told["leaderboard"][0]["metrics"]) == ["auroc", "recall:bee"]
    assert 'metric = ["auroc", "recall:bee"]' in (tmp_path / "run" / "run.toml").read_text()
    wrong = CliRunner().invoke(cli, [*words, "--metric", "aurok"])
    assert "did you mean auroc?" in str(wrong.exception)


def test_a_wrong_metric_costs_no_fit(rare) -> None:
    with pytest.raises(OptionError, match="metric recall:dog: 'dog' is no class"):
        run(rare, "recall:dog", progress=lambda *_: pytest.fail("fitted"))


def test_a_search_takes_what_is_best_by_it(rare) -> None:
    """Trees deep and shallow, weighed by two metrics: each takes its own best, fold by fold."""
    options = {"tree": {"max_depth": [1, 3, 9], "min_samples_leaf": [1, 25]}}
    for metric, best in (("auroc", max), ("brier", min)):
        found = evaluate(
            rare, ("tree",), ("image",), (), folds=4, options=options, metric=(metric,)
        )
        (line,) = found.leaderboard
        points = line.tried.points
        assert line.tried.metric == metric
        for chosen, own in zip(line.chosen, line.tried.values, strict=True):
            assert chosen == points[own.index(best(own))]
    assert "metric" not in found.run.settings.options["tree"]


def test_the_inner_value_is_the_metric_of_what_is_held_out_inside() -> None:
    rng = np.random.default_rng(0)
    codes = (rng.random(200) < 0.2).astype(int)
    X = (rng.normal(size=(200, 5)) + codes[:, None]).astype(np.float32)
    inner = np.arange(200) % 4
    metric = metric_named("auroc", ["a", "b"])
    head = make_head("knn", 0, {"n_neighbors": [2, 30], METRIC: metric})
    head.fit(X, codes, inner=inner)  # type: ignore[call-arg]
    said = np.zeros(200)
    for fold in range(4):
        mine = inner == fold
        one = make_head("knn", 0, {"n_neighbors": 30}).fit(X[~mine], codes[~mine])
        said[mine] = one.predict_proba(X[mine])[:, 1]
    assert head.losses_[1] == pytest.approx(roc_auc_score(codes, said))  # type: ignore[attr-defined]
    assert head.chosen_ == {"n_neighbors": 30}  # type: ignore[attr-defined]


@pytest.mark.parametrize("fusion", ["weighted", "gated"])
@pytest.mark.parametrize("name", ["auroc", "macro_f1", "average_precision"])
def test_weights_and_gates_are_no_worse_by_it_where_they_were_fitted(
    fusion: str, name: str
) -> None:
    rng = np.random.default_rng(1)
    codes = (rng.random(300) < 0.15).astype(int)
    P = np.stack(
        [
            1 / (1 + np.exp(-(a * codes - 2 + b * rng.normal(size=300))))
            for a, b in ((2, 1), (3, 2))
        ],
        axis=1,
    )
    P = np.stack([1 - P, P], axis=2)
    metric = metric_named(name, ["a", "b"])
    plain = make_fusion(fusion).fit(P, codes, codes).predict(P)
    fitted = make_fusion(fusion, 0, {METRIC: metric}).fit(P, codes, codes)
    assert metric.score(fitted.predict(P), codes) > metric.score(plain, codes) - 1e-12
    assert max(metric.score(P[:, s], codes) for s in range(2)) <= metric.score(
        fitted.predict(P), codes
    ) + (0.02 if fusion == "weighted" else 0)


def test_what_was_scored_is_what_is_fitted(rare, tmp_path) -> None:
    """The refit of the run and fit --run aim at the same."""
    options = {"tree": {"max_depth": [1, 3, 9]}}
    found = evaluate(
        rare, ("tree", "lda"), ("image", "audio"), ("weighted", "gated"), folds=4,
        options=options, metric=("average_precision",), test_scores="all",
    )  # fmt: skip
    found.save(tmp_path / "run")
    assert found.run.settings.metric == ("average_precision:bee",)
    ids = {str(i): row for row, i in enumerate(rare.items.id)}
    rows = np.array([ids[str(i)] for i in found.test_ids])
    for name in ("tree@image+audio:weighted", "all@image+audio:gated", "tree@image"):
        bundle = fit_run(rare, tmp_path / "run", name)
        np.testing.assert_allclose(
            bundle.predict(rare, rows).proba, found.test_proba[name], atol=1e-6
        )
        assert bundle.settings["metric"] == "average_precision:bee"


def test_answers_chosen_by_another_metric_are_not_taken_again(rare) -> None:
    options = {"tree": {"max_depth": [1, 3, 9]}}
    given = {"folds": 4, "options": options, "reuse": True}
    for metric, reused in (("auroc", False), ("auroc", True), ("macro_f1", False), ("mcc", False)):
        found = evaluate(rare, ("tree",), ("image", "audio"), ("weighted",), metric=metric, **given)
        assert {bool(line.reused) for line in found.leaderboard} == {reused}, metric


@pytest.fixture
def two_runs(rare, tmp_path, monkeypatch):
    """The same rows by AUROC twice: good heads and a bad one."""
    monkeypatch.chdir(tmp_path)
    for name, heads in (("good", ("lda", "knn")), ("bad", ("tree",))):
        found = evaluate(
            rare, heads, ("image", "audio"), ("mean",), folds=4, metric=("auroc", "mcc"),
            options={"tree": {"max_depth": 1}} if name == "bad" else {},
        )  # fmt: skip
        found.save(tmp_path / "runs" / name)
    return tmp_path / "runs"


def test_runs_are_held_against_each_other_by_it(two_runs) -> None:
    stood = standing([two_runs / "bad", two_runs / "good"])
    assert stood.first.saved.name == "good"
    values = [roc_auc_score(s.saved.codes, s.proba[:, 1]) for s in stood.contest.systems]
    assert stood.contest.values == pytest.approx(values)
    assert values == sorted(values, reverse=True)
    (line,) = [one for one in stood.verdicts() if one.startswith("bad")]
    ((system, test),) = stood.against.values()
    assert not test.differs  # 24 rows of the rare class
    assert f"not distinguishable from it (right alone on {test.test.only_b} rows" in line
    gap = roc_auc_score(system.saved.codes, system.proba[:, 1]) - values[0]
    assert test.gap[0] == pytest.approx(gap)
    assert "auroc" in stood.text().splitlines()[2]
    assert stood.to_json()["systems"][0]["auroc"] == pytest.approx(values[0])
    listing = list_runs([two_runs]).text()
    best = max(values)
    assert f"auroc {best:.4f}" in listing
    assert f"good, {stood.first.name} is first: auroc {best:.4f}" in listing


def test_runs_that_go_by_different_metrics_are_compared_by_the_accuracy(two_runs, rare) -> None:
    evaluate(rare, ("lda",), ("image",), (), folds=4).save(two_runs / "third")
    stood = standing([two_runs / "good", two_runs / "third"])
    assert stood.contest.decides == "accuracy"
    accuracy = [float(s.right.mean()) for s in stood.contest.systems]
    assert stood.contest.values == pytest.approx(accuracy)


def test_other_formats_have_its_columns(two_runs) -> None:
    boards = {name: read_run(two_runs / name) for name in ("good", "bad")}
    rows = list(csv.DictReader(io.StringIO(as_csv(boards))))
    first = boards["good"].leaderboard[0]
    assert float(rows[0]["auroc"]) == first.metrics["auroc"].value
    assert float(rows[0]["mcc_low"]) == first.metrics["mcc"].low
    assert float(rows[0]["accuracy"]) == first.accuracy.value
    assert float(rows[0]["test_auroc_high"]) == first.test.metrics["auroc"].high
    table = as_markdown(boards).splitlines()
    assert table[0].startswith("| run | head | on | fusion | auroc | auroc 95 % | mcc |")
    assert len({line.count("|") for line in table}) == 1
    assert f"\\textbf{{{first.metrics['auroc'].value:.4f}}}" in as_latex(boards)


def test_the_page_shows_it_first(two_runs, tmp_path) -> None:
    pytest.importorskip("matplotlib")
    write_report([two_runs / "good"], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    board = page[page.index("Systems, best auroc first") :]
    assert board.index(">auroc<") < board.index(">mcc<") < board.index(">Accuracy<")
    assert "p of differences in auroc, adjusted, on" in page
    assert f"auroc {read_run(two_runs / 'good').leaderboard[0].metrics['auroc'].value:.4f}" in page


def test_what_aims_at_something_else_says_so(rare) -> None:
    given = {"folds": 3, "fusions": ("stacked",)}
    found = evaluate(rare, ("lda", "knn"), ("image",), metric="mcc", **given)
    (line,) = [one for one in found.leaderboard if one.fusion == "stacked"]
    assert "its head learns from the labels by its own loss, not by mcc" in line.notes
    plain = evaluate(rare, ("lda", "knn"), ("image",), **given)
    assert not any("its own loss" in note for one in plain.leaderboard for note in one.notes)


def test_the_first_is_held_against_labels_that_changed_places(rare) -> None:
    """By the metric: with one row in eight of a class the accuracy says nothing of either."""
    found = run(rare, "auroc")
    first, *others = found.leaderboard
    assert first.chance_p < 0.05
    assert {line.chance_p for line in others} == {None}
    assert "that it guesses: p" in found.text()
    codes = found.codes
    noise = np.random.default_rng(0).random(len(codes))
    metric = metric_named("auroc", ["ant", "bee"])
    proba = np.stack([1 - noise, noise], axis=1)
    values = []
    for seed in range(3):
        p = guess_p(metric, proba, codes, found.folds.codes[0], None, seed)
        values.append(p)
    assert min(values) > 0.05
    better = np.stack([1 - noise - codes, noise + codes], axis=1)
    assert guess_p(metric, better, codes, None, None) < 1e-6


def _repeat(plan: FoldPlan, r: int) -> FoldPlan:
    return FoldPlan(plan.ids, plan.codes[r : r + 1], plan.kind, plan.seed, plan.group)


def test_repeats_are_means(rare) -> None:
    found = evaluate(rare, ("lda",), ("image",), (), folds=3, repeats=2, metric="macro_f1")
    once = [
        evaluate(rare, ("lda",), ("image",), (), folds=_repeat(found.folds, r), metric="macro_f1")
        for r in range(2)
    ]
    values = [one.leaderboard[0].metrics["macro_f1"].value for one in once]
    assert found.leaderboard[0].metrics["macro_f1"].value == pytest.approx(np.mean(values))
