"""Which file a command may replace: one that it would have written itself."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from headstock.store.disk import commit
from headstock.store.errors import OptionError

__all__ = ["KINDS", "refuse_other"]

PIECE = 1 << 16  # bytes at the head and at the tail that are looked at
SIGNATURE = b"\x89HDF\r\n\x1a\n"


def _begins(raw: bytes) -> bytes:
    """The first line, numbers and the width of columns aside."""
    return re.sub(rb"[\d.,]+", b"0", b" ".join(raw.split(b"\n", 1)[0].split()))


def _store(path: Path, head: bytes, tail: bytes) -> bool:
    from headstock.store.disk.depot import is_store  # h5py with it, which heads do without

    return is_store(path)


def _export(path: Path, head: bytes, tail: bytes) -> bool:
    if head.startswith(SIGNATURE):
        import h5py

        with open(path, "rb") as raw, h5py.File(raw, "r") as file:
            return "headstock" in file
    marks = b"headstock.npy", b"headstock export"
    return head.startswith(b"id,label,split,group") or any(mark in tail for mark in marks)


def _run(path: Path, head: bytes, tail: bytes) -> bool:
    if not path.is_dir():
        return False
    names = os.listdir(path)  # a kill may have left a part of the first writing
    ours = {"metrics.json", "settings.json", "folds.json"}
    return bool(ours.intersection(names)) or all(name.startswith(".headstock") for name in names)


def _holding(mark: bytes, size: int = PIECE) -> Callable[[Path, bytes, bytes], bool]:
    return lambda path, head, tail: mark in head[:size]


KINDS: Mapping[str, tuple[str, Callable[[Path, bytes, bytes], bool]]] = {
    "store": ("store", _store),
    "parts": ("list of parts", _holding(b'"headstock parts"')),
    "export": ("export of a store", _export),
    "description": ("description of an export", _holding(b'"headstock export"')),
    "model": ("model that fit wrote", _holding(b"headstock model")),
    "plan": ("fold plan", _holding(b'"headstock fold plan"')),
    "predictions": (
        "table of predictions",
        lambda path, head, tail: head.startswith(b"id,prediction,confidence"),
    ),
    "weights": ("weights file that adapt wrote", _holding(b"headstock weights")),
    "graph": ("ONNX file that export-model wrote", _holding(b"\x12\x09headstock", 64)),
    "page": ("page that report wrote", _holding(b"<title>headstock: ")),
    "run": ("run folder", _run),
    "board": ("leaderboard that runs wrote", lambda path, head, tail: not head),
    "submission": ("submission of these columns", lambda path, head, tail: not head),
}


def refuse_other(path: str | os.PathLike[str], kind: str, text: str = "") -> None:
    """Raises OptionError when ``path`` exists and is not of ``kind``, one of ``KINDS``: it is a
    table, a store, a photograph, and nobody asked to lose it. A file that begins with the first
    line of ``text``, numbers aside, is of the kind as well."""
    place = Path(path)
    what, is_ours = KINDS[kind]
    with commit.storage(place):
        if not place.exists() or (place.exists() and not place.is_file() and not place.is_dir()):
            return  # /dev/stdout and the like: whoever writes says what is wrong with it
        head = tail = b""
        if place.is_file():
            with open(place, "rb") as file:
                head = file.read(PIECE)
                file.seek(max(0, place.stat().st_size - PIECE))
                tail = file.read()
        if is_ours(place, head, tail) or (text and _begins(head) == _begins(text.encode())):
            return
    fix = "name another output, or remove this one first"
    raise OptionError(place, f"exists and is no {what}", fix)
