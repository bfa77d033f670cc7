"""What to say of the rows of a run: those left out, and what is odd with the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headstock.heads.rows.media import WORDS
from headstock.heads.run.rows import Account, Alike, Hygiene, Leak, Looks, Rare
from headstock.store.errors import one_line

__all__ = ["account_lines", "coverage_lines", "hygiene_lines"]

KINDS = {
    "exact": "have the same bytes",
    "copies": "are copies of one {}",
    "near": "have nearly the same vector",
}
FATE = {"group": "kept in one fold", "drop": "all but one left out", "keep": "left as they are"}
NAMED = 5


def account_lines(account: Account, use: str) -> list[str]:
    """A line for each reason why rows are not all that a store holds. ``use``: what becomes of the
    others, such as ``scored``."""
    lines = [f"target: {account.target}"] if account.target else []
    lines += account.joined_labels
    if account.unlabelled:
        lines.append(f"{account.unlabelled} rows without a label are not {use}")
    for name, count in account.unseen.items():
        lines.append(
            f"{count} rows of {name}: their files were absent or unreadable when last looked for; "
            "their vectors are those of before"
        )
    if account.excluded_incomplete:
        lines.append(f"{account.excluded_incomplete} labelled rows lack a vector and are left out")
    if account.vectorless:
        names = [f"{one_line(name, 40)} ({rows})" for name, rows in account.vectorless.items()]
        what = f"{len(names)} class{'es' * (len(names) > 1)} without a single vector"
        lines.append(f"left out: {what}: {_few(names)}")
    if account.dropped:
        lines.append(f"{account.dropped} rows are copies of others and are left out")
    if account.rare and account.rare.classes:
        lines.append(_rare_line(account.rare))
    if left := account.foldless:
        lines.append(f"left out: {left.rows:,} rows whose cell in column {left.column} is empty")
    return lines


def _rare_line(rare: Rare) -> str:
    names = [
        f"{one_line(name, 40)} ({count}"
        + (
            f" rows in {rare.units[name]} groups or copies)"
            if 0 < rare.units.get(name, 0) < count
            else ")"
        )
        for name, count in rare.classes.items()
    ]
    rows = sum(rare.classes.values())
    tested = f" and {rare.test} held out" if rare.test else ""
    way = "; --rare keep scores those of two rows or more" if rare.rule == "drop" else ""
    classes = f"{len(names)} class{'es' * (len(names) > 1)}"
    return (
        f"left out: {classes} too rare for the folds, {rows} row{'s' * (rows != 1)}{tested}: "
        f"{_few(names)}{way}"
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def coverage_lines(promise: Mapping[str, Any] | None, classes: Sequence[str]) -> list[str]:
    """How often the sets of classes of a model (``Bundle.settings``) held the class of rows that
    were held out."""
    measured = (promise or {}).get("measured")
    if not promise or not measured:
        return []
    of = " of each class" if promise["per_class"] else ""
    shares = measured["by_class"]
    worst = min(range(len(shares)), key=shares.__getitem__)
    return [
        f"sets of classes hold the right one of {measured['held']:.3f} of the {measured['rows']:,} "
        f"held-out rows ({promise['coverage']:g} asked{of}), least often {shares[worst]:.3f} of "
        f"{one_line(classes[worst], 40)}",
        f"a set has {measured['size']:.2f} classes on average: {measured['one']:.3f} of them one, "
        f"{measured['none']:.3f} none",
    ]


def hygiene_lines(hygiene: Hygiene) -> list[str]:
    """What a reader should know before the scores, one finding a line; nothing to say, no line."""
    lines = _leak_lines(hygiene.leaks)
    lines += [
        f"{name}: its network saw the labels of {count} rows that are scored here: "
        "no score that reads it is honest"
        for name, count in hygiene.seen.items()
    ]
    if hygiene.looks:
        lines.append(_looks_line(hygiene.looks))
    held = f"the {' or '.join(hygiene.held_out or ('test',))} split"
    lines += _alike_lines(hygiene, held)
    for name, sizes in hygiene.large.items():
        lines.append(
            f"{name}: {max(sizes, default=0)} rows have nearly the same vector, more than a fold "
            "holds: they are not kept together"
        )
    return [*lines, *_group_lines(hygiene, held), *hygiene.skipped]


def _alike_lines(hygiene: Hygiene, held: str) -> Iterator[str]:
    by_kind = {"exact": hygiene.exact, "copies": hygiene.copies, "near": hygiene.near}
    fate = FATE.get(hygiene.dedupe, hygiene.dedupe)
    for kind, word in KINDS.items():
        for name, alike in (by_kind[kind] or {}).items():
            if alike.clusters:
                are = word.format(WORDS.get(name, "file"))
                start = f"{name}: {alike.rows} rows in {alike.clusters} clusters {are} ({fate})"
                yield "; ".join([start, *_counts(alike, held)])


def _counts(alike: Alike, held: str) -> Iterator[str]:
    for count, what in (
        (alike.across_folds, "across folds"),
        (alike.across_splits, f"on both sides of {held}"),
        (alike.other_label, "with different labels"),
    ):
        if count:
            yield f"{count} {what}"


def _group_lines(hygiene: Hygiene, held: str) -> Iterator[str]:
    groups = hygiene.groups
    if groups is None:
        return
    first, both = (
        ", ".join(one_line(g, 40) for g in names) for names in (groups.first, groups.first_splits)
    )
    if groups.across_folds:
        fix = "" if groups.asked else f"; keep them together with --group {groups.column}"
        yield (
            f"{groups.across_folds} of {groups.groups} groups in column {groups.column} have "
            f"rows in several folds (first: {first}): the scores are not those of new groups{fix}"
        )
    if groups.across_splits:
        yield (
            f"{groups.across_splits} groups have rows on both sides of {held} "
            f"(first: {both}): its score is not one of new groups"
        )
    if groups.tied:
        yield f"duplicates tie {groups.tied} groups to others, which share their fold"


def _leak_lines(leaks: Sequence[Leak]) -> list[str]:
    lines = [
        f"suspected leak: {one_line(one.feature, 60)} of set {one.set} tells the label alone "
        f"(right on {100 * one.accuracy:.4g} % of {one.rows:,} rows, guessing "
        f"{100 * one.guessing:.3g} %): leave it out unless it is known before the label is"
        for one in leaks[:NAMED]
    ]
    if len(leaks) > NAMED:
        lines.append(f"and {len(leaks) - NAMED} more suspected leaks")
    return lines


def _looks_line(looks: Looks) -> str:
    """How often the test split was looked at, as the ledger has it."""
    of = f"the test split's {looks.rows} rows are looked at"
    if looks.looks == 1:
        line = f"{of} for the first time, for {looks.shown} systems"
    else:
        runs = ", ".join(one_line(run, 60) for run in looks.runs[-3:])
        before = f" (before: {runs})" if runs else ""
        line = (
            f"{of} for time {looks.looks}, {looks.systems} systems in all{before}: "
            "the more often, the less its score is worth"
        )
    line = line.replace(" 1 systems", " 1 system")
    why = looks.unwritten
    return f"{line}; this look could not be put down ({why})" if why else line
