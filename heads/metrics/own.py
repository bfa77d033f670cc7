"""A metric from a file of the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from headstock.heads.userfile import function_of
from headstock.store.errors import HeadError, HeadstockError, OptionError

__all__ = ["PARAMETERS", "own_score", "value_of", "wanted_of"]

PARAMETERS = ("y_true", "y_pred", "y_proba", "y_score", "classes")
"""What a function may ask for, by the names of its parameters: the labels (n,), the predicted
labels (n,), the probabilities (n, k), that of the second of two classes (n,), the classes (k,)."""


def own_score(
    name: str, classes: Sequence[Any]
) -> tuple[Callable[[np.ndarray, np.ndarray], float], bool, str]:
    """The function of ``./file.py:function`` as a score of probabilities (n, k) against codes (n,),
    whether more of it is better, which its attribute ``greater_is_better`` says, and the module
    that the file became, in whose name is its digest.

    Raises OptionError for a parameter that nobody knows; the score raises HeadError for whatever
    the function raises, and for an answer that is no number.
    """
    function = function_of(name, "metric")
    labels = np.asarray(list(classes))
    wanted = wanted_of(name, function, PARAMETERS)
    if "y_score" in wanted and len(labels) != 2:
        what = f"y_score is for two classes, and there are {len(labels)}"
        raise OptionError(f"metric {name}", what, "take y_proba, (n, k)")

    def score(proba: np.ndarray, codes: np.ndarray) -> float:
        given = {
            "y_true": labels[codes], "y_pred": labels[proba.argmax(axis=1)], "y_proba": proba,
            "y_score": proba[:, -1], "classes": labels,
        }  # fmt: skip
        return value_of(name, function, {key: given[key] for key in wanted})

    return score, bool(getattr(function, "greater_is_better", True)), str(function.__module__)


def wanted_of(name: str, function: Callable[..., Any], known: Sequence[str]) -> list[str]:
    """Which of the ``known`` parameters a function has. Raises OptionError for another one."""
    wanted = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in known:
            wanted.append(parameter.name)
        elif parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY,
        ):  # fmt: skip
            what = f"its parameter {parameter.name} is unknown"
            raise OptionError(f"metric {name}", what, f"name them {', '.join(known)}")
    return wanted


def value_of(name: str, function: Callable[..., Any], given: Mapping[str, np.ndarray]) -> float:
    """What the function says. Raises HeadError for whatever it raises, and for no number."""
    try:
        return float(function(**given))
    except HeadstockError:
        raise
    except Exception as error:
        what = f"it raised {type(error).__name__}: {error}"
        raise HeadError(f"metric {name}", what, "mend the file") from error
