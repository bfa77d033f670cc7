"""Claims: who computes which block of rows of a set, on one machine or many.

A claim is a small file named after a block of rows; whoever makes it computes the block. It saves
work and nothing else: what is committed twice is committed once, whoever did it. A claim whose
owner is dead, or has not touched it for ``STALE`` seconds, is free for anyone. It appears with its
owner's name in it or not at all; one without belongs to nobody.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from headstock.store.disk import commit

__all__ = ["STALE", "Claims"]

STALE = 60.0  # seconds without a sign of life
BEAT = 15.0


class Claims:
    """The claims of one process on blocks of one set; a context that lets go of them at its end."""

    def __init__(self, directory: Path, unit: str) -> None:
        self._directory, self._unit = directory, unit
        self._held: set[int] = set()
        self._watched: dict[Path, tuple[tuple[int, int], float]] = {}  # others' beats, and when
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="headstock-claims", daemon=True)
        self._probe = commit.temp_name(directory)

    def __enter__(self) -> Claims:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        for block in list(self._held):
            self.release(block)
        with suppress(OSError):  # a temp that stays is swept by the next who opens the store
            self._probe.unlink()

    def path(self, block: int) -> Path:
        return self._directory / f"claim-{self._unit}-{block:08d}"

    def take(self, block: int) -> bool:
        """Claim a block. False when a living process has it. Raises StorageError."""
        path = self.path(block)
        with commit.storage(path):
            for _ in range(2):
                try:
                    self._make(path)
                except FileExistsError:
                    if not self._dead(path):
                        return False
                    with suppress(FileNotFoundError):  # several may try; one rename succeeds
                        gone = commit.temp_name(self._directory)
                        os.rename(path, gone)
                        os.unlink(gone)
                    continue
                self._held.add(block)
                return True
        return False

    def _make(self, path: Path) -> None:
        """The claim with its owner in it, at once. Raises FileExistsError."""
        temp = commit.temp_name(self._directory)
        try:
            fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                commit.write_all(fd, f"{commit.host()} {os.getpid()}\n".encode(), 0)
            finally:
                os.close(fd)
            commit.link_new(temp, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temp)

    def owner(self, block: int) -> str:
        """Who holds a block, in words; empty when nobody does."""
        try:
            host, pid = self.path(block).read_text().split()
        except (OSError, ValueError):
            return ""
        return f"process {pid} on {host}"

    def release(self, block: int) -> None:
        self._held.discard(block)
        with suppress(OSError):  # a claim that stays is free as soon as this process is gone
            self.path(block).unlink()

    def _dead(self, path: Path) -> bool:
        try:
            words, found = path.read_text().split(), path.stat()
        except FileNotFoundError:
            return False  # let go just now: try again at the next look
        except ValueError:
            return True
        if len(words) != 2 or not words[1].isdecimal() or len(words[1]) > 19:
            return True
        if words[0] == commit.host() and not commit.alive(int(words[1])):
            return True
        # by the file system's clock, which is the same for every machine that shares it
        self._probe.touch()
        if self._probe.stat().st_mtime - found.st_mtime > STALE:
            return True
        # that clock may have been set back since: a living owner moves the time, whatever it is
        now, mark = time.monotonic(), (found.st_ino, found.st_mtime_ns)
        before, since = self._watched.get(path, (None, now))
        if mark != before:
            self._watched[path] = mark, now
            return False
        return now - since > STALE

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            for block in list(self._held):
                with suppress(OSError):  # taken over or let go meanwhile
                    os.utime(self.path(block))
