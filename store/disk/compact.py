"""Compacting: everything a store holds, streamed into one plain HDF5 file.

Memory: the rows' text and about 70 bytes a row and set, and some 10 MB of vectors.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from headstock.store.disk import commit
from headstock.store.disk.checksum import agree, crc32, row_crcs
from headstock.store.disk.column import Column
from headstock.store.disk.declared import OK, Declared
from headstock.store.disk.depot import Depot
from headstock.store.disk.file import REPAIR, StoreFile
from headstock.store.disk.forms import DROPPED, generation_form
from headstock.store.disk.layout import LARGE_PAGE, SKELETON, Plan, text_bytes
from headstock.store.disk.rows import dataset
from headstock.store.disk.state import READ_BYTES, State
from headstock.store.errors import StoreBusy, StoreDamaged
from headstock.store.progress import Report, unheard

__all__ = ["Content", "check_bytes", "check_file", "compact", "write_generation"]

ATTEMPTS = 20
WRITE = 1 << 23  # bytes of vectors written in one go, cut where a LARGE_PAGE begins


def compact(
    depot: Depot, take: Callable[[], State], force: bool = False, progress: Report = unheard
) -> int:
    """Make the next generation of all that is committed; the newest generation's number.

    Many may try at once: the number is taken by one of them, the others look again. Raises
    StorageError, StoreDamaged, and StoreBusy when others kept winning.
    """
    for _ in range(ATTEMPTS):
        state = take()
        try:
            number = state.file.generation
            if not force and not _anything_new(state):
                depot.roll_forward()
                depot.clear(state.listing, number)
                return number
            number += 1
            target = depot.generation_path(number)
            write = partial(write_generation, state=state, number=number, progress=progress)
            check = partial(check_file, progress=progress)
            made = commit.publish(target, write, check)
            # a slow compaction may find an old number free again: only the highest counts
            if made and max(depot.generations(), default=0) > number:
                commit.remove([target])
                made = False
            if made:
                depot.roll_forward()
                depot.clear(state.listing, number)
                return number
        except FileNotFoundError:
            continue  # another compaction absorbed what we were reading
        finally:
            state.close()
    raise StoreBusy(depot.path, "others keep compacting this store", "wait for them to end")


def _anything_new(state: State) -> bool:
    if state.patches:
        return True
    return any(len(state.column(name).sources) > 1 for name in state.declared)


def check_file(path: Path, progress: Report = unheard) -> None:
    """Open a written generation anew and check all of it."""
    with StoreFile(path, "generation") as file:
        check_bytes(file, progress)


def check_bytes(file: StoreFile, progress: Report = unheard) -> None:
    """Read every byte of a generation and compare every checksum. Raises StoreDamaged."""
    generation_form(file)
    ids = file.column("/items/id")
    for path, region in file.regions.items():
        if region.crc is not None:
            if path != SKELETON and path != "/items/id":
                file.column(path)
            continue
        base = path.rsplit("/", 1)[0]
        digests, crcs = file.column(f"{base}/content_sha256"), file.column(f"{base}/crc32")
        step = max(1, READ_BYTES // max(1, region.shape[1] * region.dtype.itemsize))
        scratch = np.empty((step, region.shape[1]), region.dtype)
        for start in range(0, region.shape[0], step):
            progress(start, region.shape[0], f"checking {base.rpartition('/')[2]}")
            rows = np.arange(start, min(start + step, region.shape[0]))
            x = file.rows(path, rows, scratch[: len(rows)])
            if agree(ids[rows], digests[rows], x, crcs[rows]):
                continue
            fresh = row_crcs(ids[rows], digests[rows], x)
            if (wrong := rows[fresh != crcs[rows]]).size:
                raise StoreDamaged(
                    file.path, f"{path}: {wrong.size} rows fail their checksum, the first is row "
                    f"{wrong[0]}", REPAIR,
                )  # fmt: skip


class Content(Protocol):
    """What a generation is written from. ``absorbed`` is the highest number of a patch in it,
    ``kept`` the rows that are written; ``dropped``, ``drops`` and ``gone`` as in State."""

    @property
    def uuid(self) -> str: ...
    @property
    def absorbed(self) -> int: ...
    @property
    def n(self) -> int: ...
    @property
    def ids(self) -> list[str]: ...
    @property
    def id_bytes(self) -> np.ndarray: ...
    @property
    def columns(self) -> dict[str, np.ndarray]: ...

    declared: dict[str, Declared]
    root: str
    clock: int
    drops: int
    dropped: set[str]

    @property
    def gone(self) -> set[str]: ...
    @property
    def kept(self) -> np.ndarray: ...

    def column(self, name: str) -> Column: ...
    def vectors(self, column: Column, rows: np.ndarray, out: np.ndarray) -> np.ndarray: ...


def _datasets(state: Content, kept: np.ndarray) -> dict[str, np.ndarray]:
    """Every dataset but the vectors and their checksums, of the rows that are ``kept``."""
    new = {row: at for at, row in enumerate(kept.tolist())}
    rows = kept if state.dropped else slice(None)  # a view costs no memory
    arrays: dict[str, np.ndarray] = {"/items/id": state.id_bytes[rows]}
    for name, cells in state.columns.items():
        arrays[dataset(name)] = text_bytes(cells[rows].tolist())
    for name, declared in state.declared.items():
        column, base = state.column(name), f"/features/{name}"
        arrays[f"{base}/status"] = column.status[rows]
        arrays[f"{base}/content_sha256"] = column.digest[rows]
        arrays[f"{base}/stat"] = column.stat[rows]
        arrays[f"{base}/seq"] = column.seq[rows]
        if declared.feature_names is not None:
            arrays[f"{base}/names"] = text_bytes(declared.feature_names)
        failed = sorted(
            (new[row], row, *reason) for row, reason in column.errors.items() if row in new
        )
        arrays[f"/errors/{name}/row"] = np.array([at for at, *_ in failed], dtype="<i8")
        arrays[f"/errors/{name}/id"] = text_bytes([state.ids[row] for _, row, *_ in failed])
        arrays[f"/errors/{name}/code"] = text_bytes([code for *_, code, _ in failed])
        arrays[f"/errors/{name}/line"] = text_bytes([line for *_, line in failed])
    if state.gone:
        arrays[DROPPED] = text_bytes(sorted(state.gone))
    return arrays


def _plan(state: Content, number: int, arrays: dict[str, np.ndarray]) -> Plan:
    n = len(arrays["/items/id"])
    drops = state.drops + state.n - n
    specs: dict[str, tuple[Any, tuple[int, ...]]] = {
        path: (a.dtype, a.shape) for path, a in arrays.items()
    }
    for name, declared in state.declared.items():
        specs[f"/features/{name}/x"] = (declared.stored, (n, declared.dim))
        specs[f"/features/{name}/crc32"] = (np.dtype("<u4"), (n,))
    return Plan(
        kind="generation",
        uuid=state.uuid,
        generation=number,
        n=n,
        meta={
            "columns": list(state.columns),
            "root": state.root,
            "sets": [d.to_meta() for d in state.declared.values()],
            "patches": state.absorbed,
            "clock": state.clock,
            "traces": 1,  # of what it gathers are forgotten: those that stand may be held to
            **({"drops": drops} if drops else {}),
        },
        specs=specs,
        row_checked=frozenset(f"/features/{name}/x" for name in state.declared),
        notes={
            f"/features/{name}": {"recipe": d.recipe.to_json(), "fingerprint": d.recipe.fingerprint}
            for name, d in state.declared.items()
        },
    )


def write_generation(fd: int, state: Content, number: int, progress: Report = unheard) -> None:
    """Write ``state`` as generation ``number`` into the empty file ``fd``."""
    kept = state.kept
    arrays = _datasets(state, kept)
    plan = _plan(state, number, arrays)
    reserve(fd, plan.length)
    crcs = {}
    for path, array in arrays.items():
        raw = np.ascontiguousarray(array, dtype=plan.regions[path].dtype).tobytes()
        commit.write_all(fd, raw, plan.regions[path].offset)
        crcs[path] = crc32(raw)
    for name in state.declared:
        base = f"/features/{name}"
        offset = plan.regions[f"{base}/x"].offset
        row_checks = _write_vectors(fd, state, state.column(name), kept, offset, progress)
        commit.write_all(fd, row_checks.tobytes(), plan.regions[f"{base}/crc32"].offset)
        crcs[f"{base}/crc32"] = crc32(row_checks.tobytes())
    for start, raw in plan.skeleton(crcs):
        commit.write_all(fd, raw, start)


def reserve(fd: int, length: int) -> None:
    """Take the file's whole length now: a full disk is known before a row is written."""
    os.ftruncate(fd, length)
    try:
        os.posix_fallocate(fd, 0, length)
    except (AttributeError, OSError) as error:
        # not every system and file system can; those find a full disk out by writing
        if getattr(error, "errno", None) not in (None, errno.EINVAL, errno.EOPNOTSUPP):
            raise


