"""What a generation, a shard and a patch must hold, checked before anything in them is used.

Checksums tell that bytes are those that were written; these checks tell that they make sense, for
files that somebody made up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from headstock.store.disk.declared import Declared
from headstock.store.disk.file import REPAIR, StoreFile
from headstock.store.disk.rows import dataset
from headstock.store.errors import OptionError, StoreDamaged

__all__ = ["DROPPED", "generation_form", "patch_form", "shard_form", "whole_number"]

TEXT = "text"
DROPPED = "/dropped/id"  # the rows that were dropped: shards of slow writers may still name them
LARGEST = 1 << 62


@contextmanager
def _sense(file: StoreFile) -> Iterator[None]:
    """Errors of reading a schema's values, as the damage they are."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OptionError) as error:
        raise StoreDamaged(file.path, f"its schema makes no sense ({error})", REPAIR) from error


def _expect(file: StoreFile, path: str, dtype: str, *shape: int | None) -> None:
    region = file.regions.get(path)
    kind_fits = region is not None and (
        region.dtype.kind == "S" if dtype == TEXT else region.dtype.str == dtype
    )
    if (
        region is None
        or not kind_fits
        or len(region.shape) != len(shape)
        or any(want is not None and want != have for want, have in zip(shape, region.shape))
    ):
        raise StoreDamaged(file.path, f"{path} is not what a {file.kind} holds there", REPAIR)


def whole_number(value: object) -> int:
    """A count or number of a schema. Raises ValueError for anything else."""
    if type(value) is not int or not 0 <= value < LARGEST:
        raise ValueError(f"{value!r} is no number of a store")
    return value


def _columns(file: StoreFile) -> list[str]:
    columns = file.meta["columns"]
    if not isinstance(columns, list):
        raise ValueError("columns is no list")
    for column in columns:
        kind, _, name = column.partition("/")
        if kind not in (("path", "extra") if name else ("label", "split", "group")):
            raise ValueError(f"column {column!r}")
        _expect(file, dataset(column), TEXT, file.n)
    return columns


def _errors(file: StoreFile, base: str) -> None:
    _expect(file, f"{base}/row", "<i8", None)
    count = file.regions[f"{base}/row"].shape[0]
    _expect(file, f"{base}/code", TEXT, count)
    _expect(file, f"{base}/line", TEXT, count)


def _set(file: StoreFile, base: str, declared: Declared | None) -> None:
    n = file.n
    _expect(file, f"{base}/content_sha256", "|u1", n, 32)
    _expect(file, f"{base}/stat", "<i8", n, 2)
    _expect(file, f"{base}/status", "|u1", n)
    _expect(file, f"{base}/crc32", "<u4", n)
    if declared is not None:
        _expect(file, f"{base}/x", declared.stored.str, n, declared.dim)


def generation_form(file: StoreFile) -> tuple[list[str], list[Declared]]:
    """The columns and sets of a generation. Raises StoreDamaged."""
    with _sense(file):
        columns = _columns(file)
        declared = [Declared.from_meta(meta) for meta in file.meta["sets"]]
        for key in ("patches", "clock"):
            whole_number(file.meta[key])
        whole_number(file.meta.get("drops", 0))
        if DROPPED in file.regions:
            _expect(file, DROPPED, TEXT, None)
        if not isinstance(file.meta["root"], str):
            raise ValueError("root is no text")
        _expect(file, "/items/id", TEXT, file.n)
        for each in declared:
            base = f"/features/{each.name}"
            _set(file, base, each)
            _expect(file, f"{base}/seq", "<i8", file.n)
            _errors(file, f"/errors/{each.name}")
    return columns, declared


def shard_form(file: StoreFile, declared: Declared | None = None) -> None:
    """``declared`` also says what the vectors must be. Raises StoreDamaged."""
    with _sense(file):
        for key in ("seq", "epoch"):
            whole_number(file.meta[key])
        _expect(file, "/id", TEXT, file.n)
        _set(file, "", declared)
        _expect(file, "/x", file.regions["/x"].dtype.str, file.n, None)
        _errors(file, "/errors")
        if declared is not None and file.meta["fingerprint"] != declared.recipe.fingerprint:
            raise ValueError("another recipe")


def patch_form(file: StoreFile) -> tuple[list[str], list[Declared]]:
    """The columns and the declared sets of a patch. Raises StoreDamaged."""
    with _sense(file):
        _expect(file, "/items/id", TEXT, file.n)
        if not isinstance(file.meta["root"], str | None):
            raise ValueError("root is no text")
        if not all(isinstance(c, str) for c in file.meta["clear"]):
            raise ValueError("clear is no list of columns")
        made = [Declared.from_meta(meta, file.generation) for meta in file.meta["declare"]]
        return _columns(file), made
