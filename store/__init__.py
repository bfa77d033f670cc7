"""Stores: the rows of a manifest, and columns of vectors that were computed once.

Names are imported on first use, so that ``headstock --help`` does not wait for h5py.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

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
    "as_arrays": "exchange.views",
    "as_dataset": "exchange.views",
    "as_frame": "exchange.views",
    "errors": "errors",
    "is_store": "disk.depot",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(f"{__name__}.{_HOMES[name]}")
    return home if name == "errors" else getattr(home, name)
