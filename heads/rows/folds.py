"""One fold plan for everything: made once, saved, shared by heads, fusion, calibration and gate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstock.heads.codes import seeded_codes
from headstock.heads.files import write_text
from headstock.heads.metrics.probabilities import FLOOR
from headstock.store.disk.outputs import refuse_other
from headstock.store.errors import HeadError, OptionError, StorageError, VersionError, one_line
from headstock.store.jsonfile import read_json

__all__ = ["USUAL_FOLDS", "FoldPlan", "make_folds", "unlearned_notes"]

USUAL_FOLDS = 5
"""How many there are where nobody asks for a number."""
FORMAT, VERSION = "headstock fold plan", 1


@dataclass(frozen=True)
class FoldPlan:
    """Which rows are held out together.

    ``codes`` is (r, n): in each of r repeats every row has the number of the one fold that holds
    it out, 0 to f-1. ``ids`` names the n rows, so that a saved plan finds its rows again; ``kind``
    says how it was made, ``group`` by which column.
    """

    ids: tuple[str, ...]
    codes: np.ndarray
    kind: str = "stratified"
    seed: int = 0
    group: str | None = None

    @property
    def n(self) -> int:
        return self.codes.shape[1]

    @property
    def repeats(self) -> int:
        return self.codes.shape[0]

    @property
    def folds(self) -> int:
        return int(self.codes.max()) + 1

    def split(self, repeat: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
        """(train, test) row numbers of each fold."""
        codes = self.codes[repeat]
        return [(np.flatnonzero(codes != f), np.flatnonzero(codes == f)) for f in range(self.folds)]

    def take(self, rows: np.ndarray) -> FoldPlan:
        """The plan of the rows at ``rows``, by number; folds that none of them is in fall away.

        Raises HeadError when fewer than two folds are left, or not as many in each repeat.
        """
        cut = [np.unique(codes[rows], return_inverse=True)[1].ravel() for codes in self.codes]
        sizes = {int(codes.max(initial=-1)) + 1 for codes in cut}
        if len(sizes) > 1 or max(sizes) < 2:
            raise HeadError(
                "fold plan", f"{len(rows)} of its rows lie in {min(sizes)} of {self.folds} folds",
                "use fewer folds, or leave these rows out",
            )  # fmt: skip
        ids = tuple(self.ids[row] for row in rows)
        # numbers of folds mean another thing when one fell away
        kind = self.kind if sizes == {self.folds} else f"{self.kind}, cut"
        return FoldPlan(ids, np.stack(cut), kind, self.seed, self.group)

    def to_json(self) -> dict[str, Any]:
        """Plain data: the ids, and for each repeat and fold the rows it holds out."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "kind": self.kind,
            "seed": self.seed,
            "group": self.group,
            "n": self.n,
            "folds": self.folds,
            "repeats": self.repeats,
            "ids": list(self.ids),
            "held_out": [
                [np.flatnonzero(codes == f).tolist() for f in range(self.folds)]
                for codes in self.codes
            ],
        }

    def summary(self) -> dict[str, Any]:
        """``to_json`` without the long lists, and ``digest``, by which a model and a run say that
        they used the same plan."""
        out = {k: v for k, v in self.to_json().items() if k not in ("ids", "held_out", "format")}
        return {**out, "digest": self.digest}

    @property
    def digest(self) -> str:
        """sha256 of which row each repeat holds out in which fold, whatever the rows' order."""
        pairs = sorted(zip(self.ids, self.codes.T.tolist(), strict=True))
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()

    def parted(self, groups: Sequence[str] | np.ndarray) -> list[str]:
        """Of the values of groups (n,), those that a repeat has rows of in several folds; rows
        whose value is empty belong to none."""
        values, keys = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        several = np.zeros(len(values), dtype=bool)
        for codes in self.codes:
            low, high = np.full(len(values), self.folds), np.full(len(values), -1)
            np.minimum.at(low, keys, codes)
            np.maximum.at(high, keys, codes)
            several |= low < high
        return [str(value) for value in values[several] if value]

    def save(self, path: str | Path) -> None:
        """Write JSON. Raises StorageError."""
        refuse_other(path, "plan")
        write_text(path, json.dumps(self.to_json()))

    @classmethod
    def load(cls, path: str | Path) -> FoldPlan:
        """Read what ``save`` wrote. Raises HeadError for any other file, VersionError."""
        try:
            body = read_json(path, "give a folds.json of a run")
            if body["format"] != FORMAT:
                raise ValueError("it is another kind of file")
            if body["version"] > VERSION:
                raise VersionError(
                    path, f"fold plan version {body['version']}", "use a newer headstock"
                )
            ids = tuple(str(i) for i in body["ids"])
            if any(sum(map(len, lists)) != len(ids) for lists in body["held_out"]):
                raise ValueError("a repeat does not hold out each row once")
            if not isinstance(body["group"], str | None):
                raise TypeError("its group is no name of a column")
            codes = np.full((len(body["held_out"]), len(ids)), -1)
            for repeat, lists in enumerate(body["held_out"]):
                for fold, rows in enumerate(lists):
                    if (codes[repeat, rows] >= 0).any() or min(rows, default=0) < 0:
                        raise ValueError("a row is held out twice")
                    codes[repeat, rows] = fold
            if not len(codes) or not len(ids) or codes.min() < 0 or len(set(ids)) < len(ids):
                raise ValueError("a row is in no fold or has no id of its own")
            return cls(ids, codes, one_line(body["kind"], 60), int(body["seed"]), body["group"])
        except StorageError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            what = "there is no such file"
            raise HeadError(path, what, "give a folds.json of a run") from error
        except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
            raise HeadError(
                path, f"is no fold plan ({error})", "give a folds.json of a run"
            ) from error

    def align(self, ids: Sequence[str] | np.ndarray) -> FoldPlan:
        """The same plan with its rows in the order of ``ids``, which must be the same rows.

        Raises HeadError naming rows that one side lacks.
        """
        ids = tuple(map(str, ids))
        if ids == self.ids:
            return self
        where = {i: row for row, i in enumerate(self.ids)}
        new = [i for i in ids if i not in where]
        gone = len(self.ids) - (len(ids) - len(new))
        if new or gone:
            known = set(ids)
            first = new[0] if new else next(i for i in self.ids if i not in known)
            raise HeadError(
                "fold plan",
                f"{len(new)} of these {len(ids)} rows are not in it and {gone} of its "
                f"{len(self.ids)} are not here (first: {first})",
                "use the sets, --missing, --dedupe and labels it was made with, or a number of "
                "folds for a new plan",
            )
        return FoldPlan(
            ids, self.codes[:, [where[i] for i in ids]], self.kind, self.seed, self.group
        )


