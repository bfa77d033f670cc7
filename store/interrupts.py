"""How a command ends when it is told to, by ctrl-C or by SIGTERM: in order, and soon.

The first signal raises KeyboardInterrupt in the main thread, so that threads and processes beside
are ended in order. What may keep the main thread from it, a long call into a library or a pool that
waits for its threads, has ``GRACE`` seconds; then the process ends where it stands. A store bears
the end of its process anywhere.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["interruptible", "leave"]

ENDING = (signal.SIGINT, signal.SIGTERM)
GRACE = 1.5  # seconds between the signal and the end at the latest
WORDS = b"headstock: interrupted; what was committed is kept, run it again\n"

_leaving = threading.Lock()


@contextmanager
def interruptible() -> Iterator[None]:
    """While it lasts, signals end the command as said above. What whoever started us wants ignored
    stays ignored; a signal that somebody within answers otherwise (a server) is theirs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.getsignal(number) for number in ENDING]
    _answer(_interrupt, _interrupt)
    # Python's own handlers wait for the main thread; the byte in this pipe does not
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, end is reader)
    over = threading.Event()
    outer = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(
        target=_watch, args=(reader, over), name="headstock-interrupts", daemon=True
    ).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(outer)
        os.close(writer)  # which ends the watching thread
        _answer(*before)


def _answer(*how: Any) -> None:
    """Set what answers ctrl-C and what answers SIGTERM."""
    for number, one in zip(ENDING, how):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, one)


def _interrupt(*_: object) -> None:
    """The first signal unwinds. Another one that comes meanwhile must not unwind the unwinding."""
    _answer(leave, leave)
    raise KeyboardInterrupt


def _watch(reader: int, over: threading.Event) -> None:
    try:
        while numbers := os.read(reader, 64):
            ours = any(signal.getsignal(n) in (_interrupt, leave) for n in numbers if n in ENDING)
            if ours and not over.wait(GRACE):
                leave()
    finally:
        os.close(reader)


def leave(*_: object) -> None:
    """End without what Python does at exit: a thread that is cut off while it holds HDF5's lock
    would make it wait for ever. Processes that this one started end with it."""
    if threading.current_thread() is threading.main_thread():
        _answer(*[lambda *_: None] * len(ENDING))
    with _leaving:  # whoever comes second waits for the end
        with suppress(OSError):
            os.write(2, WORDS)
        for child in _children():
            with suppress(OSError):
                os.kill(child, signal.SIGTERM)
        os._exit(130)


def _children() -> Iterator[int]:
    """Processes that this one started, where the system tells."""
    for listed in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError, ValueError):
            yield from map(int, listed.read_text().split())
