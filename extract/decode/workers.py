"""Worker processes as an ordered map over tasks that survives the death of any of them."""

from __future__ import annotations

import os
import pickle
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Pipe
from typing import Any

from headstock.extract.decode.reading import Done, Task, perform
from headstock.extract.decode.wire import receive
from headstock.extract.encoder import Loader
from headstock.store.datafile import Reader
from headstock.store.errors import ItemError, OptionError

__all__ = ["Workers", "decoded"]

DEPTH = 4  # tasks a worker holds, so that it never waits for the parent
STRIKES = 2  # deaths in the hands of one item before the item is to blame
START = "import sys; from headstock.extract.decode.worker import main; main(int(sys.argv[1]))"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class _Worker:
    """One child process, the pipe to it, and the tasks in its hands, oldest first."""

    def __init__(self, setup: bytes) -> None:
        self.pipe, theirs = Pipe()
        path = os.pathsep.join(p for p in sys.path if p)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", START, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # ctrl-C in a terminal is for the parent alone
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
        )
        theirs.close()
        self.words = socket.socket(fileno=os.dup(self.pipe.fileno()))  # results, unlike the pipe
        self.tasks: deque[Task] = deque()
        self.ready = False
        self.pipe.send_bytes(setup)

    def end(self) -> int:
        """Kill the process if it lives; its return code."""
        self.pipe.close()
        self.words.close()
        self.process.kill()
        return self.process.wait()


def decoded(
    reader: Reader, loader: Loader, paths: Sequence[str], workers: int = 1, seconds: float = 120.0
) -> Generator[Done, None, None]:
    """What becomes of each of ``paths``, in their order, within the limits of a worker."""
    with Workers(reader, loader, min(workers, len(paths)), seconds=seconds) as pool:
        yield from pool.run(Task(number, path) for number, path in enumerate(paths))


