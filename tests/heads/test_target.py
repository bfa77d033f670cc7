"""What labels are: classes or numbers."""

from __future__ import annotations

import numpy as np
import pytest

from headstock.heads.rows.labelled import Rows
from headstock.heads.rows.strata import strata_of
from headstock.store.errors import HeadError, OptionError
from headstock.store.manifest.target import found_target, number_of

CASES = {
    "words": (["cat", "dog"] * 50, "classes"),
    "ids of ten classes": ([str(i % 10) for i in range(1797)], "classes"),
    "ids of ten classes, few rows": ([str(i % 10) for i in range(20)], "classes"),
    "0 and 1": (["0", "1"] * 20, "classes"),
    "0.0 and 1.0": (["0.0", "1.0"] * 20, "classes"),
    "0.5 and 1": (["0.5", "1"] * 20, "classes"),
    "a hundred ids of fifty rows": ([str(i % 100) for i in range(5000)], "classes"),
    "years": ([str(1950 + i % 70) for i in range(700)], "number"),
    "200 numbers": ([str(3 * (i % 200)) for i in range(442)], "number"),
    "200 numbers, each once": ([str(i) for i in range(200)], "number"),
    "one decimal point": (["1", "2", "3.5"] * 30, "number"),
    "whole numbers with a decimal point": (["1.0", "2.0", "3.0"] * 30, "classes"),
    "numbers with a sign and an exponent": (["-1.5e-3", "+2.25", ".5", "7."] * 9, "number"),
    "one word among numbers": ([*map(str, range(300)), "unknown"], "classes"),
    "not a number": ([*map(str, range(300)), "nan"], "classes"),
    "infinity": ([*map(str, range(300)), "inf"], "classes"),
    "underscores": ([f"1_{i}" for i in range(300)], "classes"),
    "names of classes": ([f"digit {i % 10}" for i in range(100)], "classes"),
    "ids with leading zeros of many rows": ([f"{i % 30:03d}" for i in range(900)], "classes"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_found_from_the_labels(case: str) -> None:
    labels, target = CASES[case]
    found = found_target(labels)
    assert found.target == target
    if target == "number":
        np.testing.assert_array_equal(found.numbers, [float(x) for x in labels])
        assert "different (--target classes" in found.line
    else:
        assert found.numbers is None


def test_what_could_be_either_is_said() -> None:
    assert found_target(["cat", "dog"]).line == ""
    assert found_target([str(i % 10) for i in range(100)]).line == ""
    line = found_target([str(i % 100) for i in range(5000)]).line
    assert line == "100 classes, all of them numbers: --target number learns them as such"
    line = found_target([str(25 + i) for i in range(300)]).line
    assert (
        line == "a number from 25 to 324, 300 different (--target classes takes each for a class)"
    )


def test_it_is_what_is_asked_for() -> None:
    few, many = ["0", "1", "2"] * 9, [str(i) for i in range(300)]
    assert found_target(few, "number").target == "number"
    assert found_target(few, "number").line == "a number from 0 to 2, 3 different"
    line = "classes, as asked: all labels are numbers"
    assert found_target(many, "classes") == ("classes", None, line)
    assert found_target(few, "classes") == ("classes", None, "")
    with pytest.raises(HeadError, match=r"1 of 28 labels are no finite number \(first: cat\)"):
        found_target([*few, "cat"], "number")
    with pytest.raises(HeadError, match="all labels are 7"):
        found_target(["7", "7.0"], "number")
    with pytest.raises(OptionError, match="one of classes, number"):
        found_target(few, "numbers")


def test_text_that_is_no_number() -> None:
    for text in ("", "nan", "inf", "-inf", "1e999", "0x10", "1_0", "1,5", "٣", "1 2", "1e"):
        assert np.isnan(number_of(text)), text
    assert number_of(" 1.50 ") == 1.5


@pytest.mark.parametrize("n", [12, 40, 1000])
def test_each_fold_gets_its_share_of_the_numbers(n: int) -> None:
    numbers = np.random.default_rng(0).lognormal(size=n)
    parts = strata_of(of_numbers(numbers), 5)
    counts = np.bincount(parts)
    assert len(counts) == np.clip(n // 10, 2, 10)
    assert counts.max() - counts.min() <= 1
    for part in range(len(counts) - 1):
        assert numbers[parts == part].max() < numbers[parts == part + 1].min()


def test_numbers_that_are_mostly_one_are_dealt_too() -> None:
    for numbers in ([0] * 90 + [5] * 10, [5] * 90 + [0] * 10, [1] * 99 + [2]):
        assert len(np.unique(strata_of(of_numbers(np.array(numbers, float)), 5))) == 2


def of_numbers(numbers: np.ndarray) -> Rows:
    n = len(numbers)
    ids = np.arange(n).astype(str)
    return Rows(ids, {}, np.zeros(n, int), np.array(["number"]), numbers=numbers)
