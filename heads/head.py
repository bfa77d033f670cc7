"""The Head protocol, the table of heads, and how a name becomes a head."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from headstock.heads.search.aims import aim_of
from headstock.heads.search.draws import DRAWS
from headstock.heads.search.tuning import Tuned, points_of
from headstock.heads.specs import CLASSES, NUMBER, RENAMED, TARGETS
from headstock.heads.userfile import function_of, is_own
from headstock.store.errors import HeadError, HeadstockError, OptionError
from headstock.store.jsonfile import parse_json

__all__ = [
    "Head",
    "head_options",
    "load_head",
    "make_head",
    "value_of",
]


@runtime_checkable
class Head(Protocol):
    """scikit-learn's duck type: any of its classifiers already is a head.

    A head that learns numbers has ``predict(X) -> (m,)`` in place of ``predict_proba`` and
    ``classes_``: any regressor of scikit-learn is one.

    A head in the table is a function ``f(seed, **options) -> Head``. It owns its scaling, is the
    same for the same seed and rows, and never looks at rows it was not given. A head that says so
    in ``wants`` is also handed, as keywords of ``fit``:

    ``inner``: (n,) integer codes that part the training rows into folds. Whatever a head must hold
    out (to calibrate, to choose C, to stop early) it holds out by these, so that groups stay whole.
    ``spans``: {set name: slice of columns}, where X is several feature sets side by side.
    ``unheld`` says in words what becomes of it where no fold is left to hold out.

    A head that a bundle can save has ``kind``, ``state() -> (meta, arrays)`` and a class method
    ``from_state(meta, arrays, k)``: meta is plain data for JSON, arrays are NumPy's. A head of your
    own needs the last two alone. ``contract.check_head`` tests a head against all of this.
    """

    classes_: np.ndarray

    def fit(self, X: np.ndarray, y: np.ndarray) -> Any:
        """Learn from X (n, d) float32 and y (n,), two classes at least."""
        ...

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """(m, k) probabilities in the order of ``classes_``, rows summing to 1."""
        ...


FUSED = {"learned": "headstock.heads.kinds.neural:learned"}
"""Heads that are a fusion: they read several sets and keep them apart inside."""
TRANSFORM = "transform"
"""The option of each head for numbers that says what of them it learns: ``log`` or ``rank``."""
WORDS = {CLASSES: "classes", NUMBER: "numbers"}


def load_head(name: str, target: str = CLASSES) -> Callable[..., Head]:
    """The function behind ``name``: a name of the target's table, or ``./file.py:function`` of your
    own.

    Raises OptionError for a name that is neither, HeadError when the file cannot be imported.
    """
    table, fused = TARGETS[target], FUSED if target == CLASSES else {}
    if name in table or name in fused:
        place = table[name].make if name in table else fused[name]
        module, _, attribute = place.partition(":")
        return getattr(importlib.import_module(module), attribute)
    if is_own(name):
        return function_of(name)
    close = difflib.get_close_matches(name, table, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    what = "not in the table"
    for other, heads in TARGETS.items():
        if name in heads:
            what = f"learns {WORDS[other]} and no {WORDS[target]}"
    raise OptionError(
        f"head {name}", what, f"{hint}one of {', '.join(table)}, or ./file.py:function"
    )


def head_options(name: str, target: str = CLASSES) -> dict[str, Any]:
    """The options of a head and their defaults."""
    parameters = list(inspect.signature(load_head(name, target)).parameters.values())
    return {
        p.name: (None if p.default is p.empty else p.default)
        for p in parameters
        if p.name != "seed" and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }


def make_head(
    name: str, seed: int = 0, options: Mapping[str, Any] | None = None, target: str = CLASSES
) -> Head:
    """A fresh, unfitted head for a target. Option values may be text, as a command line gives them;
    a list of values, or a range and ``draws``, means that the best is chosen inside the training
    rows (see ``search.tuning``).

    Raises OptionError that names the options that exist.
    """
    function = load_head(name, target)
    options = {k: value_of(v) for k, v in (options or {}).items()}
    metric = aim_of(options)
    parameters = inspect.signature(function).parameters.values()
    known = head_options(name, target)
    if target == NUMBER:
        known = {**known, TRANSFORM: None}
    unknown = [k for k in options if k not in known and k != DRAWS]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise _unknown(name, unknown, known)
    points = points_of(options, seed, f"head {name}")
    if not points:
        raise OptionError(
            f"head {name}", "an empty list to choose from", "name values, as C=[1,10]"
        )
    odd = {k: v for p in points for k, v in p.items() if isinstance(v, float) and not isfinite(v)}
    if odd:
        told = ", ".join(f"{k}={v}" for k, v in odd.items())
        raise OptionError(f"head {name}", f"{told} is no finite number", "check its options")
    if len(points) > 1:
        from headstock.heads.search.regression import TunedRegressor

        search = TunedRegressor if target == NUMBER else partial(Tuned, metric=metric)
        tuned = search(lambda point: make_head(name, seed, point, target), points)
        return cast(Head, tuned)
    point, transform = dict(points[0]), None
    if target == NUMBER:
        transform = point.pop(TRANSFORM, None)
    try:
        head = function(seed, **point)
        if transform not in (None, "none"):
            from headstock.heads.regressors.transformed import TransformedRegressor

            head = cast(Head, TransformedRegressor(head, transform))
    except (TypeError, ValueError) as error:
        told = ", ".join(f"{k}={v!r}" for k, v in points[0].items())
        raise OptionError(f"head {name}", f"{told}: {error}", "check its options") from error
    except Exception as error:
        if not is_own(name) or isinstance(error, HeadstockError):
            raise
        what = f"calling it raised {type(error).__name__}: {error}"
        raise HeadError(f"head {name}", what, "mend the file") from error
    answers = "predict" if target == NUMBER else "predict_proba"
    if not (callable(getattr(head, "fit", None)) and callable(getattr(head, answers, None))):
        raise HeadError(
            f"head {name}",
            f"gave a {type(head).__name__} without fit and {answers}",
            f"return a {'regressor' if target == NUMBER else 'classifier'} that has both",
        )
    return head


def _unknown(name: str, unknown: Sequence[str], known: Mapping[str, Any]) -> OptionError:
    """Which options a head does not have, and which may be meant: by a name of before, or one that
    is nearly it."""
    meant = [new for new in RENAMED.get(unknown[0], ()) if new in known]
    meant = meant or difflib.get_close_matches(unknown[0], known, 1)
    every = ", ".join(f"{k}={v}" for k, v in known.items()) or "none"
    fix = f"write {meant[0]}; " if meant else ""
    what = f"unknown option {', '.join(map(str, unknown))}"
    return OptionError(f"head {name}", what, f"{fix}it has {every}")


def value_of(value: Any) -> Any:
    """Text that reads as JSON (``10``, ``0.5``, ``true``, ``[1, 2]``) becomes that value."""
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except ValueError:
        return value


def listing(match: str = "", target: str = CLASSES) -> list[str]:
    """A line for each head of the target's table whose name holds ``match``: the name and its
    options."""
    table = TARGETS[target]
    width = max(map(len, table))
    return [
        f"{name:{width}}  {', '.join(f'{k}={v}' for k, v in head_options(name, target).items())}"
        for name in table
        if match in name
    ]
