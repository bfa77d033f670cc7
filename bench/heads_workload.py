"""The reference workload: an embedding and a summary of sound, as hard as the notebook's.

13,802 training and 3,450 test rows, 2,048 + 104 float32 columns, 9 classes of uneven size. The
embedding is rectified, low in rank and nearly linear; the sound has several clusters a class, mixed
into correlated columns of very different scales.
"""

from __future__ import annotations

import numpy as np

from headstock.heads.rows.labelled import Rows

TRAIN, TEST, CLASSES = 13_802, 3_450, 9
WIDE, NARROW = 2_048, 104


def workload(train: int = TRAIN, test: int = TEST, seed: int = 0) -> tuple[Rows, Rows]:
    """Training and test rows."""
    rng = np.random.default_rng(seed)
    n = train + test
    share = np.linspace(1.0, 0.4, CLASSES)
    codes = rng.choice(CLASSES, n, p=share / share.sum())
    X = {"image": _embedding(rng, codes), "audio": _sound(rng, codes)}
    classes = np.array([f"class {c}" for c in range(CLASSES)], dtype=object)
    ids = np.array([f"row {i}" for i in range(n)], dtype=object)
    rows = Rows(ids, X, codes, classes)
    return rows.take(np.arange(train)), rows.take(np.arange(train, n))


def _embedding(rng: np.random.Generator, codes: np.ndarray) -> np.ndarray:
    """(n, 2048): rank-96 structure of which the classes' part is small, rectified."""
    rank = 96
    latent = rng.normal(size=(len(codes), rank)) * np.linspace(1.6, 0.3, rank)
    latent += 0.40 * rng.normal(size=(CLASSES, rank))[codes]
    mix = rng.normal(size=(rank, WIDE)) / np.sqrt(rank) * rng.gamma(2.0, 0.5, WIDE)
    out = np.empty((len(codes), WIDE), dtype=np.float32)
    for start in range(0, len(codes), 4096):  # the same numbers as at once, in less memory
        part = slice(start, start + 4096)
        noise = 0.5 * rng.normal(size=(len(out[part]), WIDE)).astype(np.float32)
        out[part] = np.maximum(latent[part] @ mix + noise, 0)
    return out


def _sound(rng: np.random.Generator, codes: np.ndarray) -> np.ndarray:
    """(n, 104): four clusters a class in 10 dimensions, mixed, with scales from 0.1 to 100."""
    clusters, rank = 4, 10
    centres = 1.6 * rng.normal(size=(CLASSES, clusters, rank))
    mine = rng.integers(0, clusters, len(codes))
    latent = centres[codes, mine] + rng.normal(size=(len(codes), rank))
    mix = rng.normal(size=(rank, NARROW)) / np.sqrt(rank)
    columns = latent @ mix + 0.5 * rng.normal(size=(len(codes), NARROW))
    return (columns * np.geomspace(100, 0.1, NARROW) + 3).astype(np.float32)
