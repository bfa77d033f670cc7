"""Settings as TOML: read for ``--config``, written so that a run can be made again."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from typing import Any

from headstock.store.errors import HeadstockError, OptionError, UnsafeInput, one_line
from headstock.store.textfile import read_text

__all__ = ["read_toml", "toml_text"]

LARGEST = 4 << 20  # bytes of a file of flags


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The file's keys and values. Raises OptionError for a file that is no TOML."""
    try:
        return tomllib.loads(read_text(os.fspath(path), "give a TOML file", LARGEST))
    except UnsafeInput:
        raise
    except HeadstockError as error:
        raise OptionError(path, error.what, "give a TOML file of flags") from error
    except tomllib.TOMLDecodeError as error:
        raise OptionError(path, error, "give a TOML file of flags") from error
    except RecursionError as error:
        what = "values are nested without end"
        raise OptionError(path, what, "give a TOML file of flags") from error


def toml_text(values: Mapping[str, Any], about: str = "") -> str:
    """``values`` (text, numbers, truths and lists of such) as TOML that reads back equal."""
    lines = [f"# {one_line(line)}" for line in about.splitlines()]
    return "\n".join([*lines, *(f"{key} = {_value(value)}" for key, value in values.items()), ""])


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, int | float):
        return repr(value)
    # TOML's basic strings are JSON's, but for DEL and for surrogate pairs in escapes
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
