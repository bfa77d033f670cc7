from __future__ import annotations

import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstock.extract import audio_encoder, extract
from headstock.heads import evaluate, make_folds
from headstock.heads.blockwise.blocks import read_streamed
from headstock.heads.rows.hygiene import (
    clean,
    find_duplicates,
    hygiene_report,
)
from headstock.heads.rows.labelled import Rows, read_rows
from headstock.heads.rows.near import moments as block_moments
from headstock.heads.solvers.scaling import moments
from headstock.store import OK, Batch, FeatureStore, Items, Manifest, Recipe
from headstock.store.errors import OptionError


@pytest.fixture
def planted(two_sets) -> Rows:
    """Rows 0, 5 and 9 have one image (the label of 9 differs), 20 is 21 re-encoded."""
    rows = two_sets(120)
    more = np.random.default_rng(3).normal(size=(120, 8)).astype(np.float32)
    image, audio = (np.hstack([rows.X[name], more]) for name in ("image", "audio"))
    codes = rows.codes.copy()
    codes[[0, 5, 20, 21]], codes[9] = 1, 2
    image[[5, 9]] = image[0]
    audio[21] = audio[20] + 1e-3
    digest = np.arange(120 * 32, dtype=np.uint64).astype(np.uint8).reshape(120, 32)
    digest[:, :8] = np.arange(120, dtype="<u8").view(np.uint8).reshape(120, 8)
    image_digest = digest.copy()
    image_digest[[5, 9]] = image_digest[0]
    return replace(
        rows,
        codes=codes,
        X={"image": image, "audio": audio},
        digests={"image": image_digest, "audio": digest},
    )


def test_planted_duplicates_are_found(planted: Rows) -> None:
    found = find_duplicates(planted)
    assert [list(c) for c in found.exact["image"]] == [[0, 5, 9]]
    assert found.exact["audio"] == []
    assert [list(c) for c in found.near["image"]] == [[0, 5, 9]]
    assert [list(c) for c in found.near["audio"]] == [[20, 21]]
    plan = make_folds(planted.codes, 3, ids=planted.ids, seed=2)
    report = hygiene_report(planted, None, found, plan, "keep", 0)
    assert report["exact"]["image"]["other_label"] == 1
    assert report["exact"]["image"]["rows"] == 3
    assert report["exact"]["image"]["first"][0] == ["r0000", "r0005", "r0009"]


def test_rows_without_a_digest_are_not_taken_for_one_file(planted: Rows) -> None:
    """Imported vectors come without the bytes they were made from."""
    blank = {name: digest.copy() for name, digest in planted.digests.items()}
    blank["image"][10:] = 0
    blank["audio"][:] = 0
    found = find_duplicates(replace(planted, digests=blank))
    assert [list(c) for c in found.exact["image"]] == [[0, 5, 9]]
    assert found.exact["audio"] == []


def test_group_keeps_them_together_also_with_a_column(planted: Rows) -> None:
    found = find_duplicates(planted)
    grouped, dropped = clean(planted, None, found, "group")
    assert dropped == 0
    assert grouped.groups is not None
    assert len(set(grouped.groups[[0, 5, 9]])) == 1
    assert len(set(grouped.groups)) == 120 - 3
    column = np.array([f"s{i // 6}" for i in range(120)], dtype=object)  # 0 and 5, then 9
    both, _ = clean(replace(planted, groups=column), None, found, "group")
    assert both.groups is not None
    assert len(set(both.groups[:12])) == 1  # s0 and s1 are tied by row 9
    assert len(set(both.groups)) == 19
    for seed in range(5):
        plan = make_folds(planted.codes, 3, groups=grouped.groups, seed=seed)
        assert len(set(plan.codes[0, [0, 5, 9]])) == 1
        counts = [np.bincount(planted.codes[t], minlength=4) for _, t in plan.split()]
        assert np.ptp(counts, axis=0).max() <= 2


