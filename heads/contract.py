"""What every head promises, tested on any head: those of the table and those of a file of yours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from headstock.heads.head import make_head
from headstock.store.errors import HeadError

__all__ = ["check_head"]

WANTS = {"inner", "spans"}


def check_head(name: str, options: Mapping[str, Any] | None = None) -> list[str]:
    """Test the head ``name`` (of the table, or ``./file.py:function``) against its contract, on
    small made-up rows; the clauses it kept, in words.

    Raises HeadError that names the first clause it broke, OptionError for a name or options that do
    not exist. A head without ``state`` and ``from_state`` keeps the contract, but no model file can
    hold it: the last line says so.
    """
    kept = []
    for clause, test in _clauses(name, options):
        try:
            broken = test()
        except HeadError:
            raise
        except Exception as error:
            raise HeadError(
                f"head {name}", f"{clause}: it raised {type(error).__name__}: {error}", "mend it"
            ) from error
        if broken:
            raise HeadError(f"head {name}", f"{clause}: {broken}", "mend the head")
        kept.append(clause)
    head = make_head(name, 0, options)
    if not (hasattr(head, "state") and hasattr(type(head), "from_state")):
        kept.append("no state() and from_state(): works, but no model file can hold it")
    return kept


def _rows(n: int = 90, d: int = 12, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """X (n, d), codes (n,): k classes that any head can tell apart."""
    rng = np.random.default_rng(0)
    codes = np.arange(n) % k
    X = rng.normal(size=(n, d)) * 3 + 10
    X[np.arange(n), codes] += 9
    return X.astype(np.float32), codes


def _clauses(
    name: str, options: Mapping[str, Any] | None
) -> Iterator[tuple[str, Callable[[], str]]]:
    X, codes = _rows()
    labels = np.array(["ant", "bee", "cat"])[codes]
    train, test = slice(0, 60), slice(60, 90)

    def fitted(X: np.ndarray, y: np.ndarray, **more: Any) -> Any:
        head = make_head(name, 0, options)
        head.fit(X, y, **more)
        return head

    def classes() -> str:
        head = fitted(X[train], labels[train])
        good = list(head.classes_) == ["ant", "bee", "cat"]
        return "" if good else f"classes_ is {list(head.classes_)} for ant, bee, cat"

    def probabilities() -> str:
        for n, k in ((90, 3), (80, 2)):
            A, y = _rows(n, k=k)
            said = np.asarray(fitted(A[train], y[train]).predict_proba(A[60:]))
            if said.shape != (n - 60, k):
                return f"shape {said.shape} for {n - 60} rows and {k} classes"
            if not np.isfinite(said).all() or (said < 0).any():
                return "values below 0 or not finite"
            if np.abs(said.sum(axis=1) - 1).max() > 1e-3:
                return "rows that do not sum to 1"
        return ""

    def learns() -> str:
        said = fitted(X[train], codes[train]).predict_proba(X[test])
        right = float((said.argmax(axis=1) == codes[test]).mean())
        return "" if right > 0.6 else f"{right:.2f} right of rows that are easy to tell apart"

    def repeatable() -> str:
        a, b = (fitted(X[train], codes[train]).predict_proba(X[test]) for _ in range(2))
        return "" if np.array_equal(a, b) else "two fits with one seed differ"

    def apart() -> str:
        head = fitted(X[train], codes[train])
        before = head.predict_proba(X[test])
        fitted(X[test], (codes[test] + 1) % 3)
        return "" if np.array_equal(before, head.predict_proba(X[test])) else "they share state"

    def untouched() -> str:
        A, y = X.copy(), codes.copy()
        A.flags.writeable = y.flags.writeable = False
        fitted(A[train], y[train]).predict_proba(A[test])
        return ""

    def row_by_row() -> str:
        head = fitted(X[train], codes[train])
        whole, one = head.predict_proba(X[test]), head.predict_proba(X[60:61])
        good = np.allclose(whole[:1], one, atol=1e-5)
        return "" if good else "a row's answer depends on the rows asked beside it"

    def rare() -> str:
        keep = (codes != 2) | (np.cumsum(codes == 2) <= 2)
        said = fitted(X[keep], codes[keep]).predict_proba(X)
        return "" if np.isfinite(said).all() else "values that are not finite"

    def constant() -> str:
        A = X.copy()
        A[:, -1] = 7
        said = fitted(A[train], codes[train]).predict_proba(A[test])
        return "" if np.isfinite(said).all() else "values that are not finite"

    def handed() -> str:
        wants = set(getattr(make_head(name, 0, options), "wants", ()))
        if not wants <= WANTS:
            return f"wants {', '.join(sorted(wants - WANTS))}; there is inner and spans"
        spans = {"image": slice(0, 8), "audio": slice(8, 12)}
        more: dict[str, Any] = {"inner": np.arange(60) % 4, "spans": spans}
        said = fitted(X[train], codes[train], **{w: more[w] for w in wants}).predict_proba(X[test])
        return "" if np.isfinite(said).all() else "values that are not finite"

    def weighs() -> str:
        head = fitted(X[train], codes[train])
        if not hasattr(head, "importances"):
            return ""
        weight = np.asarray(head.importances())
        good = weight.shape == (12,) and np.isfinite(weight).all() and (weight >= 0).all()
        return "" if good else f"{weight.shape} values for 12 columns, none below 0"

    def saves() -> str:
        head = fitted(X[train], codes[train])
        if not (hasattr(head, "state") and hasattr(type(head), "from_state")):
            return ""
        meta, arrays = head.state()
        if any(
            not isinstance(a, np.ndarray) or a.dtype.kind not in "biuf" for a in arrays.values()
        ):
            return "state() gives arrays that are not numbers"
        again = type(head).from_state(json.loads(json.dumps(meta)), arrays, 3)
        again.classes_ = np.arange(3)
        good = np.array_equal(again.predict_proba(X[test]), head.predict_proba(X[test]))
        return "" if good else "what from_state builds answers otherwise"

    yield "the rows it is given stay as they are", untouched
    yield "classes_ are the labels, sorted", classes
    yield "predict_proba gives probabilities (m, k)", probabilities
    yield "it learns", learns
    yield "the same seed and rows give the same answers", repeatable
    yield "two heads know nothing of each other", apart
    yield "a row is answered by itself", row_by_row
    yield "a class may have two rows", rare
    yield "a column may be constant", constant
    yield "it takes what it wants", handed
    yield "importances are one a column", weighs
    yield "state() and from_state() give the same head", saves
