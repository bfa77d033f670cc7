"""Bits flipped and ends cut off: every change of a stored byte must be reported, none served."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

from world import extract, wanted

from headstock.store.care.verify import check_file
from headstock.store.errors import HeadstockError


def subjects(folder: Path) -> list[tuple[str, bytes]]:
    """A generation, a shard and a patch, each as (kind, bytes)."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    extract(folder / "f.h5", wanted(8), lambda *words: None)
    extract(folder / "f.h5", wanted(12, "b", r2=1), lambda *words: None, compact=False)
    pending = folder / "f.h5.d"
    return [
        ("generation", (folder / "f.h5").read_bytes()),
        ("shard", sorted(pending.glob("shard-*"))[0].read_bytes()),
        ("patch", sorted(pending.glob("patch-*"))[0].read_bytes()),
    ]


def noticed(path: Path, kind: str, raw: bytes) -> str:
    """Empty when the spoilt file was refused by an error of the tree, else what happened."""
    path.write_bytes(raw)
    try:
        check_file(path, kind)
    except HeadstockError as error:
        return "" if error.exit_code in (4, 7, 8) else f"ended by {type(error).__name__} {error}"
    return "passed as good"


def run(
    folder: Path, flips: int, seed: int = 0, step: int = 512, stop: bool = False
) -> dict[str, Any]:
    """Flip ``flips`` bits (every byte of metadata first, then random ones), then truncate at each
    ``step`` bytes; the counts."""
    rng, wrong, done, cuts = random.Random(seed), [], 0, 0
    files = subjects(folder)
    for kind, raw in files:
        if noticed(folder / "t.h5", kind, raw) != "passed as good":
            wrong.append(f"{kind}: the unspoilt file does not pass")
        # bytes that are not zero are metadata or data, the rest mostly padding: take both
        busy = [at for at, byte in enumerate(raw) if byte]
        for number in range(-(-flips // len(files))):
            if stop and wrong:
                break
            at = rng.choice(busy) if number % 4 else rng.randrange(len(raw))
            spoilt = bytearray(raw)
            spoilt[at] ^= 1 << rng.randrange(8)
            done += 1
            if what := noticed(folder / "t.h5", kind, bytes(spoilt)):
                wrong.append(f"{kind}, bit in byte {at}: {what}")
        for length in range(0, len(raw), step):
            cuts += 1
            if what := noticed(folder / "t.h5", kind, raw[:length]):
                wrong.append(f"{kind}, cut at {length}: {what}")
    return {"flips": done, "truncations": cuts, "wrong": wrong}
