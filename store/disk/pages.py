"""A file in memory with holes, for HDF5 to write its metadata into."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

__all__ = ["PAGE", "Pages"]

PAGE = 4096


class Pages(io.RawIOBase):
    """A sparse file in memory; bytes nobody wrote are zero and cost nothing.

    h5py writes metadata here while the datasets, allocated but not filled, stay holes.
    """

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.size = self.at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = (0, self.at, self.size)[whence] + offset
        return self.at

    def tell(self) -> int:
        return self.at

    def truncate(self, size: int | None = None) -> int:
        self.size = self.at if size is None else size
        return self.size

    def _pieces(self, start: int, length: int) -> Iterator[tuple[int, int, int, int]]:
        done = 0
        while done < length:
            page, inside = divmod(start + done, PAGE)
            step = min(PAGE - inside, length - done)
            yield page, inside, done, step
            done += step

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        view[:] = self.span(self.at, self.at + len(view))
        self.at += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        for page, inside, done, step in self._pieces(self.at, len(view)):
            target = self.pages.setdefault(page, bytearray(PAGE))
            target[inside : inside + step] = view[done : done + step]
        self.at += len(view)
        self.size = max(self.size, self.at)
        return len(view)

    def span(self, start: int, end: int) -> bytearray:
        out = bytearray(end - start)
        for page, inside, done, step in self._pieces(start, end - start):
            if page in self.pages:
                out[done : done + step] = self.pages[page][inside : inside + step]
        return out
