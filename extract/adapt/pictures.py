"""The pictures of an adaptation: decoded once by worker processes, kept small, handed out by rows.

Letters: n pictures, b batch, h and w the side of the canvas that random crops are cut from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from headstock.extract.decode.preprocess import ImageLoader, Preprocess
from headstock.extract.decode.reading import Done
from headstock.extract.decode.workers import decoded
from headstock.extract.pipeline.account import Failure
from headstock.store.datafile import Reader
from headstock.store.errors import ItemError

__all__ = ["CACHE", "Pictures", "canvas"]

CACHE = 8 << 30
"""Bytes of decoded pictures that are kept on the disk; those beyond are decoded in each epoch."""


def canvas(preprocess: Preprocess) -> Preprocess:
    """What is decoded: the picture before the crop that the network's evaluation makes."""
    room = tuple(max(r, c) for r, c in zip(preprocess.resize, preprocess.crop))
    return replace(preprocess, crop=room)  # type: ignore[arg-type]


class Pictures:
    """A context. ``paths`` (n,) through ``reader``; decoding one may take ``seconds``.

    After ``read``: ``digest`` (n, 32) uint8, ``good`` (n,) bool, ``failures``. The decoded pictures
    lie in a mapped file without a name, which goes with the process: the system may drop its pages,
    so memory stays bounded by what a batch needs.
    """

    def __init__(
        self,
        paths: Sequence[str],
        ids: Sequence[str],
        reader: Reader,
        preprocess: Preprocess,
        *,
        folder: Path,
        workers: int = 1,
        seconds: float = 120.0,
        cache: int = CACHE,
    ) -> None:
        self._paths, self._ids, self._reader = list(paths), list(ids), reader
        self._loader = ImageLoader(canvas(preprocess))
        self._shape = (*self._loader.preprocess.crop, 3)
        self._workers = workers
        self._seconds = seconds
        n = len(self._paths)
        self.digest = np.zeros((n, 32), dtype=np.uint8)
        self.good = np.zeros(n, dtype=bool)
        self.failures: list[Failure] = []
        self.kept = min(n, cache // int(np.prod(self._shape)))
        self._folder = folder
        self._pixels: np.ndarray = np.empty((0, *self._shape), dtype=np.uint8)

    def __enter__(self) -> Pictures:
        if self.kept:
            shape = (self.kept, *self._shape)
            with tempfile.TemporaryFile(prefix="headstock-adapt-", dir=self._folder) as file:
                self._pixels = np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
        return self

    def __exit__(self, *_: object) -> None:
        self._pixels = np.empty((0, *self._shape), dtype=np.uint8)

    def read(self, step: Callable[[int, int], None] = lambda done, n: None) -> None:
        """Read, hash and decode every picture once. One that cannot be read costs its own row."""
        n = len(self._paths)
        for row, done in enumerate(self._decoded(range(n))):
            step(row + 1, n)
            self.digest[row] = np.frombuffer(done.digest, dtype=np.uint8)
            if done.error is not None:
                self.failures.append(Failure(self._ids[row], *done.error))
                continue
            self.good[row] = True
            if row < self.kept:
                self._pixels[row] = done.item

    def batches(self, parts: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """The pictures (b, h, w, 3) uint8 of each part, a list of good rows, in order; the next
        part is fetched while the caller works on this one.

        Raises ItemError for a file that could be read before and cannot any more.
        """
        coming = self._batches(parts)
        with ThreadPoolExecutor(1, "headstock-pictures") as pool:
            waiting = pool.submit(next, coming, None)
            while (batch := waiting.result()) is not None:
                waiting = pool.submit(next, coming, None)
                yield batch

    def _batches(self, parts: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        every = np.concatenate(parts) if len(parts) else np.empty(0, dtype=int)
        beyond = [int(row) for row in every if row >= self.kept]
        fresh = self._decoded(beyond) if beyond else iter(())
        for part in parts:
            out = np.empty((len(part), *self._shape), dtype=np.uint8)
            for at, row in enumerate(part.tolist()):
                if row < self.kept:
                    out[at] = self._pixels[row]
                    continue
                done = next(fresh)
                if done.error is not None or done.digest != self.digest[row].tobytes():
                    path, what = self._paths[row], "changed while it was trained on"
                    raise ItemError(path, done.error[1] if done.error else what, "run it again")
                out[at] = done.item
            yield out

    def _decoded(self, rows: Sequence[int]) -> Iterator[Done]:
        paths = [self._paths[row] for row in rows]
        return decoded(self._reader, self._loader, paths, self._workers, self._seconds)
