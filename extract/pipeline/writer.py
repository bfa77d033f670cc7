"""Commits batches in order in a thread of its own, so that the model never waits for a disk."""

from __future__ import annotations

import queue
import threading
import time
from types import TracebackType

import numpy as np

from headstock.extract.pipeline.account import Failure, SetAccount
from headstock.store import OK, Batch, FeatureStore
from headstock.store.progress import Progress

__all__ = ["Writer"]

AHEAD = 4  # batches that may wait for the disk
LOOK = 0.5  # seconds between two looks at whether anybody is left to wait for


class Writer:
    """A context in which batches for one set are committed; leaving it waits for all of them.

    A row is counted, and drawn on the progress bar, when its commit has returned. An error of the
    store is raised at the next ``put`` or on leaving.

    The thread is no daemon: one that Python cuts off at exit keeps HDF5's lock, and whatever is
    freed after it waits for ever. It ends by itself when leaving was cut short or the main thread
    has ended.
    """

    def __init__(
        self,
        store: FeatureStore,
        tally: SetAccount,
        total: int,
        progress: bool,
        lock: threading.Lock | None = None,
    ) -> None:
        self._store, self._name, self._tally = store, tally.name, tally
        self._queue: queue.Queue[tuple[Batch, set[str]] | None] = queue.Queue(AHEAD)
        self._waiting: dict[bytes, np.ndarray] = {}  # vectors put and not yet in the store
        self.lock = lock or threading.Lock()  # around the store: readers and writers take turns
        self._error: BaseException | None = None
        self._over = False
        self._ended = threading.Event()
        self._progress = Progress(tally.name, "rows", not progress, always=progress)
        self._total, self._written = total, 0
        self._thread = threading.Thread(target=self._work, name="headstock-writer")

    def __enter__(self) -> Writer:
        self._progress.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._over = True
        self._queue.put(None)
        self._ended.wait()  # an interrupted join takes the thread for ended, which then is not so
        self._progress.__exit__(kind, error, None)
        if self._error is not None and kind is None:
            raise self._error

    def put(self, batch: Batch, fresh: set[str]) -> None:
        """Queue ``batch``; ``fresh``: ids that were computed for it. Raises the store's errors."""
        if self._error is not None:
            raise self._error
        for at in np.flatnonzero(batch.status == OK).tolist():
            self._waiting[batch.digest[at].tobytes()] = batch.x[at]
        self._queue.put((batch, fresh))

    def flush(self) -> None:
        """Wait until everything put is committed. Raises the store's errors."""
        self._queue.join()
        if self._error is not None:
            raise self._error

    def find(self, digest: bytes) -> np.ndarray | None:
        """The vector (d,) of bytes that were put or stored before."""
        vector = self._waiting.get(digest)
        if vector is not None:
            return vector
        with self.lock:
            key = np.frombuffer(digest, dtype=np.uint8)[None]
            return self._store.by_digest(self._name, key).get(digest)

    def _work(self) -> None:
        while (put := self._next()) is not None:
            if self._error is None:  # else keep draining: whoever puts must not block
                try:
                    self._commit(*put)
                except BaseException as error:  # noqa: BLE001  raised in the caller's thread
                    self._error = error
            self._queue.task_done()
        self._ended.set()

    def _next(self) -> tuple[Batch, set[str]] | None:
        while True:
            try:
                return self._queue.get(timeout=LOOK)
            except queue.Empty:
                if self._over or not threading.main_thread().is_alive():
                    return None

    def _commit(self, batch: Batch, fresh: set[str]) -> None:
        begin = time.perf_counter()
        with self.lock:
            self._store.commit(self._name, batch)
        self._tally.seconds["commit"] += time.perf_counter() - begin
        self._count(batch, fresh)

    def _count(self, batch: Batch, fresh: set[str]) -> None:
        tally = self._tally
        ok = {i for i, s in zip(batch.ids, batch.status.tolist()) if s == OK}
        tally.done += len(ok & fresh)
        tally.reused += len(ok - fresh)
        tally.failed += len(batch.ids) - len(ok)
        tally.failures += [Failure(*error) for error in batch.errors]
        for digest in {d.tobytes() for d in batch.digest}:
            self._waiting.pop(digest, None)
        self._written += len(batch.ids)
        self._progress(self._written, self._total, f"{tally.failed:,} failed" * bool(tally.failed))
