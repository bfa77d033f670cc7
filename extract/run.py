"""``extract``: pending rows -> read -> decode -> encode -> commit, and an account of it.

Rows are done in their order, in batches of ``batch_size`` new items, and batches are committed in
order: a run that was interrupted leaves exactly the first batches behind, and the next run goes on
with the very batches that the first one would have made.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from headstock.extract.account import Account, Failure, SetAccount
from headstock.extract.batch import Assembly, Rows
from headstock.extract.encoder import Encoder
from headstock.extract.pending import Pending, pending
from headstock.extract.reading import Done, Reader, Task, perform
from headstock.extract.workers import Workers
from headstock.extract.writer import Writer
from headstock.store import OK, FeatureStore, Items
from headstock.store.errors import OptionError, RecipeMismatch, TooManyFailures

__all__ = ["Terminated", "extract"]

JUDGED = 20  # rows before a share of failures means anything
RIDERS = 8  # rows a batch may hold for each item that it encodes


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: like ctrl-C, everything committed stays and nothing is half-written."""


def extract(
    store: FeatureStore,
    items: Items,
    encoders: Mapping[str, Encoder],
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    limit: int | None = None,
    fail_threshold: float | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    progress: bool = False,
    data_roots: Sequence[str | Path] = (),
    allow_outside: bool = False,
    item_seconds: float = 120.0,
) -> Account:
    """Fill each set of ``encoders`` (set name -> Encoder) for ``items``; do only what is missing.

    A row whose file has the size and time of last time is not opened; the same bytes are encoded
    once, under however many ids and paths; a row that failed is recorded and not tried again until
    its file changes or ``retry_failed``. ``limit``: at most so many rows a set now.
    ``fail_threshold`` (0..1): stop when a larger share of the rows tried has failed, judged from
    20 rows on and at the end. ``overwrite``: a set that was made another way is replaced; one that
    was made this way goes on. ``workers``: processes that read and decode, 0 for none.
    ``item_seconds``: what reading and decoding one file may take.

    With ``items.root`` set, files must lie (links followed) inside it or inside ``data_roots``,
    unless ``allow_outside``. Without a root, paths are the caller's own and taken as they are.

    Raises OptionError, RecipeMismatch, TooManyFailures, StorageError; KeyboardInterrupt on SIGINT
    and Terminated on SIGTERM. Whatever is raised, what was committed stays.
    """
    _check(items, encoders, batch_size, workers, limit, fail_threshold, item_seconds)
    reader = _reader(items.root, data_roots, allow_outside)
    account = Account()
    store.register(items)
    with _terminable():
        for name, encoder in encoders.items():
            _declare(store, name, encoder, overwrite)
            tally = account.sets[name] = SetAccount(name, encoder.name)
            known = store.progress(name, items.id)
            todo = pending(
                items, encoder.modality, known.status, known.digest, known.stat,
                reader, retry_failed, limit,
            )  # fmt: skip
            _SetRun(store, items, name, encoder, todo, tally, fail_threshold, progress).go(
                reader, batch_size or getattr(encoder, "batch_size", 32), workers, item_seconds
            )
    return account


def _check(
    items: Items,
    encoders: Mapping[str, Encoder],
    batch_size: int | None,
    workers: int | None,
    limit: int | None,
    fail_threshold: float | None,
    item_seconds: float,
) -> None:
    for name, encoder in encoders.items():
        if encoder.modality not in items.paths:
            here = ", ".join(items.paths) or "none"
            raise OptionError(f"set {name}", f"rows have no {encoder.modality} column", here)
    for option, value, least in (
        ("batch-size", batch_size, 1),
        ("workers", workers, 0),
        ("limit", limit, 0),
        ("item-seconds", item_seconds, 0.01),
    ):
        if value is not None and value < least:
            raise OptionError(option, f"{value} has no meaning", f"{least} or more")
    if fail_threshold is not None and not 0 <= fail_threshold <= 1:
        raise OptionError("fail-threshold", f"{fail_threshold} is not a share", "0 to 1")


def _reader(root: str, roots: Sequence[str | Path], allow_outside: bool) -> Reader:
    if not root or allow_outside:
        return Reader(root)
    return Reader(root, tuple(os.path.realpath(r) for r in (root, *roots)))


