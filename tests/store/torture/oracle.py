"""Repair as a game: after any damage the rows that still prove themselves are there, no fewer.

What a file still proves is worked out here from the bytes alone: a row is proven where its id,
digest, vector and checksum lie unchanged in a file that can still be located, wherever that is.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from kills import copy_linked
from world import digest, extract, vector, wanted

from headstock.store import OK, FeatureStore
from headstock.store.care.repair import repair
from headstock.store.care.verify import verify
from headstock.store.disk.file import StoreFile
from headstock.store.errors import HeadstockError, StoreDamaged

Served = dict[str, int]  # id -> version
IDS = {digest(f"r{i}", v): (f"r{i}", v) for i in range(20) for v in range(5)}


@dataclass
class Source:
    """A file as it was: for each of its rows the byte spans that prove it, and its schema's."""

    name: str
    age: int  # later words have higher ages
    raw: bytes
    rows: dict[tuple[str, int], list[tuple[int, int]]] = field(default_factory=dict)
    schema: tuple[int, int] = (0, 0)

    def proven(self, now: bytes | None) -> set[tuple[str, int]]:
        """The rows that the bytes ``now`` under whatever name still prove."""
        if now is None:
            return set()
        low, high = self.schema
        differ = [a ^ b for a, b in zip(now, self.raw, strict=False) if a != b]
        one_bit = len(now) == len(self.raw) and len(differ) == 1 and differ[0].bit_count() == 1
        if now[low:high] != self.raw[low:high] and not one_bit:
            return set()
        return {
            row for row, spans in self.rows.items()
            if all(now[a:b] == self.raw[a:b] and b <= len(now) for a, b in spans)
        }  # fmt: skip


