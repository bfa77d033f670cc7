"""Paths of tables that leave out the ending, as competitions do (``abc123`` for ``abc123.jpg``)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from headstock.store.manifest.paths import modality_of

__all__ = ["with_endings"]


def with_endings(paths: Sequence[str], root: str, modality: str) -> tuple[list[str], list[str]]:
    """``paths``, relative to ``root`` or absolute, each with the ending of the one file of
    ``modality`` that it fits, and lines on what was taken and what could not be.

    A path that has an ending or is there as it is written stays as it is.
    """
    listings: dict[str, dict[str, list[str]]] = {}
    out, taken, several = list(paths), [], []
    for row, path in enumerate(paths):
        if not path or modality_of(path) or os.path.lexists(os.path.join(root, path)):
            continue
        folder, name = os.path.split(path)
        if folder not in listings:
            listings[folder] = _by_stem(os.path.join(root, folder), modality)
        fits = listings[folder].get(name, [])
        if len(fits) == 1:
            out[row] = os.path.join(folder, fits[0])
            taken.append((path, out[row]))
        elif fits:
            several.append((path, fits))
    lines = []
    if taken:
        first, found = taken[0]
        lines.append(f"{len(taken):,} paths have no ending: {first} is read as {found}")
    if several:
        first, fits = several[0]
        choice = f"{first} may be {' or '.join(sorted(fits)[:3])}"
        lines.append(f"{len(several):,} paths without an ending fit several files: {choice}")
    return out, lines


def _by_stem(folder: str, modality: str) -> dict[str, list[str]]:
    """The files of a folder by their names without the ending."""
    out: dict[str, list[str]] = {}
    try:
        names = os.listdir(folder or ".")
    except OSError:
        return out  # its rows are missing, which is said row by row
    for name in names:
        if modality_of(name) == modality:
            out.setdefault(os.path.splitext(name)[0], []).append(name)
    return out
