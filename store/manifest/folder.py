"""A folder with one folder per class, read as rows."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from headstock.store.errors import ManifestError
from headstock.store.items import Items

__all__ = ["read_folder"]

_IMAGE = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .ppm .pgm .pbm .pnm .jp2 .avif".split()
)
_AUDIO = frozenset(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .w64 .caf".split())
_SPLITS = frozenset("train training val valid validation dev test testing".split())


def read_folder(source: str | Path) -> Items:
    """Items of ``source/class/file`` or ``source/split/class/file``, sorted by path.

    A sound beside a picture of the same stem belongs to it; files straight in the folder have no
    label. The id is the path below the folder. Raises ManifestError when nothing is there, or a
    name is no text.
    """
    root = Path(source)
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for folder, below, files in os.walk(root):
        below[:] = sorted(d for d in below if not d.startswith("."))
        for name in sorted(files):
            suffix = os.path.splitext(name)[1].lower()
            modality = "image" if suffix in _IMAGE else "audio" if suffix in _AUDIO else ""
            if modality and not name.startswith("."):
                path = Path(folder, name).relative_to(root)
                key = (*path.parent.parts, path.stem)
                twin = found.get(key, {})
                if modality in twin:  # a.png beside a.jpg: two items, not one
                    key = (*path.parent.parts, name)
                found.setdefault(key, {})[modality] = path.as_posix()
    if not found:
        raise ManifestError(root, "no pictures or sounds below this folder", "one folder per class")
    tops = {key[0] for key in found if len(key) > 1}
    split_level = bool(tops) and all(t.lower() in _SPLITS for t in tops)
    rows = []
    for key, by in found.items():
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
    return Items.of(
        [row[0] for row in rows],
        paths={m: [row[1].get(m, "") for row in rows] for m in modalities},
        label=[row[2] for row in rows],
        split=[row[3] for row in rows],
        root=str(root.resolve()),
    )
