"""A batch of rows on its way into a store, and the shard file that carries it.

A shard holds its set's name, recipe fingerprint and epoch, a sequence number, and for b rows: id,
content digest, hint about the file, status, vector and CRC32. Its name comes from what was
computed, so the same work done twice has one name and is committed once.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headstock.store.disk.checksum import row_crcs
from headstock.store.disk.declared import ABSENT, FAILED, OK, Declared
from headstock.store.disk.file import REPAIR, StoreFile
from headstock.store.disk.float16 import narrowed
from headstock.store.disk.forms import shard_form
from headstock.store.disk.layout import Plan, text_bytes
from headstock.store.errors import OptionError, StoreDamaged, one_line

__all__ = ["Batch", "checked", "read_batch", "shard_name", "shard_plan"]

LARGEST_HALF = 65504.0


@dataclass
class Batch:
    """b rows of one set.

    ``digest`` (b, 32) uint8: sha256 of the bytes each vector was made from. ``stat`` (b, 2) int64:
    size of the file and a mark of its path and times, -1 unknown. ``x`` (b, d) float32. ``status``
    (b,) uint8: OK or FAILED; the vector of a failed row is ignored. ``errors``: (id, code, line) of
    failed rows.
    """

    ids: list[str]
    digest: np.ndarray
    stat: np.ndarray
    x: np.ndarray
    status: np.ndarray
    errors: list[tuple[str, str, str]] = field(default_factory=list)


def checked(batch: Batch, declared: Declared) -> Batch:
    """The batch as it will be stored: exact types, zeros in failed rows.

    Raises OptionError for wrong shapes, repeated ids, and vectors that are not finite or do not
    fit the stored type: such a row must come as FAILED, with its reason.
    """
    where, b = f"batch for set {declared.name}", len(batch.ids)
    ids = [str(i) for i in batch.ids]
    status = np.asarray(batch.status, dtype=np.uint8)
    digest = np.ascontiguousarray(batch.digest, dtype=np.uint8)
    stat = np.asarray(batch.stat, dtype="<i8")
    x = np.asarray(batch.x)
    shapes = {"digest": (b, 32), "stat": (b, 2), "x": (b, declared.dim), "status": (b,)}
    for name, array in {"digest": digest, "stat": stat, "x": x, "status": status}.items():
        if array.shape != shapes[name]:
            raise OptionError(where, f"{name} has shape {array.shape}, not {shapes[name]}")
    if b == 0 or len(set(ids)) != b or "" in ids:
        raise OptionError(where, "needs ids, each of them once")
    ok = status == OK
    if not (ok | (status == FAILED)).all():
        raise OptionError(where, f"every row is OK ({OK}) or FAILED ({FAILED}), none {ABSENT}")
    largest = LARGEST_HALF if declared.dtype == "float16" else float(np.finfo("f4").max)
    if not -largest <= float(x.min()) <= float(x.max()) <= largest:  # false for NaN as well
        fits = np.isfinite(x).all(axis=1) & (np.abs(x).max(axis=1) <= largest)
        if (bad := np.flatnonzero(ok & ~fits)).size:
            where = f"{where}, row {ids[bad[0]]}"
            raise OptionError(where, f"its vector is not finite in {declared.dtype}")
    failed = {i for i, good in zip(ids, ok.tolist(), strict=True) if not good}
    if {i for i, _, _ in batch.errors} - failed:
        raise OptionError(where, "an error names a row that did not fail")
    x = x if ok.all() else np.where(ok[:, None], x, 0)
    if declared.dtype == "float16" and x.dtype == np.float32:
        x = narrowed(x)
    x = np.ascontiguousarray(x, declared.stored)
    # a code is one string for all its rows, of which there may be many
    errors = [
        (i, sys.intern(one_line(code, 40)), one_line(line, 500)) for i, code, line in batch.errors
    ]
    return Batch(ids, digest, stat, x, status, errors)


def shard_name(batch: Batch, declared: Declared, again: int = 0) -> str:
    """``shard-<set>-<hash>.h5``: the same work by anyone, any time, has the same name.

    ``again`` tells two sayings apart when something else was said of the rows in between.
    """
    digest = hashlib.sha256()
    for part in (declared.name, str(declared.epoch), declared.recipe.fingerprint, *batch.ids):
        digest.update(part.encode("utf-8", "surrogateescape") + b"\0")
    digest.update(batch.digest.tobytes() + batch.status.tobytes() + str(again).encode())
    return f"shard-{declared.name}-{digest.hexdigest()[:20]}.h5"


def shard_plan(
    batch: Batch, declared: Declared, uuid: str, seq: int
) -> tuple[Plan, dict[str, np.ndarray]]:
    """The form and the arrays of a checked batch's shard."""
    ids = text_bytes(batch.ids)
    at = {identity: row for row, identity in enumerate(batch.ids)}
    arrays: dict[str, Any] = {
        "/id": ids,
        "/content_sha256": batch.digest,
        "/stat": batch.stat,
        "/status": batch.status,
        "/x": batch.x,
        "/crc32": row_crcs(ids, batch.digest, batch.x),
        "/errors/row": np.array([at[i] for i, _, _ in batch.errors], dtype="<i8"),
        "/errors/code": text_bytes([code for _, code, _ in batch.errors]),
        "/errors/line": text_bytes([line for _, _, line in batch.errors]),
    }
    plan = Plan(
        kind="shard",
        uuid=uuid,
        generation=0,
        n=len(ids),
        meta={
            "set": declared.name,
            "epoch": declared.epoch,
            "fingerprint": declared.recipe.fingerprint,
            "seq": seq,
            "declared": declared.carried,
        },
        specs={path: (a.dtype, a.shape) for path, a in arrays.items()},
        row_checked=frozenset({"/x"}),
    )
    return plan, arrays


def read_batch(file: StoreFile) -> Batch:
    """A shard's rows without their vectors. Raises StoreDamaged."""
    shard_form(file)
    ids = file.texts("/id")
    rows = file.column("/errors/row").tolist()
    if not all(0 <= row < len(ids) for row in rows):
        raise StoreDamaged(file.path, "/errors/row names no row", REPAIR)
    codes, lines = file.texts("/errors/code"), file.texts("/errors/line")
    return Batch(
        ids=ids,
        digest=file.column("/content_sha256"),
        stat=file.column("/stat"),
        x=np.empty((len(ids), 0), dtype=np.float32),
        status=file.column("/status"),
        errors=[(ids[r], c, line) for r, c, line in zip(rows, codes, lines, strict=True)],
    )
