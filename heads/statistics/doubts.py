"""Labels that held-out answers doubt."""

from __future__ import annotations

import numpy as np

__all__ = ["doubts"]


def doubts(proba: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose label the held-out probabilities (n, k) doubt, most doubtful first, and the class
    each would have instead.

    Confident learning (Northcutt, Jiang, Chuang 2021): class j is believed of a row when its
    probability reaches the mean that rows labelled j get for j. A row is in doubt when the most
    probable class so believed is not its label; the order is by how little probable that is.
    """
    threshold = np.full(proba.shape[1], np.inf)
    for c in np.unique(codes):
        threshold[c] = proba[codes == c, c].mean()
    believed = np.where(proba >= threshold, proba, -1.0)
    other = believed.argmax(axis=1)
    rows = np.flatnonzero((believed.max(axis=1) >= 0) & (other != codes))
    order = np.argsort(proba[rows, codes[rows]], kind="stable")
    return rows[order], other[rows][order]
