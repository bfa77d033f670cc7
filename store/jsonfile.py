"""JSON that somebody else wrote, read within bounds."""

from __future__ import annotations

import codecs
import json
import os
from typing import Any

from headstock.store.textfile import plain_bytes

__all__ = ["DEEPEST", "LARGEST", "parse_json", "read_json"]

LARGEST = 512 << 20
"""Bytes of a file: the folds of ten million rows have 300 MB."""

DEEPEST = 64
"""Values inside values: what headstock writes has fewer than ten. Whatever walks a value later may
do so by recursion."""


def parse_json(text: str | bytes) -> Any:
    """The value that ``text`` states.

    Raises ValueError for text that is no JSON or is no UTF-8, and for values nested deeper than
    ``DEEPEST``.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"values are nested more than {DEEPEST} deep") from None
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return value
    raise ValueError(f"values are nested more than {DEEPEST} deep")


def read_json(path: str | os.PathLike[str], fix: str, largest: int = LARGEST) -> Any:
    """The value in a plain file of at most ``largest`` bytes, with or without a byte order mark.

    Raises what ``parse_json`` raises, StorageError (FileNotFoundError is its cause when there is no
    such file) and UnsafeInput.
    """
    return parse_json(plain_bytes(path, fix, largest).removeprefix(codecs.BOM_UTF8))
