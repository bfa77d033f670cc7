"""The files of a run folder: written together, and read only when they belong together.

``metrics.json`` holds the run, and the sha256 of every other file. A folder whose files are of two
evaluations (a system that cannot exchange folders, a file copied in) is refused by the file's name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstock.heads.run.as_json import WrongField, parse, plain
from headstock.heads.run.numbers import NumberRun
from headstock.heads.run.run import Run
from headstock.store.disk.folder import write_folder
from headstock.store.errors import HeadError, OptionError, StorageError, VersionError, one_line
from headstock.store.jsonfile import read_json

__all__ = ["METRICS", "body_of", "checked_file", "read_any", "read_run", "write_run"]

METRICS = "metrics.json"
FORMAT, VERSION = "headstock run", 1
AGAIN = "evaluate again"
_OURS = re.compile(
    r"(metrics|settings|folds)\.json|leaderboard\.txt|run\.toml|(oof|valid|test)\.npz|confusion/[^/]+\.csv"
)


def body_of(run: Run | NumberRun) -> dict[str, Any]:
    """The content of metrics.json."""
    return {"format": FORMAT, "version": VERSION, **plain(run)}


def write_run(folder: str | Path, run: Run | NumberRun, files: Mapping[str, bytes | str]) -> None:
    """Make ``folder`` that of ``run`` and its other ``files``, all of it or what was there before.
    Raises StorageError."""
    raw = {name: v.encode() if isinstance(v, str) else v for name, v in files.items()}
    digests = {name: hashlib.sha256(body).hexdigest() for name, body in raw.items()}
    text = json.dumps(body_of(replace(run, files=digests)), indent=1, allow_nan=False)
    ours = lambda name: _OURS.fullmatch(name) is not None  # noqa: E731
    write_folder(folder, {**raw, METRICS: text.encode()}, ours, METRICS)


def read_run(folder: str | Path) -> Run:
    """The run of classes that lies in ``folder``. Raises what ``read_any`` does, and HeadError for
    a run of numbers."""
    run = read_any(folder)
    if isinstance(run, NumberRun):
        what = "is a run of numbers, and this is about classes"
        raise HeadError(Path(folder) / METRICS, what, "headstock report shows it by itself")
    return run


def read_any(folder: str | Path) -> Run | NumberRun:
    """The run that lies in ``folder``. Raises OptionError when there is none, VersionError for one
    of another version, HeadError for a field that is missing or of another kind, StorageError."""
    file = Path(folder) / METRICS
    try:
        body = read_json(file, AGAIN)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            fix = "name one that `headstock evaluate -o` wrote"
            raise OptionError(folder, "is no run folder", fix) from None
        raise
    except ValueError as error:
        raise HeadError(file, f"cannot be read ({error})", AGAIN) from error
    if not isinstance(body, dict) or body.pop("format", None) != FORMAT:
        raise HeadError(file, "is no run of this headstock", AGAIN)
    version = body.pop("version", None)
    if version != VERSION or isinstance(version, bool):
        what = f"is a run of version {one_line(version, 20)}, and this headstock reads {VERSION}"
        raise VersionError(file, what, AGAIN)
    run: Run | NumberRun
    try:
        settings = body.get("settings")
        numbers = isinstance(settings, dict) and settings.get("target") == "number"
        run = parse(NumberRun, body) if numbers else parse(Run, body)
    except WrongField as error:
        raise HeadError(file, error, AGAIN) from error
    if not run.leaderboard:
        raise HeadError(file, "leaderboard has no line", AGAIN)
    return run


def checked_file(folder: Path, run: Run | NumberRun, name: str) -> Path | None:
    """Where a file of the run lies; None when there is none and need not be. Raises HeadError when
    it is not the one that was written with metrics.json, StorageError."""
    path, fix = folder / name, "evaluate again, into another folder or this one"
    wanted = run.files.get(name)
    try:
        with open(path, "rb") as file:
            held = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        if wanted:
            raise HeadError(path, f"is gone, and {METRICS} tells of it", fix) from None
        return None
    except OSError as error:
        raise StorageError(path, f"cannot be read ({error.strerror})", "check the disk") from error
    if held != wanted:
        raise HeadError(path, f"is of another evaluation than {METRICS} beside it", fix)
    return path
