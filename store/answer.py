"""What a command gives back, and the one place that prints it: results on stdout (as text, or as
JSON and nothing else), words to a person on stderr."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, TextIO

import click

from headstock.store.progress import Progress, on_terminal

__all__ = [
    "Answer",
    "as_json",
    "note",
    "print_answer",
    "progress",
    "quiet",
    "stdout_for_results",
    "strong",
    "width",
    "wrapped",
]


@dataclass(frozen=True)
class Answer:
    """The result of a command, of which ``Command`` prints what was asked for.

    ``text`` is for a person and ``data`` for a program; the text may be a function, called only
    when it is printed. ``notes`` and ``next`` (the commands that come next, as words after
    ``headstock``) go to stderr, unless ``-q`` says no. ``failures`` go there always: what was asked
    for and could not be done. ``exit_code`` is what the process ends with.
    """

    data: Any
    text: str | Callable[[], str] = ""
    next: Sequence[Sequence[object]] = ()
    notes: Sequence[str] = ()
    failures: Sequence[str] = ()
    exit_code: int = 0


def quiet() -> bool:
    """Whether the command that runs was given ``-q``."""
    return bool(click.get_current_context().params.get("quiet"))


def as_json() -> bool:
    """Whether the command that runs was given ``--json``."""
    return bool(click.get_current_context().params.get("as_json"))


def note(*lines: str) -> None:
    """Tell a person now, on stderr, unless ``-q``."""
    if lines and not quiet():
        click.echo("\n".join(lines), err=True)


def progress(title: str, unit: str = "") -> Progress:
    """The line that shows how far a call is, unless ``-q``."""
    return Progress(title, unit, quiet())


@contextlib.contextmanager
def stdout_for_results() -> Iterator[None]:
    """With ``--json`` whatever else is printed meanwhile, by a library say, goes to stderr."""
    real = sys.stdout
    click.get_current_context().meta["headstock.stdout"] = real
    with contextlib.redirect_stdout(sys.stderr) if as_json() else contextlib.nullcontext():
        yield


def print_answer(answer: Answer) -> None:
    """Print what was asked for; a command that goes on afterwards calls it itself."""
    stdout = click.get_current_context().meta.get("headstock.stdout", sys.stdout)
    if as_json():
        click.echo(json.dumps(plain(answer.data), indent=1, allow_nan=False), file=stdout)
    else:
        text = answer.text if isinstance(answer.text, str) else answer.text()
        if text:
            click.echo(text, file=stdout, nl=not text.endswith("\n"))
    note(*answer.notes)
    if answer.failures:
        click.echo("\n".join(answer.failures), err=True)
    for words in () if quiet() or as_json() else answer.next:
        line = f"next: headstock {' '.join(map(_word, words))}"
        shown = click.style(line, dim=True) if coloured(sys.stderr) else line
        click.echo(shown, err=True, color=coloured(sys.stderr))


def plain(value: Any) -> Any:
    """``value`` as JSON can say it: a number that is none is null, as JSON has no NaN."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(v) for v in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def _word(word: object) -> str:
    """As a shell would take it; words in capitals stand for what the reader fills in."""
    return str(word) if str(word).isupper() else shlex.quote(str(word))


# --- how text is laid out for a terminal


def coloured(stream: TextIO) -> bool:
    """Colours are for terminals, and not where NO_COLOR (no-color.org) is set."""
    return on_terminal(stream) and not os.environ.get("NO_COLOR")


def width() -> int | None:
    """Columns that a table on stdout may take: COLUMNS where it is set, the terminal's, or no limit
    where the output goes to a file or another program."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return shutil.get_terminal_size().columns
    return None


def strong(line: str) -> str:
    """A line that stands out."""
    return click.style(line, bold=True) if coloured(sys.stdout) else line


def wrapped(line: str, columns: int | None) -> str:
    """``line`` in lines of at most ``columns``, the later ones below its second column."""
    if columns is None or len(line) <= columns:
        return line
    name, gap, rest = line.partition("  ")
    indent = len(name) + len(gap) + len(rest) - len(rest.lstrip())
    return textwrap.fill(line, max(columns, indent + 20), subsequent_indent=" " * indent)
