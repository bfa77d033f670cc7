"""How far a long call is, told to whoever wants to know."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Report", "unheard"]

Report = Callable[[int, int, str], None]
"""Called with done, total (0 where it is not known) and what is being done."""


def unheard(done: int, total: int, what: str = "") -> None:
    """The report nobody asked for."""
