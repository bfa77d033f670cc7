"""How one extraction goes about its rows, whatever they are and wherever it runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstock.store.datafile import Reader
from headstock.store.errors import OptionError

__all__ = ["Options", "share_of"]


@dataclass(frozen=True)
class Options:
    """The keywords of ``extract``, which says what each means. Raises OptionError."""

    batch_size: int | None = None
    workers: int | None = None
    limit: int | None = None
    fail_threshold: float | None = None
    overwrite: bool = False
    retry_failed: bool = False
    progress: bool = False
    data_roots: Sequence[str | Path] = ()
    allow_outside: bool = False
    item_seconds: float = 120.0

    def __post_init__(self) -> None:
        for option, value, least in (
            ("batch-size", self.batch_size, 1),
            ("workers", self.workers, 0),
            ("limit", self.limit, 0),
            ("item-seconds", self.item_seconds, 0.01),
        ):
            if value is not None and value < least:
                raise OptionError(option, f"{value} has no meaning", f"{least} or more")
        if self.fail_threshold is not None and not 0 <= self.fail_threshold <= 1:
            raise OptionError("fail-threshold", f"{self.fail_threshold} is not a share", "0 to 1")

    def reader(self, root: str) -> Reader:
        """What reads the files of rows whose paths are relative to ``root``."""
        return Reader.of(root, self.data_roots, self.allow_outside)


def share_of(word: str, n: int, flag: str = "--shard") -> np.ndarray:
    """The rows (their numbers) of share ``i/m`` of n, i from 1 to m: unbroken runs, in order.

    Raises OptionError for anything else.
    """
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", word.strip())
    i, m = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= i <= m:
        raise OptionError(f"{flag} {word}", "is no share", f"{flag} 1/8 to {flag} 8/8")
    return np.arange(n * (i - 1) // m, n * i // m)
