"""Single pictures and sounds as rows: ``headstock predict model a.png b.wav``."""

from __future__ import annotations

import os
from collections.abc import Sequence

from headstock.store.items import Items
from headstock.store.manifest.paths import modality_of

__all__ = ["are_files", "files_as_items"]


def are_files(names: Sequence[str]) -> bool:
    """Whether all of ``names`` are pictures or sounds by their endings, and no folders."""
    return all(modality_of(name) and not os.path.isdir(name) for name in names)


def files_as_items(names: Sequence[str]) -> Items:
    """A row for each file, by the name it was given. A picture and a sound that differ only in the
    ending are one row, and so are one picture and one sound alone; its id is the picture's name.
    """
    names = list(dict.fromkeys(names))
    alone = sorted(map(modality_of, names)) == ["audio", "image"]
    rows: dict[str, dict[str, str]] = {}
    for name in names:
        modality = modality_of(name)
        key = "" if alone else os.path.splitext(name)[0]
        if modality in rows.get(key, {}):  # a.png beside a.jpg: two rows
            key = name
        rows.setdefault(key, {})[modality] = name
    kinds = [kind for kind in ("image", "audio") if any(kind in row for row in rows.values())]
    return Items.of(
        [row.get("image") or row["audio"] for row in rows.values()],
        paths={
            kind: [os.path.abspath(row[kind]) if kind in row else "" for row in rows.values()]
            for kind in kinds
        },
    )
