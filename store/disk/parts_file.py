"""The file that lists the parts of a store: ``all.parts.json``.

    {"format": "headstock parts", "format_version": 1, "parts": ["part-1.h5", "part-2.h5"]}

Names are relative to the file's folder and stay inside it, so that the folder can be moved as a
whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from headstock.store.disk import commit
from headstock.store.errors import OptionError, StoreDamaged, UnsafeInput, VersionError
from headstock.store.jsonfile import parse_json

__all__ = ["read_parts", "write_parts"]

FORMAT, VERSION = "headstock parts", 1
LARGEST = 16 << 20  # bytes of the list
MOST = 1 << 16  # parts


def read_parts(path: str | os.PathLike[str]) -> list[Path]:
    """The stores that a parts file names, in order.

    Raises OptionError when there is no such file, StoreDamaged, VersionError, UnsafeInput for a
    name that leads out of its folder.
    """
    path = Path(path)
    try:
        with commit.storage(path), open(path, "rb") as file:
            raw = file.read(LARGEST + 1)
    except FileNotFoundError as error:
        raise OptionError(
            path, "there is no store here", "`headstock store merge --link`"
        ) from error
    try:
        if len(raw) > LARGEST:
            raise ValueError("it is too large")
        body = parse_json(raw)
        if body["format"] != FORMAT:
            raise ValueError("it is another kind of file")
        if int(body["format_version"]) > VERSION:
            raise VersionError(path, f"needs format {body['format_version']}", "upgrade headstock")
        names = body["parts"]
        if not isinstance(names, list) or not all(isinstance(n, str) and n for n in names):
            raise ValueError("parts is no list of names")
        if not names or len(set(names)) < len(names) or len(names) > MOST:
            raise ValueError("it names no part, one twice, or too many")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        fix = "write it with `headstock store merge --link`"
        raise StoreDamaged(path, f"is no list of parts ({error})", fix) from error
    folder = path.parent
    for name in names:
        pure = Path(name)
        if pure.is_absolute() or ".." in pure.parts or "\0" in name:
            raise UnsafeInput(
                path, f"names {name!r}, outside its folder", "keep the parts beside it"
            )
    return [folder / name for name in names]


def write_parts(path: str | os.PathLike[str], names: Sequence[str]) -> None:
    """Write the list of ``names`` as ``path``. Raises StorageError."""
    body = {"format": FORMAT, "format_version": VERSION, "parts": list(names)}
    commit.write_whole(path, json.dumps(body, indent=1, ensure_ascii=False).encode() + b"\n")
