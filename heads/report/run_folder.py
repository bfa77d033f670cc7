"""The files of a run folder: written together, and read only when they belong together.

``metrics.json`` holds the sha256 of every other file. A folder whose files are of two evaluations
(a system that cannot exchange folders, a file copied in) is refused by the file's name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstock.store.disk.folder import write_folder
from headstock.store.errors import HeadError, StorageError

__all__ = ["METRICS", "checked_file", "write_run"]

METRICS = "metrics.json"
_OURS = re.compile(
    r"(metrics|settings|folds)\.json|leaderboard\.txt|run\.toml|(oof|valid|test)\.npz|confusion/[^/]+\.csv"
)


def write_run(
    folder: str | Path, metrics: Mapping[str, Any], files: Mapping[str, bytes | str]
) -> None:
    """Make ``folder`` the run of ``metrics`` and its other ``files``, all of it or what was there
    before. Raises StorageError."""
    raw = {name: v.encode() if isinstance(v, str) else v for name, v in files.items()}
    digests = {name: hashlib.sha256(body).hexdigest() for name, body in raw.items()}
    text = json.dumps({**metrics, "files": digests}, indent=1, allow_nan=False)
    ours = lambda name: _OURS.fullmatch(name) is not None  # noqa: E731
    write_folder(folder, {**raw, METRICS: text.encode()}, ours, METRICS)


def checked_file(folder: Path, metrics: Mapping[str, Any], name: str) -> Path | None:
    """Where a file of the run lies that ``metrics`` tell of; None when there is none and need not
    be. Raises HeadError when it is not the one that was written with them, StorageError."""
    path, fix = folder / name, "evaluate again, into another folder or this one"
    digests = metrics.get("files")
    older = not isinstance(digests, dict)  # which says of no file what it was
    wanted = digests.get(name) if isinstance(digests, dict) else None
    try:
        with open(path, "rb") as file:
            held = "" if older else hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        if wanted:
            raise HeadError(path, f"is gone, and {METRICS} tells of it", fix) from None
        return None
    except OSError as error:
        raise StorageError(path, f"cannot be read ({error.strerror})", "check the disk") from error
    if not older and held != wanted:
        raise HeadError(path, f"is of another evaluation than {METRICS} beside it", fix)
    return path
