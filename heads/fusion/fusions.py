"""Fusion: many systems' probabilities for a row into one system's.

``early`` and ``learned`` are no functions of probabilities: they are one head on several sets, side
by side or with a branch for each. The others take P (n, s, k), the held-out probabilities of s
systems, and learn from them; a stack may read the features X (n, d) as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from headstock.heads.fusion.gate import Gated
from headstock.heads.fusion.mean import Mean
from headstock.heads.fusion.of_numbers import MeanOfNumbers, StackedNumbers
from headstock.heads.fusion.stacking import Stacked
from headstock.heads.search.aims import AIMING, aim_of
from headstock.heads.specs import CLASSES
from headstock.store.errors import OptionError, near

__all__ = [
    "FUSIONS", "KINDS_OF_NUMBERS", "Fusion", "cross_fuse", "fusion_options", "fusions_of",
    "make_fusion", "maker_of",
]  # fmt: skip


class Fusion(Protocol):
    """``fit`` and ``predict`` on (n, s, k); ``state`` and ``from_state`` as heads have them. One
    that ``wants_features`` is handed X (n, d) too."""

    kind: str

    def fit(
        self, P: np.ndarray, codes: np.ndarray, inner: np.ndarray, X: np.ndarray | None = None
    ) -> Any: ...

    def predict(self, P: np.ndarray, X: np.ndarray | None = None) -> np.ndarray:
        """(m, k), rows summing to 1."""
        ...

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]: ...


FUSIONS: Mapping[str, Callable[..., Fusion] | None] = {
    "early": None,
    "mean": lambda seed: Mean("mean"),
    "weighted": lambda seed, metric=None: Mean("weighted", metric),
    "product": lambda seed: Mean("product"),
    "stacked": Stacked,
    "gated": lambda seed, metric=None: Gated(metric),
    "learned": None,
}
OF_NUMBERS: Mapping[str, Callable[..., Fusion] | None] = {
    "early": None,
    "mean": lambda seed: MeanOfNumbers(),
    "stacked": StackedNumbers,
}
"""Those that join numbers."""
KINDS: Mapping[str, Any] = {
    "mean": Mean,
    "weighted": Mean,
    "product": Mean,
    "stacked": Stacked,
    "gated": Gated,
}
KINDS_OF_NUMBERS: Mapping[str, Any] = {
    "mean-number": MeanOfNumbers,
    "stacked-number": StackedNumbers,
}


def fusions_of(target: str) -> Mapping[str, Callable[..., Fusion] | None]:
    """The table of the fusions that join what a target is."""
    return FUSIONS if target == CLASSES else OF_NUMBERS


def maker_of(name: str, target: str = CLASSES) -> Callable[..., Fusion] | None:
    """What makes a fusion of the table; None of ``early`` and ``learned``. Raises OptionError for
    one that is not in it."""
    table = fusions_of(target)
    if name not in table:
        what = "joins no numbers" if name in FUSIONS else "is not in the table"
        fix = f"{near(name, table)}one of {', '.join(table)}"
        raise OptionError(f"fusion {name}", what, fix)
    return table[name]


def make_fusion(
    name: str, seed: int = 0, options: Mapping[str, Any] | None = None, target: str = CLASSES
) -> Fusion:
    """A fresh late fusion. Raises OptionError that names the fusions or options that exist."""
    make = maker_of(name, target)
    if make is None:
        late = [known for known, one in fusions_of(target).items() if one is not None]
        raise OptionError(f"fusion {name}", "is no late fusion", f"one of {', '.join(late)}")
    options = dict(options or {})
    metric = aim_of(options) if name in AIMING else None
    if options and name != "stacked":
        raise OptionError(f"fusion {name}", f"unknown option {', '.join(options)}", "it has none")
    return make(seed, metric) if name in AIMING else make(seed, **options)


def fusion_options(name: str) -> dict[str, Any]:
    """The options of a fusion and their defaults."""
    return {"meta": "logistic", "features": False} if name == "stacked" else {}


def cross_fuse(
    name: str,
    P: np.ndarray,
    y: np.ndarray,
    folds: np.ndarray,
    *,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    X: np.ndarray | None = None,
    nested: Callable[[int, int], np.ndarray] | None = None,
    target: str = CLASSES,
) -> np.ndarray:
    """(r, n, k): each row fused by a fusion that was fitted on the rows of the other folds.

    P (r, n, s, k) are out-of-fold already, so a row's fused probability never saw its label in
    the fusion. Its members did not see it either, but the members that answered the fusion's
    training rows had it among theirs: if the labels of two rows agree with how alike they are,
    both their answers say so, and a fusion fitted on one knows it of the other. On random labels a
    stack is then right more often than chance. ``nested(r, f)`` closes the gap: it gives what
    members fitted without fold f at all say of the other folds' rows, held out (n - |f|, s, k), and
    the fusion of fold f learns from these.
    """
    out = np.empty((P.shape[0], P.shape[1], P.shape[3]))
    for r in range(P.shape[0]):
        for fold in np.unique(folds[r]):
            test = folds[r] == fold
            train = ~test
            learned = P[r, train] if nested is None else nested(r, int(fold))
            fusion = make_fusion(name, seed, options, target)
            if X is None:
                fusion.fit(learned, y[train], folds[r, train])
                out[r, test] = fusion.predict(P[r, test])
            else:
                fusion.fit(learned, y[train], folds[r, train], X[train])
                out[r, test] = fusion.predict(P[r, test], X[test])
    return out


def listing(match: str = "") -> list[str]:
    """A line for each fusion of the table whose name holds ``match``: the name and its options."""
    return [
        f"{name:8}  {', '.join(f'{k}={v}' for k, v in fusion_options(name).items())}".rstrip()
        for name in FUSIONS
        if match in name
    ]