def _declare(store: FeatureStore, name: str, encoder: Encoder, overwrite: bool) -> None:
    about: Any = getattr(encoder, "provenance", dict)
    said = {
        "feature_names": getattr(encoder, "feature_names", None),
        "provenance": {"name": encoder.name, **about()},
    }
    try:
        store.declare(name, encoder.recipe(), encoder.dim, **said)
    except RecipeMismatch:
        if not overwrite:
            raise
        store.declare(name, encoder.recipe(), encoder.dim, overwrite=True, **said)


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into Terminated while it lasts; only the main thread may."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise Terminated(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _SetRun:
    """One set of one ``extract``."""

    def __init__(
        self,
        store: FeatureStore,
        items: Items,
        name: str,
        encoder: Encoder,
        todo: Pending,
        tally: SetAccount,
        fail_threshold: float | None,
        progress: bool,
    ) -> None:
        self._store, self._items, self._name = store, items, name
        self._encoder, self._todo, self._tally = encoder, todo, tally
        self._threshold, self._progress = fail_threshold, progress
        self._tried = self._tried_failed = 0
        self._flights: deque[tuple[Rows, Any]] = deque()

    def go(self, reader: Reader, batch_size: int, workers: int | None, seconds: float) -> None:
        """Do the set's pending rows and close its account."""
        tally, todo = self._tally, self._todo
        begin = time.perf_counter()
        tally.reused, tally.failed = len(todo.reused), len(todo.failed)
        tally.missing, tally.left = len(todo.missing), todo.left
        self._known_failures()
        try:
            if todo.groups:
                tally.workers = _count(workers, self._encoder, len(todo.groups))
                self._fill(reader, batch_size, seconds)
        finally:
            tally.seconds["total"] = time.perf_counter() - begin
        self._judge(tally.failed, tally.done + tally.reused + tally.failed, 1)

    def _known_failures(self) -> None:
        if not len(self._todo.failed):
            return
        ids = {self._items.id[row] for row in self._todo.failed}
        for error in self._store.errors(self._name):
            if error.id in ids:
                self._tally.failures.append(Failure(error.id, error.code, error.line, known=True))

    def _fill(self, reader: Reader, batch_size: int, seconds: float) -> None:
        pool = Workers(
            reader, self._encoder.loader, self._tally.workers, max(2 * batch_size, 64),
            seconds=seconds,
        )  # fmt: skip
        status = self._store.progress(self._name)
        made = {d.tobytes() for d in status.digest[status.status == OK]}
        with Writer(self._store, self._name, self._tally, self._todo.rows, self._progress) as out:
            assembly = Assembly(self._items, self._encoder.dim, made)
            results = pool.run(self._todo.tasks())
            try:
                while (done := self._waited(results)) is not None:
                    self._take(assembly, done, reader, out)
                    if assembly.items >= batch_size or assembly.size >= RIDERS * batch_size:
                        self._launch(assembly, out)
                if assembly.size:
                    self._launch(assembly, out)
                self._land(out, 0)
            except TooManyFailures:
                if assembly.size:  # what is known so far stays known
                    self._launch(assembly, out)
                self._land(out, 0)
                raise
            finally:
                results.close()

    def _waited(self, results: Iterator[Done]) -> Done | None:
        begin = time.perf_counter()
        done = next(results, None)
        self._tally.seconds["wait"] += time.perf_counter() - begin
        return done

    def _take(self, assembly: Assembly, done: Done, reader: Reader, out: Writer) -> None:
        """Put one task's rows into the batch that is being assembled."""
        rows = self._todo.groups[done.number]
        self._tally.seconds["read"] += done.read
        self._tally.seconds["decode"] += done.decode
        self._tried += len(rows)
        if done.error is not None:
            assembly.fail(rows, done)
            self._tried_failed += len(rows)
            self._judge(self._tried_failed, self._tried, JUDGED)
            return
        if done.digest in assembly.made:
            vector = self._vector(done.digest, assembly, out)
            if vector is not None:
                assembly.reuse(rows, done, vector)
                return
            if done.item is None:  # the store lost what it had: decode after all
                again = Task(done.number, self._todo.paths[done.number])
                assembly.made.discard(done.digest)
                self._take(assembly, perform(again, reader, self._encoder.loader), reader, out)
                return
        assembly.add(rows, done)

    def _vector(self, digest: bytes, assembly: Assembly, out: Writer) -> np.ndarray | None:
        """The vector of bytes that were encoded before, here or in an earlier run."""
        for pending_rows, _ in self._flights:
            if digest in pending_rows.slots:
                self._land(out, 0)
                break
        return out.find(digest)

    def _launch(self, assembly: Assembly, out: Writer) -> None:
        """Send the assembled batch through the encoder."""
        rows = assembly.take()
        flight = None
        if rows.pixels:
            begin = time.perf_counter()
            start = getattr(self._encoder, "start", self._encoder.encode)
            flight = start(rows.pixels)
            self._tally.seconds["model"] += time.perf_counter() - begin
            self._tally.calls += 1
            self._tally.encoded += len(rows.pixels)
        self._flights.append((rows, flight))
        self._land(out, getattr(self._encoder, "in_flight", 1) - 1)

    def _land(self, out: Writer, leave: int) -> None:
        """Finish batches under way, oldest first, until ``leave`` are left, and commit them."""
        while len(self._flights) > leave:
            rows, flight = self._flights.popleft()
            vectors = np.empty((0, self._encoder.dim), dtype=np.float32)
            if flight is not None:
                begin = time.perf_counter()
                finish = getattr(self._encoder, "finish", None)
                vectors = np.asarray(finish(flight) if finish else flight, dtype=np.float32)
                self._tally.seconds["model"] += time.perf_counter() - begin
            batch = rows.batch(vectors, self._encoder.dim)
            out.put(batch, rows.fresh)

    def _judge(self, failed: int, tried: int, least: int) -> None:
        if self._threshold is None or tried < least or failed <= self._threshold * tried:
            return
        raise TooManyFailures(
            f"set {self._name}",
            f"{failed} of {tried} rows failed, more than {self._threshold:.0%}",
            "what was done is kept; look at the errors, or raise --fail-threshold",
        )


def _count(workers: int | None, encoder: Encoder, tasks: int) -> int:
    """Worker processes: half the cores beside a model on the CPU, all of them otherwise."""
    if workers is not None:
        return min(workers, tasks)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    shares = getattr(getattr(encoder, "device", None), "type", "") == "cpu"
    return max(1, min((cores or 1) // (2 if shares else 1), tasks))