def build(folder: Path) -> list[Source]:
    """A store with two generations, shards and patches that wait; its files as sources."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path, quiet = folder / "f.h5", lambda *words: None
    extract(path, wanted(8), quiet)
    extract(path, wanted(12, "b", r2=1), quiet)
    extract(path, wanted(15, "b", r2=1, r5=1, r9=1), quiet, compact=False, size=3)
    pending = folder / "f.h5.d"
    names = [p.name for p in sorted(pending.glob("gen-*"))]
    names += [p.name for p in sorted(pending.glob("shard-*"))]
    names += [p.name for p in sorted(pending.glob("patch-*"))]
    return [_source(pending / name, age) for age, name in enumerate(names)]


def _source(path: Path, age: int) -> Source:
    raw = path.read_bytes()
    source = Source(path.name, age, raw)
    at = raw.index(b'{"datasets":{')
    source.schema = (at, raw.index(b"  ", at))
    with StoreFile(path) as file:
        base = {"generation": "/features/image", "shard": ""}.get(file.kind)
        if base is None:
            return source
        ids = "/items/id" if base else "/id"
        parts = [ids, f"{base}/content_sha256", f"{base}/crc32", f"{base}/x"]
        digests = file.column(parts[1])
        for row in range(file.n):
            regions = [file.regions[part] for part in parts]
            widths = [r.nbytes // r.shape[0] for r in regions]
            spans = [(r.offset + row * w, r.offset + (row + 1) * w)
                     for r, w in zip(regions, widths, strict=True)]  # fmt: skip
            if digests[row].any():
                source.rows[IDS[digests[row].tobytes()]] = spans
    return source


def _flip(path: Path, rng: random.Random) -> None:
    raw = bytearray(path.read_bytes())
    busy = [at for at, byte in enumerate(raw) if byte] or [0]
    raw[rng.choice(busy)] ^= 1 << rng.randrange(8)
    _write(path, bytes(raw))


def _blank(path: Path, rng: random.Random) -> None:
    raw = bytearray(path.read_bytes())
    at = rng.randrange(max(1, len(raw) // 512)) * 512
    raw[at : at + 512] = bytes(len(raw[at : at + 512]))
    _write(path, bytes(raw))


def _cut(path: Path, rng: random.Random) -> None:
    raw = path.read_bytes()
    _write(path, raw[: rng.randrange(len(raw) + 1)])


def _lengthen(path: Path, rng: random.Random) -> None:
    _write(path, path.read_bytes() + rng.randbytes(rng.randint(1, 5000)))


def _delete(path: Path, rng: random.Random) -> None:
    path.unlink()


def _aside(path: Path, rng: random.Random) -> None:
    folder = path.parent if path.parent.suffix == ".d" else path.with_name("f.h5.d")
    path.rename(folder / f"damaged-{path.name.removeprefix('damaged-')}")


def _write(path: Path, raw: bytes) -> None:
    """In place, so that other names of the file change with it."""
    with open(path, "r+b") as file:
        file.write(raw)
        file.truncate(len(raw))


WAYS: dict[str, Callable[[Path, random.Random], None]] = {
    "flip": _flip, "blank": _blank, "cut": _cut, "lengthen": _lengthen, "delete": _delete,
    "aside": _aside,
}  # fmt: skip


def served(path: Path) -> Served:
    """The rows that a reader gets, each compared with what it must be."""
    out: Served = {}
    with FeatureStore.open(path) as store:
        ids = store.items.id.tolist()
        if "image" not in store.sets:
            return out
        given = store.feature_set("image")
        rows = np.flatnonzero(given.status == OK)
        x = given.x(rows)
        for at, row in enumerate(rows.tolist()):
            identity, version = IDS[given.digest[row].tobytes()]
            if identity != ids[row] or not np.array_equal(x[at], vector(identity, version)):
                raise AssertionError(f"a wrong vector for {ids[row]}")
            out[identity] = version
    return out


def play(staged: Path, sources: list[Source], folder: Path, rng: random.Random) -> list[str]:
    """One round; what is wrong."""
    copy_linked(staged, folder)
    path, pending = folder / "f.h5", folder / "f.h5.d"
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        files = [p for p in [path, *sorted(pending.iterdir())] if p.is_file()]
        way = rng.choice(list(WAYS))
        WAYS[way](rng.choice(files), rng)
    expected: Served = {}
    for source in sources:  # by age: later words win
        names = [pending / source.name, pending / f"damaged-{source.name}"]
        if source.name == "gen-00000003.h5":
            names += [path, pending / "damaged-f.h5"]
        for name in names:
            now = name.read_bytes() if name.exists() else None
            expected.update(dict(sorted(source.proven(now))))
    before: Served = {}
    with suppress(HeadstockError):
        before = served(path)
    kept = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    try:
        told = repair(path)
    except StoreDamaged as error:
        same = all((folder / name).read_bytes() == raw for name, raw in kept.items())
        wrong = [] if same else ["repair refused, and changed something"]
        return wrong + ([f"refused, though {len(expected)} rows prove themselves: {error}"]
                        if expected or before else [])  # fmt: skip
    wrong = []
    after = served(path)
    if after.keys() < before.keys() or any(after.get(i, -1) < v for i, v in before.items()):
        wrong.append(f"fewer rows than before: {before} -> {after}")
    if told.changed and after != expected:
        wrong.append(f"{sorted(after.items())}, but {sorted(expected.items())} prove themselves")
    wrong += [f"verify after repair: {line}" for line in verify(path).findings]
    if told.aside:
        wrong += [f"{name} is not as it was" for name, raw in kept.items()
                  if (told.aside / name).read_bytes() != raw]  # fmt: skip
    if repair(path).changed:
        wrong.append("a second repair found something")
    return wrong


def run(folder: Path, rounds: int, seed: int = 0, stop: bool = False) -> dict[str, Any]:
    """That many rounds; the counts."""
    staged, wrong = folder / "stage", []
    sources = build(staged)
    for number in range(rounds):
        if stop and wrong:
            break
        rng = random.Random(f"{seed}/{number}")
        try:
            found = play(staged, sources, folder / "try", rng)
        except (HeadstockError, AssertionError, LookupError) as error:
            found = [f"{type(error).__name__}: {error}"]
        wrong += [f"round {number}: {line}" for line in found]
    shutil.rmtree(folder, ignore_errors=True)
    return {"repairs": rounds, "wrong": wrong}
