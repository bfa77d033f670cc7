"""Stores: the rows of a manifest, and columns of vectors that were computed once.

Names are imported on first use, so that ``headstock --help`` does not wait for h5py.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what a type checker sees; a test holds it equal to the table below
    from headstock.store import errors as errors
    from headstock.store.disk.batch import Batch as Batch
    from headstock.store.disk.declared import ABSENT as ABSENT
    from headstock.store.disk.declared import FAILED as FAILED
    from headstock.store.disk.declared import OK as OK
    from headstock.store.disk.depot import is_store as is_store
    from headstock.store.disk.rows import Change as Change
    from headstock.store.exchange.views import as_arrays as as_arrays
    from headstock.store.exchange.views import as_dataset as as_dataset
    from headstock.store.exchange.views import as_frame as as_frame
    from headstock.store.feature_set import FeatureSet as FeatureSet
    from headstock.store.features import FeatureStore as FeatureStore
    from headstock.store.items import Items as Items
    from headstock.store.manifest.manifest import Manifest as Manifest
    from headstock.store.opening import open_store as open_store
    from headstock.store.reader import Progress as Progress
    from headstock.store.reader import RowError as RowError
    from headstock.store.reader import StoreReader as StoreReader
    from headstock.store.recipe import Recipe as Recipe

_HOMES = {
    "ABSENT": "disk.declared",
    "FAILED": "disk.declared",
    "OK": "disk.declared",
    "Batch": "disk.batch",
    "Change": "disk.rows",
    "FeatureSet": "feature_set",
    "FeatureStore": "features",
    "Items": "items",
    "Manifest": "manifest.manifest",
    "Progress": "reader",
    "Recipe": "recipe",
    "RowError": "reader",
    "StoreReader": "reader",
    "as_arrays": "exchange.views",
    "as_dataset": "exchange.views",
    "as_frame": "exchange.views",
    "errors": "errors",
    "is_store": "disk.depot",
    "open_store": "opening",
}
__all__ = sorted(_HOMES)

if not TYPE_CHECKING:  # a type checker must see that a misspelt name is none

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = import_module(f"{__name__}.{_HOMES[name]}")
        return home if name == "errors" else getattr(home, name)