def unlearned_notes(folds: np.ndarray, codes: np.ndarray, classes: np.ndarray) -> list[str]:
    """What to say of classes, codes (n,) into ``classes``, that lie in one fold, of fold codes
    (r, n), in some repeat: what answers their rows there has never seen one."""
    gone = []
    for c in np.unique(codes):
        own = folds[:, codes == c]
        if (own == own[:, :1]).all(axis=1).any():
            gone.append(int(c))
    if not gone:
        return []
    names = ", ".join(one_line(classes[c], 30) for c in gone[:3])
    more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
    return [
        f"{int(np.isin(codes, gone).sum())} rows that no head can get right: class {names}{more} "
        f"is in one fold alone; each row counts {-np.log(FLOOR):.1f} in the log-loss"
    ]


def make_folds(
    y: Sequence[Any] | np.ndarray,
    folds: int | str = USUAL_FOLDS,
    *,
    ids: Sequence[str] | np.ndarray | None = None,
    groups: Sequence[Any] | np.ndarray | None = None,
    given: Sequence[Any] | None = None,
    strata: Sequence[Any] | np.ndarray | None = None,
    repeats: int = 1,
    seed: int = 0,
    group_name: str | None = None,
    spread: bool = False,
) -> FoldPlan:
    """A plan for labels y (n,).

    folds: a number (stratified by label; with ``groups`` (n,) no group is parted), ``"group-out"``
    (each group is one fold) or ``"given"`` (each value of ``given`` (n,) is one fold). strata: (n,)
    what else each fold shall have its share of within a label, such as which vectors a row has.
    spread: a class with fewer rows than folds is dealt to as many folds as it has rows.
    Raises OptionError for a plan that has no meaning, HeadError when a class has too few rows or
    groups to be in every fold.
    """
    labels = np.asarray(y)
    n = len(labels)
    names = tuple(map(str, ids)) if ids is not None else tuple(map(str, range(n)))
    if repeats < 1:
        raise OptionError("repeats", f"{repeats} is below 1", "give 1 or more")
    if folds in ("group-out", "given"):
        if repeats > 1:
            raise OptionError(
                "repeats", f"there is one plan by {folds}, so {repeats} would be the same one",
                "leave --repeats away",
            )  # fmt: skip
        source = groups if folds == "group-out" else given
        if source is None:
            raise OptionError(
                "folds", f"{folds} needs a column", "name the column, as --group does"
            )
        values, codes = np.unique(np.asarray(source, dtype=str), return_inverse=True)
        if len(values) < 2:
            raise HeadError("folds", f"{folds}: all rows have one value", "give a column with two")
        return FoldPlan(names, codes[None, :], str(folds), seed, group_name)
    if not isinstance(folds, int) or folds < 2:
        raise OptionError(
            "folds",
            f"{folds!r} is no plan",
            "a number from 2, group-out, given:COLUMN or a saved plan's file",
        )
    classes, codes = np.unique(labels, return_inverse=True)
    if groups is None:
        counts, unit = np.bincount(codes), "rows"
    else:
        keys = np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
        pairs = np.unique(np.stack([codes, keys]), axis=1)
        counts, unit = np.bincount(pairs[0], minlength=len(classes)), "groups"
    if len(classes) < 2:
        raise HeadError(
            "folds",
            f"the rows are all of {f'class {classes[0]}' if len(classes) else 'no class'}",
            "label rows of two or more",
        )
    rare = [f"{classes[c]} ({counts[c]})" for c in np.flatnonzero(counts < folds)]
    if rare and not spread:
        raise HeadError(
            "folds",
            f"{folds} folds, but too few {unit} of class {', '.join(rare[:8])}",
            (f"use at most {counts.min()} folds, or " if counts.min() > 1 else "")
            + "label more rows of it"
            + (", or leave that class out (--rare drop)" if len(rare) < len(classes) else ""),
        )
    if strata is not None:  # a label's strata follow each other, so labels are dealt as without
        kinds = np.unique(np.asarray(strata, dtype=str), return_inverse=True)[1]
        codes = np.unique(codes * (kinds.max() + 1) + kinds, return_inverse=True)[1]
    if groups is None:
        made = [seeded_codes(codes, folds, seed + 1009 * r) for r in range(repeats)]
        return FoldPlan(names, np.stack(made), "stratified", seed, None)
    made = [_deal_groups(codes, keys, folds, seed + 1009 * r) for r in range(repeats)]
    return FoldPlan(names, np.stack(made), "stratified by group", seed, group_name)


