"""Out-of-fold probabilities of one head on one matrix, and its refit on all rows."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headstock.heads.folds import FoldPlan
from headstock.heads.head import Head, make_head
from headstock.store.errors import HeadError, HeadstockError

__all__ = ["Answer", "cross_fit", "fit_head", "full_proba"]


@dataclass
class Answer:
    """What one system said.

    proba: (r, n, k) out-of-fold probabilities; test: (m, k) of the refit on all training rows, or
    None; seconds: wall time of all its fits and predictions; how: which way they were computed.
    """

    proba: np.ndarray
    test: np.ndarray | None
    seconds: float
    how: str
    notes: list[str] = field(default_factory=list)
    importances: np.ndarray | None = None


def fit_head(
    head: Head,
    name: str,
    X: np.ndarray,
    codes: np.ndarray,
    inner: np.ndarray,
    spans: Mapping[str, slice],
) -> Head:
    """Fit, handing over what the head ``wants``. Raises HeadError for whatever it raises."""
    wants = getattr(head, "wants", ())
    given = {k: v for k, v in (("inner", inner), ("spans", spans)) if k in wants}
    try:
        head.fit(X, codes, **given)
    except HeadstockError:
        raise
    except Exception as error:
        raise HeadError(
            f"head {name}", f"{type(error).__name__}: {error}", "see its options"
        ) from error
    return head


def full_proba(head: Head, name: str, X: np.ndarray, k: int) -> np.ndarray:
    """(m, k) probabilities over all classes; one absent from the head's training rows has 0.

    Raises HeadError when the head's answer is not probabilities.
    """
    try:
        said = np.asarray(head.predict_proba(X), dtype=np.float64)
    except HeadstockError:
        raise
    except Exception as error:
        raise HeadError(
            f"head {name}", f"{type(error).__name__}: {error}", "see its options"
        ) from error
    columns = np.asarray(head.classes_)
    if said.shape != (len(X), len(columns)):
        raise HeadError(
            f"head {name}",
            f"predict_proba gave shape {said.shape}",
            f"({len(X)}, {len(columns)}), a column for each of classes_",
        )
    out = np.zeros((len(X), k))
    out[:, columns] = said
    total = out.sum(axis=1, keepdims=True)
    if not np.isfinite(out).all() or (out < 0).any() or (np.abs(total - 1) > 1e-3).any():
        raise HeadError(
            f"head {name}",
            "predict_proba gave rows that are no probabilities",
            "rows >= 0 summing to 1",
        )
    return out / total


def cross_fit(
    name: str,
    X: np.ndarray,
    spans: Mapping[str, slice],
    codes: np.ndarray,
    k: int,
    plan: FoldPlan,
    *,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    fresh: np.ndarray | None = None,
    step: Callable[[], None] = lambda: None,
) -> Answer:
    """The slow honest way: a fresh head for each fold, fitted on its training rows alone.

    X (n, d), codes (n,), fresh (m, d) the test rows for the refit. ``step`` is called after each
    fit. Inside a fold the head holds out by the plan's other folds.
    """
    start = time.perf_counter()
    proba = np.empty((plan.repeats, len(X), k))
    test = importances = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for repeat in range(plan.repeats):
            for train, held_out in plan.split(repeat):
                head = make_head(name, seed, options)
                fit_head(head, name, X[train], codes[train], plan.codes[repeat, train], spans)
                proba[repeat, held_out] = full_proba(head, name, X[held_out], k)
                step()
        if fresh is not None:
            head = make_head(name, seed, options)
            fit_head(head, name, X, codes, plan.codes[0], spans)
            test = full_proba(head, name, fresh, k)
            if hasattr(head, "importances"):
                importances = head.importances()
            step()
    notes = sorted({f"{w.category.__name__}: {str(w.message).splitlines()[0]}" for w in caught})
    return Answer(proba, test, time.perf_counter() - start, "fold by fold", notes, importances)
