"""Answers taken again from an earlier evaluation: the very same numbers, and never a stale one."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from headstock.heads import evaluate
from headstock.heads.evaluation import cache_keys, reuse
from headstock.heads.rows.labelled import Rows
from headstock.heads.run.scores import Line
from headstock.heads.specs import HEADS as TABLE
from headstock.store import FeatureStore, Items

HEADS = ("lda", "knn")
FUSIONS = ("mean", "weighted", "stacked")
ALL = 6 + 4
"""Two heads on two sets and both; on each set once more, without each pair of folds."""


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What was really computed: (head, sets), in order."""
    seen: list[tuple[str, str]] = []
    real = reuse.answer_all

    def spy(name, on, *args, **kwargs):
        seen.extend((name, o) for o in on)
        return real(name, on, *args, **kwargs)

    monkeypatch.setattr(reuse, "answer_all", spy)
    return seen


def board(result) -> list[Line]:
    """The leaderboard without what says how it came."""
    return [replace(line, seconds=None, reused=False) for line in result.leaderboard]


def same(a, b) -> None:
    assert board(a) == board(b)
    assert a.proba.keys() == b.proba.keys()
    for name in a.proba:
        np.testing.assert_array_equal(a.proba[name], b.proba[name])
    assert a.test_proba.keys() == b.test_proba.keys()
    for name in a.test_proba:
        np.testing.assert_array_equal(a.test_proba[name], b.test_proba[name])


def test_one_head_more_costs_one_head(store, fitted) -> None:
    evaluate(store, HEADS, fusions=FUSIONS, reuse=True)
    assert len(fitted) == ALL
    fitted.clear()
    steps = []
    more = evaluate(
        store, (*HEADS, "ridge"), fusions=FUSIONS, reuse=True,
        progress=lambda done, total, name: steps.append((done, total)),
    )  # fmt: skip
    assert {head for head, _ in fitted} == {"ridge"}
    assert steps[-1][0] == steps[-1][1]
    reused = {row.name for row in more.leaderboard if row.reused}
    assert "lda@image+audio" in reused
    assert "knn@image+audio:weighted" in reused
    assert "all@image+audio:stacked" not in reused  # it has a member more
    assert not any("ridge" in name for name in reused)
    line = next(x for x in more.text().splitlines() if x.split()[:2] == ["lda", "image"])
    assert line.endswith("reused")
    nested = 4  # for the stack, which has a member more
    assert more.run.settings.reuse.found == len(reused) + nested
    same(more, evaluate(store, (*HEADS, "ridge"), fusions=FUSIONS))


def test_a_set_more_costs_that_set(store, fitted) -> None:
    evaluate(store, HEADS, on=("image",), fusions=(), reuse=True)
    fitted.clear()
    evaluate(store, HEADS, on=("image", "audio"), fusions=(), reuse=True)
    assert set(fitted) == {("lda", "audio"), ("knn", "audio")}


@pytest.mark.parametrize("n", [160, 1100], ids=["fold by fold", "all folds at once"])
def test_what_is_known_changes_no_bit(n: int, tmp_path: Path, make_store, two_sets) -> None:
    """Some heads known on some sets, in another order than they are asked in now."""
    heads = ["logistic", "ridge", "lda", "linear-svm", "rbf-svm", "knn", "tree", "lightgbm"]
    options = {"lightgbm": {"n_estimators": 5}, "logistic": {"C": [0.1, 1.0]}}
    split = ["test" if i % 5 == 0 else "train" for i in range(n)]
    with make_store(tmp_path / "s.h5", two_sets(n), split=split) as store:
        few = {k: v for k, v in options.items() if k in heads[::2]}
        evaluate(store, heads[::2], ("audio", "image"), (), 3, options=few, reuse=True)
        few = {k: v for k, v in options.items() if k in heads[1::2]}
        evaluate(store, heads[1::2], ("image+audio",), (), 3, options=few, reuse=True)
        fresh = evaluate(store, heads, None, ("weighted", "stacked"), 3, options=options)
        partly = evaluate(
            store, heads, None, ("weighted", "stacked"), 3, options=options, reuse=True
        )
        again = evaluate(
            store, heads, None, ("weighted", "stacked"), 3, options=options, reuse=True
        )
    assert 0 < sum(row.reused for row in partly.leaderboard) < len(partly.leaderboard)
    assert all(row.reused for row in again.leaderboard)
    same(fresh, partly)
    same(fresh, again)


def _relabel(store: FeatureStore) -> None:
    other = next(label for label in store.items.label if label != store.items.label[0])
    store.register(Items.of([store.items.id[0]], label=[other]))


