"""Datasets of an HDF5 file that somebody else wrote, read without following anything."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from headstock.store.errors import OptionError, UnsafeInput

__all__ = ["plain_dataset", "texts_of"]

LARGEST_ITEM = 4 << 30  # bytes of one item's bag of vectors


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
    if found.size * found.dtype.itemsize > max(LARGEST_ITEM, 2000 * path.stat().st_size):
        raise UnsafeInput(path, f"{name} declares {found.shape}, absurd for this file")
    return found


def texts_of(array: np.ndarray) -> list[str]:
    """A column of text, as bytes or as text."""
    flat = np.asarray(array).reshape(-1).tolist()
    return [v.decode("utf-8", "surrogateescape") if isinstance(v, bytes) else str(v) for v in flat]
