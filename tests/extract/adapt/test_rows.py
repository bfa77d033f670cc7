"""Which rows go where: alike rows and groups stay whole, each network's parts do not overlap."""

import hashlib

import numpy as np
import pytest

from headstock.extract.adapt.rows import labelled, parts, plan_of
from headstock.heads import FoldPlan, make_folds
from headstock.store import Items
from headstock.store.errors import HeadError, OptionError


def digests(words) -> np.ndarray:
    raw = b"".join(hashlib.sha256(str(w).encode()).digest() for w in words)
    return np.frombuffer(raw, np.uint8).reshape(-1, 32).copy()


def table(n: int = 60, **columns) -> Items:
    ids = [f"r{i:02d}" for i in range(n)]
    label = ["ab"[i % 2] for i in range(n)]
    return Items.of(ids, paths={"image": ids}, label=label, **columns)


def told(items: Items, same=None, group=None, more=()):
    words = same if same is not None else items.id
    return labelled(items, np.ones(len(items), bool), [digests(words), *more], group)


def test_rows_of_split_test_rows_without_a_label_and_unreadable_ones_stay_out():
    items = table(split=["test", " Test", "", "Validation set", *[""] * 56])
    items.label[5] = ""
    usable = np.ones(60, bool)
    usable[7] = False
    rows = labelled(items, usable, [digests(items.id)]).rows
    assert set(range(60)) - set(rows.tolist()) == {0, 1, 3, 5, 7}


def test_one_class_is_refused():
    items = table()
    items.label[:] = "a"
    with pytest.raises(HeadError, match="1 classes"):
        told(items)


def test_bytes_groups_and_the_bytes_of_other_modalities_tie_rows_together():
    same = [f"p{i // 2}" for i in range(60)]  # pictures in pairs
    sounds = digests([f"s{i // 3}" for i in range(60)])
    sounds[30:] = 0  # no sound at all: these are not alike
    items = table(extra={"speaker": [f"v{i // 20}" if i >= 40 else "" for i in range(60)]})
    units = told(items, same, "speaker", [sounds]).units
    assert len(set(units[:6].tolist())) == 1
    assert units[6] != units[5]
    assert len(set(units[40:].tolist())) == 1
    assert len(set(units[30:40].tolist())) == 5


def test_a_group_that_is_no_column_is_named():
    with pytest.raises(OptionError, match="no column speaker"):
        told(table(), group="speaker")


@pytest.mark.parametrize("folds", [None, 4])
def test_each_network_has_three_parts_and_no_unit_is_in_two(folds):
    items = table()
    rows = told(items, [f"p{i // 2}" if i < 20 else f"q{i}" for i in range(60)])
    plan = None if folds is None else plan_of(rows, items.id, folds, make_folds, 0, None)[1]
    found = parts(rows, plan, make_folds, 0.2, 0)
    assert [p.fold for p in found] == [*range(folds or 0), None]
    for part in found:
        together = np.concatenate([part.train, part.watch, part.hidden])
        assert sorted(together.tolist()) == list(range(60))
        units = [set(rows.units[x].tolist()) for x in (part.train, part.watch, part.hidden)]
        assert sum(map(len, units)) == len(set.union(*units))
        assert set(rows.codes[part.watch]) == {0, 1} == set(rows.codes[part.train])
        assert 5 <= len(part.watch) <= 20
        assert (len(part.hidden) > 0) == (part.fold is not None)


def test_a_given_plan_is_taken_if_it_parts_no_alike_rows():
    items = table()
    rows = told(items)
    given = make_folds(rows.labels, 3, ids=items.id)
    backwards = FoldPlan(given.ids[::-1], given.codes[:, ::-1], given.kind)
    _, found = plan_of(rows, items.id, backwards, make_folds, 0, None)
    assert (found.codes == given.codes).all()
    alike = told(items, ["same", "same", *map(str, range(58))])
    apart = given.codes.copy()
    apart[0, :2] = 0, 1
    with pytest.raises(HeadError, match="parts 1 groups"):
        plan_of(alike, items.id, FoldPlan(given.ids, apart), make_folds, 0, None)
    twice = make_folds(rows.labels, 3, ids=items.id, repeats=2)
    with pytest.raises(HeadError, match="repeats"):
        plan_of(rows, items.id, twice, make_folds, 0, None)


def test_what_a_given_plan_leaves_out_is_left_out_here_and_counted():
    items = table()
    items.label[50:] = "rare"  # a class that an evaluation found too rare for its folds
    rows = told(items)
    given = make_folds(rows.labels[:50], 3, ids=items.id[:50])
    some, plan = plan_of(rows, items.id, given, make_folds, 0, None)
    assert (some.rows.tolist(), some.classes.tolist()) == (list(range(50)), ["a", "b"])
    assert (some.left_out, rows.left_out) == (10, 0)
    assert plan.ids == given.ids
    assert (some.labels == rows.labels[:50]).all()
    first, more = items.take(np.arange(50)), make_folds(rows.labels[2:], 3, ids=items.id[2:])
    with pytest.raises(HeadError, match="2 of these 50 rows are not in it and 10 of its 58"):
        plan_of(told(first), first.id, more, make_folds, 0, None)
    alone = FoldPlan(tuple(items.id[:50:2]), np.arange(25)[None] % 3)
    with pytest.raises(HeadError, match="have 1 classes"):
        plan_of(rows, items.id, alone, make_folds, 0, None)
