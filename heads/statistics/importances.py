"""How much the columns of each feature set weigh in a head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["weigh"]

TOP = 10


def weigh(
    weights: Sequence[np.ndarray],
    spans: Mapping[str, slice],
    names: Mapping[str, Sequence[str] | None] | None = None,
    top: int = TOP,
) -> dict[str, Any]:
    """{set: share of the whole weight, and its heaviest columns}, as plain data.

    weights: (d,) not negative, one from each head fitted (a head a fold, say); each is scaled to
    sum to 1, so that what is told are shares: their mean over the heads and, of several, their
    standard deviation. spans: each set's columns; names: what its columns are called, else their
    numbers in the set are told.
    """
    table = np.stack([np.asarray(w, dtype=np.float64) for w in weights])
    table = table / np.maximum(table.sum(axis=1, keepdims=True), 1e-300)
    out = {}
    for name, span in spans.items():
        own = table[:, span]
        mean, share = own.mean(axis=0), own.sum(axis=1)
        called = (names or {}).get(name)
        columns = []
        for c in np.argsort(-mean, kind="stable")[:top]:
            column: dict[str, Any] = {"name": str(called[c]) if called is not None else int(c)}
            column["share"] = float(mean[c])
            columns.append(column | ({"sd": float(own[:, c].std(ddof=1))} if len(own) > 1 else {}))
        out[name] = {"share": float(share.mean()), "width": own.shape[1], "columns": columns}
        if len(own) > 1:
            out[name]["sd"] = float(share.std(ddof=1))
    return out
