"""What one file of a store proves: rows of vectors, ids, text, declarations.

A row is proven by its CRC32 over id, digest and vector; a column of text and a list of ids by their
dataset's checksum, or an id by a row that holds it; a declaration by the checksum of its schema, or
by rows that carry its recipe's sha256.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headstock.store.care.remains import Remains
from headstock.store.disk.checksum import row_crcs
from headstock.store.disk.declared import ABSENT, FAILED, OK, Declared
from headstock.store.disk.forms import DROPPED
from headstock.store.disk.layout import text_from
from headstock.store.disk.rows import dataset
from headstock.store.disk.state import READ_BYTES
from headstock.store.errors import OptionError, StoreDamaged, UnsafeInput
from headstock.store.items import text_column

__all__ = ["Evidence", "Piece", "examine"]

SENSE = (KeyError, TypeError, ValueError, AttributeError, OverflowError, OptionError)


@dataclass
class Piece:
    """The m proven rows of one set in one file: ``position`` (m,) there, below ``base``; the rest
    as in ``Column``. ``lost``: ids of rows that were there and are not proven any more."""

    path: Path
    base: str
    set: str
    fingerprint: str
    epoch: int
    shape: tuple[int, str]  # d and stored type
    ids: list[str]
    position: np.ndarray
    status: np.ndarray
    digest: np.ndarray
    stat: np.ndarray
    seq: np.ndarray
    crc: np.ndarray
    errors: dict[int, tuple[str, str]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


@dataclass
class Evidence:
    """What one file proves. ``ids`` and ``columns`` are aligned; a column that fails its checksum
    stands in ``failed`` instead. ``nameless``: rows whose id is not proven;
    ``dropped``: ids of rows that it leaves out on purpose."""

    path: Path
    kind: str
    whole: bool
    proven: bool
    uuid: str
    number: int
    meta: dict[str, Any]
    ids: list[str] = field(default_factory=list)
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    declared: list[Declared] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    nameless: int = 0
    dropped: list[str] = field(default_factory=list)

    @property
    def spoilt(self) -> bool:
        """Whether anything in it is not as it was written."""
        return bool(
            not self.whole or self.failed or self.nameless or any(p.lost for p in self.pieces)
        )

    def number_of(self, key: str) -> int:
        """A count of its schema; 0 where there is none."""
        value = self.meta.get(key)
        return value if type(value) is int and 0 <= value < 1 << 62 else 0


def examine(path: Path) -> Evidence:
    """Raises FileNotFoundError, StorageError, VersionError; StoreDamaged or UnsafeInput when
    nothing in the file can be told."""
    with Remains(path) as file:
        proof = Evidence(
            path, file.kind, file.whole, file.proven, file.uuid, file.generation, file.meta
        )
        if file.kind == "shard":
            proof.declared = list(_declarations([file.meta.get("declared")], None))
            proof.pieces += _piece(file, "/id", "", file.meta)
            proof.ids = [i for piece in proof.pieces for i in piece.ids]
            return proof
        made = file.meta["sets" if file.kind == "generation" else "declare"]
        epoch = file.generation if file.kind == "patch" else None
        proof.declared = list(_declarations(made if isinstance(made, list) else [], epoch))
        known = np.full(file.n, file.holds("/items/id"))
        for one in proof.declared if file.kind == "generation" else ():
            about = {"set": one.name, "epoch": one.epoch, "fingerprint": one.recipe.fingerprint}
            for piece in _piece(file, "/items/id", f"/features/{one.name}", about):
                proof.pieces.append(piece)
                known[piece.position] = True
        _text(file, proof, known)
        return proof


def _declarations(metas: list[Any], epoch: int | None) -> Iterator[Declared]:
    for meta in metas:
        try:
            yield Declared.from_meta(meta, epoch)
        except SENSE:
            continue


def _text(file: Remains, proof: Evidence, known: np.ndarray) -> None:
    """The ids that are proven, and the cells of the columns that are."""
    proof.nameless = int((~known).sum())
    raw = file.first("/items/id", file.n)[known]
    proof.ids = text_from(raw)
    if DROPPED in file.regions and file.holds(DROPPED):
        proof.dropped = file.texts(DROPPED)
    elif proof.kind == "patch" and proof.meta.get("drop") is True:
        proof.dropped = proof.ids
    columns = file.meta.get("columns")
    for name in columns if isinstance(columns, list) else ():
        try:
            where = dataset(name)
            cells = text_column(file.texts(where)) if file.holds(where) else None
        except (*SENSE, StoreDamaged):
            cells = None
        if cells is None or len(cells) != len(known):
            proof.failed.append(str(name))
        else:
            proof.columns[name] = cells[known]


def _piece(file: Remains, ids_at: str, base: str, about: dict[str, Any]) -> list[Piece]:
    """The proven rows of a set, as a list of one piece; none where they cannot be located."""
    needed = [ids_at, f"{base}/content_sha256", f"{base}/crc32", f"{base}/x"]
    if not all(path in file.regions for path in needed):
        return []
    forms = [(r.dtype.str, r.shape[1:]) for r in (file.regions[path] for path in needed)]
    x = file.regions[needed[3]]
    if forms[1:3] != [("|u1", (32,)), ("<u4", ())] or forms[0][1] or not x.nbytes:
        return []
    if len(x.shape) != 2 or x.dtype.str not in ("<f4", "<f2"):
        return []
    m = min(map(file.room, needed))
    ids, digests, crcs = (file.first(path, m) for path in needed[:3])
    match, finite, some = (np.zeros(m, dtype=bool) for _ in range(3))
    step = max(1, READ_BYTES // (x.shape[1] * x.dtype.itemsize))
    for start in range(0, m, step):
        rows = np.arange(start, min(start + step, m))
        block = file.rows(needed[3], rows)
        match[rows] = row_crcs(ids[rows], digests[rows], block) == crcs[rows]
        finite[rows] = np.isfinite(block).all(axis=1)
        some[rows] = block.any(axis=1)
    status, named = np.full(m, ABSENT, np.uint8), match | file.holds(ids_at)
    stored, beyond = _held(file, f"{base}/status", "|u1", m), np.empty(0, np.int64)
    if stored is not None and file.holds(ids_at):  # rows that a cut file has no vectors of
        beyond = m + np.flatnonzero(file.column(f"{base}/status")[m : file.n] == OK)
        ids = file.first(ids_at, file.n)
    if stored is not None:
        status[(stored == OK) & match & finite] = OK
        status[(stored == FAILED) & named] = FAILED
    else:  # a generation keeps NaN where nothing is, a shard zeros where a row failed
        status[match & finite & (some if file.kind == "shard" else True)] = OK
    keep = np.flatnonzero(status != ABSENT)
    lost = np.flatnonzero(
        (status == ABSENT) & named & (stored == OK if stored is not None else ~match)
    )
    seq = np.full(m, _whole(file.meta.get("clock" if base else "seq")), np.int64)
    if base and (known := _held(file, f"{base}/seq", "<i8", m)) is not None:
        seq = known
    stat = _held(file, f"{base}/stat", "<i8", m, 2)
    stat = np.full((m, 2), -1, np.int64) if stat is None else stat
    place = {row: at for at, row in enumerate(keep.tolist())}
    try:
        texts = text_from(ids[keep])
        missed = text_from(ids[[*lost, *beyond]])
        name, fingerprint = str(about["set"]), str(about["fingerprint"])
    except SENSE:
        return []
    return [
        Piece(
            file.path, base, name, fingerprint, _whole(about["epoch"]), (x.shape[1], x.dtype.str),
            texts, keep, status[keep], digests[keep], stat[keep], seq[keep], crcs[keep],
            _reasons(file, f"/errors/{name}" if base else "/errors", place), missed,
        )
    ]  # fmt: skip


def _held(file: Remains, path: str, kind: str, m: int, *inner: int) -> np.ndarray | None:
    """The first ``m`` rows of a dataset that matches its checksum and has the right form."""
    if not file.holds(path, kind):
        return None
    column = file.column(path)
    return column[:m] if len(column) >= m and column.shape[1:] == inner else None


def _reasons(file: Remains, base: str, place: dict[int, int]) -> dict[int, tuple[str, str]]:
    """Why rows failed, by their place among the proven ones."""
    if not all(file.holds(f"{base}/{part}") for part in ("row", "code", "line")):
        return {}
    try:
        rows = file.column(f"{base}/row").tolist()
        codes, lines = file.texts(f"{base}/code"), file.texts(f"{base}/line")
    except (StoreDamaged, UnsafeInput):
        return {}
    failures = zip(rows, codes, lines, strict=False)
    return {place[row]: (code, line) for row, code, line in failures if row in place}


def _whole(value: object) -> int:
    return value if type(value) is int and 0 <= value < 1 << 62 else 0
