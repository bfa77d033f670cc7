"""What a fitted model is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headstock.heads.head import Head

__all__ = ["Member", "Pattern"]


@dataclass
class Member:
    """One fitted head and the sets it reads."""

    head: str
    on: str
    fitted: Head


@dataclass
class Pattern:
    """How rows with certain sets are answered: which members, by number, and what joins them."""

    members: list[int]
    fusion: Any = None
