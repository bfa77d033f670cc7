"""What a search, the weights of a fusion and a gate aim at, where the user names a metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headstock.heads.metrics.table import Metric, metric_named
from headstock.heads.search.draws import Range
from headstock.store.errors import OptionError

__all__ = ["AIMING", "METRIC", "aim_of", "aimed"]

METRIC = "metric"
"""The option, beside a head's own, that holds the metric by which its other options are chosen."""
AIMING = ("weighted", "gated")
"""Fusions that can aim at a metric; a stack learns by the log-loss of its head."""


def aimed(
    options: Mapping[str, Mapping[str, Any]], metric: str | None, classes: Sequence[Any]
) -> dict[str, dict[str, Any]]:
    """``options`` with the metric beside those of heads that are searched, and of fusions that can
    aim at it. As they are for the accuracy, of which the log-loss sees more in few rows, and where
    these rows know no such class."""
    out = {name: dict(own) for name, own in options.items()}
    if metric in (None, "accuracy"):
        return out
    try:
        found = metric_named(str(metric), list(classes))
    except OptionError:
        return out
    for name, own in out.items():
        if any(_open(value, f"{name}, {key}") for key, value in own.items()):
            out[name] = {**own, METRIC: found}
    for name in AIMING:
        out[name] = {**out.get(name, {}), METRIC: found}
    return out


def _open(value: Any, where: str) -> bool:
    """Whether an option leaves something to choose."""
    text = isinstance(value, str) and value.lstrip().startswith("[")
    return isinstance(value, list | tuple) or text or Range.of(value, where) is not None


def aim_of(options: dict[str, Any]) -> Metric | None:
    """The metric among the options, taken out of them; an option of that name of a head's own stays
    where it is."""
    return options.pop(METRIC) if isinstance(options.get(METRIC), Metric) else None