def test_drop_leaves_the_first_and_nothing_that_is_in_the_test_split(planted: Rows) -> None:
    found = find_duplicates(planted)
    left, dropped = clean(planted, None, found, "drop")
    assert dropped == 3
    assert not {"r0005", "r0009", "r0021"} & set(left.ids)
    train, test = planted.take(np.arange(100)), planted.take(np.arange(100, 120))
    twin = replace(test, X={**test.X, "image": test.X["image"].copy()})
    twin.X["image"][3] = train.X["image"][50]
    found = find_duplicates(train, twin)
    left, dropped = clean(train, twin, found, "drop")
    assert dropped == 4
    assert "r0050" not in left.ids
    report = hygiene_report(train, twin, found, make_folds(left.codes, 3, ids=left.ids), "drop", 4)
    assert report["near"]["image"]["across_splits"] == 1


def test_keep_reports_what_it_leaves(planted: Rows) -> None:
    found = find_duplicates(planted)
    same, dropped = clean(planted, None, found, "keep")
    assert same is planted
    assert dropped == 0
    with pytest.raises(OptionError, match="group, drop, keep"):
        clean(planted, None, found, "other")


def test_a_wide_set_is_screened_and_misses_nothing() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 600)).astype(np.float32)
    X[1500:1600] = X[:100] + 0.1 * rng.normal(size=(100, 600)).astype(np.float32)  # cosine .995
    X[1600:1700] = X[100:200] + rng.normal(size=(100, 600)).astype(np.float32)  # cosine .7
    ids = np.arange(3000).astype(str)
    rows = Rows(ids, {"image": X}, np.arange(3000) % 2, np.array(["a", "b"]))
    found = find_duplicates(rows).near["image"]
    assert [list(c) for c in found] == [[i, i + 1500] for i in range(100)]


