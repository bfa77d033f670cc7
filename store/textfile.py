"""Small text files and where their lines end, read in one way by everybody who reads any."""

from __future__ import annotations

import os
import re
import stat

from headstock.store.errors import ManifestError, StorageError, UnsafeInput

__all__ = ["lines_of", "plain_bytes", "read_text", "refuse_odd"]

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")


def refuse_odd(path: str | os.PathLike[str], fix: str) -> None:
    """Raises UnsafeInput for a FIFO, which would block for ever, a device or a socket."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return  # whoever opens it says it better
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UnsafeInput(path, "is not a plain file", fix)


def plain_bytes(path: str | os.PathLike[str], fix: str, largest: int | None = None) -> bytes:
    """The bytes of a plain file: a FIFO would block for ever, a device never end.

    Raises StorageError; UnsafeInput for anything else, and for more than ``largest`` bytes.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0) as file:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode):
                raise UnsafeInput(path, "is not a plain file", fix)
            if largest is not None and about.st_size > largest:
                what = f"has {about.st_size:,} bytes, more than the {largest:,} it may have"
                raise UnsafeInput(path, what, fix)
            return file.readall()
    except (OSError, ValueError) as err:
        raise StorageError(path, getattr(err, "strerror", None) or err, fix) from err


def lines_of(text: str) -> list[str]:
    """The lines of ``text``, each with its end. CR, LF and CRLF end a line and nothing else does:
    a form feed or U+2028 is a character of its cell."""
    return [line for line in _LINE.findall(text) if line]


def read_text(path: str | os.PathLike[str], fix: str, largest: int | None = None) -> str:
    """The text of a UTF-8 file, without the byte order mark that Windows programs put before it.

    Raises StorageError, UnsafeInput (no plain file, or more than ``largest`` bytes), and
    ManifestError (as file:line) for what is no text.
    """
    raw = plain_bytes(path, fix, largest)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = len(lines_of(raw[: err.start].decode("utf-8", "replace") + "x"))
        raise ManifestError(f"{path}:{line}", "not UTF-8 text", "save it as UTF-8") from err
    if "\0" in text:
        line = len(lines_of(text[: text.index("\0") + 1]))
        raise ManifestError(f"{path}:{line}", "a NUL character", "this is not a text file")
    return text
