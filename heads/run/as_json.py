"""Frozen dataclasses from plain data and back: the border that a file's content crosses once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from headstock.store.errors import one_line

__all__ = ["WrongField", "parse", "plain"]

T = TypeVar("T")
LARGEST = 1 << 63
WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


class WrongField(ValueError):
    """A field that is missing, of another kind than it should be, or not known."""


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it; a field that is None or empty, as it is by default, is left
    out."""
    if is_dataclass(value):
        kind: Any = type(value)
        given = {n: (getattr(value, n), default) for n, (_, default) in _fields(kind).items()}
        return {
            n: plain(inner) for n, (inner, default) in given.items() if inner or inner != default
        }
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def parse(kind: type[T], value: object, where: str = "") -> T:
    """``value``, plain data, as ``kind``: a dataclass whose fields are dataclasses, text, numbers,
    ``tuple``, ``Mapping`` of text, unions of these with None, and ``Any``.

    Raises WrongField with the path of the first field that is missing, is not known, or is not what
    it should be. Numbers are finite.
    """
    parsed: T = _parse(kind, value, where)
    return parsed


def _parse(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if isinstance(kind, type) and is_dataclass(kind):
        return _record(kind, value, where)
    origin, args = get_origin(kind), get_args(kind)
    if origin is UnionType:
        if value is None and NoneType in args:
            return None
        kinds = [one for one in args if one is not NoneType]
        fits = [one for one in kinds if get_origin(one) is None and _is(one, value)]
        return _parse((fits or kinds)[0], value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _wrong(where, value, "a list")
        kinds = list(args[:1] * len(value) if args[-1] is Ellipsis else args)
        if len(kinds) != len(value):
            raise _wrong(where, value, f"a list of {len(kinds)}")
        return tuple(_parse(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value)))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise _wrong(where, value, "an object")
        return {str(name): _parse(args[1], v, _at(where, name)) for name, v in value.items()}
    if not _is(kind, value):
        raise _wrong(where, value, WORDS[kind])
    return value


def _is(kind: Any, value: Any) -> bool:
    if is_dataclass(kind) or kind in (str, bool):
        return isinstance(value, kind)
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) <= LARGEST


def _record(kind: Any, value: Any, where: str) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise _wrong(where, value, "an object")
    known = _fields(kind)
    for name in value:
        if name not in known:
            raise WrongField(f"{_at(where, name)} is not known")
    given = {}
    for name, (inner, default) in known.items():
        if name in value:
            given[name] = _parse(inner, value[name], _at(where, name))
        elif default is MISSING:
            raise WrongField(f"{_at(where, name)} is missing")
    return kind(**given)


@cache
def _fields(kind: Any) -> dict[str, tuple[Any, Any]]:
    """The type of each field and what it is by default, or MISSING."""
    hints = get_type_hints(kind)
    return {
        one.name: (
            hints[one.name],
            one.default if one.default_factory is MISSING else one.default_factory(),
        )
        for one in fields(kind)
    }


def _at(where: str, name: object) -> str:
    name = one_line(name, 60)
    return f"{where}.{name}" if where else name


def _wrong(where: str, value: object, words: str) -> WrongField:
    return WrongField(f"{where or 'it'} is {one_line(repr(value), 40)} and not {words}")
