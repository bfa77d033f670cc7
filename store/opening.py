"""Opening a store for reading, wherever its rows lie."""

from __future__ import annotations

import os

from headstock.store.disk.depot import Depot, is_parts
from headstock.store.parts import PartedStore
from headstock.store.reader import StoreReader
from headstock.store.single import SingleStore

__all__ = ["open_store"]


def open_store(path: str | os.PathLike[str]) -> StoreReader:
    """The store at ``path``, or the stores that a list of parts (``.parts.json``) names, to read.

    Raises OptionError (no store), StoreDamaged, StorageError, VersionError, UnsafeInput; of parts
    also RecipeMismatch.
    """
    return PartedStore(path) if is_parts(path) else SingleStore(Depot(path))
