"""What a head declares so that all its folds are computed at once (``outoffold.together``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Descent", "Gram", "Grid", "Kernel", "Machines", "OnceReduced", "Strategy"]


class Kernel(NamedTuple):
    """exp(-gamma |x - z|^2), or with a degree (1 + gamma x.z)^degree; gamma is divided by the
    number of sets."""

    gamma: float
    degree: int = 0


@dataclass(frozen=True)
class Gram:
    """A closed form from the products of the columns by fold: ``lda`` with its shrinkage (a number
    or ``auto``), ``ridge`` with its alpha."""

    kind: str
    setting: float | str


@dataclass(frozen=True)
class Descent:
    """L-BFGS of all training parts in the same matrix products; ``loss`` and ``C`` as in
    ``solvers.Problems``; tol: largest entry of the gradient at the end."""

    loss: str
    C: float
    tol: float


@dataclass(frozen=True)
class Grid:
    """``Descent`` of the softmax at each of ``strengths`` (values of C), the best chosen inside
    each training part; fixed: the other options of every point."""

    strengths: tuple[float, ...]
    tol: float
    fixed: Mapping[str, Any]


@dataclass(frozen=True)
class Machines:
    """Kernel machines from products computed once; upto: training rows beyond which the head by
    itself stands on landmarks, and so no kernel is shared, or None."""

    C: float
    kernel: Kernel
    upto: int | None


@dataclass(frozen=True)
class OnceReduced:
    """Fold by fold, with the components of a set found once a training part (``OnComponents``)."""


Strategy = Gram | Descent | Grid | Machines | OnceReduced
