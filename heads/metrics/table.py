"""The table of metrics, and how a name becomes one.

A name is ``NAME``, ``NAME:CLASS`` or ``NAME[:CLASS]@PARAMETER=VALUE``: ``macro_f1``, ``f2:dog``,
``top3``, ``recall:dog@precision=0.9``, ``auroc@fpr=0.1``; or ``./file.py:function`` of your own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from headstock.heads.metrics import labels, ranks
from headstock.heads.metrics.cost import cost_rows, costs_of, digest_of, is_cost
from headstock.heads.metrics.grammar import ALIASES, metric_names
from headstock.heads.metrics.own import own_score
from headstock.heads.metrics.probabilities import (
    brier_rows,
    calibration_error,
    drawn_calibration,
    loss_rows,
)
from headstock.heads.userfile import is_own
from headstock.store.errors import OptionError, near

__all__ = ["Metric", "metric_named", "metrics_named"]

Proba: TypeAlias = np.ndarray
Codes: TypeAlias = np.ndarray


@dataclass(frozen=True, repr=False)
class Metric:
    """One way to score probabilities (n, k) against codes (n,), for classes that are known.

    needs: ``labels`` (the most likely class alone), ``ranks`` (the order of rows) or
    ``probabilities``; of_class: the class it is about, if one; low, high: what it can be; classes:
    their number k; source: the file of the user's that it comes from, with its digest.
    score: (proba, codes) -> float, not a number where it is not defined. How far it is known comes
    from the first of these that is there: share: (proba, codes) -> right (n,), which (n,): it is
    the share right of these rows, and has an exact interval; pseudo: (proba, codes) -> value and
    pseudo-values (n,), with moves: (proba, codes) -> (k, m), how fast it moves with rows of each
    class that may not have been seen; else from resamples, drawn: (proba, codes, weights (b, n)) ->
    (b,), the score with each row counted so often.
    """

    name: str
    needs: str
    score: Callable[[Proba, Codes], float]
    share: Callable[[Proba, Codes], tuple[np.ndarray, np.ndarray]] | None = None
    pseudo: Callable[[Proba, Codes], tuple[float, np.ndarray]] | None = None
    moves: Callable[[Proba, Codes], np.ndarray] | None = None
    drawn: Callable[[Proba, Codes, np.ndarray], np.ndarray] | None = None
    greater_is_better: bool = True
    of_class: str | None = None
    low: float = 0.0
    high: float = 1.0
    classes: int = 0
    source: str = ""

    def __repr__(self) -> str:
        """What answers that were chosen by it are kept under."""
        return f"Metric({self.name} {self.source} {self.classes})"

    @property
    def interval(self) -> str:
        """Where its interval comes from: ``exact``, ``pseudo-values`` or ``resamples``."""
        return "exact" if self.share else "pseudo-values" if self.pseudo else "resamples"

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.greater_is_better else -1


AVERAGED = re.compile(r"(macro|micro|weighted)_(f\d+(?:\.\d+)?|precision|recall)")
FORM = re.compile(r"([A-Za-z0-9_.\- ]+?)(?::(.*?))?(?:@([a-z]+)=([0-9.eE+-]+))?")
LOSSES = {"log_loss": loss_rows, "brier": brier_rows}


def metric_named(name: str, classes: Sequence[Any]) -> Metric:
    """The metric called ``name`` for labels that are among ``classes``, in their order.

    Of two classes the second is the positive one where none is named, as in scikit-learn. Raises
    OptionError for a name that is none, a class or a parameter that is none.
    """
    return replace(_named(name, classes), classes=len(classes))


def _named(name: str, classes: Sequence[Any]) -> Metric:
    if is_own(name):
        score, greater, source = own_score(name, classes)
        low, high = -np.inf, np.inf
        needs = "probabilities"
        drawn = partial(_repeated, score)
        return Metric(
            name, needs, score, drawn=drawn, greater_is_better=greater, low=low, high=high,
            source=source,
        )  # fmt: skip
    if is_cost(name):
        costs = costs_of(name, classes)
        made = _mean_of(name, partial(cost_rows, costs), float(costs.max()))
        return replace(made, source=digest_of(name))
    form = FORM.fullmatch(name)
    if form is None:
        raise _unknown(name)
    word, of, parameter, text = form.groups()
    word = word.strip().lower().replace("-", "_").replace(" ", "_")
    word = ALIASES.get(word, word)
    known = [str(c) for c in classes]
    if of is not None and of not in known:
        rest = name.split(":", 1)[1]  # a class whose name looks like a parameter
        if rest not in known:
            fix = f"{near(of, known)}one of {', '.join(known[:20])}"
            raise OptionError(f"metric {name}", f"{of!r} is no class", fix)
        of, parameter, text = rest, None, None
    if parameter is not None:
        return _with_parameter(name, word, of, known, parameter, text)
    return _plain(name, word, of, known)


def metrics_named(names: Sequence[str], classes: Sequence[Any]) -> list[Metric]:
    """Each once, in their order; of none the accuracy alone."""
    found = [metric_named(name, classes) for name in names or ("accuracy",)]
    return list({metric.name: metric for metric in found}.values())


def _unknown(name: str) -> OptionError:
    fix = f"{near(name, metric_names())}one of {', '.join(metric_names())}, or ./file.py:function"
    return OptionError(f"metric {name}", "is not in the table", fix)


def _class_number(name: str, word: str, of: str | None, classes: Sequence[str]) -> int:
    if of is not None:
        return list(classes).index(of)
    if len(classes) == 2:
        return 1
    fix = f"{word}:{classes[0]}, or macro_{word}" if word[0] in "fpr" else f"{word}:{classes[0]}"
    raise OptionError(f"metric {name}", f"is of one class, and there are {len(classes)}", fix)


def _plain(name: str, word: str, of: str | None, classes: Sequence[str]) -> Metric:
    k = len(classes)
    whole = _whole(word, classes)
    if whole is not None:
        if of is not None:
            raise OptionError(f"metric {name}", "is of all classes", f"name {word} alone")
        return whole
    if word in ("auroc", "average_precision"):
        rank = ranks.auroc if word == "auroc" else ranks.average_precision
        number = None if of is None else classes.index(of)
        if of is None and k == 2 and word != "auroc":  # which class is positive decides
            of = classes[1]
        return _ranked(word, rank, of, number)
    single: dict[str, Any] = {
        "precision": labels.precision, "recall": labels.recall, "specificity": None,
    }  # fmt: skip
    if re.fullmatch(r"f\d+(\.\d+)?", word) and float(word[1:]) > 0:
        single[word] = labels.f_beta(float(word[1:]))
    if word not in single:
        raise _unknown(name)
    number = _class_number(name, word, of, classes)
    said = f"{word}:{classes[number]}"
    if word in SHARES:
        share = partial(SHARES[word], number=number)
        return Metric(said, "labels", _share_score(share), share, of_class=classes[number])
    score = labels.of_class(single[word], number)
    return _labelled(said, score, k, of_class=classes[number])


def _whole(word: str, classes: Sequence[str]) -> Metric | None:
    """Metrics of all classes together."""
    k = len(classes)
    if word in ("accuracy", "micro_f1", "micro_precision", "micro_recall"):
        share: Any = _right
        return Metric(word, "labels", _share_score(share), share)
    top = re.fullmatch(r"top_?(\d+)(_accuracy)?", word)
    if top and int(top[1]) > 0:
        share = partial(_top, count=int(top[1]))
        return Metric(f"top{int(top[1])}", "ranks", _share_score(share), share)
    averaged = AVERAGED.fullmatch(word)
    if averaged:
        beta = averaged[2][1:]
        kind: Any = labels.f_beta(float(beta)) if averaged[2][0] == "f" else None
        kind = kind or {"precision": labels.precision, "recall": labels.recall}[averaged[2]]
        if averaged[1] == "micro":
            return Metric(word, "labels", _share_score(_right), _right)
        return _labelled(word, getattr(labels, averaged[1])(kind), k)
    if word == "balanced_accuracy":
        return _labelled(word, labels.balanced_accuracy, k)
    if word in ("mcc", "kappa"):
        return _labelled(word, getattr(labels, word), k, low=-1.0)
    if word == "quadratic_kappa":
        return _labelled(word, labels.quadratic_kappa, k, low=-1.0, order=_order(classes))
    if word == "auroc_ovo":
        return _ranked(word, ranks.auroc, None, None, ranks.each_pair)
    if word in LOSSES:
        return _mean_of(word, LOSSES[word], np.inf if word == "log_loss" else 2.0 - (k == 2))
    if word == "calibration_error":
        return Metric(
            word, "probabilities", calibration_error, drawn=drawn_calibration,
            greater_is_better=False,
        )  # fmt: skip
    return None


def _with_parameter(
    name: str, word: str, of: str | None, classes: Sequence[str], parameter: str, text: str
) -> Metric:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if (word, parameter) not in (("auroc", "fpr"), ("recall", "precision")):
        fix = "auroc@fpr=0.1 and recall@precision=0.9 have one"
        raise OptionError(f"metric {name}", f"{word} has no {parameter}", fix)
    if not 0 < value <= 1:
        raise OptionError(f"metric {name}", f"{parameter}={text} is no share", "0.1, for example")
    number = _class_number(name, word, of, classes)
    said = f"{word}:{classes[number]}@{parameter}={value:g}"
    if word == "auroc":
        return _ranked(said, ranks.partial_auroc(value), classes[number], number, named=True)
    best = ranks.recall_at_precision(value)
    return Metric(
        said, "ranks", lambda p, c: best(p[:, number], c == number), of_class=classes[number],
        drawn=lambda p, c, w: ranks.drawn_recall(value, p[:, number], c == number, w),
    )  # fmt: skip


def _mean_of(name: str, rows: Callable[[Proba, Codes], np.ndarray], high: float) -> Metric:
    """The mean of what each row is off by, or costs."""

    def with_pseudo(proba: Proba, codes: Codes) -> tuple[float, np.ndarray]:
        each = rows(proba, codes)
        return float(each.mean()), each

    return Metric(
        name, "probabilities", lambda p, c: float(rows(p, c).mean()), None, with_pseudo,
        greater_is_better=False, high=high,
    )  # fmt: skip


def _repeated(
    score: Callable[[Proba, Codes], float], proba: Proba, codes: Codes, weights: np.ndarray
) -> np.ndarray:
    """(b,) of any score: each row is there as often as it counts."""
    counts = weights.astype(np.int64)
    drawn = (np.repeat(np.arange(len(codes)), line) for line in counts)
    return np.array([score(proba[rows], codes[rows]) for rows in drawn])


def _labelled(
    name: str, score: labels.LabelScore, k: int, low: float = 0.0, of_class: str | None = None,
    order: np.ndarray | None = None,
) -> Metric:  # fmt: skip
    def answers(proba: Proba, codes: Codes) -> tuple[np.ndarray, np.ndarray]:
        said = proba.argmax(axis=1)
        return (said, codes) if order is None else (order[said], order[codes])

    def value(proba: Proba, codes: Codes) -> float:
        return float(score(labels.tallies(*answers(proba, codes), k)))

    def pseudo(proba: Proba, codes: Codes) -> tuple[float, np.ndarray]:
        return labels.label_pseudo(score, *answers(proba, codes), k)

    def moves(proba: Proba, codes: Codes) -> np.ndarray:
        return labels.label_moves(score, *answers(proba, codes), k)

    return Metric(name, "labels", value, None, pseudo, moves, low=low, of_class=of_class)


def _ranked(
    name: str, rank: Any, of: str | None, number: int | None, each: Any = ranks.each_class,
    named: bool = False,
) -> Metric:  # fmt: skip
    def pseudo(proba: Proba, codes: Codes) -> tuple[float, np.ndarray]:
        if number is None:
            return each(rank, proba, codes)
        return rank(proba[:, number], codes == number)

    said = name if named or of is None else f"{name}:{of}"

    def moves(proba: Proba, codes: Codes) -> np.ndarray:
        return ranks.class_moves(rank, proba, codes, number)

    return Metric(said, "ranks", lambda p, c: pseudo(p, c)[0], None, pseudo, moves, of_class=of)


def _order(classes: Sequence[str]) -> np.ndarray | None:
    """(k,) the place of each class among numbers, where all classes are numbers and their sorted
    order as text is another."""
    try:
        values = np.array([float(c) for c in classes])
    except ValueError:
        return None
    return np.argsort(np.argsort(values, kind="stable"), kind="stable")


# Shares ------------------------------------------------------------------------------------------


def _right(proba: Proba, codes: Codes) -> tuple[np.ndarray, np.ndarray]:
    return proba.argmax(axis=1) == codes, np.ones(len(codes), dtype=bool)


def _top(proba: Proba, codes: Codes, count: int) -> tuple[np.ndarray, np.ndarray]:
    return labels.top_right(proba, codes, count), np.ones(len(codes), dtype=bool)


def _found(proba: Proba, codes: Codes, number: int) -> tuple[np.ndarray, np.ndarray]:
    return proba.argmax(axis=1) == codes, codes == number


def _true(proba: Proba, codes: Codes, number: int) -> tuple[np.ndarray, np.ndarray]:
    said = proba.argmax(axis=1)
    return said == codes, said == number


def _spared(proba: Proba, codes: Codes, number: int) -> tuple[np.ndarray, np.ndarray]:
    return proba.argmax(axis=1) != number, codes != number


SHARES: dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    "recall": _found, "precision": _true, "specificity": _spared,
}  # fmt: skip


def _share_score(share: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Any:
    nothing = 0.0 if getattr(share, "func", None) is _true else np.nan
    """A class that is never answered has precision 0, as in scikit-learn; one without rows has no
    recall."""

    def score(proba: Proba, codes: Codes) -> float:
        right, which = share(proba, codes)
        return float(right[which].mean()) if which.any() else nothing

    return score
