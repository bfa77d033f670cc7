"""How one extraction goes about its rows, whatever they are and wherever it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headstock.store.datafile import Reader
from headstock.store.errors import OptionError

__all__ = ["Options"]


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