def _write_vectors(
    fd: int,
    state: Content,
    column: Column,
    kept: np.ndarray,
    offset: int,
    progress: Report = unheard,
) -> np.ndarray:
    """Stream a set's vectors of the (n,) rows ``kept`` to ``offset``; (n,) row CRCs.

    A row without one is NaN: whoever reads the file without asking for ``status`` shall see that
    nothing is there.
    """
    declared = column.declared
    width = declared.dim * declared.stored.itemsize
    n = len(kept)
    crcs, step = np.zeros(n, "<u4"), max(1, READ_BYTES // width)
    held, begin, filled = np.empty(min(WRITE, n * width) + step * width, np.uint8), offset, 0
    for start in range(0, n, step):
        progress(start, n, f"writing {declared.name}")
        rows, here = kept[start : start + step], slice(start, min(start + step, n))
        piece = held[filled : filled + len(rows) * width]
        block, ok = piece.view(declared.stored).reshape(len(rows), -1), column.status[rows] == OK
        if ok.all():
            crcs[here] = state.vectors(column, rows, block)
        else:
            x = np.empty((int(ok.sum()), declared.dim), declared.stored)
            state.vectors(column, rows[ok], x)
            block[:] = np.nan
            block[ok] = x
            crcs[here] = row_crcs(state.id_bytes[rows], column.digest[rows], block)
        filled += piece.size
        last = here.stop == n
        if last or filled >= WRITE:
            done = filled if last else filled - (begin + filled) % LARGE_PAGE
            commit.write_all(fd, held[:done].data, begin)
            begin, filled = begin + done, filled - done
            held[:filled] = held[done : done + filled]
    return crcs


def empty_generation(uuid: str) -> bytearray:
    """The first generation of a new store: no rows, no sets."""
    plan = Plan(
        kind="generation",
        uuid=uuid,
        generation=1,
        n=0,
        meta={"columns": [], "root": "", "sets": [], "patches": 0, "clock": 0, "traces": 1},
        specs={"/items/id": (np.dtype("S1"), (0,))},
    )
    return plan.pack({"/items/id": np.empty(0, "S1")})
