"""How often a test split was looked at is put down, said, and survives what files go through."""

from __future__ import annotations

import json

import numpy as np
import pytest

from headstock.heads import evaluate
from headstock.heads.blockwise.stream import evaluate_streamed
from headstock.heads.evaluation.ledger import look, split_digest
from headstock.store.errors import OptionError

SPLIT = ["test" if i % 4 == 0 else "train" for i in range(160)]
QUICK = {"heads": ("lda", "knn"), "on": ("image",), "fusions": (), "folds": 3}


@pytest.fixture
def split_store(tmp_path, make_store, rows):
    with make_store(tmp_path / "s.h5", rows, split=SPLIT) as store:
        yield store


def looks_of(result) -> tuple[int, int, int]:
    told = result.run.hygiene.looks
    return told.shown, told.looks, told.systems


def test_the_chosen_system_alone_is_scored_on_the_test_split(split_store) -> None:
    result = evaluate(split_store, **QUICK)
    first, other = result.leaderboard
    assert first.test.n == 40
    assert other.test is None
    assert list(result.test_proba) == [first.name]
    assert looks_of(result) == (1, 1, 1)
    assert "looked at for the first time, for 1 system" in result.text()
    every = evaluate(split_store, **QUICK, test_scores="all")
    assert all(line.test for line in every.leaderboard)
    assert every.leaderboard[0].test == first.test
    assert looks_of(every) == (2, 2, 2)  # the first system is the same one as before


def test_none_looks_at_nothing(split_store, tmp_path) -> None:
    result = evaluate(split_store, **QUICK, test_scores="none")
    assert not any(line.test for line in result.leaderboard)
    assert (result.test_proba, result.run.hygiene.looks) == ({}, None)
    assert not (tmp_path / "s.h5.ledger").exists()
    assert looks_of(evaluate(split_store, **QUICK))[1] == 1
    with pytest.raises(OptionError, match="one of chosen, all, none"):
        evaluate(split_store, **QUICK, test_scores="some")


def test_the_runs_that_looked_are_named(split_store, tmp_path) -> None:
    evaluate(split_store, **QUICK).save(tmp_path / "runs" / "first")
    again = evaluate(split_store, **QUICK, seed=3)
    assert again.run.hygiene.looks.runs == (str(tmp_path / "runs" / "first"),)
    words = again.text()
    assert "looked at for time 2" in words
    assert "the more often, the less its score is worth" in words


def test_another_split_has_a_ledger_of_its_own(split_store) -> None:
    ids, labels = np.array(["a", "b"]), np.array(["x", "y"])
    assert split_digest(ids, labels) == split_digest(ids[::-1], labels[::-1])
    assert split_digest(ids, labels) != split_digest(ids, labels[::-1])
    evaluate(split_store, **QUICK)
    other = look(split_store.path, split_digest(ids, labels), 2, {"s": "d"})
    assert (other.looks, other.systems, other.runs) == (1, 1, ())


def test_rows_by_blocks_look_at_the_same_split(split_store) -> None:
    evaluate(split_store, **QUICK)
    result = evaluate_streamed(split_store, ["lda", "ridge"], ["image"], folds=3)
    assert [bool(line.test) for line in result.leaderboard] == [True, False]
    assert looks_of(result) == (1, 2, 2)


def test_a_torn_or_strange_line_costs_itself_alone(tmp_path) -> None:
    store = tmp_path / "s.h5"
    for number in range(3):
        look(store, "split", 10, {"a": f"d{number}"})
    file = tmp_path / "s.h5.ledger"
    lines = file.read_bytes().splitlines(keepends=True)
    strange = [
        b"{\n",
        b"[1]\n",
        b'{"id": 3}\n',
        b'{"id": "a", "split": "split", "systems": 3}\n',
        b"\xff\n",
        b"[" * 5000 + b"\n",
    ]
    file.write_bytes(b"".join([lines[0], lines[1][:30], b"\n", *strange, lines[2]]))
    told = look(store, "split", 10, {"a": "d9"})
    assert (told.looks, told.systems) == (3, 3)
    assert json.loads(file.read_bytes().splitlines()[-1])["id"] == told.id


def test_a_ledger_that_cannot_be_written_fails_nothing_and_says_so(split_store, tmp_path) -> None:
    (tmp_path / "s.h5.ledger").mkdir()
    result = evaluate(split_store, **QUICK)
    assert "this look could not be put down (Is a directory)" in result.text()
