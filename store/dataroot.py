"""Where the files of a store's rows lie, and who says so.

A store names the folder that its paths are relative to. A store comes from anywhere, so that is a
hint: files inside the store's own folder are read, elsewhere only where a user has named the
folder. A table is the user's own word, and the folder it lies in counts for it.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

from headstock.store.datafile import MAX_BYTES, Reader, inside
from headstock.store.errors import ItemError, OptionError, one_line

__all__ = ["DataRoot"]


@dataclass(frozen=True)
class DataRoot:
    """``folder``: resolved, and nothing outside it is read; "" where a user must name it first.
    ``named``: what the store says."""

    folder: str
    named: str

    @classmethod
    def of(cls, store: Path, named: str, data: str | os.PathLike[str] | None = None) -> DataRoot:
        """Of the store at ``store`` that names ``named``; ``data`` is what a user says instead."""
        if data is not None:
            return cls(os.path.realpath(data), named)
        home = os.path.realpath(store.parent)
        try:
            place = os.path.realpath(os.path.join(home, named))
        except (OSError, ValueError):  # a NUL, a link in a circle
            return cls("", named)
        return cls(place if inside(place, home) else "", named)

    @property
    def hint(self) -> str:
        """What a reader is told where the folder must be named."""
        return (
            f"its files lie in {one_line(self.named, 300)}, as the store says, and that is outside "
            "its own folder"
        )

    def require(self, where: object) -> str:
        """``folder``. Raises OptionError where it must be named first."""
        if not self.folder:
            raise OptionError(where, self.hint, f"if you want them read: --data {self.named}")
        return self.folder

    def reader(self, where: object) -> Reader:
        """What reads files inside the folder. Raises OptionError where it must be named first."""
        return Reader(self.require(where), inside=(self.folder,))

    def open(self, path: str, largest: int = MAX_BYTES) -> io.FileIO:
        """The file of a row, to read. Raises ItemError when it is no plain file inside the folder,
        or larger than ``largest`` bytes."""
        if not self.folder:
            raise ItemError(path, self.hint, f"--data {self.named}", code="unsafe-path")
        return Reader(self.folder, (self.folder,), largest).open(path)
