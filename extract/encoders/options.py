"""What a user wrote for an option -> a value of the kind that it has, or one line that says so."""

from __future__ import annotations

import math
from typing import Any

from headstock.store.errors import OptionError

__all__ = ["number", "switch", "text", "whole"]


def whole(name: str, value: Any) -> int:
    """An int; 8.0 is one. Raises OptionError."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise OptionError(name, f"{value!r} is no whole number", "for example 8")
    return value


def number(name: str, value: Any) -> float:
    """A finite float. Raises OptionError."""
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real or not math.isfinite(value):
        raise OptionError(name, f"{value!r} is no number", "for example 0.5")
    return float(value)


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
