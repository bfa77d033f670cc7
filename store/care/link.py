"""``store merge --link``: several stores behind one name, without copying a vector."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headstock.store.disk.depot import PARTS
from headstock.store.disk.parts_file import write_parts
from headstock.store.errors import OptionError
from headstock.store.parts import PartedStore

__all__ = ["Linked", "link"]


@dataclass
class Linked:
    """What ``link`` wrote: the file, its parts, rows in all, and by set the rows done."""

    path: Path
    parts: int = 0
    rows: int = 0
    sets: dict[str, int] = field(default_factory=dict)

    def text(self) -> str:
        sets = ", ".join(f"{name} {done:,}" for name, done in self.sets.items())
        return f"{self.path}: {self.parts} parts, {self.rows:,} rows ({sets or 'no sets'})"


def link(target: str | os.PathLike[str], sources: Sequence[str | os.PathLike[str]]) -> Linked:
    """Write a parts file that joins ``sources``, in their order, without copying a vector.

    Raises OptionError for a target or source that cannot be one, RecipeMismatch when a set was made
    in two ways, ManifestError for an id in two parts.
    """
    path = Path(os.path.abspath(target))
    if not path.name.endswith(PARTS):
        raise OptionError(target, "is no name for a list of parts", f"end it in {PARTS}")
    names = []
    for source in sources:
        place = Path(os.path.abspath(source))
        if not place.is_relative_to(path.parent):
            raise OptionError(
                source, f"lies outside {path.parent}", "keep the parts beside the list"
            )
        names.append(place.relative_to(path.parent).as_posix())
    if len(set(names)) < len(names) or not names:
        raise OptionError(target, "names a part twice, or none", "name each part once")
    with PartedStore(path, [path.parent / name for name in names]) as whole:
        whole.check_ids()
        sets = {name: int(whole.complete(name).sum()) for name in whole.sets}
        linked = Linked(path, len(names), whole.n, sets)
    write_parts(path, names)
    return linked