CHANGES = {
    "an option": {"options": {"knn": {"n_neighbors": 7}, "lda": {"shrinkage": 0.3}}},
    "a list of options": {"options": {"knn": {"n_neighbors": [3, 9]}, "lda": {"shrinkage": [0.1]}}},
    "the seed of folds and heads": {"seed": 1},
    "the number of folds": {"folds": 4},
    "a repeat more": {"repeats": 2},
    "groups": {"group": "speaker"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_request_computes_anew(change: str, tmp_path: Path, rows, make_store, fitted):
    group = {"speaker": [f"s{i % 9}" for i in range(len(rows))]}
    with make_store(tmp_path / "s.h5", rows, group=group) as store:
        evaluate(store, HEADS, fusions=(), reuse=True)
        fitted.clear()
        result = evaluate(store, HEADS, fusions=(), reuse=True, **CHANGES[change])
        assert len(fitted) == 6
        assert not any(row.reused for row in result.leaderboard)
        same(result, evaluate(store, HEADS, fusions=(), **CHANGES[change]))


def test_another_label_computes_anew(store, fitted) -> None:
    before = evaluate(store, HEADS, fusions=FUSIONS, reuse=True)
    plan = before.folds  # a stratified plan would move with the label
    _relabel(store)
    fitted.clear()
    after = evaluate(store, HEADS, fusions=FUSIONS, folds=plan, reuse=True)
    assert len(fitted) == ALL
    assert not any(row.reused for row in after.leaderboard)
    assert (before.codes != after.codes).sum() == 1
    same(after, evaluate(store, HEADS, fusions=FUSIONS, folds=plan))


def _shifted(rows: Rows, name: str, row: int) -> Rows:
    X = rows.X[name].copy()
    X[row, 0] = np.nextafter(X[row, 0], np.float32(9))
    return replace(rows, X={**rows.X, name: X})


def test_another_vector_recipe_or_row_computes_anew(tmp_path: Path, rows, make_store, fitted):
    """The kept answers are carried to stores that differ in one thing each."""
    split = ["test" if i % 8 == 0 else "train" for i in range(len(rows))]
    for name, part in (("a", split), ("b", None)):
        with make_store(tmp_path / f"{name}.h5", rows, split=part) as store:
            evaluate(store, ("lda",), fusions=("mean",), reuse=True)

    def after(name: str, other: Rows, split=split) -> set[str]:
        with make_store(tmp_path / f"{name}.h5", other, split=split) as store:
            known = tmp_path / ("a.h5.oof" if split else "b.h5.oof")
            shutil.copytree(known, tmp_path / f"{name}.h5.oof")
            fitted.clear()
            result = evaluate(store, ("lda",), fusions=("mean",), reuse=True)
            fused = next(row for row in result.leaderboard if row.fusion == "mean")
            assert fused.reused == (not fitted)
            return {on for _, on in fitted}

    assert after("copy", rows) == set()
    assert after("copy without test", rows, None) == set()
    assert after("row", _shifted(rows, "image", 1)) == {"image", "image+audio"}
    assert after("test row", _shifted(rows, "audio", 8)) == {"audio", "image+audio"}
    every = {"image", "audio", "image+audio"}
    moved = [s if i else "train" for i, s in enumerate(split)]
    assert after("split", rows, moved) == every
    renamed = replace(rows, ids=np.array([f"x{i}" for i in rows.ids], dtype=object))
    assert after("ids", renamed, None) == every

    with FeatureStore.open(tmp_path / "copy.h5") as store:
        real = reuse.Reuse.beside(store)._recipes
        for name in ("image", "audio"):
            fitted.clear()
            other = {**real, name: "f" * 64}
            kept = reuse.Reuse(tmp_path / "a.h5.oof", other)
            from headstock.heads.evaluate_classes import evaluate_rows
            from headstock.heads.evaluation.plans import plan_for
            from headstock.heads.rows.labelled import read_rows

            train, test, _ = read_rows(store, ["image", "audio"])
            plan = plan_for(store, train, 5, group=None, repeats=1, seed=0)
            evaluate_rows(
                train, ("lda",), ("image", "audio", "image+audio"), (), plan,
                test=test, reuse=kept,
            )  # fmt: skip
            assert {on for _, on in fitted} == {name, "image+audio"}


def test_other_code_or_arithmetic_computes_anew(store, fitted, monkeypatch) -> None:
    evaluate(store, ("lda",), fusions=(), reuse=True)
    for name, value in (("package_digest", "other source"), ("arithmetic", ["another BLAS"])):
        with monkeypatch.context() as patched:
            patched.setattr(reuse, name, lambda value=value: value)
            fitted.clear()
            evaluate(store, ("lda",), fusions=(), reuse=True)
            assert len(fitted) == 3
    said = json.dumps(cache_keys.arithmetic())
    assert all(name in said for name in ("scikit-learn", "lightgbm", np.__version__))
    assert len(cache_keys.package_digest()) == 64


def test_every_line_that_computes_an_answer_is_counted() -> None:
    """The source of each head of the table, and of all that an evaluation has imported."""
    counted = {path.resolve() for path in cache_keys._sources()}
    for spec in TABLE.values():
        module = import_module(spec.make.partition(":")[0])
        assert Path(module.__file__ or "").resolve() in counted
    for name, module in list(sys.modules.items()):
        room = name.removeprefix("headstock.heads.").partition(".")[0]
        if name.startswith("headstock.heads.") and room not in cache_keys.SHOWING:
            assert Path(module.__file__ or "").resolve() in counted, name


OWN = """
from sklearn.naive_bayes import GaussianNB
{more}
def mine(seed):
    return GaussianNB(var_smoothing={smoothing})
"""


def test_a_head_of_ones_own_is_known_by_its_source(store, fitted, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN.format(more="", smoothing=1e-9))
    heads = (f"{file}:mine",)
    evaluate(store, heads, fusions=(), reuse=True)
    fitted.clear()
    evaluate(store, heads, fusions=(), reuse=True)
    assert not fitted
    file.write_text(OWN.format(more="", smoothing=1e-3))
    result = evaluate(store, heads, fusions=(), reuse=True)
    assert len(fitted) == 3
    same(result, evaluate(store, heads, fusions=()))


def test_a_head_that_takes_in_what_nothing_vouches_for_is_never_kept(
    store, fitted, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "besides_itself.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "mine.py"
    for more in (
        "import besides_itself",
        "import importlib\nvalue = importlib.import_module('besides_itself').value",
        "from pathlib import Path\nvalue = Path(__file__).read_text()",
        "import os\nvalue = os.environ.get('SMOOTHING')",
        "value = open(__file__).read()",
    ):
        file.write_text(OWN.format(more=more, smoothing=1e-9))
        for _ in range(2):
            fitted.clear()
            evaluate(store, (f"{file}:mine",), on=("image",), fusions=(), reuse=True)
            assert len(fitted) == 1, more


def test_a_distribution_that_may_change_under_one_version_vouches_for_nothing(monkeypatch) -> None:
    assert cache_keys._versions_of("sklearn") is not None
    assert cache_keys._versions_of("no_such_module") is None

    class Folder:
        version, metadata = "1.0", {"Name": "mine"}

        def read_text(self, name: str) -> str:
            return '{"dir_info": {"editable": true}, "url": "file:///mine"}'

    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Folder())
    assert cache_keys._versions_of("sklearn") is None


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "foreign"])
def test_a_file_that_is_not_whole_counts_as_absent(store, fitted, harm: str) -> None:
    first = evaluate(store, HEADS, fusions=FUSIONS, reuse=True)
    folder = Path(f"{store.path}.oof")
    for path in folder.iterdir():
        raw = bytearray(path.read_bytes())
        if harm == "flipped":
            raw[len(raw) // 2] ^= 1
        path.write_bytes({"cut": raw[:-9], "flipped": raw, "empty": b""}.get(harm, b"x" * 99))
    fitted.clear()
    again = evaluate(store, HEADS, fusions=FUSIONS, reuse=True)
    assert len(fitted) == ALL
    same(first, again)
    fitted.clear()
    evaluate(store, HEADS, fusions=FUSIONS, reuse=True)
    assert not fitted  # the whole ones took their place


def test_a_place_that_cannot_be_written_costs_nothing_but_time(store, fitted) -> None:
    Path(f"{store.path}.oof").write_text("in the way")
    for _ in range(2):
        fitted.clear()
        result = evaluate(store, ("lda",), fusions=(), reuse=True)
        assert len(fitted) == 3
    assert result.run.settings.reuse.kept == 0


def test_room_is_made_by_what_was_not_asked_for_longest(store, monkeypatch) -> None:
    evaluate(store, HEADS, fusions=(), reuse=True)
    folder = Path(f"{store.path}.oof")
    files = sorted(folder.iterdir())
    for age, path in enumerate(files):
        os.utime(path, (1_000_000 + age, 1_000_000 + age))
    size = sum(path.stat().st_size for path in files)
    monkeypatch.setattr(reuse, "LIMIT", size)
    evaluate(store, ("ridge",), on=("audio",), fusions=(), reuse=True)
    left = set(folder.iterdir())
    assert files[0] not in left
    assert files[-1] in left
    assert sum(path.stat().st_size for path in left) <= size


def test_nothing_is_kept_unless_asked(store) -> None:
    evaluate(store, ("lda",), fusions=())
    assert not Path(f"{store.path}.oof").exists()
