"""A metric that the user names decides everywhere, and is shown first."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import log_loss, roc_auc_score

from headstock.cli import cli
from headstock.heads import evaluate
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
