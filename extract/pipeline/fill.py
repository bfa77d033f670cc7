"""One pass over the files fills one feature set or several: each file is read and decoded once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from headstock.extract.decode.reading import SKIP, Done, Several, Task, peak_memory
from headstock.extract.decode.workers import Workers
from headstock.extract.pipeline.account import refuse_failures
from headstock.extract.pipeline.lane import Lane
from headstock.extract.pipeline.options import Options
from headstock.extract.pipeline.pending import refuse_absent
from headstock.extract.pipeline.writer import Writer
from headstock.store import FeatureStore, Items
from headstock.store.cores import cores
from headstock.store.errors import TooManyFailures

__all__ = ["BLOCK", "Pass"]

BLOCK = 1024  # rows that one of several extractors claims at a time, at least
MANY_MISSING = 32  # files on end, from which on it is asked whether any is there
STARVED = 0.25  # share of the time that the model waited, from which on a worker more is started


@dataclass(frozen=True)
class _File:
    """A file and its rows (indices into the items) for each lane; ``known`` as in Task."""

    path: str
    rows: tuple[list[int], ...]
    known: tuple[bytes | None, ...]


class Pass:
    """One pass of one ``extract`` over the files of one modality, for the sets in ``lanes``."""

    def __init__(
        self, store: FeatureStore, items: Items, lanes: Sequence[Lane], options: Options
    ) -> None:
        self._store, self._items, self._options = store, items, options
        self._reader = options.reader(items.root)
        self._lanes = list(lanes)
        self._missing = 0  # files on end that were not there
        self._paths = items.paths[lanes[0].encoder.modality]

    def go(self) -> None:
        """Do the pending rows of all sets and close their accounts."""
        begin = time.perf_counter()
        active = [lane for lane in self._lanes if lane.rows]
        for lane in active:
            lane.tally.beside = [other.name for other in active if other is not lane]
        try:
            if active:
                self._fill(active, [lane.rows for lane in active])
            for lane in active[1:]:  # blocks are claimed by the first set's name
                rest = self._unsaid(lane)
                if rest:
                    self._fill([lane], [rest])
        finally:
            for lane in self._lanes:
                self._close(lane, time.perf_counter() - begin)
        for lane in self._lanes:
            lane.remember()
            tally = lane.tally
            refuse_failures(f"set {lane.name}", tally.failed, tally.tried, lane.fail_threshold)

    def _close(self, lane: Lane, seconds: float) -> None:
        tally, status = lane.tally, lane.encoder.status()
        tally.seconds["total"], tally.seconds["start"] = seconds, status.start_seconds
        tally.memory |= {"host": peak_memory(), "device": status.device_bytes}
        tally.runtime, tally.precision = status.runtime, status.precision
        tally.decode = lane.encoder.loader.way
        if status.note and status.note not in tally.notes:
            tally.notes.append(status.note)

    def _unsaid(self, lane: Lane) -> set[int]:
        """Rows of ``lane`` that another extractor took, and then did not do for this set."""
        rows = sorted(lane.rows - lane.taken)
        if not rows:
            return set()
        if self._store.behind():
            self._store.refresh()
        now = self._store.sequence(lane.name, self._items.id[rows].tolist())
        return {row for row, seq in zip(rows, now.tolist()) if seq == lane.before[row]}

    def _fill(self, lanes: list[Lane], wanted: list[set[int]]) -> None:
        """The rows ``wanted`` of each lane, in blocks that several extractors share among them."""
        ids = self._items.id
        rows = sorted(set().union(*wanted))
        row_of = {ids[row]: row for row in rows}
        largest = max(lane.batch_size for lane in lanes)
        for lane, own in zip(lanes, wanted):
            listed = sorted(own)
            said = self._store.sequence(lane.name, ids[listed].tolist())
            lane.before = dict(zip(listed, said.tolist()))
        blocks = self._store.share(lanes[0].name, list(row_of), max(BLOCK, 32 * largest))
        count, most = _count(self._options.workers, lanes, len(rows))
        seconds, shown = self._options.item_seconds, self._options.progress
        loaders = Several(tuple(lane.encoder.loader for lane in lanes))
        with ExitStack() as stack:
            lock = None
            for lane, own in zip(lanes, wanted):
                first = lane is lanes[0]
                out = Writer(self._store, lane.tally, len(own), shown and first, lock)
                lock = out.lock
                lane.begin(stack.enter_context(out))
            pool = stack.enter_context(
                Workers(self._reader, loaders, count, 2 * largest + 64, seconds=seconds, most=most)
            )
            stack.enter_context(closing(blocks))
            for block in blocks:
                files = self._files(lanes, wanted, [row_of[identity] for identity in block])
                self._block(lanes, pool, files)
            for lane in lanes:
                lane.tally.workers = max(lane.tally.workers, pool.count)
        for lane, own in zip(lanes, wanted):
            if lane is lanes[0] or len(lanes) == 1:  # another extractor was faster
                lane.tally.reused += len(own - lane.taken)
            else:
                lane.tally.reused += len(own - lane.taken - self._unsaid(lane))

    def _files(self, lanes: list[Lane], wanted: list[set[int]], rows: Sequence[int]) -> list[_File]:
        """``rows`` by file, in order of the first row of each."""
        by_path: dict[str, list[int]] = {}
        for row in rows:
            by_path.setdefault(self._paths[row], []).append(row)
        files = []
        for path, same in by_path.items():
            own = tuple([row for row in same if row in mine] for mine in wanted)
            known = tuple(lane.known(mine[0]) if mine else SKIP for lane, mine in zip(lanes, own))
            files.append(_File(path, own, known))
        return files

    def _block(self, lanes: list[Lane], pool: Workers, files: list[_File]) -> None:
        """The rows of ``files``, committed when it returns."""
        tasks = (Task(i, file.path, file.known) for i, file in enumerate(files))
        hunger = _Hunger(pool)
        try:
            with closing(pool.run(tasks)) as results:
                while (done := self._waited(lanes, results, hunger)) is not None:
                    file = files[done.number]
                    self._still_there(done, lanes[0].encoder.modality)
                    for i, lane in enumerate(lanes):
                        if file.rows[i]:
                            lane.take(file.path, file.rows[i], done.of(i), self._reader)
            for lane in lanes:
                lane.settle()
        except TooManyFailures:
            for lane in lanes:
                lane.settle()  # what is known so far stays known
            raise
        finally:
            for lane in lanes:
                lane.abandon()

    def _still_there(self, done: Done, modality: str) -> None:
        """Raises StorageError when many files on end are missing because all of them are: a disk
        that went away is no failure of the rows that remain."""
        missing = done.error is not None and done.error[0] == "missing"
        self._missing = self._missing + 1 if missing else 0
        if self._missing >= MANY_MISSING and self._missing.bit_count() == 1:  # now and then
            refuse_absent(self._items, modality, self._reader, "what was committed is kept")

    def _waited(self, lanes: list[Lane], results: Iterator[Done], hunger: _Hunger) -> Done | None:
        begin = time.perf_counter()
        done = next(results, None)
        waited = time.perf_counter() - begin
        for lane in lanes:
            lane.tally.seconds["wait"] += waited
        hunger.ate(waited)
        return done


class _Hunger:
    """Starts a worker more whenever the model waited for a good share of two seconds."""

    SPELL = 2.0

    def __init__(self, pool: Workers) -> None:
        self._pool, self._since, self._waited = pool, time.perf_counter(), 0.0

    def ate(self, waited: float) -> None:
        self._waited += waited
        now = time.perf_counter()
        if now - self._since >= self.SPELL:
            if self._waited >= STARVED * (now - self._since):
                self._pool.more()
            self._since, self._waited = now, 0.0


def _count(workers: int | None, lanes: Sequence[Lane], tasks: int) -> tuple[int, int]:
    """Worker processes to begin with and at most: half the cores beside a model on the CPU, and
    all of them when it starves; otherwise this device's share of the cores."""
    if workers is not None:
        return min(workers, tasks), 0
    own = max(1, cores() // max(lane.encoder.devices for lane in lanes))
    first = own // (2 if any(lane.encoder.on_cpu for lane in lanes) else 1)
    return max(1, min(first, tasks)), min(own, tasks)
