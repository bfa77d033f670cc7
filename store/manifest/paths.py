"""Paths as tables write them: relative, absolute, from home (``~``), as ``file://`` or with the
back-slashes of another system, each understood where there is one thing that it can mean."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

__all__ = ["AUDIO", "IMAGE", "located", "modality_of", "several_files"]

IMAGE = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .ppm .pgm .pbm .pnm .jp2 .avif "
    ".heic .heif .hif".split()
)
AUDIO = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .w64 .caf .m4a .aac".split()
)
"""Endings of the files that are pictures and sounds."""
_BETWEEN = re.compile(r"""[\s,;|"'\[\]]+""")


def modality_of(name: str) -> str:
    """``image`` or ``audio`` by a file name's ending; ``""`` for any other."""
    suffix = os.path.splitext(name)[1].lower()
    return "image" if suffix in IMAGE else "audio" if suffix in AUDIO else ""


def several_files(cell: str) -> list[str]:
    """The file names in a cell that names more than one; else nothing."""
    parts = [part for part in _BETWEEN.split(cell) if part]
    return parts if len(parts) > 1 and all(map(modality_of, parts)) else []


def located(cells: Sequence[str], start: str, root: str) -> tuple[list[str], list[str]]:
    """The paths of n cells as the store keeps them, relative to ``root`` or absolute, and a line
    for each way of writing that was understood.

    ``start``: the folder that relative paths begin in. What is there as it is written is taken as
    it is written.
    """
    prefix = os.path.relpath(start, root)
    out, ways = [], Counter[str]()
    first: dict[str, tuple[str, str]] = {}
    for cell in cells:
        path, way = _plain(cell, start)
        if way:
            ways[way] += 1
            first.setdefault(way, (cell, path))
        if path and not os.path.isabs(path) and prefix != ".":
            path = f"{prefix}/{path}"
        out.append(path)
    lines = [
        f"{count:,} paths {way}: {first[way][0]} is read as {first[way][1]}"
        if first[way][0] != first[way][1]
        else f"{count:,} paths {way}, the first: {first[way][0]}"
        for way, count in ways.items()
    ]
    return out, lines


def _plain(cell: str, start: str) -> tuple[str, str]:
    """A cell as a path, and how it was written if that is worth a word."""
    if cell[:5].lower() == "file:":
        address = urlsplit(cell)
        if address.netloc in ("", "localhost"):
            return unquote(address.path), "are file:// addresses"
        return cell, "are file:// addresses of another machine, which are not read"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", cell):
        return cell, "are web addresses and no files: download them and write where they lie"
    if cell[:1] == "~" and not os.path.lexists(os.path.join(start, cell)):
        home = os.path.expanduser(cell)
        return home, "begin with ~" if home != cell else ""
    if "\\" in cell and not os.path.lexists(os.path.join(start, cell)):
        slashed = cell.replace("\\", "/")
        if re.match(r"[A-Za-z]:", cell):
            return cell, "are of another system's drive: write them relative to the table"
        if os.path.lexists(os.path.join(start, slashed)):
            return slashed, "are written with back-slashes"
    if several_files(cell) and not os.path.lexists(os.path.join(start, cell)):
        return cell, "name several files in one cell, and a row has one: write a row for each"
    return cell, ""
