"""What is asked for wrongly is refused in one line, before any fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headstock.heads import evaluate, make_folds, make_head
from headstock.heads.evaluate_classes import evaluate_rows
from headstock.heads.rows.labelled import Rows
from headstock.store.errors import HeadError, HeadstockError, OptionError


@pytest.mark.parametrize(
    ("head", "options", "said"),
    [
        ("logistic", {"C": []}, "empty list"),
        ("logistic", {"C": "1e400"}, "no finite number"),
        ("logistic", {"C": [1.0, float("nan")]}, "no finite number"),
        ("logistic", {"C": "many"}, "C='many'"),
        ("ridge", {"alpha": -3}, "above 0"),
        ("ridge", {"alpha": 0}, "above 0"),
        ("knn", {"n_neighbors": 1.5}, "whole number"),
        ("knn", {"sharpness": -1}, "0 or more"),
        ("knn", {"sharpness": "x"}, "sharpness='x'"),
    ],
)
def test_values_that_no_head_can_take(head: str, options: dict, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        make_head(head, 0, options)


@pytest.mark.parametrize(
    ("options", "said"), [({"meta": 7}, "head 7"), ({"features": "maybe"}, "true or false")]
)
def test_a_stack_of_nothing_known(options: dict, said: str, store) -> None:
    with pytest.raises(OptionError, match=said):
        evaluate(store, ("knn",), fusions=("stacked",), options={"stacked": options})


def test_a_set_is_named_once(store) -> None:
    with pytest.raises(OptionError, match=r"image\+image names a set twice"):
        evaluate(store, ("knn",), on=("image+image",), fusions=())


@pytest.mark.parametrize(
    "body", ["def f(seed):\n    raise RuntimeError('x')", "raise SystemExit(9)", "def f(:"]
)
def test_a_file_of_ones_own_that_breaks_ends_nothing(body: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(body)
    with pytest.raises(HeadError, match="mend the file") as caught:
        make_head(f"{tmp_path}/mine.py:f")
    assert "\n" not in str(caught.value)


def test_classes_of_three_rows_are_scored_by_every_linear_head() -> None:
    """Without two of three folds each class is one row, its own mean: nothing scatters about it."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        X = {name: rng.normal(size=(18, 12)).astype(np.float32) for name in ("image", "audio")}
        ids, classes = np.arange(18).astype(str), np.array(list("abcdef"), dtype=object)
        rows = Rows(ids, X, np.arange(18) % 6, classes)
        plan = make_folds(rows.codes, 3, ids=ids, seed=seed)
        heads = ["lda", "ridge", "logistic"]
        result = evaluate_rows(rows, heads, ["image", "audio"], ["weighted", "stacked"], plan)
        assert all(row.n == 18 for row in result.leaderboard)


def test_one_row_of_a_class_is_no_advice_to_use_one_fold(tmp_path: Path, rows, make_store) -> None:
    labels = ["ant", *(["bee", "cat"] * 80)][: len(rows)]
    with make_store(tmp_path / "s.h5", rows) as store:
        from headstock.store import Items

        store.register(Items.of(list(store.items.id), label=labels))
        with pytest.raises(HeadstockError, match=r"ant \(1\); label more rows of it"):
            evaluate(store, ("knn",), fusions=(), rare="refuse")
