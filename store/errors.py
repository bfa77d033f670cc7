"""Every error headstock raises on purpose, and the exit code each one has on the command line.

    HeadstockError                1   a domain error: the request cannot be met
    ├── OptionError               2   an option or argument has no meaning here
    ├── ManifestError             1   the input table is wrong, named as file:line
    ├── MissingSet                1   a feature set is not in the store
    ├── IncompleteSet             1   rows of a set are not computed, named by count
    ├── RecipeMismatch            1   a column was made another way, differing fields named
    ├── WeightsError              1   pretrained weights cannot be had or do not fit
    ├── EncoderError              1   an encoder or its device failed in the middle of a run
    ├── HeadError                 1   a head or fusion cannot do what was asked
    ├── BundleError               1   a saved model cannot be written, read or applied
    ├── TooManyFailures           3   ``--fail-threshold`` was crossed and the run stopped
    ├── ItemError                 3   one row cannot be read; costs its own row, never the run
    ├── StoreDamaged              4   stored bytes do not match their checksums or layout
    ├── StorageError              5   no space left, or the disk refused
    ├── StoreBusy                 6   somebody else holds what is needed
    ├── VersionError              7   written by a newer headstock
    └── UnsafeInput               8   an input tries what no input may do

A message is one line, *where: what is wrong; what would be right*. The command line prints it and
exits with ``exit_code``; nothing else in the package maps errors to codes.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

__all__ = [
    "BundleError",
    "EncoderError",
    "HeadError",
    "HeadstockError",
    "IncompleteSet",
    "ItemError",
    "ManifestError",
    "MissingSet",
    "OptionError",
    "RecipeMismatch",
    "StorageError",
    "StoreBusy",
    "StoreDamaged",
    "TooManyFailures",
    "UnsafeInput",
    "VersionError",
    "WeightsError",
    "explained",
    "near",
    "one_line",
    "visible",
]


def one_line(text: object, limit: int = 2000) -> str:
    """``text`` without line breaks, control or direction characters, at most ``limit`` long.

    File names, labels and library messages come from outside and end up on terminals: an escape
    sequence in them must stay visible text.
    """
    flat = " ".join(visible(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def visible(text: object) -> str:
    """``text`` in one line whose control and direction characters are letters; spaces stay."""
    out = []
    for char in str(text):
        if char in "\n\r\t\v\f":
            out.append(" ")
        elif unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            out.append(char.encode("unicode_escape").decode("ascii"))
        else:
            out.append(char)
    return "".join(out)


def near(word: str, known: Iterable[str]) -> str:
    """``did you mean X? `` where the word X of ``known`` is close to ``word``, else nothing."""
    close = difflib.get_close_matches(str(word), [str(k) for k in known], 1, 0.6)
    return f"did you mean {close[0]}? " if close else ""


_MEMORY = re.compile(
    "failed to map segment|cannot allocate memory(?! in static TLS)|can't allocate memory|"
    "can't start new thread|unable to allocate|bad_alloc",
    re.I,
)
"""How libraries say that memory, or the address space, is at its end."""


def explained(error: Exception) -> tuple[str, int]:
    """The line and the exit code of an error that a command ended with. Raises one that is none of
    ours, of the system or of its memory: that is a bug, and its traceback is wanted."""
    if isinstance(error, HeadstockError):
        return str(error), error.exit_code
    said = isinstance(error, ImportError | RuntimeError | SystemError | OSError)
    if isinstance(error, MemoryError) or (said and _MEMORY.search(str(error))):
        return "memory: not enough for this; give it more, or do it in parts", 5
    if isinstance(error, OSError):
        place = error.filename or "system"
        return f"{one_line(place)}: {one_line(error.strerror or error)}", 5
    raise error


class HeadstockError(Exception):
    """Base of all errors here: ``where``, ``what`` is wrong and the ``fix`` that would be right."""

    exit_code = 1

    def __init__(self, where: object, what: object, fix: object = "") -> None:
        self.where, self.what, self.fix = one_line(where), one_line(what), one_line(fix)
        super().__init__(self.where, self.what, self.fix)

    def __str__(self) -> str:
        tail = f"; {self.fix}" if self.fix else ""
        return f"{self.where}: {self.what}{tail}"


class OptionError(HeadstockError):
    """An option or argument has no meaning here."""

    exit_code = 2


class ManifestError(HeadstockError):
    """The input table is wrong; ``where`` is ``file:line``."""


class MissingSet(HeadstockError):
    """A feature set is not in the store."""


class IncompleteSet(HeadstockError):
    """Rows of a feature set are pending or failed and cannot be read."""


class RecipeMismatch(HeadstockError):
    """A column exists that was made another way."""


class WeightsError(HeadstockError):
    """Pretrained weights cannot be had, or do not fit the architecture."""


class EncoderError(HeadstockError):
    """An encoder or its device failed in the middle of a run."""


class HeadError(HeadstockError):
    """A head or fusion cannot do what was asked of it."""


class BundleError(HeadstockError):
    """A saved model cannot be written, read or applied."""


class TooManyFailures(HeadstockError):
    """More rows failed than ``--fail-threshold`` allows."""

    exit_code = 3


class ItemError(HeadstockError):
    """One row's input cannot be read. ``code`` is a short fixed word that scripts can count by."""

    exit_code = 3

    def __init__(self, where: object, what: object, fix: object = "", code: str = "unreadable"):
        super().__init__(where, what, fix)
        self.code = code

    def __reduce__(self) -> tuple[type, tuple[str, ...]]:
        # it crosses the process boundary of decode workers
        return type(self), (self.where, self.what, self.fix, self.code)


class StoreDamaged(HeadstockError):
    """Stored bytes do not match their checksums or the layout."""

    exit_code = 4


class StorageError(HeadstockError):
    """No space left, or the disk refused a read or write."""

    exit_code = 5


class StoreBusy(HeadstockError):
    """Somebody else holds what is needed."""

    exit_code = 6


class VersionError(HeadstockError):
    """The file was written by a newer headstock."""

    exit_code = 7


class UnsafeInput(HeadstockError):
    """An input tries what no input may do: leave the data root, declare absurd sizes, run code."""

    exit_code = 8
