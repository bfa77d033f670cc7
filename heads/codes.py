"""Labels as codes, and folds of them by a seed."""

from __future__ import annotations

import numpy as np

from headstock.store.errors import HeadError, one_line

__all__ = ["encode_labels", "seeded_codes"]


def encode_labels(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sorted classes (k,) and y as codes (n,) into them. Raises HeadError below two classes."""
    classes, codes = np.unique(np.asarray(y), return_inverse=True)
    if len(classes) < 2:
        only = one_line(classes[0], 80) if len(classes) else "nothing"
        raise HeadError("training rows", f"they hold only {only}", "a head needs two classes")
    return classes, codes


def seeded_codes(y: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """(n,) stratified fold codes: each class is shuffled and dealt out, going on where the class
    before stopped, so that fold sizes differ by one at most. Works for any class size."""
    _, y = np.unique(y, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    codes = np.empty(len(y), dtype=np.int64)
    codes[order] = np.arange(len(y)) % folds
    return codes
