"""Where the files of a store's rows lie, and who says so.

A store names the folder that its paths are relative to. A store comes from anywhere, so that is a
hint: files inside the store's own folder are read, elsewhere only where a user has named the
folder. A table is the user's own word, and the folder it lies in counts for it.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

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

    def file(self, path: str, largest: int | None = None) -> str:
        """Where the file of a row lies. Raises ItemError when it is no plain file inside the
        folder, or larger than ``largest`` bytes."""
        if not self.folder:
            raise ItemError(path, self.hint, f"--data {self.named}", code="unsafe-path")
        try:
            place = os.path.realpath(os.path.join(self.folder, path))
            if not inside(place, self.folder):
                fix = "name its folder with --data"
                raise ItemError(path, "leads out of the data folder", fix, code="unsafe-path")
            about = os.stat(place)
        except (OSError, ValueError) as error:
            raise ItemError(path, "no such file", "check the path", code="missing") from error
        if not stat.S_ISREG(about.st_mode):
            raise ItemError(path, "is no plain file", "check the path", code="not-a-file")
        if largest is not None and about.st_size > largest:
            raise ItemError(path, f"has more than {largest:,} bytes", "split it", code="too-large")
        return place


def inside(place: str, folder: str) -> bool:
    """Whether ``place`` is ``folder`` or lies in it; both resolved."""
    try:
        return os.path.commonpath((place, folder)) == folder
    except ValueError:  # two drives
        return False
