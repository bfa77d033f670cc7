"""Filling one feature set: results of workers in, batches through the encoder, commits out."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np

from headstock.extract.account import Failure, SetAccount
from headstock.extract.batch import Assembly, Rows
from headstock.extract.encoder import Encoder
from headstock.extract.pending import Group, Pending
from headstock.extract.reading import Done, Reader, Task, peak_memory, perform
from headstock.extract.workers import Workers
from headstock.extract.writer import Writer
from headstock.store import OK, FeatureStore, Items
from headstock.store.errors import TooManyFailures

__all__ = ["SetRun"]

JUDGED = 20  # rows before a share of failures means anything
BLOCK = 1024  # rows that one of several extractors claims at a time, at least
RIDERS = 8  # rows a batch may hold for each item that it encodes


class SetRun:
    """One set of one ``extract``: ``todo`` is what is pending, ``tally`` its account."""

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
        self._groups: list[Group] = []
        self._flights: deque[tuple[Rows, Any]] = deque()

    def go(self, reader: Reader, batch_size: int, workers: int | None, seconds: float) -> None:
        """Do the set's pending rows and close its account."""
        tally, todo = self._tally, self._todo
        begin = time.perf_counter()
        tally.reused, tally.failed = len(todo.reused), len(todo.failed)
        tally.missing, tally.left = len(todo.missing), todo.left
        self._known_failures()
        try:
            if len(todo.rows):
                tally.workers = _count(workers, self._encoder, len(todo.rows))
                self._fill(reader, batch_size, seconds)
        finally:
            tally.seconds["total"] = time.perf_counter() - begin
            of_device = getattr(self._encoder, "device_memory", int)
            tally.memory |= {"host": peak_memory(), "device": of_device()}
        self._judge(tally.failed, tally.done + tally.reused + tally.failed, 1)

    def _known_failures(self) -> None:
        if not len(self._todo.failed):
            return
        ids = {self._items.id[row] for row in self._todo.failed}
        for error in self._store.errors(self._name):
            if error.id in ids:
                self._tally.failures.append(Failure(error.id, error.code, error.line, known=True))

    def _fill(self, reader: Reader, batch_size: int, seconds: float) -> None:
        """All pending rows, in blocks that several extractors on one store share among them."""
        ids, todo, tally = self._items.id, self._todo, self._tally
        row_of = dict(zip(ids[todo.rows].tolist(), todo.rows.tolist()))
        status = self._store.progress(self._name)
        made = {d.tobytes() for d in status.digest[status.status == OK]}
        assembly = Assembly(self._items, made)
        blocks = self._store.share(self._name, list(row_of), max(BLOCK, 32 * batch_size))
        taken = 0
        with (
            Writer(self._store, self._name, tally, len(row_of), self._progress) as out,
            Workers(
                reader, self._encoder.loader, tally.workers, 2 * batch_size + 64, seconds=seconds
            ) as pool,
            closing(blocks),
        ):
            for block in blocks:
                self._groups = todo.groups([row_of[identity] for identity in block])
                taken += len(block)
                self._block(pool, assembly, reader, batch_size, out)
        tally.reused += len(row_of) - taken  # another extractor was faster

    def _block(
        self, pool: Workers, assembly: Assembly, reader: Reader, batch_size: int, out: Writer
    ) -> None:
        """The rows of ``self._groups``, committed when it returns."""
        tasks = (Task(i, group.path, group.known) for i, group in enumerate(self._groups))
        try:
            with closing(pool.run(tasks)) as results:
                while (done := self._waited(results)) is not None:
                    self._take(assembly, done, reader, out)
                    if assembly.items >= batch_size or assembly.size >= RIDERS * batch_size:
                        self._launch(assembly, out)
            self._settle(assembly, out)
        except TooManyFailures:
            self._settle(assembly, out)  # what is known so far stays known
            raise
        finally:
            self._abandon()

    def _settle(self, assembly: Assembly, out: Writer) -> None:
        """Encode and commit what has been collected."""
        if assembly.size:
            self._launch(assembly, out)
        self._land(out, 0)
        out.flush()

    def _waited(self, results: Iterator[Done]) -> Done | None:
        begin = time.perf_counter()
        done = next(results, None)
        self._tally.seconds["wait"] += time.perf_counter() - begin
        return done

    def _take(self, assembly: Assembly, done: Done, reader: Reader, out: Writer) -> None:
        """Put one task's rows into the batch that is being assembled."""
        rows = self._groups[done.number].rows
        self._tally.seconds["read"] += done.read
        self._tally.seconds["decode"] += done.decode
        self._tally.memory["worker"] = max(self._tally.memory.get("worker", 0), done.peak)
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
                again = Task(done.number, self._groups[done.number].path)
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
            flight = self._model(getattr(self._encoder, "start", self._encoder.encode), rows.pixels)
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
                finish = getattr(self._encoder, "finish", np.asarray)
                vectors = np.asarray(self._model(finish, flight), dtype=np.float32)
            batch = rows.batch(vectors, self._encoder.dim)
            out.put(batch, rows.fresh)

    def _abandon(self) -> None:
        """After an exception: do not let the encoder work on what nobody will take."""
        if abandon := getattr(self._encoder, "abandon", None):
            for _, flight in self._flights:
                if flight is not None:
                    abandon(flight)
        self._flights.clear()

    def _model(self, step: Callable[[Any], Any], given: Any) -> Any:
        """``step(given)``; its time counts as the model's, by the encoder's clock if it has one:
        an encoder that works while we wait for files knows better."""
        begin, before = time.perf_counter(), getattr(self._encoder, "model_seconds", None)
        result = step(given)
        if before is None:
            self._tally.seconds["model"] += time.perf_counter() - begin
        else:
            self._tally.seconds["model"] += self._encoder.model_seconds - before  # type: ignore[attr-defined]
        return result

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
