"""Features as a file that is imported holds them, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from headstock.store.disk.declared import Declared
from headstock.store.errors import OptionError
from headstock.store.items import Items

__all__ = ["IDS", "LABELS", "VECTORS", "Source", "Vectors", "first_of", "width_of"]

IDS = ("ids", "id", "names", "filenames", "file_names", "image_path", "paths")
VECTORS = ("features", "feats", "x", "embeddings", "image_embs", "embs", "data")
LABELS = ("label", "labels", "target", "class", "y")


@dataclass
class Vectors:
    """One set: ``read(rows)`` gives (b, dim) float32, NaN throughout a row that has no vector.

    ``declared`` and ``sha256`` (see ``description``) say how they were made and that they are those
    that were exported; ``digest`` is (n, 32) uint8, of each row's content. Reading may add to
    ``failures``: row -> a code and one line.
    """

    name: str
    dim: int
    read: Callable[[Sequence[int]], np.ndarray]
    feature_names: list[str] | None = None
    declared: Declared | None = None
    sha256: str = ""
    digest: np.ndarray | None = None
    failures: dict[int, tuple[str, str]] = field(default_factory=dict)


@dataclass
class Source:
    """The rows of ``path``, whose ``layout`` is one of those we know, and its sets. ``pool`` says
    how an item's several vectors were joined; ``notes`` what was not taken."""

    path: Path
    layout: str
    items: Items
    sets: list[Vectors]
    pool: str | None = None
    notes: list[str] = field(default_factory=list)


def first_of(names: Sequence[str], have: Sequence[str], path: Path, what: str) -> str:
    """The first of ``names`` that is there. Raises OptionError."""
    for name in names:
        if name in have:
            return name
    raise OptionError(path, f"has no {what}", f"name it {' or '.join(names[:3])}; it has: {have}")


def width_of(path: Path, shape: Sequence[int], dtype: np.dtype, n: int) -> int:
    """d of an (n, d) numeric array. Raises OptionError for another shape or type."""
    if len(shape) != 2 or shape[0] != n or dtype.kind not in "fiu":
        raise OptionError(
            path, f"{tuple(shape)} {dtype} vectors for {n} ids", "one numeric row an id"
        )
    return int(shape[1])
