"""What is left to do for one feature set: which rows need their file looked at, which not."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headstock.extract.decode.reading import HEALS
from headstock.extract.pipeline.options import Options
from headstock.store import FAILED, OK, Items
from headstock.store.datafile import Reader
from headstock.store.errors import StorageError
from headstock.store.reader import Progress, RowError

__all__ = ["Pending", "marks", "pending", "refuse_absent"]

PROBED = 256  # files whose answers tell how fast the file system is
SLOW = 0.3e-3  # seconds for an answer, from which on asking in threads pays
THREADS = 16
CHUNK = 64  # files a thread takes at a time


@dataclass
class Pending:
    """``rows`` (indices into the items) have to be looked at; ``reused`` and ``failed`` stand as
    they are; ``missing`` have no path; ``left``: how many rows are beyond the limit; ``made``: the
    digest that a row was made from, for those whose file may have changed; ``errors``: why rows
    failed before, ``seen``: the digest and mark of the file then, for those to be looked at."""

    rows: np.ndarray
    reused: np.ndarray
    failed: np.ndarray
    missing: np.ndarray
    left: int
    made: dict[int, bytes]
    errors: dict[int, RowError]
    seen: dict[int, tuple[bytes, tuple[int, int]]]


def pending(
    items: Items,
    modality: str,
    known: Progress,
    errors: Mapping[str, RowError],
    options: Options,
    looked: np.ndarray | None = None,
) -> Pending:
    """Compare what the store knows of each row with what lies on the disk now.

    ``known`` is aligned to the items; ``errors``: by id, why rows failed. A row that is done or
    failed stands while its file has the mark it had. Failed ones are looked at again when a retry
    can heal them (``HEALS``, or a path that is allowed by now), and all with ``retry_failed``. At
    most ``limit`` rows are planned; both are of ``options``. ``looked`` (n, 2): the files'
    marks, where somebody looked.
    """
    paths, reader = items.paths[modality], options.reader(items.root)
    missing = np.array([not p for p in paths], dtype=bool)
    settled = (known.status == OK) | ((known.status == FAILED) & (not options.retry_failed))
    before = {}
    for row in np.flatnonzero((known.status == FAILED) & ~missing).tolist():
        if error := errors.get(items.id[row]):
            before[row] = error
            outside = error.code == "unsafe-path"
            if error.code in HEALS or (outside and _allowed(reader, paths[row])):
                settled[row] = False
    asked = np.flatnonzero(settled & ~missing)
    stands = np.zeros(len(paths), dtype=bool)
    now = marks(reader, paths[asked].tolist()) if looked is None else looked[asked]
    stands[asked] = (now == known.stat[asked]).all(axis=1)
    todo = np.flatnonzero(~stands & ~missing)
    kept = todo[: options.limit]
    made = kept[known.status[kept] == OK]
    return Pending(
        rows=kept,
        reused=np.flatnonzero(stands & (known.status == OK)),
        failed=np.flatnonzero(stands & (known.status == FAILED)),
        missing=np.flatnonzero(missing),
        left=len(todo) - len(kept),
        made={row: known.digest[row].tobytes() for row in made.tolist()},
        errors=before,
        seen={
            row: (known.digest[row].tobytes(), (int(known.stat[row, 0]), int(known.stat[row, 1])))
            for row in kept.tolist()
            if row in before
        },
    )


def _allowed(reader: Reader, path: str) -> bool:
    try:
        return reader.allows(path)
    except ValueError:  # NUL in the name
        return False


def refuse_absent(
    items: Items, modality: str, reader: Reader, kept: str = "nothing was changed"
) -> None:
    """Raises StorageError when not one of several files is there: a disk that is not mounted, or a
    wrong folder, is one fault and not one of each row. A single file is its row's own matter.
    ``kept``: what is said of the store."""
    paths = list(dict.fromkeys(path for path in items.paths[modality] if path))
    if len(paths) < 2:
        return
    first = None
    for path in paths:
        try:
            os.stat(reader.path(path), follow_symlinks=False)
            return
        except OSError as error:
            first = first or error
        except ValueError:  # NUL in the name: the row's own matter
            return
    assert first is not None
    raise StorageError(
        reader.root or os.path.dirname(paths[0]) or ".",
        f"not one of the {len(paths):,} files of column {modality} is there (the first is "
        f"{paths[0]}: {first.strerror})",
        f"mount it, or name their folder with --{modality}-root; {kept}",
    )


def marks(reader: Reader, paths: Sequence[str]) -> np.ndarray:
    """(m, 2) int64: the mark of what lies at each path now.

    Network file systems answer one question slowly and many quickly, so they are asked in threads.
    A local one answers faster than threads can take turns: 16 of them took five times as long.
    """
    out = np.empty((len(paths), 2), dtype=np.int64)
    begin = time.perf_counter()
    probed = min(PROBED, len(paths))
    for at in range(probed):
        out[at] = reader.mark(paths[at])
    if len(paths) > probed and time.perf_counter() - begin > SLOW * probed:
        _marks_in_threads(reader, paths, out, probed)
    else:
        for at in range(probed, len(paths)):
            out[at] = reader.mark(paths[at])
    return out


def _marks_in_threads(reader: Reader, paths: Sequence[str], out: np.ndarray, start: int) -> None:
    """``marks`` from ``start`` on. The threads are daemons that nobody joins on the way out: an
    interrupt leaves them behind, and each ends at its next file."""
    starts = iter(range(start, len(paths), CHUNK))
    ended, over = threading.Semaphore(0), threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            while (first := next(starts, None)) is not None:
                for at in range(first, min(first + CHUNK, len(paths))):
                    if over.is_set():
                        return
                    out[at] = reader.mark(paths[at])
        except BaseException as error:  # noqa: BLE001  raised below
            failed.append(error)
        finally:
            ended.release()

    try:
        for _ in range(THREADS):
            threading.Thread(target=work, name="headstock-marks", daemon=True).start()
        for _ in range(THREADS):
            ended.acquire()
    finally:
        over.set()
    if failed:
        raise failed[0]
