"""The one vocabulary of splits: train, valid and test, by whatever usual word a table, a folder or
a flag calls them.

Whoever asks which rows are held out asks here: one room that took a word which another did not
know would train on rows that it calls a test.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from headstock.store.errors import ManifestError, OptionError

__all__ = [
    "HELD_OUT",
    "SPLITS",
    "WORDS",
    "in_split",
    "read_splits",
    "split_flag",
    "split_of",
    "splits_of",
]

SPLITS = ("train", "valid", "test")
HELD_OUT = ("valid", "test")
"""Splits that no head and no network is trained on."""
WORDS = {
    "train": ("train", "training", "trn", "learn", "learning"),
    "valid": (
        "valid", "validation", "validate", "val", "dev", "devel", "development",
        "holdout", "heldout", "eval", "evaluation",
    ),
    "test": ("test", "testing", "tst"),
}  # fmt: skip
_OF = {word: split for split, words in WORDS.items() for word in words}
_BESIDE = frozenset(
    "set sets split data dataset part partition images image pictures audio sounds files rows "
    "samples".split()
)
"""Words that say nothing: ``TEST SET`` is ``test``."""


def split_of(word: str) -> str | None:
    """``train``, ``valid`` or ``test`` for a usual word in any case, with or without blanks,
    hyphens, underscores and words such as *set*; ``""`` for a blank one; None for any other."""
    parts = re.split(r"[\W_]+", unicodedata.normalize("NFKC", word).casefold().strip())
    parts = [part for part in parts if part]
    if not parts:
        return "" if not word.strip() else None
    kept = "".join(part for part in parts if part not in _BESIDE)
    return _OF.get(kept) or _OF.get(kept.removesuffix("set").removesuffix("data"))


def _known() -> str:
    return "; ".join(f"{split}: {', '.join(words[1:])}" for split, words in WORDS.items())


def split_flag(word: str, flag: str) -> str:
    """The split that a flag or an argument names. Raises OptionError for a word that is none."""
    split = split_of(word)
    if not split:
        raise OptionError(flag, f"{word!r} is no split", f"train, valid or test ({_known()})")
    return split


def read_splits(cells: Sequence[str], place: Callable[[int], str]) -> tuple[list[str], list[str]]:
    """The split of each of n cells, and a line for each other spelling that was understood.

    ``place`` says where a cell stands. Raises ManifestError for the first word that is no split.
    """
    known = {word: split_of(word) for word in dict.fromkeys(cells)}
    odd = next((i for i, word in enumerate(cells) if known[word] is None), None)
    if odd is not None:
        others = len({word for word, split in known.items() if split is None}) - 1
        more = f" (and {others} other words)" if others else ""
        raise ManifestError(
            place(odd),
            f"the split {cells[odd]!r}{more} is not one that is known",
            f"write train, valid or test ({_known()}), or call the column something else",
        )
    counts = Counter(cells)
    lines = [
        f"split {word!r} read as {split} ({counts[word]:,} rows)"
        for word, split in known.items()
        if split and word.strip() != split
    ]
    return [known[word] or "" for word in cells], lines


def splits_of(words: np.ndarray, ids: np.ndarray, where: object) -> np.ndarray:
    """(n,) text: ``train``, ``valid`` or ``test`` for each row of a store; a row that names none is
    a training row. Raises ManifestError for the first word that is no split: a table of before this
    vocabulary may have brought it."""
    known = {word: split_of(str(word)) for word in set(words.tolist())}
    odd = next((i for i, word in enumerate(words) if known[word] is None), None)
    if odd is not None:
        raise ManifestError(
            f"{where}, row {ids[odd]}",
            f"the split {str(words[odd])!r} is not one that is known",
            f"headstock store label gives it train, valid or test ({_known()})",
        )
    return np.array([known[word] or "train" for word in words], dtype=object)


def in_split(splits: Iterable[str], wanted: str) -> np.ndarray:
    """(n,) bool: the rows of one split. A row that names none is a training row.

    Stores of before this vocabulary hold the words of their tables; a word that is no split is
    found by itself alone.
    """
    known: dict[str, str] = {}

    def of(word: str) -> str:
        if word not in known:
            split = split_of(word)
            known[word] = word.strip() if split is None else split or "train"
        return known[word]

    target = of(wanted)
    return np.array([of(str(word)) == target for word in splits], dtype=bool)
