"""Scores of numbers: answers (n, 1) against numbers (n,), as scikit-learn and SciPy define them.

Each is a smooth function of means over rows, and so is known to first order by its pseudo-values
(Jaeckel's infinitesimal jackknife, 1972): the value, and for each row what it moves.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from headstock.heads.metrics.own import value_of, wanted_of
from headstock.heads.metrics.table import Metric
from headstock.heads.userfile import function_of, is_own
from headstock.store.errors import OptionError, near

__all__ = ["ABOUT", "SHOWN", "USUAL", "listing", "number_metric"]

USUAL = "rmse"
"""What decides where nobody says."""
SHOWN = ("rmse", "mae", "r2", "spearman", "pearson", "median_ae")
"""What each line of a leaderboard has."""
ABOUT: dict[str, str] = {
    "rmse": "root of the mean squared error",
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "median_ae": "median absolute error",
    "r2": "share of the variance that is explained",
    "pearson": "correlation of predicted and true",
    "spearman": "the same of their ranks",
    "pinball@quantile=0.9": "mean pinball loss of a quantile; 0.5 without one",
    "mape": "mean absolute error as a part of the true number",
    "rmsle": "root of the mean squared error of log(1 + number)",
}
"""What may be asked for, as ``headstock list metrics --target number`` prints it."""
ALIASES = {
    "neg_root_mean_squared_error": "rmse", "root_mean_squared_error": "rmse",
    "neg_mean_squared_error": "mse", "mean_squared_error": "mse",
    "neg_mean_absolute_error": "mae", "mean_absolute_error": "mae",
    "neg_median_absolute_error": "median_ae", "median_absolute_error": "median_ae",
    "r2_score": "r2", "pearsonr": "pearson", "spearmanr": "spearman",
    "mean_pinball_loss": "pinball", "neg_mean_absolute_percentage_error": "mape",
    "mean_absolute_percentage_error": "mape", "neg_root_mean_squared_log_error": "rmsle",
    "root_mean_squared_log_error": "rmsle",
}  # fmt: skip
"""Other words for the same, scikit-learn's scoring names among them."""


def listing(match: str = "") -> list[str]:
    """A line for each metric of numbers whose name holds ``match``."""
    width = max(map(len, ABOUT))
    return [f"{name:{width}}  {words}" for name, words in ABOUT.items() if match in name]


Pseudo = tuple[float, np.ndarray]
Score = Callable[[np.ndarray, np.ndarray], Pseudo]


def number_metric(name: str) -> Metric:
    """The metric called ``name``, of numbers. Raises OptionError for one that is none."""
    if is_own(name):
        return _own(name)
    word, at, parameter = name.strip().lower().replace("-", "_").partition("@")
    word = ALIASES.get(word, word)
    table: dict[str, tuple[Score, bool, float, float]] = {
        "rmse": (_root(_squares), False, 0.0, np.inf),
        "mse": (_mean(_squares), False, 0.0, np.inf),
        "mae": (_mean(_sizes), False, 0.0, np.inf),
        "median_ae": (_median, False, 0.0, np.inf),
        "r2": (_explained, True, -np.inf, 1.0),
        "pearson": (_pearson, True, -1.0, 1.0),
        "spearman": (_spearman, True, -1.0, 1.0),
        "mape": (_mean(_parts), False, 0.0, np.inf),
        "rmsle": (_root(_log_squares), False, 0.0, np.inf),
    }
    if word == "pinball":
        quantile = _quantile(name, parameter)
        table[word] = _mean(_pinball(quantile)), False, 0.0, np.inf
        name = f"{word}@quantile={quantile:g}"
    elif word not in table or at:
        fix = f"{near(word, [*table])}one of {', '.join(ABOUT)}, or ./file.py:function"
        raise OptionError(f"metric {name}", "is none of numbers", fix)
    else:
        name = word
    pseudo, greater, low, high = table[word]

    def of_column(said: np.ndarray, y: np.ndarray) -> Pseudo:
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            return pseudo(np.asarray(said, dtype=float).reshape(-1), y)

    return Metric(
        name, "numbers", lambda said, y: of_column(said, y)[0], None, of_column,
        greater_is_better=greater, low=low, high=high,
    )  # fmt: skip


