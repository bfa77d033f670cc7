"""Claims: several extractors, on one machine or many, share the rows of one set.

A claim is a small file named after a block of rows; whoever makes it computes the block. It saves
work and nothing else: what is committed twice is committed once, whoever did it. A claim whose
owner is dead, or has not touched it for ``STALE`` seconds, is free for anyone. It appears with its
owner's name in it or not at all; one without belongs to nobody.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headstock.store.disk import commit

if TYPE_CHECKING:
    from headstock.store.features import FeatureStore

__all__ = ["Claims", "share"]

STALE = 60.0  # seconds without a sign of life
BEAT = 15.0
LOOK = 0.5  # how often blocks that others hold are looked at
TOLD = 60.0  # seconds between two words to whoever waits

log = logging.getLogger("headstock")


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


def share(
    store: FeatureStore, name: str, ids: Sequence[str], size: int = 1024
) -> Generator[list[str], None, None]:
    """Lists of ``ids`` to compute and commit now, until all of them are done by somebody.

    Rows that another process commits meanwhile are left out; blocks that it holds are waited for,
    and taken over when it dies. Blocks are ``size`` rows in the store's order, so processes with
    different plans still agree on them.
    """
    epoch = store.declared(name).epoch
    before = {i: int(s) for i, s in zip(ids, store.said(name, ids).tolist(), strict=True)}
    rows = store.rows(ids)
    blocks: dict[int, list[str]] = {}
    for identity, row in zip(ids, rows.tolist(), strict=True):
        blocks.setdefault(row // size, []).append(identity)
    with Claims(store.path.with_name(store.path.name + ".d"), f"{name}-{epoch}-{size}") as claims:
        waiting = told = 0.0
        while blocks:
            took = False
            for block in sorted(blocks):
                if not claims.take(block):
                    continue
                took = True
                todo = _unsaid(store, name, blocks.pop(block), before)
                if todo:
                    yield todo
                claims.release(block)
            for block in list(blocks):
                blocks[block] = _unsaid(store, name, blocks[block], before)
                if not blocks[block]:
                    del blocks[block]
            if took or not blocks:
                waiting = 0.0
                continue
            now = time.monotonic()
            waiting = waiting or now
            if now - waiting >= LOOK and now - told >= TOLD:
                told = now
                log.warning(_waited_for(claims, name, blocks))
            time.sleep(LOOK)


def _waited_for(claims: Claims, name: str, blocks: Mapping[int, Sequence[str]]) -> str:
    """A line for whoever waits: for what, for whom, and for how long at most."""
    rows = sum(map(len, blocks.values()))
    owners = sorted({claims.owner(block) for block in blocks} - {""})
    return (
        f"set {name}: waiting for {rows:,} rows that {', '.join(owners) or 'another process'} "
        f"computes; they are taken over {STALE:.0f} s after its last sign of life"
    )


def _unsaid(
    store: FeatureStore, name: str, ids: Sequence[str], before: dict[str, int]
) -> list[str]:
    """Those of ``ids`` about which nobody has committed anything since."""
    if store.behind():
        store.refresh()
    now = store.said(name, ids)
    same = now == np.array([before[i] for i in ids], dtype=np.int64)
    return [identity for identity, still in zip(ids, same.tolist(), strict=True) if still]