def test_columns_far_from_zero_hide_no_duplicate() -> None:
    """The moments are summed in float32, of what is left of columns of any offset and scale; the
    copies lie in the other matrix, and rows without the set are no rows of it."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(500, 300)) * np.geomspace(1e-3, 1e3, 300)
    X += 300 * np.geomspace(1e-3, 1e3, 300) * rng.choice([-1, 1], 300)
    X[:, 7] = 12345.678
    X[:, 8] = 1e7 + (np.arange(500) % 2)  # sd 0.5 beside 1e7
    X = X.astype(np.float32)
    X[450:460] = X[20:30]
    mean, scale = block_moments([X[:10], X[10:]])
    expected = moments(X)
    np.testing.assert_allclose(mean, expected[0], rtol=1e-6)
    np.testing.assert_allclose(scale, expected[1], rtol=1e-4)
    made = Rows(np.arange(500).astype(str), {"a": X}, np.arange(500) % 2, np.array(["x", "y"]))
    made = replace(made, present={"a": np.arange(500) != 25})
    first, last = made.take(np.arange(400)), made.take(np.arange(400, 500))
    found = find_duplicates(first, last).near["a"]
    assert [list(c) for c in found] == [[i, i + 430] for i in range(20, 30) if i != 25]


def test_many_alike_rows_are_one_cluster() -> None:
    X = np.random.default_rng(0).normal(size=(900, 10)).astype(np.float32)
    X[:500] = X[0]
    rows = Rows(np.arange(900).astype(str), {"a": X}, np.arange(900) % 2, np.array(["a", "b"]))
    found = find_duplicates(rows)
    assert [len(c) for c in found.near["a"]] == [500]


def test_findings_come_before_the_scores(tmp_path: Path, planted: Rows, make_store) -> None:
    speaker = {"speaker": [f"s{i % 10}" for i in range(120)]}
    split = ["test" if i % 5 == 4 else "" for i in range(120)]
    with make_store(tmp_path / "s.h5", planted, group=speaker, split=split) as store:
        result = evaluate(store, ("knn",), folds=3, dedupe="keep", group="speaker")
        text = result.text()
    assert result.run.hygiene.near["image"].across_splits == 1
    assert text.index("nearly the same vector (left as they are)") < text.index("accuracy")
    assert "1 with different labels" in text
    with make_store(tmp_path / "t.h5", planted) as store:
        result = evaluate(store, ("knn",), folds=3)
        assert result.folds.kind == "stratified by group"
        assert result.run.hygiene.near["image"].across_folds == 0
        assert result.leaderboard[0].accuracy.by_group


def test_a_group_on_both_sides_of_the_split_is_named(tmp_path: Path, two_sets, make_store) -> None:
    rows = two_sets(80)
    split = ["test" if i % 4 == 0 else "" for i in range(80)]
    take = {"take": ["x"] * 40 + ["y"] * 40}
    with make_store(tmp_path / "s.h5", rows, split=split, group=take) as s:
        result = evaluate(s, ("knn",), on=("image",), fusions=(), folds="given:take", group="take")
    told = result.run.hygiene.groups
    assert (told.groups, told.across_splits, told.first_splits) == (2, 2, ("x", "y"))
    assert told.across_folds == 0
    assert "2 groups have rows on both sides" in result.text()


def test_groups_that_nobody_asked_to_respect_are_named(tmp_path: Path, two_sets) -> None:
    rows = two_sets(80)
    labels = [str(c) for c in rows.classes[rows.codes]]
    items = Items.of(list(rows.ids), label=labels, group=[f"s{i % 8}" for i in range(80)])
    with FeatureStore.open(tmp_path / "s.h5", "a") as store:
        store.register(items)
        store.declare("image", Recipe("image", {"width": 20}), 20)
        digest = np.arange(80 * 32, dtype=np.uint64).astype(np.uint8).reshape(80, 32)
        digest[:, :8] = np.arange(80, dtype="<u8").view(np.uint8).reshape(80, 8)
        stat, status = np.full((80, 2), -1, dtype=np.int64), np.full(80, OK, dtype=np.uint8)
        store.commit("image", Batch(list(rows.ids), digest, stat, rows.X["image"], status, []))
        unasked = evaluate(store, ("knn",), fusions=())
        asked = evaluate(store, ("knn",), fusions=(), group="group", folds=4)
    assert unasked.run.hygiene.groups.across_folds == 8
    assert "8 of 8 groups in column group have rows in several folds" in unasked.text()
    assert "keep them together with --group group" in unasked.text()
    assert asked.run.hygiene.groups.across_folds == 0
    assert "several folds" not in asked.text()


def test_duplicates_that_tie_groups_are_counted(tmp_path: Path, planted: Rows, make_store) -> None:
    speaker = {"speaker": [f"s{i // 6}" for i in range(120)]}  # rows 0 and 5 are s0, 9 is s1
    with make_store(tmp_path / "s.h5", planted, group=speaker) as store:
        result = evaluate(store, ("knn",), fusions=(), group="speaker", folds=3)
    assert result.run.hygiene.groups.tied == 2
    assert "duplicates tie 2 groups to others" in result.text()


def test_the_duplicates_planted_in_real_data_are_found(
    tmp_path: Path, shared_data: Path, make_store
) -> None:
    """The sounds of animals8_av hold byte-identical files: hashing them here finds the same
    clusters as an evaluation does, and none of them lies in two folds."""
    folder = shared_data / "animals8_av"
    with (folder / "index.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    by: dict[bytes, set[str]] = {}
    for line in table:
        digest = hashlib.sha256((folder / line["audio"]).read_bytes()).digest()
        by.setdefault(digest, set()).add(line["id"])
    expected = {frozenset(ids) for ids in by.values() if len(ids) > 1}
    assert len(expected) == 22
    assert sum(map(len, expected)) == 45
    manifest = Manifest.read(folder / "index.csv")
    with FeatureStore.open(tmp_path / "animals.h5", "a") as store:
        extract(store, manifest.items, {"audio": audio_encoder("mfcc")}, workers=1)
        store.compact()
        one = evaluate(store, ("lda",), fusions=())
        kept = evaluate(store, ("lda",), fusions=(), dedupe="keep")
        rows, test, _ = read_rows(store, ["audio"])
    found = find_duplicates(rows, test)
    assert {frozenset(map(str, rows.ids[c])) for c in found.exact["audio"]} == expected
    told = one.run.hygiene.exact["audio"]
    assert (told.clusters, told.rows, told.across_folds) == (22, 45, 0)
    assert kept.run.hygiene.exact["audio"].across_folds > 10
    assert "45 rows in 22 clusters have the same bytes (kept in one fold)" in one.text()
    # near duplicates hold the exact ones, whose vectors are the same
    near = [set(map(str, rows.ids[c])) for c in found.near["audio"]]
    assert all(any(ids <= cluster for cluster in near) for ids in expected)


def test_doubted_labels_are_kept_and_listed_on_request(two_sets, make_store, tmp_path) -> None:
    rows = two_sets(160, strength=3.0)
    wrong = rows.codes.copy()
    wrong[:6] = (wrong[:6] + 1) % 4
    with make_store(tmp_path / "s.h5", replace(rows, codes=wrong)) as store:
        plain = evaluate(store, ("lda",), ("image",), (), folds=4)
        asked = evaluate(store, ("lda",), ("image",), (), folds=4, doubts=True)
    kept = plain.run.hygiene.label_doubts
    assert {one.id for one in kept[:6]} == set(rows.ids[:6])
    assert [one.quality for one in kept] == sorted(one.quality for one in kept)
    first = kept[0]
    place = rows.ids.tolist().index(first.id)
    assert (first.label, first.likely) == tuple(rows.classes[[wrong[place], rows.codes[place]]])
    assert "label in doubt" not in plain.text()
    assert f"label in doubt: {first.id} is {first.label}, looks like {first.likely}" in asked.text()
    assert asked.run.hygiene.label_doubts == kept


def test_equal_values_in_few_columns_of_a_table_are_no_copies(tmp_path: Path) -> None:
    """A column of noughts and ones would else tie all rows into two groups."""
    rng = np.random.default_rng(0)
    label = [("ant", "bee")[i % 2] for i in range(80)]
    own = np.where(rng.random(80) < 0.8, np.arange(80) % 2, 1 - np.arange(80) % 2)
    X = {"yes": own[:, None].astype(np.float32), "wide": np.tile(own[:, None], 12)}
    with FeatureStore.open(tmp_path / "s.h5", "a") as store:
        store.register(Items.of([f"r{i}" for i in range(80)], label=label))
        for name, x in X.items():
            recipe = Recipe("columns", {"columns": [str(c) for c in range(x.shape[1])]})
            store.declare(name, recipe, x.shape[1])
            digest = np.zeros((80, 32), np.uint8)
            digest[:, 0] = own + 1
            stat, status = np.full((80, 2), -1, np.int64), np.full(80, OK, np.uint8)
            store.commit(name, Batch(list(store.items.id), digest, stat, x, status, []))
        result = evaluate(store, ("knn",), ("yes",), ())
        assert result.folds.kind == "stratified"
        assert result.leaderboard[0].accuracy.value > 0.7
        assert read_streamed(store, "yes").folds == 5
        wide = evaluate(store, ("knn",), ("wide",), ())
        assert wide.folds.kind == "stratified"
        assert "fewer than 10 columns take many values" in wide.text()


def test_few_columns_are_not_searched_for_near_duplicates(two_sets) -> None:
    rows = two_sets(60)
    narrow = replace(rows, X={"image": rows.X["image"][:, :4]}, digests={})
    found = find_duplicates(narrow)
    assert not found.near
    assert "below" in found.skipped[0]
