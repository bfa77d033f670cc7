"""A folder with one folder per class, read as rows; what is not taken of it is counted."""

from __future__ import annotations

import importlib.util
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from headstock.store.errors import ManifestError, one_line
from headstock.store.items import Items
from headstock.store.manifest.paths import modality_of
from headstock.store.manifest.splits import read_splits, split_of

__all__ = ["EXTRA", "read_folder"]

EXTRA = {
    **dict.fromkeys((".heic", ".heif", ".hif"), ("pi_heif", "pillow_heif")),
    **dict.fromkeys((".m4a", ".aac"), ("av",)),
}
"""Endings that are read with a package of the extra ``phone``: any of these."""
HOW = "pip install 'headstock[phone]'"
NAMED = 8


@dataclass
class _Scan:
    """What lies below a folder. ``taken``: {(folder, …, stem): {modality: path}}; ``folders``: all
    folders, as parts of their paths; ``others``: files not taken, by ending."""

    taken: dict[tuple[str, ...], dict[str, str]] = field(default_factory=dict)
    folders: list[tuple[str, ...]] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    tables: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What was not taken, in words."""
        out = []
        if self.others:
            counts = ", ".join(f"{n:,} {suffix}" for suffix, n in self.others.most_common(NAMED))
            more = len(self.others) - NAMED
            counts += f" and {more} other endings" if more > 0 else ""
            out.append(f"{self.others.total():,} files are no rows: {counts}")
            lacking = [s for s in self.others if s in EXTRA and not _installed(EXTRA[s])]
            if lacking:
                out.append(f"{' and '.join(lacking)} files are read after {HOW}")
        if self.tables:
            out.append(f"{_some(self.tables)} may be a table of these files: give it as MANIFEST")
        return out + self.aside


def read_folder(source: str | Path) -> tuple[Items, list[str]]:
    """Items of ``source/class/file`` or ``source/split/class/file``, sorted by path, and lines on
    what was understood and what was not taken.

    The first level is splits where each of its folders has the name of one (``splits.WORDS``). A
    sound beside a picture of the same stem belongs to it; files straight in the folder have no
    label. The id is the path below the folder. Raises ManifestError when nothing is there, when
    some folders name splits and others do not, or a name is no text.
    """
    root = Path(source)
    scan = _walk(root)
    if not scan.taken:
        what = "; ".join(["no pictures or sounds below this folder", *scan.lines()])
        raise ManifestError(root, what, "one folder per class")
    tops = {key[0] for key in scan.taken if len(key) > 1}
    split_level, lines = _split_level(root, tops)
    rows = []
    for key, by in scan.taken.items():
        parts = list(key[:-1])
        split = parts.pop(0) if split_level and parts else ""
        label = parts[0] if parts else ""
        identity = unicodedata.normalize("NFC", by.get("image") or by["audio"])
        rows.append((identity, by, label, split))
    rows.sort(key=lambda row: row[0])
    for identity, *_ in rows:
        try:
            identity.encode()
        except UnicodeEncodeError as err:
            raise ManifestError(root, f"{identity!r} is not UTF-8", "rename this file") from err
    modalities = [m for m in ("image", "audio") if any(m in row[1] for row in rows)]
    splits, notes = read_splits([row[3] for row in rows], lambda i: f"{root}/{rows[i][0]}")
    items = Items.of(
        [row[0] for row in rows],
        paths={m: [row[1].get(m, "") for row in rows] for m in modalities},
        label=[row[2] for row in rows],
        split=splits,
        root=str(root.resolve()),
    )
    return items, [*notes, *lines, *scan.lines(), *_vanished(scan, split_level)]


def _walk(root: Path) -> _Scan:
    scan = _Scan()
    hidden: list[str] = []
    linked: list[str] = []
    closed: list[str] = []
    for folder, below, files in os.walk(root, onerror=lambda e: closed.append(str(e.filename))):
        place = Path(folder).relative_to(root)
        hidden += [(place / d).as_posix() for d in below if d.startswith(".")]
        below[:] = sorted(d for d in below if not d.startswith("."))
        linked += [(place / d).as_posix() for d in below if os.path.islink(Path(folder, d))]
        scan.folders += [(*place.parts, d) for d in below]
        for name in sorted(files):
            suffix = os.path.splitext(name)[1].lower()
            modality = modality_of(name)
            if name.startswith("."):
                scan.others["hidden"] += 1
            elif not modality or not _installed(EXTRA.get(suffix, ())):
                scan.others[suffix or "without an ending"] += 1
                if suffix in (".csv", ".tsv", ".jsonl", ".parquet"):
                    scan.tables.append((place / name).as_posix())
            else:
                path = place / name
                key = (*place.parts, path.stem)
                if modality in scan.taken.get(key, {}):  # a.png beside a.jpg: two items, not one
                    key = (*place.parts, name)
                scan.taken.setdefault(key, {})[modality] = path.as_posix()
    for names, what in (
        (hidden, "hidden folders are left out"),
        (linked, "linked folders are not entered"),
        (closed, "folders cannot be read"),
    ):
        if names:
            scan.aside.append(f"{len(names)} {what}: {_some(names)}")
    return scan


@cache
def _installed(packages: tuple[str, ...]) -> bool:
    return not packages or any(importlib.util.find_spec(name) is not None for name in packages)


def _split_level(root: Path, tops: Iterable[str]) -> tuple[bool, list[str]]:
    """Whether the first level is splits, and what to say where one folder might be."""
    words = {top: split_of(top) for top in sorted(tops)}
    named = [top for top, split in words.items() if split]
    others = [top for top, split in words.items() if not split]
    if named and not others:
        return True, []
    if len({words[top] for top in named}) > 1:
        raise ManifestError(
            root,
            f"folders {_some(named)} name splits, and {_some(others)} do not",
            "put the classes into the folders of the splits, and move the others elsewhere",
        )
    notes = [f"folder {name} is taken for a class, for {_some(others)} are no splits"
            for name in named]  # fmt: skip
    return False, notes


def _vanished(scan: _Scan, split_level: bool) -> list[str]:
    """Folders of classes and splits of which no file was taken: in silence there would be a class
    less."""
    out = []
    for depth, what in ((1, "split"), (2, "class")) if split_level else ((1, "class"),):
        full = {key[:depth] for key in scan.taken if len(key) > depth}
        level = [place for place in scan.folders if len(place) == depth]
        gone = ["/".join(place) for place in level if place not in full]
        if gone:
            out.append(f"{len(gone)} {what} folders without a row: {_some(gone)}")
    return out


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(one_line(name, 60) for name in names[:NAMED])
    return shown + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
