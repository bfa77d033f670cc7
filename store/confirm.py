"""What a settings file may not decide alone: to run code, to reach out, to write elsewhere.

``--config`` takes a file that may come with somebody's run folder. What it sets is taken like a
flag, but for what may harm: that stands on the command line, or is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import click
from click.core import ParameterSource

from headstock.store.errors import UnsafeInput, one_line

__all__ = ["HEAD_FILE", "named_files", "refuse_unsaid"]

CODE = re.compile(r"([^=,\[\]\"']+\.py):")
"""A file of somebody's own: a head, a metric, an option that is one."""
NAMED = "own"
REACHING = frozenset({"mlflow", "allow_outside", "data_roots", "data", "host", "hosts"})
WRITTEN = frozenset({"output", "save_plan", "keep"})
FILES = "headstock.head_files"


def _remember(ctx: click.Context, _: click.Parameter, files: tuple[str, ...]) -> None:
    ctx.meta[FILES] = {os.path.realpath(file) for file in files}


HEAD_FILE = click.option(
    "--head-file", multiple=True, type=click.Path(dir_okay=False, readable=False),
    expose_value=False, callback=_remember,
    help="Your file of a head or metric that a run or --config names; is run.",
)  # fmt: skip


def named_files() -> list[str]:
    """The files that --head-file names, in a command."""
    return sorted(click.get_current_context().meta.get(FILES, ()))


def refuse_unsaid(ctx: click.Context, path: str, keys: Mapping[str, click.Parameter]) -> None:
    """Look at each value that came from the file at ``path``; ``keys`` are the names it uses.

    Raises UnsafeInput for one that only a person may give.
    """
    for key, parameter in keys.items():
        name = parameter.name or ""
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT_MAP:
            continue
        value = ctx.params.get(name)
        for one in value if isinstance(value, tuple | list) else [value]:
            if one is not None and one is not False:
                _refuse(ctx, path, key, name, one)


def _refuse(ctx: click.Context, path: str, key: str, name: str, value: Any) -> None:
    shown, fix = one_line(value, 200), f"say it yourself: --{key} {one_line(value, 200)}"
    if name == NAMED:
        raise UnsafeInput(path, f"names {shown}, whose code would be run", fix)
    code = CODE.search(str(value))
    if code:
        if os.path.realpath(code[1]) not in ctx.meta.get(FILES, ()):
            fix = f"if you know the file: --head-file {one_line(code[1], 200)}"
            raise UnsafeInput(path, f"names {shown}, whose code would be run", fix)
    elif name in REACHING:
        raise UnsafeInput(path, f"sets {key} to {shown}, which only a person may", fix)
    elif name in WRITTEN and not _below(str(value)):
        raise UnsafeInput(path, f"would write {shown}, outside the current folder", fix)


def _below(path: str) -> bool:
    """Whether a path is relative, and leads into the current folder with its links followed."""
    here = os.path.realpath(".")
    try:
        place = os.path.realpath(path)
        return not os.path.isabs(path) and os.path.commonpath((place, here)) == here
    except (OSError, ValueError):
        return False
