"""From a store to the rows to learn from and to score, the same for ``evaluate`` and ``fit``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstock.heads.rows.adapted import adapted_plan, unmet_classes, with_views
from headstock.heads.rows.foldless import with_a_fold
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.hygiene import Duplicates, clean, find_duplicates
from headstock.heads.rows.labelled import Rows, read_rows
from headstock.heads.rows.media import media_of
from headstock.heads.rows.rare import too_rare, without_classes
from headstock.store.manifest.splits import HELD_OUT

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = ["Prepared", "Rules", "prepare"]


@dataclass(frozen=True)
class Rules:
    """What becomes of rows. group: a column; missing, dedupe, seen, rare and target: as
    ``evaluate``."""

    group: str | None = None
    missing: str = "refuse"
    dedupe: str = "group"
    seen: str = "refuse"
    rare: str = "drop"
    target: str | None = None


@dataclass(frozen=True)
class Prepared:
    """rows: those of the folds; test: those of the test split, or None; read: the rows before
    duplicates were dropped, among which and ``test`` the ``duplicates`` were found; account: what
    was read and left out; saw: {set: rows whose labels its network saw}."""

    rows: Rows
    test: Rows | None
    read: Rows
    duplicates: Duplicates
    dropped: int
    account: dict[str, Any]
    saw: dict[str, int]


def prepare(
    store: StoreReader,
    on: Sequence[str],
    rules: Rules,
    folds: int | str | FoldPlan | None,
    repeats: int = 1,
) -> Prepared:
    """Raises what ``read_rows`` and ``with_views`` do, OptionError for a rule without meaning."""
    read, test, account = read_rows(
        store,
        on,
        group=rules.group,
        missing=rules.missing,
        rare=rules.rare,
        target=rules.target,
    )
    read, test, foldless = with_a_fold(store, read, test, folds)
    unknown = account.pop("unknown", {})
    left_out: dict[str, int] = dict.fromkeys(unknown, 0)
    units: dict[str, int] = {}
    lost = sum(unknown.values())

    def leave_out(gone: Sequence[str]) -> None:
        nonlocal read, test, lost
        left_out.update({c: int((read.classes[read.codes].astype(str) == c).sum()) for c in gone})
        read = without_classes(read, list(gone))
        if test is not None:
            lost += len(test)
            test = without_classes(test, list(gone))
            lost -= len(test)
            test = test if len(test) else None

    unmet = unmet_classes(store, read) if rules.rare != "refuse" else []
    if unmet and len(unmet) < len(read.classes) - 1:
        leave_out(unmet)
    read, saw = with_views(store, read, test, rules.seen, rules.group)
    ids = [*read.ids, *(() if test is None else test.ids)]
    duplicates = find_duplicates(read, test, media=media_of(store, list(read.X), ids))
    while True:  # without a class fewer rows are tied, and other classes too rare
        rows, dropped = clean(read, test, duplicates, rules.dedupe)
        if adapted_plan(rows, folds, repeats) is not None:
            break  # the folds of its networks, whatever they hold
        few = {str(rows.classes[c]): n for c, n in too_rare(rows, folds, rules.rare).items()}
        gone = list(few)
        if not gone or len(gone) == len(rows.classes):
            break
        units |= few
        parts = [read, *([] if test is None else [test])]
        labels = np.concatenate([part.classes[part.codes].astype(str) for part in parts])
        duplicates = duplicates.among(~np.isin(labels, gone))
        leave_out(gone)
        read, saw = with_views(store, read, test, rules.seen, rules.group)
    if foldless:
        account["foldless"] = foldless
    if left_out:
        account["rare"] = {
            "rule": rules.rare, "classes": left_out, "units": units, "test": lost,
        }  # fmt: skip
    if left_out or foldless:
        account["train"] = len(read)
        for split in HELD_OUT:
            account[split] = 0 if test is None else len(test.held_in(split))
    return Prepared(rows, test, read, duplicates, dropped, account, saw)
