"""What made a column of vectors: canonical JSON, a fingerprint, and a readable difference."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from headstock.store.errors import OptionError, one_line
from headstock.store.jsonfile import parse_json

__all__ = ["Recipe"]

SCHEMA = 1


def _plain(value: Any, where: str) -> Any:
    """``value`` as JSON types only; a number that JSON cannot carry is refused."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, f"{where}[{i}]") for i, v in enumerate(value)]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if hasattr(value, "item"):  # a NumPy scalar
        return _plain(value.item(), where)
    raise OptionError(f"recipe {where}", f"{value!r} is not plain data", "use JSON values")


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key in sorted(value):
            yield from _flat(value[key], f"{path}.{key}" if path else key)
    else:
        yield path, value


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a vector, and nothing else.

    ``modality`` says which input of a row is encoded (``image``, ``audio`` or ``columns``);
    ``fields`` hold weights digest, architecture, pooling, each preprocessing step, decoder rules
    and output type as JSON values. Paths, batch size, workers, device and dates stay out: they do
    not change the vector beyond rounding. A recipe that an import cannot know has the single field
    ``unknown: <where it came from>`` and equals only itself.

    Raises OptionError when a field is not plain JSON data.
    """

    modality: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", _plain(dict(self.fields), self.modality))

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, ASCII; equal recipes give equal text."""
        body = {"schema": SCHEMA, "modality": self.modality, "fields": self.fields}
        return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read ``to_json`` text. Raises ValueError when it is not a recipe."""
        body = parse_json(text)
        if not isinstance(body, dict) or not isinstance(body.get("fields"), dict):
            raise ValueError("not a recipe")
        return cls(str(body["modality"]), body["fields"])

    @property
    def fingerprint(self) -> str:
        """sha256 of the canonical JSON, 64 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode("ascii")).hexdigest()

    def difference(self, other: Recipe) -> list[str]:
        """Each differing field as ``name: this -> other``; empty when the recipes are equal."""
        mine = dict(_flat({"modality": self.modality, **self.fields}))
        theirs = dict(_flat({"modality": other.modality, **other.fields}))
        lines = []
        for key in sorted(mine.keys() | theirs.keys()):
            a, b = mine.get(key, "absent"), theirs.get(key, "absent")
            if a != b or type(a) is not type(b):
                lines.append(one_line(f"{key}: {a} -> {b}", 200))
        return lines

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())
