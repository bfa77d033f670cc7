"""A game with the disk under the data: files go and come back, change, and cannot be read.

After each run of the real ``extract`` the store is held against an oracle: a vector that was
committed stays until the content of its file has been seen to be another; rows whose file could not
be seen are marked, and no others; a folder that is wholly absent changes nothing; what is seen is
right, and nothing that the store holds is computed again. When all is well again the store is
complete, and no mark is left.
"""

from __future__ import annotations

import errno
import io
import os
import random
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scenes import KnownEncoder
from world import vector

from headstock.extract import extract
from headstock.extract.pipeline.options import Options
from headstock.store import OK, FeatureStore, Items
from headstock.store.care.verify import verify
from headstock.store.datafile import Reader
from headstock.store.errors import StorageError

FILES, STEPS = 14, 8
FAULTS = ("EIO", "EMFILE", "ENOMEM", "EACCES", "stat EIO", "read EIO", "short", "memory")


@contextmanager
def _failing(call: str, number: int) -> Iterator[None]:
    """One call of ``os`` fails, in this thread: another one commits."""
    real, here = getattr(os, call), threading.get_ident()

    def refuse(*args: Any, **options: Any) -> Any:
        if threading.get_ident() != here:
            return real(*args, **options)
        raise OSError(number, os.strerror(number))

    setattr(os, call, refuse)
    try:
        yield
    finally:
        setattr(os, call, real)


class Bad(io.FileIO):
    """A file that opens and does not give its bytes: too few, an error, no memory for them."""

    def __init__(self, descriptor: int, fault: str) -> None:
        super().__init__(descriptor, "rb")
        self._fault = fault

    def readall(self) -> bytes:
        if self._fault == "memory":
            raise MemoryError
        if self._fault == "read EIO":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().readall()[:-1]


@dataclass(frozen=True)
class Spoilt(Reader):
    """A Reader on a failing disk: ``faults`` by path. It goes to the decode workers too."""

    faults: tuple[tuple[str, str], ...] = ()

    def open(self, path: str) -> io.FileIO:
        fault = dict(self.faults).get(path, "")
        if fault in ("", "short", "memory", "read EIO"):
            file = super().open(path)
            return Bad(os.dup(file.fileno()), fault) if fault else file
        call = "fstat" if fault.startswith("stat ") else "open"
        with _failing(call, getattr(errno, fault.rpartition(" ")[2])):
            return super().open(path)


class Counting(KnownEncoder):
    """Remembers what it encoded."""

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode(self, items: Sequence[bytes]) -> np.ndarray:
        self.encoded += [bytes(item).decode() for item in items]
        return super().encode(items)


