"""Answers for rows among which the classes are not as frequent as among those learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstock.store.errors import BundleError, OptionError, near
from headstock.store.manifest.table import read_table

if TYPE_CHECKING:
    from headstock.heads.bundle.predictions import Predictions

__all__ = ["read_prior", "with_prior"]


def read_prior(path: str | Path, classes: Sequence[Any]) -> np.ndarray:
    """(k,) how frequent the ``classes`` are, from a CSV with the columns ``class`` and ``share``:
    shares or counts, one line a class. Raises ManifestError for what is no such table, OptionError
    for a class that is missing or none, and for a share that is no positive number."""
    table = read_table(path)
    at, of = table.index("class"), table.index("share")
    names = [str(c) for c in classes]
    found: dict[str, float] = {}
    for number, cells in enumerate(table.rows):
        name, text = cells[at], cells[of]
        try:
            share = float(text)
        except ValueError:
            share = np.nan
        if name not in names:
            fix = f"{near(name, names)}one of {', '.join(names[:20])}"
            raise OptionError(table.place(number), f"{name!r} is no class of the model", fix)
        if name in found or not 0 < share < np.inf:
            what = f"{name} stands twice" if name in found else f"{text!r} is no share above 0"
            raise OptionError(table.place(number), what, "one line a class, such as cat,0.02")
        found[name] = share
    if left := [name for name in names if name not in found]:
        raise OptionError(path, f"says nothing of {', '.join(left[:10])}", "a line for each class")
    prior = np.array([found[name] for name in names])
    return prior / prior.sum()


def with_prior(
    predictions: Predictions, prior: np.ndarray, settings: Mapping[str, Any]
) -> Predictions:
    """The probabilities p (m, k) as p prior / share, summing to 1 again, where ``share`` is how
    frequent the classes were in learning (Saerens, Latinne and Decaestecker 2002). It is right
    where p is calibrated and nothing but the frequencies differs. Sets of classes are left out, for
    their promise is of rows like those learned from. Raises BundleError for a model that does not
    know the frequencies."""
    share = settings.get("shares")
    numbers = share if isinstance(share, list) and len(share) == len(prior) else [None]
    if not all(isinstance(one, int | float) and 0 < one <= 1 for one in numbers):
        what = "does not say how frequent its classes were"
        raise BundleError("model", what, "fit it again, without --stream")
    moved = predictions.proba * (prior / np.array(numbers, dtype=float))
    total = moved.sum(axis=1, keepdims=True)
    proba = np.divide(moved, total, out=predictions.proba.copy(), where=total > 0)
    return replace(predictions, proba=proba, least=None)