def _quantile(name: str, parameter: str) -> float:
    word, _, text = parameter.partition("=")
    try:
        value = float(text) if parameter else 0.5
    except ValueError:
        value = np.nan
    if word not in ("", "quantile") or not 0 < value < 1:
        raise OptionError(f"metric {name}", "has no such quantile", "pinball@quantile=0.9")
    return value


def _mean(rows: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Score:
    def score(said: np.ndarray, y: np.ndarray) -> Pseudo:
        each = rows(said, y)
        return float(each.mean()), each

    return score


def _root(rows: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Score:
    def score(said: np.ndarray, y: np.ndarray) -> Pseudo:
        each = rows(said, y)
        value = float(np.sqrt(each.mean()))
        return value, value + (each - value**2) / (2 * value) if value > 0 else np.zeros(len(y))

    return score


def _squares(said: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (said - y) ** 2


def _sizes(said: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(said - y)


def _parts(said: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(said - y) / np.maximum(np.abs(y), np.finfo(float).eps)


def _log_squares(said: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (np.log1p(said) - np.log1p(y)) ** 2


def _pinball(quantile: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda said, y: np.maximum(quantile * (y - said), (quantile - 1) * (y - said))


def _median(said: np.ndarray, y: np.ndarray) -> Pseudo:
    """What a row moves is its side of the median, over how densely errors lie there (Woodruff 1952
    read the density from the interval of the share below)."""
    sizes = np.sort(np.abs(said - y))
    n = len(sizes)
    value = float(np.median(sizes))
    reach = max(1.0 / np.sqrt(n), 1.0 / n)
    low, high = (float(np.quantile(sizes, np.clip(0.5 + s * reach, 0, 1))) for s in (-1, 1))
    side = np.sign(np.abs(said - y) - value) / 2
    return value, value + (side - side.mean()) * (high - low) / (2 * reach)


def _explained(said: np.ndarray, y: np.ndarray) -> Pseudo:
    left, spread = (said - y) ** 2, (y - y.mean()) ** 2
    whole = float(spread.mean())
    if whole == 0:
        return np.nan, np.full(len(y), np.nan)
    share = float(left.mean()) / whole
    return 1 - share, 1 - share - (left - share * spread) / whole


def _pearson(said: np.ndarray, y: np.ndarray) -> Pseudo:
    a, b = said - said.mean(), y - y.mean()
    sizes = [float(np.sqrt(np.mean(x**2))) for x in (a, b)]
    # answers that differ by rounding alone are one answer
    if min(sizes) == 0 or sizes[0] <= 1e-13 * float(np.abs(said).max()):
        return np.nan, np.full(len(y), np.nan)
    a, b = a / sizes[0], b / sizes[1]
    value = float(np.mean(a * b))
    return value, value + a * b - value * (a**2 + b**2) / 2


def _spearman(said: np.ndarray, y: np.ndarray) -> Pseudo:
    """A row's part is that of its own ranks, and of the ranks of others that it moves."""
    from scipy.stats import rankdata

    n = len(y)
    u, v = ((rankdata(x) - 0.5) / n for x in (said, y))  # their mean is a half, whatever the rows
    value, pseudo = _pearson(u, v)
    if not np.isfinite(value):
        return value, pseudo
    both = u * v + _above(said, v) + _above(y, u)
    moved = (both - both.mean()) / (u.std() * v.std())
    for x, rank in ((said, u), (y, v)):
        spread = rank**2 + 2 * _above(x, rank)
        moved -= value / 2 * (spread - spread.mean()) / rank.var()
    return value, value + moved


def _above(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(n,) mean over rows of their weight where their x is larger, half of it where it is equal."""
    _, place = np.unique(x, return_inverse=True)
    place = place.ravel()
    level = np.bincount(place, weight)
    higher = np.cumsum(level[::-1])[::-1]
    return (higher - level / 2)[place] / len(x)


def _own(name: str) -> Metric:
    """``./file.py:function`` of ``y_true`` and ``y_pred``, (n,) each; its attribute
    ``greater_is_better`` says whether more is better."""
    function = function_of(name, "metric")
    wanted = wanted_of(name, function, ("y_true", "y_pred"))

    def score(said: np.ndarray, y: np.ndarray) -> float:
        given = {"y_true": y, "y_pred": np.asarray(said).reshape(-1)}
        return value_of(name, function, {key: given[key] for key in wanted})

    greater = bool(getattr(function, "greater_is_better", True))
    return Metric(
        name, "numbers", score, greater_is_better=greater, low=-np.inf, high=np.inf
    )  # fmt: skip
