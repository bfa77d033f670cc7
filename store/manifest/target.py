"""What the labels are: classes, or numbers. Found from the labels, unless it is said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headstock.store.errors import HeadError, OptionError, one_line

__all__ = ["CLASSES", "NUMBER", "Found", "found_target", "number_of"]

CLASSES, NUMBER = TARGETS = "classes", "number"
"""What a label may be: one of k classes, or a number."""

DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
"""What reads as a number: no ``nan``, no ``1_000``, no ``0x10``."""
FEWEST = 20
"""Different whole numbers up to which labels are classes."""
SHARE = 0.05
"""The part of the rows that different whole numbers are more than where they are no ids of classes:
each then has fewer than twenty rows."""


class Found(NamedTuple):
    """The target, the labels' numbers (n,) or None, and what to say of it: empty for classes that
    are words, or few."""

    target: str
    numbers: np.ndarray | None = None
    line: str = ""


def number_of(label: str) -> float:
    """The number that a label is; not a number (NaN) for any other text, infinity among it."""
    text = label.strip()
    value = float(text) if DECIMAL.fullmatch(text) else np.nan
    return value if np.isfinite(value) else np.nan


def found_target(labels: Sequence[str] | np.ndarray, target: str | None = None) -> Found:
    """What labels (n,) are.

    Numbers, when each is a finite number and either one of them has a fraction and more than two
    differ, or more than 20 whole ones differ and these are more than a twentieth of the rows; else
    classes. ``target`` decides where it is said. Raises OptionError for a target that is none,
    HeadError for labels that are no numbers and are to be, and numbers that are all one.
    """
    if target is not None and target not in TARGETS:
        raise OptionError("target", f"{target!r} is none", f"one of {', '.join(TARGETS)}")
    if target == CLASSES:
        line = "classes, as asked: all labels are numbers"
        return Found(CLASSES, None, line if found_target(labels).target == NUMBER else "")
    texts = [str(label) for label in labels]
    numbers = np.array([number_of(text) for text in texts], dtype=np.float64)
    odd = np.flatnonzero(np.isnan(numbers))
    if len(odd):
        if target != NUMBER:
            return Found(CLASSES)
        what = f"{len(odd)} of {len(texts)} labels are no finite number"
        first = one_line(texts[odd[0]], 40)
        raise HeadError("target number", f"{what} (first: {first})", "mend them, or empty them")
    values = np.unique(numbers)
    fraction = bool((values % 1 != 0).any()) and len(values) > 2
    if target is None and not fraction and len(values) <= max(FEWEST, SHARE * len(numbers)):
        named = f"{len(values)} classes, all of them numbers: --target number learns them as such"
        return Found(CLASSES, None, named if len(values) > FEWEST else "")
    if len(values) < 2:
        what = f"all labels are {values[0]:g}" if len(values) else "there is no label"
        raise HeadError("target number", what, "numbers that differ are needed")
    line = f"a number from {values[0]:g} to {values[-1]:g}, {len(values):,} different"
    if target is None:
        line += " (--target classes takes each for a class)"
    return Found(NUMBER, numbers, line)
