"""Files of a newer format: each reader refuses by the version that is needed, and no file that was
there is changed.

A real generation, shard, patch or identity is written anew as a format of the
future would be, with every checksum right.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fuzz import READERS, apart, made, together

from headstock.store.care.verify import verify
from headstock.store.disk import layout
from headstock.store.errors import VersionError


def _future(path: Path, kind: str, version: int) -> bytes:
    if kind != "json":
        with patch.object(layout, "VERSION", version):
            return together(apart(path, kind))
    body = json.loads(path.read_text())
    return json.dumps({**body, "format_version": version, "min_reader_version": version}).encode()


def _state(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def run(folder: Path, files: int, seed: int = 0) -> dict[str, Any]:
    """So many files of newer formats, each met by every reader; the counts."""
    base = folder / "base"
    targets = [*made(base), (base / "f.h5.d" / "STORE.json", "json")]
    wrong, refused = [], 0
    for number in range(files):
        rng = random.Random(f"{seed}/{number}")
        path, kind = targets[number % len(targets)]
        raw = _future(path, kind, rng.choice([2, 3, 9, 99, rng.randrange(2, 2**31)]))
        for reader in READERS:
            here = folder / "try"
            shutil.rmtree(here, ignore_errors=True)
            shutil.copytree(base, here)
            for gen in (here / "f.h5.d").glob("gen-*") if kind == "generation" else ():
                gen.unlink()
            (here / path.relative_to(base)).write_bytes(raw)
            before, what = _state(here), f"file {number} ({kind}): {reader.__name__}"
            try:
                told = reader(here / "f.h5")
                if reader is not verify or told.exit_code != 7 or len(told.findings) != 1:
                    wrong.append(f"{what}: was not refused")
                refused += 1
            except VersionError as error:
                refused += 1
                if error.exit_code != 7 or "upgrade" not in str(error) or "\n" in str(error):
                    wrong.append(f"{what}: {error}")
            except Exception as error:  # noqa: BLE001  any other kind is what we look for
                wrong.append(f"{what}: {type(error).__name__} {error}")
            after = _state(here)
            if any(after.get(name) != raw for name, raw in before.items()):
                wrong.append(f"{what}: changed what was there")
    return {"files of newer formats": files, "refusals": refused, "wrong": wrong}
