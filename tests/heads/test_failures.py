"""A head that cannot answer is a line with its reason; all others finish."""

import json

import numpy as np
import pytest

from headstock.heads import evaluate
from headstock.heads.evaluate_classes import evaluate_rows
from headstock.heads.report.formats import leaderboard_as
from headstock.heads.report.notebook import leaderboard_html
from headstock.heads.rows.folds import make_folds
from headstock.store.errors import HeadError, OptionError

HEADS = '''
class Broken:
    kind = None
    def __init__(self, error): self.error = error
    def fit(self, X, y): raise self.error
    def predict_proba(self, X): raise self.error

class Wide(Broken):
    """Cannot do with a wide matrix, does with a narrow one."""
    def fit(self, X, y):
        if X.shape[1] > 6: raise ValueError("too many columns")
        self.classes_, counts = __import__("numpy").unique(y, return_counts=True)
        self.share = counts / counts.sum()
        return self
    def predict_proba(self, X): return __import__("numpy").tile(self.share, (len(X), 1))

def hungry(seed): return Broken(MemoryError())
def odd(seed): return Broken(ZeroDivisionError("no rows of this kind"))
def narrow(seed): return Wide(None)
'''


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(HEADS)
    return lambda name: f"{tmp_path / 'mine.py'}:{name}"


@pytest.mark.parametrize(
    ("name", "reason"), [("hungry", "memory"), ("odd", "no rows of this kind")]
)
def test_a_head_that_cannot_is_a_line_and_the_others_finish(rows, mine, name, reason):
    broken, plan = mine(name), make_folds(rows.codes, 4)
    alone = evaluate_rows(rows, ["lda", "knn"], ["image", "audio"], ["mean", "stacked"], plan)
    result = evaluate_rows(
        rows, ["lda", broken, "knn"], ["image", "audio"], ["mean", "stacked"], plan
    )
    assert {line.name for line in result.leaderboard} == {b.name for b in alone.leaderboard}
    for name, proba in alone.proba.items():  # the stack goes on with the heads that answer
        np.testing.assert_array_equal(result.proba[name], proba)
    lost = {line.name: line.reason for line in result.run.failed}
    assert set(lost) == {f"{broken}@image", f"{broken}@audio", f"{broken}@image+audio:mean"}
    assert all(reason in why for why in lost.values())
    stack = next(line for line in result.leaderboard if line.fusion == "stacked")
    assert any(note.startswith("without ") and broken in note for note in stack.notes)


def test_every_view_shows_it(rows, mine, make_store, tmp_path):
    store = make_store(tmp_path / "f.h5", rows)
    result = evaluate(store, heads=["lda", mine("odd")], on=["image"], fusions=[], folds=3)
    result.save(tmp_path / "run")
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert [line["head"] for line in metrics["failed"]] == [mine("odd")]
    text = result.text()
    assert "failed" in text
    (line,) = [line for line in text.splitlines() if line.startswith("no score: ")]
    assert "ZeroDivisionError: no rows of this kind" in line
    assert "failed" in leaderboard_html(result.run)
    for form in ("csv", "markdown", "latex"):
        assert "odd" in leaderboard_as(form, {"run": result.run})


def test_a_head_that_can_on_one_set_is_scored_there(rows, mine):
    result = evaluate_rows(
        rows, ["lda", mine("narrow")], ["image", "audio"], [], make_folds(rows.codes, 4)
    )
    assert {line.name for line in result.run.failed} == {f"{mine('narrow')}@image"}
    assert f"{mine('narrow')}@audio" in result.proba


def test_where_nothing_answers_the_reason_is_the_error(rows, mine):
    with pytest.raises(HeadError, match="no rows of this kind"):
        evaluate_rows(rows, [mine("odd")], ["image"], [], make_folds(rows.codes, 4))


def test_a_wrong_option_is_no_failure_of_a_head(rows):
    with pytest.raises(OptionError, match="n_neighbours"):
        evaluate_rows(
            rows, ["lda", "knn"], ["image"], [], make_folds(rows.codes, 4),
            options={"knn": {"n_neighbours": 3}},
        )  # fmt: skip