class Game:
    """``here``: the version of each file on the disk, None while it is away; ``touched``: files
    whose time has changed since they were seen; ``held``: the version whose vector each row has."""

    def __init__(self, folder: Path, rng: random.Random, workers: int) -> None:
        self.root, self.away, self.rng, self.workers = (
            folder / "data",
            folder / "away",
            rng,
            workers,
        )
        self.path = folder / "f.h5"
        self.here: dict[str, int | None] = {}
        self.held: dict[str, int | None] = {}
        self.touched: set[str] = set()
        self.faults: dict[str, str] = {}
        self.clock = 10**9
        for place in (self.root, self.away):
            place.mkdir()
        for i in range(FILES):
            self._write(f"r{i}", 0)
            self.held[f"r{i}"] = None
        self.faults = {n: rng.choice(FAULTS) for n in rng.sample(sorted(self.here), 3)}

    def _write(self, name: str, version: int) -> None:
        place = self.root if self.here.get(name, version) is not None else self.away
        self.here[name] = version
        (place / name).unlink(missing_ok=True)
        (self.root / name).write_text(f"{name}/{version}")
        self._touch(name)

    def _touch(self, name: str) -> None:
        self.clock += 10**9
        os.utime(self.root / name, ns=(self.clock, self.clock))
        self.touched.add(name)

    def move(self) -> str:
        """Something happens to the disk."""
        some = self.rng.sample(sorted(self.here), self.rng.randint(1, 5))
        what = self.rng.choice(("go", "go", "come", "come", "change", "touch", "fail", "heal"))
        for name in some:
            there = self.here[name] is not None
            if what == "go" and there:
                (self.root / name).rename(self.away / name)
                self.here[name] = None
            elif what == "come" and not there:
                (self.away / name).rename(self.root / name)
                self.here[name] = int((self.root / name).read_text().partition("/")[2])
                self.touched.add(name)
            elif what == "change" and there:
                self._write(name, int(self.here[name] or 0) + 1)
            elif what == "touch" and there:
                self._touch(name)
            elif what == "fail":
                self.faults[name] = self.rng.choice(FAULTS)
        if what == "heal":
            self.faults.clear()
        return what

    def extract(self) -> tuple[Counting, Any]:
        encoder, faults = Counting(), tuple(self.faults.items())
        Options.reader = lambda _, root: Spoilt(  # type: ignore[method-assign]
            root, (os.path.realpath(root),), faults=faults
        )
        names = sorted(self.here)
        items = Items.of(names, paths={"image": names}, root=str(self.root))
        with FeatureStore.open(self.path, "a") as store:
            account = extract(store, items, {"image": encoder}, batch_size=4, workers=self.workers)
            if self.rng.random() < 0.4:
                store.compact()
        return encoder, account

    def judge(self, encoder: Counting) -> Iterator[str]:
        """What a run that returned must have left; the oracle moves on."""
        unseen = set()
        for name, version in self.here.items():
            looked = self.held[name] is None or version is None or name in self.touched
            if looked and version is not None and name not in self.faults:
                said = f"{name}/{version}"
                if self.held[name] == version and said in encoder.encoded:
                    yield f"{said} was computed again"
                self.held[name] = version
                self.touched.discard(name)
            elif looked and self.held[name] is not None:
                unseen.add(name)
        yield from self.compare(unseen)

    def compare(self, unseen: set[str] | None = None) -> Iterator[str]:
        """Hold the store against the oracle."""
        yield from (f"verify: {line}" for line in verify(self.path).findings)
        with FeatureStore.open(self.path) as store:
            column, ids = store.feature_set("image"), store.items.id.tolist()
            status = dict(zip(ids, column.status.tolist(), strict=True))
            for name, version in self.held.items():
                if version is None:
                    if status.get(name) == OK:
                        yield f"{name} has a vector of nothing, with {self.faults}"
                elif status[name] != OK:
                    yield f"{name} has lost its vector"
                elif not np.array_equal(
                    column.x(np.array([ids.index(name)]))[0], vector(name, version)
                ):
                    yield f"{name} has another vector than of version {version}"
            if unseen is not None and set(store.unseen("image")) != unseen:
                yield f"marked {sorted(store.unseen('image'))}, not seen {sorted(unseen)}"

    def unmounted(self) -> Iterator[str]:
        """The folder is wholly absent, or an empty mount point, for one run."""
        gone = self.root.with_name("unmounted")
        self.root.rename(gone)
        if self.rng.random() < 0.5:
            self.root.mkdir()
        before = (self.path.stat().st_ino, sorted(os.listdir(f"{self.path}.d")))
        try:
            self.extract()
            yield "an absent folder was taken for one"
        except StorageError as error:
            if "not one of the" not in str(error):
                yield f"an absent folder is {error}"
        shutil.rmtree(self.root, ignore_errors=True)
        gone.rename(self.root)
        if before != (self.path.stat().st_ino, sorted(os.listdir(f"{self.path}.d"))):
            yield "an absent folder changed the store"
        yield from self.compare()


def run(folder: Path, games: int, seed: int = 0) -> dict[str, Any]:
    """So many games; the counts."""
    wrong: list[str] = []
    runs = marked = faults = absent = through = 0
    real = Options.reader
    try:
        for number in range(games):
            rng = random.Random(f"{seed}/{number}")
            place = folder / "game"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            game = Game(place, rng, workers=int(number % 6 == 1))
            story: list[str] = []
            for step in range(STEPS):
                if step:
                    story += [game.move() for _ in range(rng.randint(1, 3))]
                if step and rng.random() < 0.15:
                    absent += 1
                    story.append("unmounted")
                    wrong += [f"game {number}, {story}: {f}" for f in game.unmounted()]
                if all(version is None for version in game.here.values()):
                    continue
                encoder, account = game.extract()
                runs, faults = runs + 1, faults + len(game.faults)
                through += game.workers
                marked += len(account.sets["image"].unseen)
                wrong += [f"game {number}, {story}: {f}" for f in game.judge(encoder)]
            game.faults.clear()
            for name, version in game.here.items():
                if version is None:
                    (game.away / name).rename(game.root / name)
                    game.here[name] = int((game.root / name).read_text().partition("/")[2])
                    game.touched.add(name)
            encoder, _ = game.extract()
            wrong += [f"game {number}, the end: {f}" for f in game.judge(encoder)]
            if None in game.held.values() or game.touched:
                wrong.append(f"game {number}, the end: {game.held} is not complete")
    finally:
        Options.reader = real  # type: ignore[method-assign]
    return {
        "games": games,
        "runs": runs,
        "through workers": through,
        "failing reads": faults,
        "vectors kept unseen": marked,
        "folders wholly absent": absent,
        "wrong": wrong,
    }
