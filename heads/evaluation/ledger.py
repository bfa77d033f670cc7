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
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from headstock.store.errors import HeadstockError
from headstock.store.jsonfile import parse_json

if TYPE_CHECKING:
    from headstock.heads.evaluation.result import Evaluation

__all__ = ["SHOWN", "Look", "keep_chosen", "look", "looked_at", "saved_as", "split_digest"]

SHOWN = ("chosen", "all", "none")
"""Whose score on the test split is shown: the leaderboard's first system's, all systems', none."""
LARGEST = 64 << 20
"""Bytes of a ledger that are read."""


@dataclass(frozen=True)
class Look:
    """One look at a split of ``rows`` rows: its name ``id``, how many ``looks`` and different
    ``systems`` there have been, this among them, and the folders of the ``runs`` that were saved
    before. ``unwritten``: why it could not be put down, or empty."""

    file: Path
    id: str
    rows: int
    shown: int
    looks: int
    systems: int
    runs: tuple[str, ...]
    unwritten: str = ""

    def to_json(self) -> dict[str, Any]:
        out = {
            "file": str(self.file), "id": self.id, "rows": self.rows, "shown": self.shown,
            "looks": self.looks, "systems": self.systems, "runs": list(self.runs),
        }  # fmt: skip
        return {**out, "unwritten": self.unwritten} if self.unwritten else out


def split_digest(ids: Sequence[str] | np.ndarray, labels: Sequence[str] | np.ndarray) -> str:
    """By which a split is known again: its rows and their labels, in any order."""
    pairs = sorted(zip(map(str, ids), map(str, labels), strict=True))
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def answers_digest(proba: np.ndarray) -> str:
    """By which a system is known again: what it says of the split, to six digits."""
    return hashlib.sha256(np.round(np.nan_to_num(proba, nan=-1.0), 6).tobytes()).hexdigest()


def keep_chosen(board: Sequence[dict[str, Any]], shown: str) -> list[str]:
    """The systems whose score on the test split is shown; the others lose it."""
    scored = [line for line in board if "test" in line]
    left = scored if shown == "all" else scored[:1] if shown == "chosen" else []
    for line in scored:
        if line not in left:
            del line["test"]
    return [str(line["name"]) for line in left]


def looked_at(result: Evaluation, store: str | Path, shown: str) -> dict[str, Any]:
    """Leave the score on the test split to those systems of ``result`` that it is ``shown`` of, and
    put the look down; empty where there is none."""
    names = keep_chosen(result.leaderboard, shown)
    held = result.held.get("test")
    if held is None or not names:
        return {}
    held = result.held["test"] = replace(held, proba={name: held.proba[name] for name in names})
    split = split_digest(held.ids, result.classes[held.codes])
    systems = {name: answers_digest(proba) for name, proba in held.proba.items()}
    return look(store, split, len(held.ids), systems).to_json()


def look(store: str | Path, split: str, rows: int, systems: Mapping[str, str]) -> Look:
    """Put down that the scores of ``systems`` {name: digest} on ``split`` were shown, and say how
    often that has happened. A ledger that cannot be written fails nothing; the look says so."""
    file = Path(f"{store}.ledger")
    entry: dict[str, Any] = {
        "id": uuid4().hex, "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "split": split, "rows": rows, "systems": dict(systems),
    }  # fmt: skip
    told = _lines(file)
    before = [
        one for one in told if one.get("split") == split and isinstance(one.get("systems"), dict)
    ]
    folders = {one["id"]: str(one["run"]) for one in told if "run" in one}
    known = {digest for one in [*before, entry] for digest in map(str, one["systems"].values())}
    runs = [folders[one["id"]] for one in before if one["id"] in folders]
    why = _append(file, entry)
    return Look(
        file, entry["id"], rows, len(systems), len(before) + 1, len(known),
        tuple(dict.fromkeys(runs)), why,
    )  # fmt: skip


def saved_as(told: Mapping[str, Any], run: str | Path) -> None:
    """Put down the folder that a look (its ``to_json``) was saved in."""
    _append(Path(told["file"]), {"id": told["id"], "run": str(Path(run).resolve())})


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
            told = parse_json(line)
            if isinstance(told, dict) and isinstance(told.get("id"), str):
                out.append(told)
    return out
