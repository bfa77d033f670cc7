"""How far a long call is: told to whoever wants to know, and shown as one line on a terminal."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from headstock.store.errors import one_line

__all__ = ["Progress", "Report", "clock", "on_terminal", "unheard"]

Report = Callable[[int, int, str], None]
"""Called with done, total (0 where it is not known) and what is being done."""


def unheard(done: int, total: int, what: str = "") -> None:
    """The report nobody asked for."""


def on_terminal(stream: TextIO) -> bool:
    """Whether a person watches ``stream``."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


PATIENCE = 1.0
"""Seconds before anything is shown: what is over by then needs no bar."""
BEAT = 0.25
"""Seconds between two drawings; the time that passed is redrawn even when nothing was done."""
MEMORY = 64
"""Reports that the rate is taken over: the last ones say more of what is to come."""


class Progress:
    """A context in which a library call tells how far it is: ``Progress("verify", "rows")`` is
    called with done, total (0 where it is not known) and what is being done.

    Nothing is drawn when ``quiet``, and nothing when stderr is no terminal, unless ``always``: a
    notebook shows lines too.
    """

    def __init__(
        self, title: str, unit: str = "", quiet: bool = False, always: bool = False
    ) -> None:
        self._title, self._unit = title, unit
        self._shown = not quiet and (always or on_terminal(sys.stderr))
        self._begin = time.monotonic()
        self._seen: deque[tuple[float, int]] = deque([(self._begin, 0)], MEMORY)
        self._total, self._what = 0, ""
        self._over = threading.Event()
        self._drawn = False
        self._thread = threading.Thread(target=self._draw_on, daemon=True)

    def __call__(self, done: int, total: int, what: str = "") -> None:
        now, seen = time.monotonic(), self._seen
        if done < seen[-1][1] or (what != self._what and done == 0):  # a new stage counts anew
            seen = self._seen = deque([(now, 0)], MEMORY)
        if now - seen[-1][0] >= BEAT / 4 or len(seen) == 1:
            seen.append((now, done))
        else:
            seen[-1] = (seen[-1][0], done)
        self._total, self._what = total, what

    def __enter__(self) -> Progress:
        if self._shown:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._over.set()
        if self._shown:
            self._thread.join()
        if self._drawn:
            _draw("")

    def _draw_on(self) -> None:
        wait = PATIENCE
        while not self._over.wait(wait):
            wait = BEAT
            self._drawn = True
            _draw(self.line())

    def line(self, columns: int | None = None) -> str:
        """What is shown now, in at most ``columns`` (the terminal's)."""
        room = (columns or shutil.get_terminal_size().columns) - 1
        (start, first), (end, done) = self._seen[0], self._seen[-1]
        now, total = time.monotonic(), self._total
        rate = (done - first) / (end - start) if end > start else 0.0
        parts = [self._title]
        if total:
            parts.append(f"{done:,}/{total:,} {self._unit}".rstrip())
            parts.append(f"{min(done / total, 1.0):.0%}")
        elif done:
            parts.append(f"{done:,} {self._unit}".rstrip())
        if rate > 0:
            parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s")
        if rate > 0 and total:
            parts.append(f"{clock(max((total - done) / rate - (now - end), 0.0))} left")
        else:
            parts.append(clock(now - self._begin))
        text = "  ".join(parts)
        if self._what and room - len(text) > 8:
            text += "  " + one_line(self._what, room - len(text) - 2)
        return text[:room]


def clock(seconds: float) -> str:
    """0:07, 12:34, 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _draw(line: str) -> None:
    sys.stderr.write(f"\r\x1b[K{line}")
    sys.stderr.flush()
