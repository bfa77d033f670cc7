"""One feature set in a pass over the files: items in, batches through its encoder, commits out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from headstock.extract.decode.reading import NOTHING, Done, Task, perform
from headstock.extract.encoder import Encoder
from headstock.extract.pipeline.account import (
    JUDGED,
    Failure,
    SetAccount,
    known_failures,
    refuse_failures,
)
from headstock.extract.pipeline.batch import Assembly, Rows
from headstock.extract.pipeline.options import Options
from headstock.extract.pipeline.pending import Pending
from headstock.extract.pipeline.writer import Writer
from headstock.store import OK, FeatureStore, Items
from headstock.store.datafile import Reader
from headstock.store.errors import EncoderError, ItemError, one_line

__all__ = ["Lane"]

RIDERS = 8  # rows a batch may hold for each item that it encodes


class Lane:
    """The set ``name``: ``todo`` is what is pending; ``tally`` becomes its account."""

    def __init__(
        self,
        store: FeatureStore,
        items: Items,
        name: str,
        encoder: Encoder,
        todo: Pending,
        options: Options,
    ) -> None:
        self.name, self.encoder, self.todo = name, encoder, todo
        self.tally = tally = SetAccount(name, encoder.name)
        self.batch_size = options.batch_size or encoder.batch_size
        self.fail_threshold = options.fail_threshold
        self.rows = set(todo.rows.tolist())
        self.taken: set[int] = set()
        self.before: dict[int, int] = {}  # what the store had been told of each row
        self._store, self._items = store, items
        self._tried = self._tried_failed = 0
        self._flights: deque[tuple[Rows, Any]] = deque()
        self._assembly: Assembly
        self._out: Writer
        tally.reused, tally.failed = len(todo.reused), len(todo.failed)
        tally.missing, tally.left = len(todo.missing), todo.left
        self.unseen: dict[int, tuple[str, str]] = {}  # rows that keep a vector: why not seen now
        tally.failures += known_failures(todo, todo.failed.tolist())

    def begin(self, out: Writer) -> None:
        """Take rows from now on, and commit them by ``out``."""
        status = self._store.progress(self.name)
        made = {d.tobytes() for d in status.digest[status.status == OK]}
        self._assembly, self._out = Assembly(self._items, made), out

    def known(self, row: int) -> bytes | None:
        """The digest that ``row`` was made from, when its file may have changed."""
        return self.todo.made.get(row)

    def take(self, path: str, rows: list[int], done: Done, reader: Reader) -> None:
        """Put the ``rows`` of one file into the batch that is being assembled, and send it through
        the encoder when it is full. Raises TooManyFailures."""
        assembly = self._assembly
        self.taken.update(rows)
        for step in ("read", "decode", "transform"):
            self.tally.seconds[step] += getattr(done, step)
        self.tally.memory["worker"] = max(self.tally.memory.get("worker", 0), done.peak)
        if done.error is not None and done.digest in assembly.made:
            done = replace(done, error=None)  # nothing had to be decoded
        if done.error is not None and done.digest == NOTHING:
            rows = self._not_seen(rows, done.error)
        self._tried += len(rows)
        if not rows:
            return
        if done.error is not None:
            self._failed(rows, done)
            self._tried_failed += len(rows)
            refuse_failures(
                f"set {self.name}", self._tried_failed, self._tried, self.fail_threshold, JUDGED
            )
        elif done.digest in assembly.made:
            vector = self._vector(done.digest)
            if vector is not None:
                assembly.reuse(rows, done, vector)
            elif done.item is None:  # the store lost what it had: decode after all
                self._tried -= len(rows)
                assembly.made.discard(done.digest)
                again = perform(Task(done.number, path), reader, self.encoder.loader)
                self.take(path, rows, again, reader)
                return
            else:
                assembly.add(rows, done)
        else:
            assembly.add(rows, done)
        if assembly.items >= self.batch_size or assembly.size >= RIDERS * self.batch_size:
            self._launch()

    def _not_seen(self, rows: list[int], error: tuple[str, str]) -> list[int]:
        """Nothing is known of what the file holds now, so a vector that was committed stays, and
        is marked at the end of the pass. The other ``rows``."""
        kept = [row for row in rows if row in self.todo.made]
        for row in kept:
            self.unseen[row] = error
            self.tally.unseen.append(Failure(self._items.id[row], *error))
        return [row for row in rows if row not in self.todo.made]

    def _failed(self, rows: list[int], done: Done) -> None:
        """Rows of a file that failed. What the store says of them already is not said again: each
        run would write the whole store for it."""
        assert done.error is not None
        before, seen = self.todo.errors, self.todo.seen
        again = {
            row for row in rows
            if row in before and before[row].code == done.error[0]
            and seen.get(row) == (done.digest, done.stat)
        }  # fmt: skip
        self.tally.failed += len(again)
        self.tally.failures += [
            Failure(self._items.id[row], *done.error) for row in rows if row in again
        ]
        if rest := [row for row in rows if row not in again]:
            self._assembly.fail(rest, done)

    def settle(self) -> None:
        """Encode and commit what has been collected."""
        if self._assembly.size:
            self._launch()
        self._land(0)
        self._out.flush()

    def remember(self) -> None:
        """Mark in the store the rows that keep a vector though their file was not seen; those that
        were seen lose the mark."""
        ids = self._items.id
        marked = self._store.unseen(self.name)
        seen = [
            ids[row] for row in (*self.todo.reused.tolist(), *self.taken)
            if ids[row] in marked and row not in self.unseen
        ] if marked else []  # fmt: skip
        codes = {ids[row]: code for row, (code, _) in self.unseen.items()}
        self._store.mark_unseen(self.name, codes, seen)

    def abandon(self) -> None:
        """After an exception: do not let the encoder work on what nobody will take."""
        for _, flight in self._flights:
            if flight is not None:
                self.encoder.abandon(flight)
        self._flights.clear()

    def _vector(self, digest: bytes) -> np.ndarray | None:
        """The vector of bytes that were encoded before, here or in an earlier run."""
        for pending_rows, _ in self._flights:
            if digest in pending_rows.slots:
                self._land(0)
                break
        return self._out.find(digest)

    def _launch(self) -> None:
        """Send the assembled batch through the encoder."""
        rows = self._assembly.take()
        flight = None
        if rows.pixels:
            flight = self._model(self.encoder.start, rows.pixels)
            self.tally.calls += 1
            self.tally.encoded += len(rows.pixels)
        self._flights.append((rows, flight))
        self._land(self.encoder.in_flight - 1)

    def _land(self, leave: int) -> None:
        """Finish batches under way, oldest first, until ``leave`` are left, and commit them."""
        while len(self._flights) > leave:
            rows, flight = self._flights.popleft()
            vectors = np.empty((0, self.encoder.dim), dtype=np.float32)
            refused: Mapping[int, ItemError] = {}
            if flight is not None:
                vectors = np.asarray(self._model(self.encoder.finish, flight), dtype=np.float32)
                refused = self.encoder.refused(flight)
            self._out.put(rows.batch(vectors, self.encoder.dim, refused), rows.fresh)

    def _model(self, step: Callable[[Any], Any], given: Any) -> Any:
        """``step(given)`` with its time, by the encoder's clocks if it has them: an encoder that
        works while we wait for files knows better. Raises EncoderError."""
        begin, before = time.perf_counter(), self.encoder.status()
        try:
            result = step(given)
        except (RuntimeError, MemoryError) as error:  # torch's, of a device among them
            raise EncoderError(
                f"set {self.name}", f"{self.encoder.name} failed ({one_line(error, 300)})",
                "what was committed stays: run it again, with a smaller --batch-size or another "
                "--device",
            ) from error  # fmt: skip
        after, seconds = self.encoder.status(), self.tally.seconds
        if before.model_seconds is None or after.model_seconds is None:
            seconds["model"] += time.perf_counter() - begin
        else:
            seconds["model"] += after.model_seconds - before.model_seconds
        seconds["transfer"] += after.transfer_seconds - before.transfer_seconds
        return result
