"""What a user wrote for an option -> a value of the kind that it has, or one line that says so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from headstock.store.errors import OptionError

__all__ = ["number", "sides", "switch", "text", "three_numbers", "whole"]

LARGEST = 1 << 63


def whole(name: str, value: Any) -> int:
    """An int of at most 63 bits; 8.0 is one. Raises OptionError."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= LARGEST:
        raise OptionError(name, f"{value!r} is no whole number", "for example 8")
    return value


def number(name: str, value: Any) -> float:
    """A finite float. Raises OptionError."""
    real = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        number = float(value) if real else math.nan
    except OverflowError:  # JSON holds integers of any length
        number = math.inf
    if not math.isfinite(number):
        raise OptionError(name, f"{value!r} is no number", "for example 0.5")
    return number


def switch(name: str, value: Any) -> bool:
    """A bool. Raises OptionError."""
    if not isinstance(value, bool):
        raise OptionError(name, f"{value!r} is neither true nor false", "true or false")
    return value


def text(name: str, value: Any) -> str:
    """Words, not none. Raises OptionError."""
    if not isinstance(value, str) or not value:
        raise OptionError(name, f"{value!r} is no word", "a name")
    return value


def sides(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """(h, w) from 224, (224, 224) or (3, 224, 224). Raises OptionError."""
    if size is None:
        return None
    if not isinstance(size, list | tuple):
        side = whole("input-size", size)
        return side, side
    pair = tuple(whole("input-size", v) for v in size)[-2:]
    return (pair[0], pair[0]) if len(pair) == 1 else (pair[0], pair[1])


def three_numbers(values: float | Sequence[float] | None) -> list[float] | None:
    """One for each colour, from one for all or from three. Raises OptionError."""
    if values is None:
        return None
    if not isinstance(values, list | tuple):
        return [number("mean, std", values)] * 3
    return [number("mean, std", v) for v in values]
