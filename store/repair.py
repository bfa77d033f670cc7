"""``store repair``: drop what is damaged, keep the rest, and say what must be extracted again."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from headstock.store import commit
from headstock.store.checksum import row_crcs
from headstock.store.compact import check_file, compact
from headstock.store.declared import ABSENT, FAILED, OK
from headstock.store.depot import Depot, is_parts
from headstock.store.errors import HeadstockError, OptionError, StoreDamaged, VersionError
from headstock.store.file import StoreFile
from headstock.store.items import text_column
from headstock.store.patch import Patch
from headstock.store.state import BLOCK, Column, State
from headstock.store.verify import check_shard

__all__ = ["Repaired", "repair"]


@dataclass
class Repaired:
    """What was lost: ``rows`` by set, that the next ``extract`` computes again; text ``columns``
    that are empty now; ``files`` set aside in ``features.h5.d`` under the name ``damaged-...``."""

    path: Path
    rows: dict[str, list[str]] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.rows or self.columns or self.files)

    def text(self) -> str:
        lines = [f"{name}: damaged, set aside" for name in self.files]
        lines += [
            f"column {name}: damaged, now empty; `headstock store label`" for name in self.columns
        ]
        for name, ids in self.rows.items():
            shown = ", ".join(ids[:10]) + (", …" if len(ids) > 10 else "")
            lines.append(f"set {name}: {len(ids)} rows to extract again: {shown}")
        done = "repaired; run `headstock extract` again" if self.changed else "nothing to repair"
        return "\n".join([*lines, f"{self.path}: {done}"])


def repair(path: str | os.PathLike[str]) -> Repaired:
    """Repair the store at ``path``.

    Whole files whose form is damaged are set aside, the newest readable generation is taken, and
    each of its rows is kept that still matches its own checksum. Raises StoreDamaged when no
    generation can be read, VersionError, OptionError, StorageError.
    """
    if is_parts(path):
        raise OptionError(path, "is a list of stores", "repair the part that verify names")
    depot, told = Depot(path), Repaired(Depot(path).path)
    if not depot.path.exists() and not depot.generations():
        raise OptionError(depot.path, "there is no store here", "make one with `headstock extract`")
    _set_aside(depot, told)
    depot.found()
    depot.roll_forward()
    with StoreFile(depot.path, "generation") as file:
        spoilt = _spoilt(file.path)
    if spoilt or told.files:
        compact(depot, lambda: Salvage(depot, told), force=True)
        for number in depot.generations()[:-1]:
            if _spoilt(depot.generation_path(number)):
                _away(depot, depot.generation_path(number), told)
        for name in list(told.rows):
            told.rows[name] = sorted(set(told.rows[name]))
    return told


def _spoilt(path: Path) -> bool:
    try:
        check_file(path)
    except StoreDamaged:
        return True
    return False


def _set_aside(depot: Depot, told: Repaired) -> None:
    """Rename files that cannot be read at all, and shards that hold damaged or unknown rows."""
    uuids, identity = set(), depot.directory / "STORE.json"
    listing, generations = depot.listing(), depot.generations()
    whole = 0
    for target in [depot.path, *map(depot.generation_path, generations)]:
        if target.exists():
            try:
                with StoreFile(target, "generation") as file:
                    file.column("/items/id")
                    uuids.add(file.uuid)
                    whole += 1
            except VersionError:
                raise
            except HeadstockError:
                _away(depot, target, told)
    if not whole:
        raise StoreDamaged(
            depot.path, "no generation of it can be read", "extract into a new store"
        )
    try:
        depot.uuid()
    except StoreDamaged:
        _away(depot, identity, told)
    for number in listing.patches:
        _try(depot, depot.patch_path(number), "patch", uuids, told)
    for name in listing.shards:
        _try(depot, depot.directory / name, "shard", uuids, told)


def _try(depot: Depot, target: Path, kind: str, uuids: set[str], told: Repaired) -> None:
    try:
        with StoreFile(target, kind) as file:
            if file.uuid not in uuids:
                raise StoreDamaged(target, "belongs to another store")
            Patch.read(file) if kind == "patch" else check_shard(file)
    except FileNotFoundError:
        return
    except HeadstockError:
        _away(depot, target, told)


def _away(depot: Depot, target: Path, told: Repaired) -> None:
    depot.directory.mkdir(exist_ok=True)
    with commit.storage(target):
        os.replace(target, depot.directory / f"damaged-{target.name}")
    told.files.append(target.name)


class Salvage(State):
    """A state read leniently: what fails its checksum is left out, and told."""

    def __init__(self, depot: Depot, told: Repaired) -> None:
        self.told = told
        super().__init__(depot)

    def _cells(self, column: str) -> np.ndarray:
        try:
            return super()._cells(column)
        except StoreDamaged:
            if column not in self.told.columns:
                self.told.columns.append(column)
            return text_column([""] * self.file.n)

    def _stored(self, column: Column, base: str) -> None:
        """A row of the generation stays when its own checksum holds."""
        m = self.file.n
        raw = {
            k: self.file.column(f"{base}/{k}", check=False) for k in ("status", "content_sha256")
        }
        good = self._good(base, raw["content_sha256"])
        status = raw["status"]
        if not self._holds(f"{base}/status"):
            # then a row counts as done when it has content and its checksum holds
            status = np.where(raw["content_sha256"].any(axis=1), OK, ABSENT).astype(np.uint8)
        column.status[:m] = np.where(good | (status == FAILED), status, ABSENT)
        column.digest[:m] = np.where(
            (column.status[:m] == ABSENT)[:, None], 0, raw["content_sha256"]
        )
        if self._holds(f"{base}/stat"):
            column.stat[:m] = self.file.column(f"{base}/stat")
        # without its own number a row counts as newer than any shard that a crash left behind
        column.seq[:m] = self.clock
        if self._holds(f"{base}/seq"):
            column.seq[:m] = self.file.column(f"{base}/seq")
        try:
            column.errors = self._errors(column.declared.name)
        except StoreDamaged:
            column.errors = {}
        lost = np.flatnonzero((status != ABSENT) & (column.status[:m] == ABSENT))
        if lost.size:
            ids = [self.ids[row] for row in lost.tolist()]
            self.told.rows.setdefault(column.declared.name, []).extend(ids)

    def _holds(self, path: str) -> bool:
        try:
            self.file.column(path)
        except StoreDamaged:
            return False
        return True

    def _good(self, base: str, digests: np.ndarray) -> np.ndarray:
        """(m,) bool: rows of the generation that match their CRC32 and hold a vector."""
        region, crcs = (
            self.file.regions[f"{base}/x"],
            self.file.column(f"{base}/crc32", check=False),
        )
        good = np.zeros(self.file.n, dtype=bool)
        step = max(1, BLOCK // (region.shape[1] * region.dtype.itemsize))
        for start in range(0, self.file.n, step):
            rows = np.arange(start, min(start + step, self.file.n))
            x = self.file.rows(f"{base}/x", rows)
            whole = row_crcs(self.stored_ids[rows], digests[rows], x) == crcs[rows]
            good[rows] = whole & np.isfinite(x).all(axis=1)  # a row without a vector is NaN
        return good

    def _crcs(self, file: StoreFile, base: str) -> np.ndarray:
        # a damaged checksum has cost its own row already
        return file.column(f"{base}/crc32", check=file is not self.file)

    @cached_property
    def stored_ids(self) -> np.ndarray:
        return self.file.column("/items/id")
