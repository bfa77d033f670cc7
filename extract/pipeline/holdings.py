"""What a store holds after an extraction: rows, labels, and what ``evaluate`` will use of them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from headstock.extract.pipeline.admit import Admission, shown_path
from headstock.store import FeatureStore, Items
from headstock.store.errors import one_line
from headstock.store.manifest.splits import HELD_OUT, in_split
from headstock.store.manifest.target import CLASSES, found_target

__all__ = ["Held", "Holdings"]

SHOWN = 3
FOLDS = 5  # of evaluate, unless it is told otherwise
WORDS = ("label", "split", "group")


@dataclass
class Holdings:
    """Rows of a store and what one table changed of them; every list holds ids.

    ``train``, ``valid`` and ``test``: labelled rows that ``evaluate`` folds, and those that it
    holds out; ``target``: what their labels are; ``bare``: labelled rows that lack a vector in some
    set; ``vectorless``: classes none of whose training rows has a vector in every set; ``rare``:
    classes too rare for the folds, with their rows; ``unnamed``: rows that the table does not name;
    ``emptied``: {label, split or group: rows whose cell the table leaves empty, so that the store's
    stays}; ``changed``: {…: rows that the table says otherwise}; ``files``: rows whose file is
    another than before; ``lost``: of these, the ones whose label went with it; ``moved``: rows
    whose file lies elsewhere; ``waiting``: rows whose file changed and was not read, so nothing new
    was said.
    """

    store: str
    table: str = ""
    rows: int = 0
    classes: int = 0
    target: str = CLASSES
    train: int = 0
    valid: int = 0
    test: int = 0
    unlabelled: int = 0
    bare: int = 0
    vectorless: list[str] = field(default_factory=list)
    rare: dict[str, int] = field(default_factory=dict)
    unnamed: list[str] = field(default_factory=list)
    emptied: dict[str, list[str]] = field(default_factory=dict)
    changed: dict[str, list[str]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def text(self, short: bool = False) -> str:
        """Some lines for people, each way out a command to copy; ``short``: the first alone."""
        store, table = shlex.quote(self.store), shlex.quote(self.table)
        held = [f"{n:,} {k}" for k, n in (("valid", self.valid), ("test", self.test)) if n]
        lines = [
            f"{self.store}: {self.rows:,} rows; evaluate uses {self.train:,}"
            + (f" in {self.classes:,} classes" if self.target == CLASSES else ", a number each")
            + (f", and holds out {' and '.join(held)}" if held else "")
        ]
        if short:
            return lines[0]
        left = [
            f"{n:,} {what}"
            for n, what in (
                (self.unlabelled, "without a label"),
                (self.bare, "labelled but without a vector in some set"),
            )
            if n
        ]
        lines += [f"  not used: {', '.join(left)}"] if left else []
        if self.bare and self.train:
            lines.append(
                "  evaluate must be told what to do with them: --missing exclude leaves them out, "
                "--missing patterns answers them by what they have"
            )
        if self.vectorless and self.train:
            few = _some([one_line(name, 40) for name in self.vectorless])
            which = "class" if len(self.vectorless) == 1 else "classes"
            lines.append(f"  no row of {which} {few} has a vector in every set")
        if self.rare:
            rare = [f"{one_line(name, 40)} ({n})" for name, n in self.rare.items()]
            lines.append(
                f"  too rare for {FOLDS} folds, and left out of them unless --rare or --folds says "
                f"otherwise: {_some(rare)}"
            )
        if self.files:
            lines.append(f"  {_rows(self.files)} had another file than before: encoded again")
        if self.lost:
            lines.append(
                f"  {_rows(self.lost)} lost the label with it, for this table gives none: "
                f"`headstock store label {store} TABLE`"
            )
        if self.moved:
            lines.append(f"  {_rows(self.moved)}: the same file at another place")
        lines += [
            f"  {_rows(ids)} got another {kind} from this table"
            for kind, ids in self.changed.items()
        ]
        if self.waiting:
            lines.append(
                f"  {_rows(self.waiting)}: the file changed and was not read; labels stay as they "
                "were until the next run"
            )
        if self.unnamed:
            lines.append(
                f"  {_rows(self.unnamed)} not in this table: kept; "
                f"`headstock store drop {store} --not-in {table}` drops them"
            )
        for kind, ids in self.emptied.items():
            lines.append(
                f"  {_rows(ids)}: {kind} empty in this table, the store's stays; "
                f"`headstock store label {store} {table} --clear` empties it"
            )
        return "\n".join(lines)


def _rows(ids: Sequence[str]) -> str:
    return f"{len(ids):,} {'rows' if len(ids) > 1 else 'row'} ({_some(ids)})"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


class Held:
    """What a store held before an extraction, to be compared with what it holds after."""

    def __init__(self, store: FeatureStore) -> None:
        self._before = store.items

    def account(
        self, store: FeatureStore, admitted: Admission, files: Sequence[str], table: str
    ) -> Holdings:
        """``files``: the rows whose file is another than before; ``table``: what named the rows."""
        items, now = admitted.items, store.items
        named = set(items.id.tolist())
        before = dict(zip(self._before.id.tolist(), range(len(self._before)), strict=True))
        after = dict(zip(now.id.tolist(), range(len(now)), strict=True))
        told = Holdings(shown_path(store.path), table, rows=len(now), files=list(files))
        told.moved = list(admitted.moved)
        told.unnamed = [i for i in now.id.tolist() if i not in named]
        known = [at for at, i in enumerate(items.id.tolist()) if i in before]
        for kind in WORDS:
            cells = getattr(items, kind)
            old = {at: getattr(self._before, kind)[before[items.id[at]]] for at in known}
            new = {at: getattr(now, kind)[after[items.id[at]]] for at in known}
            says = (cells != "").any()  # a table without the column empties nothing
            emptied = [at for at in known if says and not cells[at] and new[at]]
            changed = [at for at in known if old[at] and new[at] and old[at] != new[at]]
            for out, which in ((told.emptied, emptied), (told.changed, changed)):
                if which:
                    out[kind] = items.id[which].tolist()
            if kind == "label":
                told.lost = items.id[[at for at in known if old[at] and not new[at]]].tolist()
        waits = np.flatnonzero(admitted.waits).tolist()
        unread = [at for at in waits if not _said(items, now, after, at)]
        told.waiting = items.id[unread].tolist()
        _used(told, store, now)
        return told


def _said(items: Items, now: Items, after: dict[str, int], at: int) -> bool:
    """Whether the store says what the table does."""
    row = after[items.id[at]]
    return all(getattr(items, k)[at] in ("", getattr(now, k)[row]) for k in WORDS)


def _used(told: Holdings, store: FeatureStore, now: Items) -> None:
    labelled = now.label != ""
    whole = store.complete(store.sets) if store.sets else np.zeros(len(now), dtype=bool)
    used = labelled & whole
    valid, test = (in_split(now.split.tolist(), split) for split in HELD_OUT)
    folded = labelled & ~valid & ~test
    train = folded & whole
    told.train, told.valid, told.test = (int((used & a).sum()) for a in (folded, valid, test))
    told.target = found_target(now.label[train]).target
    told.unlabelled = int((~labelled).sum())
    told.bare = int((labelled & ~whole).sum())
    if told.target != CLASSES:
        return
    rows = Counter(now.label[train].tolist())
    told.vectorless = sorted(set(now.label[folded].tolist()) - set(rows))
    told.rare = {name: n for name, n in sorted(rows.items()) if n < FOLDS}
    if len(rows) - len(told.rare) == 1:  # evaluate then leaves out those of one row alone
        told.rare = {name: n for name, n in told.rare.items() if n < 2}
    told.classes = len(rows)