def _deal_groups(codes: np.ndarray, keys: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Whole groups dealt so that each fold has about its share of each class.

    Greedy: the most lopsided groups first, each to the fold where the spread of class counts over
    the folds grows least (the idea of scikit-learn's StratifiedGroupKFold, written out here so that
    a plan does not change with a library's version).
    """
    k, groups = codes.max() + 1, keys.max() + 1
    table = np.zeros((groups, k))
    np.add.at(table, (keys, codes), 1)
    share = np.bincount(codes, minlength=k)
    order = np.random.default_rng(seed).permutation(groups)
    order = order[np.argsort(-table[order].std(axis=1), kind="stable")]
    size = table.sum(axis=1)
    load = np.zeros((folds, k))
    home = np.empty(groups, dtype=np.int64)
    for group in order[size[order] > 1]:
        best = min(
            range(folds),
            key=lambda f: (_spread(load, table[group], f, share), load[f].sum()),
        )
        load[best] += table[group]
        home[group] = best
    for group in order[size[order] == 1]:  # single rows last, to level what the groups left
        label = table[group].argmax()
        best = int(np.lexsort((load.sum(axis=1), load[:, label]))[0])
        load[best, label] += 1
        home[group] = best
    return home[keys]


def _spread(load: np.ndarray, extra: np.ndarray, fold: int, share: np.ndarray) -> float:
    load = load.copy()
    load[fold] += extra
    return round(float((load / share).std(axis=0).mean()), 12)
