"""Encoders and loaders for tests: a known function of the bytes, and every call counted.

A module of its own, for decode workers import loaders by name.
"""

import hashlib
import os
import signal
import time
from dataclasses import dataclass

import numpy as np

from headstock.extract import Encoder, Loader
from headstock.store import Recipe
from headstock.store.errors import ItemError


def vector_of(data: bytes, dim: int = 8) -> np.ndarray:
    """(dim,) float32 that only these bytes have."""
    seed = np.frombuffer(hashlib.sha256(data).digest()[:8], dtype=np.uint64)
    return np.random.default_rng(seed).standard_normal(dim).astype(np.float32)


@dataclass(frozen=True)
class CountingLoader(Loader):
    """Does to the worker what the file says: the words are commands."""

    dim: int = 8
    marks: str = ""  # a folder: one file a load, so that loads in other processes are counted

    def decode(self, data: bytes) -> np.ndarray:
        if self.marks:
            name = f"{hashlib.sha256(data).hexdigest()}-{os.getpid()}-{time.monotonic_ns()}"
            open(os.path.join(self.marks, name), "w").close()
        if data.startswith(b"bad"):
            raise ItemError("item", "told to be bad", "nothing", code="bad")
        if data.startswith(b"bug"):
            raise ZeroDivisionError("told to have a bug")
        if data.startswith(b"die"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if data.startswith(b"kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if data.startswith(b"once") and not self._before(data):
            os.kill(os.getpid(), signal.SIGKILL)
        if data.startswith(b"hang"):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
            time.sleep(60)
        if data.startswith(b"slow"):
            time.sleep(0.05)
        if data.startswith(b"huge"):
            np.ones(1 << 40, dtype=np.uint8)
        if data.startswith(b"nan"):
            return np.full(self.dim, np.nan, dtype=np.float32)
        return vector_of(data, self.dim)

    def _before(self, data: bytes) -> bool:
        """Whether these bytes were loaded before this time."""
        digest = hashlib.sha256(data).hexdigest()
        return sum(name.startswith(digest) for name in os.listdir(self.marks)) > 1


class CountingEncoder(Encoder):
    """Gives back what the loader made; ``calls`` holds the size of each batch."""

    modality = "image"
    name = "counting"

    def __init__(self, dim: int = 8, marks: str = "", version: int = 1, stop_at: int | None = None):
        self.dim, self.version, self.stop_at = dim, version, stop_at
        self.loader = CountingLoader(dim, marks)
        self.calls: list[int] = []

    def recipe(self) -> Recipe:
        return Recipe("image", {"encoder": "counting", "version": self.version, "dim": self.dim})

    def encode(self, items) -> np.ndarray:
        if self.stop_at is not None and len(self.calls) >= self.stop_at:
            raise KeyboardInterrupt
        self.calls.append(len(items))
        return np.stack(items)


class MarkingEncoder(CountingEncoder):
    """Leaves a line with its process and each item in the file ``lines``, before the batch can be
    committed: what is computed in other processes, and in those that died, is counted."""

    def __init__(self, lines: str) -> None:
        super().__init__()
        self.lines = lines

    def encode(self, items) -> np.ndarray:
        out = super().encode(items)
        with open(self.lines, "a") as file:
            file.write("".join(f"{os.getpid()} {row.tobytes().hex()}\n" for row in out))
        time.sleep(0.05)
        return out
