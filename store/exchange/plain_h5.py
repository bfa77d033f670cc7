"""Datasets of an HDF5 file that somebody else wrote, read without following anything."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np

from headstock.store.errors import OptionError, UnsafeInput
from headstock.store.exchange.unpacked import FIX, room

__all__ = ["plain_dataset", "plain_texts", "texts_of"]

BATCH = 64  # texts of any length that are read at a time


def plain_dataset(group: h5py.Group, name: str, path: Path) -> h5py.Dataset:
    """A dataset, ``a/b`` in a group, that keeps its data inside this very file.

    Raises UnsafeInput for links, data elsewhere and absurd sizes, OptionError for a group.
    """
    below, slash, rest = name.partition("/")
    link = group.get(below, getlink=True)
    if link is None:
        raise OptionError(path, f"has no {name}", "is it whole?")
    if not isinstance(link, h5py.HardLink):
        raise UnsafeInput(path, f"{below} is a link to elsewhere", "copy the data into the file")
    found = group[below]
    if slash and isinstance(found, h5py.Group):
        return plain_dataset(found, rest, path)
    if not isinstance(found, h5py.Dataset) or slash:
        raise OptionError(path, f"{name} is a group", "export one set at a time")
    if found.is_virtual or found.external:
        raise UnsafeInput(path, f"{name} keeps its data elsewhere", "copy the data into the file")
    most = room(path)
    for shape in (found.shape, found.chunks or ()):
        if math.prod(shape) * found.dtype.itemsize > most:
            raise UnsafeInput(path, f"{name} declares {shape}, absurd for this file", FIX)
    return found


def plain_texts(group: h5py.Group, name: str, path: Path) -> list[str]:
    """A column of text. Texts of any length may all be one and the same in the file, so they are
    read some at a time. Raises as ``plain_dataset``."""
    found, most, total = plain_dataset(group, name, path), room(path), 0
    if found.dtype.kind != "O" or found.ndim != 1:
        return texts_of(found[...])
    out: list[str] = []
    for start in range(0, len(found), BATCH):
        part = texts_of(found[start : start + BATCH])
        total += sum(map(len, part))
        if total > most:
            raise UnsafeInput(path, f"{name} unpacks to more than {most:,} bytes", FIX)
        out += part
    return out


def texts_of(array: np.ndarray) -> list[str]:
    """A column of text, as bytes or as text."""
    flat = np.asarray(array).reshape(-1).tolist()
    return [v.decode("utf-8", "surrogateescape") if isinstance(v, bytes) else str(v) for v in flat]