class Workers:
    """``count`` processes that read and decode for ``run``; 0 does it in this process.

    ``seconds``: what one item may take. ``memory``: bytes one worker may add to its own. A worker
    that dies or exceeds either is replaced and its item tried once more; the second time the item
    has failed, with code ``timeout``, ``worker-killed`` (from outside, as a system without memory
    does) or ``worker-died``, and its bytes are hashed alone, so that it is known what failed.
    ``window``: results held at most.
    ``most``: how many processes ``more`` may make of them.
    """

    def __init__(
        self,
        reader: Reader,
        loader: Any,
        count: int,
        window: int = 256,
        seconds: float = 120.0,
        memory: int = 4 << 30,
        most: int = 0,
    ) -> None:
        self._reader, self._loader = reader, loader
        self._seconds = seconds
        self.count, self._most = count, max(most, count)
        self._window = max(window, self._most * DEPTH, 1)
        self._workers: list[_Worker] = []
        if count:
            try:
                self._setup = pickle.dumps((reader, loader, seconds, memory))
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                what = f"cannot be sent to workers: {error}"
                raise OptionError("loader", what, "-j 0") from error
        self._changed = threading.Condition()
        self._results: dict[int, Done] = {}
        self._held = 0  # tasks taken and not yet handed out
        self._stopped = False
        self._ended = False  # the pump has handed over everything
        self._trouble: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._strikes: Counter[int] = Counter()
        self._verdicts: dict[int, tuple[str, str]] = {}  # on items that are only hashed now
        self._again: deque[Task] = deque()
        self._wake, self._woken = Pipe()
        self._poked = False
        self._listening = selectors.DefaultSelector()
        self._listening.register(self._woken, selectors.EVENT_READ)

    def run(self, tasks: Iterable[Task]) -> Generator[Done, None, None]:
        """The results of ``tasks``, in their order. It may be called again when it has ended; one
        that is left early closes the pool."""
        if not self.count:
            for task in tasks:
                yield perform(task, self._reader, self._loader)
            return
        order: deque[int] = deque()
        self._ended = False
        self._thread = threading.Thread(
            target=self._pump, args=(iter(tasks), order), name="headstock-workers", daemon=True
        )
        self._thread.start()
        ended = False
        try:
            while (done := self._next(order)) is not None:
                yield done
            ended = True
        finally:
            if not ended:
                self.close()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self, order: deque[int]) -> Done | None:
        with self._changed:
            while True:
                if self._trouble is not None:
                    raise self._trouble
                if order and order[0] in self._results:
                    full = self._held >= self._window
                    self._held -= 1
                    done = self._results.pop(order.popleft())
                    break
                if not order and self._ended:
                    return None
                self._changed.wait()
        if full:  # the pump waits for room
            self._poke()
        return done

    def close(self) -> None:
        """End the processes; what is under way is dropped."""
        self._stopped = True
        # Whatever ``_poked`` says: an interrupt may have come between it and the byte
        self._wake.send_bytes(b".")
        if self._thread is not None:
            self._thread.join()
        self._listening.close()
        for worker in self._workers:
            worker.end()
        self._workers = []

    def more(self) -> None:
        """One process more, while there are fewer than ``most``."""
        if 0 < self.count < self._most:
            self.count += 1
            self._poke()

    def _poke(self) -> None:
        if not self._poked:
            self._poked = True
            self._wake.send_bytes(b".")

    # --- the pump: a thread, so that workers are fed while the model computes

    def _pump(self, tasks: Iterator[Task], order: deque[int]) -> None:
        try:
            while not self._stopped:
                while len(self._workers) < self.count:
                    self._workers.append(self._hired())
                if not self._feed(tasks, order):
                    break
                for key, _ in self._listening.select():
                    if key.data is None:
                        self._woken.recv_bytes()
                        self._poked = False
                    elif key.data in self._workers:
                        self._hear(key.data)
        except BaseException as trouble:  # noqa: BLE001  handed to the caller's thread
            self._trouble = trouble
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _hired(self) -> _Worker:
        worker = _Worker(self._setup)
        self._listening.register(worker.pipe, selectors.EVENT_READ, worker)
        return worker

    def _feed(self, tasks: Iterator[Task], order: deque[int]) -> bool:
        """Hand out tasks while there is room; False when nothing is left to do."""
        while True:
            worker = min(self._workers, key=lambda w: len(w.tasks))
            if len(worker.tasks) >= DEPTH:
                return True
            if self._again:
                task = self._again.popleft()
            elif self._held >= self._window:
                return True
            else:
                following = next(tasks, None)
                if following is None:
                    return any(w.tasks for w in self._workers)
                task = following
                with self._changed:
                    order.append(task.number)
                    self._held += 1
            worker.tasks.append(task)
            try:
                worker.pipe.send((task.number, task.path, task.known, task.hash_only))
            except OSError:
                self._bury(worker)

    def _hear(self, worker: _Worker) -> None:
        try:
            said = receive(worker.words) if worker.ready else worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if not worker.ready:
            if said is not None:
                raise OptionError("workers", f"cannot start: {said}", "-j 0")
            worker.ready = True
            return
        worker.tasks.popleft()
        said.error = self._verdicts.pop(said.number, said.error)
        self._finish(said)

    def _finish(self, done: Done) -> None:
        with self._changed:
            self._results[done.number] = done
            self._changed.notify_all()

    def _bury(self, worker: _Worker) -> None:
        """Replace a dead worker; blame the item it had in hand."""
        if self._stopped:
            return
        self._listening.unregister(worker.pipe)
        code = worker.end()
        if not worker.ready:
            raise OptionError("workers", f"ended while starting (code {code})", "-j 0")
        if worker.tasks:
            suspect = worker.tasks.popleft()
            self._strikes[suspect.number] += 1
            if self._strikes[suspect.number] < STRIKES:
                self._again.append(suspect)
            elif suspect.number not in self._verdicts:
                self._verdicts[suspect.number] = self._verdict(suspect, code)
                self._again.append(replace(suspect, hash_only=True))
            else:
                stat = self._reader.mark(suspect.path)
                verdict = self._verdicts.pop(suspect.number)
                self._finish(Done(suspect.number, stat=stat, error=verdict))
        self._again.extend(worker.tasks)
        self._workers[self._workers.index(worker)] = self._hired()

    def _verdict(self, task: Task, code: int) -> tuple[str, str]:
        if code == -signal.SIGALRM:
            what, word = f"took longer than {self._seconds:g} s, twice", "timeout"
        elif code == -signal.SIGKILL:
            what, word = "its worker was killed from outside, twice", "worker-killed"
        else:
            what, word = f"ended its worker (code {code}), twice", "worker-died"
        return word, str(ItemError(task.path, what, "replace it or drop the row", code=word))
