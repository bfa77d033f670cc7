"""What an export of ours says of itself, so that ``store import`` brings all of it back.

It is JSON: the text columns, and of each set its recipe, width, type, names and a digest of its
rows. ``.npz`` and ``.h5`` keep it as the array ``headstock``, ``.parquet`` in the schema's metadata
under that name, and ``.csv``, which has no place for it, in ``<file>-metadata.json`` beside it,
where the W3C's "CSV on the Web" looks for such things.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstock.store.disk.declared import Declared
from headstock.store.errors import StoreDamaged, VersionError
from headstock.store.jsonfile import parse_json

__all__ = ["KEY", "Description", "DescribedSet", "beside", "seal"]

FORMAT, VERSION = "headstock export", 1
KEY = "headstock"
AGAIN = "export it again, or import it without its description"


def beside(path: Path) -> Path:
    """Where the description of a CSV lies."""
    return path.with_name(f"{path.name}-metadata.json")


def seal(ids: Sequence[str]) -> Any:
    """A running sha256 that begins with the ids; to be updated with each block of float32 rows."""
    digest = hashlib.sha256()
    for identity in ids:
        digest.update(identity.encode("utf-8", "surrogateescape") + b"\0")
    return digest


@dataclass(frozen=True)
class DescribedSet:
    """A set as it was declared, the ``sha256`` of its ids and rows (see ``seal``), and the names of
    its columns where the file is a table."""

    declared: Declared
    sha256: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """n rows, their text columns (``id``, ``label``, ``path/image``, ``extra/speaker``, …), where
    relative paths start, and the sets."""

    rows: int
    texts: tuple[str, ...]
    root: str
    sets: tuple[DescribedSet, ...]

    def to_json(self) -> dict[str, Any]:
        sets = [
            {**one.declared.to_meta(), "sha256": one.sha256, "columns": list(one.columns)}
            for one in self.sets
        ]
        body = {"rows": self.rows, "texts": list(self.texts), "root": self.root, "sets": sets}
        return {"format": FORMAT, "version": VERSION, **body}

    @classmethod
    def from_text(cls, text: str | bytes, path: Path) -> Description:
        """Raises StoreDamaged for anything else than ``to_json`` gave, VersionError."""
        try:
            body = parse_json(text)
            body = body.get(KEY, body)
            if body["format"] != FORMAT:
                raise ValueError("it is another kind of description")
            if int(body["version"]) > VERSION:
                raise VersionError(path, f"export version {body['version']}", "upgrade headstock")
            texts = tuple(_text(name) for name in body["texts"])
            sets = tuple(
                DescribedSet(
                    Declared.from_meta(one),
                    _text(one["sha256"]),
                    tuple(_text(name) for name in one["columns"]),
                )
                for one in body["sets"]
            )
            names = [one.declared.name for one in sets]
            if texts[:1] != ("id",) or len(set(texts)) < len(texts) or len(set(names)) < len(names):
                raise ValueError("it names no ids, or something twice")
            return cls(int(body["rows"]), texts, _text(body["root"]), sets)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise StoreDamaged(path, f"its description does not read ({error})", AGAIN) from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def hex_of(digests: np.ndarray) -> list[str]:
    """(m, 32) uint8 as hexadecimal text, ``""`` for the zeros of a row whose content is unknown."""
    return [row.tobytes().hex() if row.any() else "" for row in digests]


def digests_of(cells: Sequence[str], path: Path) -> np.ndarray:
    """What ``hex_of`` was given. Raises StoreDamaged."""
    out = np.zeros((len(cells), 32), dtype=np.uint8)
    try:
        for row, cell in enumerate(cells):
            if cell:
                out[row] = np.frombuffer(bytes.fromhex(cell), dtype=np.uint8)
    except ValueError as error:
        raise StoreDamaged(path, f"a content digest does not read ({error})", AGAIN) from error
    return out
