"""How often a test split was looked at: a line for each evaluation that showed a score on it.

A test split is worth what it promises the first time. Whoever looks, changes something and looks
again chooses by it. The ledger lies beside the store, in ``features.h5.ledger``: lines of JSON, one
a look, and one more where a look was saved as a run. It does not go along when a store is copied.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from headstock.heads.run.rows import Looks
from headstock.heads.run.scores import Line
from headstock.store.errors import HeadstockError
from headstock.store.jsonfile import parse_json

__all__ = ["SHOWN", "answers_digest", "keep_chosen", "look", "saved_as", "split_digest"]

SHOWN = ("chosen", "all", "none")
"""Whose score on the test split is shown: the leaderboard's first system's, all systems', none."""
LARGEST = 64 << 20
"""Bytes of a ledger that are read."""


def split_digest(ids: Sequence[str] | np.ndarray, labels: Sequence[str] | np.ndarray) -> str:
    """By which a split is known again: its rows and their labels, in any order."""
    pairs = sorted(zip(map(str, ids), map(str, labels), strict=True))
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def answers_digest(proba: np.ndarray) -> str:
    """By which a system is known again: what it says of the split, to six digits."""
    return hashlib.sha256(np.round(np.nan_to_num(proba, nan=-1.0), 6).tobytes()).hexdigest()


def keep_chosen(board: Sequence[Line], shown: str) -> list[Line]:
    """The lines; those whose score on the test split is not shown lose it."""
    scored = [line.name for line in board if line.test]
    kept = scored if shown == "all" else scored[:1] if shown == "chosen" else []
    return [line if line.name in kept else replace(line, test=None) for line in board]


def look(store: str | Path, split: str, rows: int, systems: Mapping[str, str]) -> Looks:
    """Put down that the scores of ``systems`` {name: digest} on ``split`` were shown, and say how
    often that has happened. A ledger that cannot be written fails nothing; the look says so."""
    file = Path(f"{store}.ledger")
    entry: dict[str, Any] = {
        "id": uuid4().hex, "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "split": split, "rows": rows, "systems": dict(systems),
    }  # fmt: skip
    lines = _lines(file)
    before = [
        one for one in lines if one.get("split") == split and isinstance(one.get("systems"), dict)
    ]
    folders = {one["id"]: str(one["run"]) for one in lines if "run" in one}
    known = {digest for one in [*before, entry] for digest in map(str, one["systems"].values())}
    runs = dict.fromkeys(folders[one["id"]] for one in before if one["id"] in folders)
    return Looks(
        unwritten=_append(file, entry), file=str(file), id=entry["id"], rows=rows,
        shown=len(systems), looks=len(before) + 1, systems=len(known), runs=tuple(runs),
    )  # fmt: skip


def saved_as(looks: Looks, run: str | Path) -> None:
    """Put down the folder that a look was saved in."""
    _append(Path(looks.file), {"id": looks.id, "run": str(Path(run).resolve())})


def _append(file: Path, entry: Mapping[str, Any]) -> str:
    """One write at the end, so that several programs may look at once; why it failed, or empty."""
    try:
        opened = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(opened, (json.dumps(entry) + "\n").encode())
        finally:
            os.close(opened)
    except OSError as error:
        return str(error.strerror)
    return ""


def _lines(file: Path) -> list[dict[str, Any]]:
    """The lines that read as such: one cut short by a kill is passed over."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(LARGEST)
    except OSError:
        return []
    out = []
    for line in raw.split(b"\n"):
        with suppress(ValueError, HeadstockError):
            entry = parse_json(line)
            if isinstance(entry, dict) and isinstance(entry.get("id"), str):
                out.append(entry)
    return out
