"""What a head answers out of fold, and a head fitted and asked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headstock.heads.head import Head
from headstock.heads.specs import CLASSES
from headstock.store.errors import HeadError, HeadstockError

__all__ = ["Answer", "fit_head", "full_proba", "head_error", "answers_of"]


@dataclass
class Answer:
    """What one system said.

    proba: (r, n, k) out-of-fold probabilities, (r, n, 1) numbers where the target is one; test:
    (m, k) of the refit on all training rows, or None; seconds: wall time of all its fits and
    predictions; how: which way they were computed.
    """

    proba: np.ndarray
    test: np.ndarray | None
    seconds: float
    how: str
    notes: list[str] = field(default_factory=list)
    chosen: list[dict[str, Any]] = field(default_factory=list)
    """What a tuned head chose: in each fold, in order, then in the refit, if there is one."""
    importances: list[np.ndarray] = field(default_factory=list)
    """(d,) how much each column weighs in each fold's head, for heads that can say."""
    reused: bool = False
    """Whether it was taken from an earlier evaluation; ``seconds`` is what it cost then."""
    tried: dict[str, Any] = field(default_factory=dict)
    """Of a tuned head: ``points``, what it could choose, and ``log_loss``, for each entry of
    ``chosen`` the log-loss of every point on the rows held out inside."""


def head_error(name: str, error: Exception) -> HeadError:
    """What a head raised, as one line with its name."""
    if isinstance(error, MemoryError):
        return HeadError(f"head {name}", "not enough memory", "give it fewer rows or columns")
    return HeadError(f"head {name}", f"{type(error).__name__}: {error}", "see its options")


def fit_head(
    head: Head,
    name: str,
    X: np.ndarray,
    y: np.ndarray,
    inner: np.ndarray,
    spans: Mapping[str, slice],
) -> Head:
    """Fit, handing over what the head ``wants``. Raises HeadError for whatever it raises."""
    wants = getattr(head, "wants", ())
    given = {k: v for k, v in (("inner", inner), ("spans", spans)) if k in wants}
    try:
        head.fit(X, y, **given)
    except HeadstockError:
        raise
    except Exception as error:
        raise head_error(name, error) from error
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
        raise head_error(name, error) from error
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


def answers_of(head: Head, name: str, X: np.ndarray, k: int, target: str) -> np.ndarray:
    """(m, k) probabilities of a head for classes, (m, 1) answers of one for numbers."""
    return full_proba(head, name, X, k) if target == CLASSES else _numbers(head, name, X)


def _numbers(head: Any, name: str, X: np.ndarray) -> np.ndarray:
    """Raises HeadError when the head's answer is no numbers."""
    try:
        said = np.asarray(head.predict(X), dtype=np.float64)
    except HeadstockError:
        raise
    except Exception as error:
        raise head_error(name, error) from error
    if said.shape not in ((len(X),), (len(X), 1)) or not np.isfinite(said).all():
        what = f"predict gave shape {said.shape}, or what is not finite"
        raise HeadError(f"head {name}", what, f"({len(X)},) finite numbers")
    return said.reshape(len(X), 1)
