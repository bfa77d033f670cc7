"""Several stores behind one name: read like one, extended only by their parts."""

import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from headstock.store import OK, Batch, FeatureStore, Items, Recipe, is_store
from headstock.store.care.info import description
from headstock.store.care.link import link
from headstock.store.care.merge import merge
from headstock.store.care.repair import repair
from headstock.store.care.verify import verify
from headstock.store.errors import (
    IncompleteSet,
    ManifestError,
    MissingSet,
    OptionError,
    RecipeMismatch,
    StoreDamaged,
    UnsafeInput,
    VersionError,
)
from headstock.store.exchange.export import export
from headstock.store.parts import OPEN

ROWS = 40


def rows_of(toy, lo, hi, **more):
    ids = toy.ids(ROWS)[lo:hi]
    labels = ["cat" if int(i[1:]) % 2 else "dog" for i in ids]
    return Items.of(ids, paths={"image": [f"pictures/{i}.png" for i in ids]}, label=labels, **more)


def fill(path, toy, lo, hi, failed=(), compact=True, **more):
    with FeatureStore.open(path, "a") as store:
        items = rows_of(toy, lo, hi, **more)
        store.register(items)
        store.declare("image", toy.recipe, toy.dim)
        for start in range(0, len(items), 4):
            ids = items.id[start : start + 4].tolist()
            store.commit("image", toy.batch(ids, failed=[i for i in ids if i in failed]))
        if compact:
            store.compact()
    return path


@pytest.fixture
def parts(tmp_path, toy):
    """Seven parts of unequal size, one of them not compacted, and the same rows in one store."""
    cuts = [0, 4, 5, 12, 20, 23, 36, ROWS]
    made = [
        fill(tmp_path / f"p{k}.h5", toy, lo, hi, compact=k != 2)
        for k, (lo, hi) in enumerate(pairwise(cuts))
    ]
    whole = fill(tmp_path / "whole.h5", toy, 0, ROWS)
    told = link(tmp_path / "all.parts.json", made)
    assert (told.parts, told.rows, told.sets) == (7, ROWS, {"image": ROWS})
    return tmp_path / "all.parts.json", whole


def test_a_list_of_parts_reads_as_one_store(parts, toy):
    path, whole = parts
    assert is_store(path)
    rng = np.random.default_rng(0)
    with FeatureStore.open(path) as a, FeatureStore.open(whole) as b:
        assert (a.n, a.sets) == (b.n, b.sets)
        for column in ("id", "label", "split", "group"):
            assert getattr(a.items, column).tolist() == getattr(b.items, column).tolist()
        assert a.items.paths["image"].tolist() == b.items.paths["image"].tolist()
        shuffled = rng.permutation(ROWS)
        for rows in (None, shuffled, shuffled[:7], np.arange(10, 30), rng.random(ROWS) < 0.3):
            assert np.array_equal(a.matrix("image", rows)[0], b.matrix("image", rows)[0])
        asked = ["r30", "no such row", "r0"]
        assert a.rows(asked).tolist() == [30, -1, 0]
        for x, y in zip(
            (a.progress("image", asked).status, a.progress("image").digest),
            (b.progress("image", asked).status, b.progress("image").digest),
        ):
            assert np.array_equal(x, y)
        found = a.by_digest("image", np.stack([toy.digest("r21"), toy.digest("none")]))
        assert list(found) == [toy.digest("r21").tobytes()]
        assert np.array_equal(found[toy.digest("r21").tobytes()], toy.vector("r21"))
        assert len(a._open) <= OPEN
        with pytest.raises(MissingSet, match="no feature set"):
            a.matrix("sound")


def test_info_verify_and_export_take_it(parts, tmp_path):
    path, whole = parts
    with FeatureStore.open(path) as store:
        assert "40 rows" in description(store)
        assert "in 7 parts" in description(store)
    verdict = verify(path)
    assert (verdict.exit_code, verdict.rows, verdict.sets) == (0, ROWS, {"image": ROWS})
    export(path, tmp_path / "a.npz")
    export(whole, tmp_path / "b.npz")
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        assert sorted(a) == sorted(b)
        assert all(np.array_equal(a[k], b[k]) for k in a)
    told = merge(tmp_path / "merged.h5", [path])
    assert (told.rows, told.taken) == (ROWS, {"image": ROWS})


def test_damage_in_a_part_is_found_and_named(parts):
    path, _ = parts
    target = path.with_name("p5.h5")
    raw = bytearray(target.read_bytes())
    with FeatureStore.open(target) as store:
        region = store._state.file.regions["/features/image/x"]
    target.unlink()  # the newest generation is a link to it
    raw[region.offset + 3] ^= 1
    target.write_bytes(raw)
    for extra in target.with_name("p5.h5.d").glob("gen-*"):
        extra.unlink()
    verdict = verify(path)
    assert verdict.exit_code == 4
    assert all("p5.h5" in finding for finding in verdict.findings)
    with FeatureStore.open(path) as store, pytest.raises(StoreDamaged, match=r"p5\.h5"):
        store.matrix("image")


def test_failed_and_absent_rows_stay_what_they_are(tmp_path, toy):
    a = fill(tmp_path / "a.h5", toy, 0, 8, failed=["r3"])
    b = tmp_path / "b.h5"
    with FeatureStore.open(b, "a") as store:  # a part whose extraction has not begun
        store.register(rows_of(toy, 8, 10))
    link(tmp_path / "all.parts.json", [b, a])
    with FeatureStore.open(tmp_path / "all.parts.json") as store:
        assert store.items.id[:3].tolist() == ["r8", "r9", "r0"]
        assert store.complete("image").sum() == 7
        assert [(e.id, e.code) for e in store.errors()] == [("r3", "bad")]
        with pytest.raises(IncompleteSet, match=r"3 of 10 rows have no vector \(2 not extr"):
            store.matrix("image")


def test_roots_that_differ_become_part_of_the_paths(tmp_path, toy):
    a = fill(tmp_path / "a.h5", toy, 0, 2, root="/one")
    b = fill(tmp_path / "b.h5", toy, 2, 4, root="/two")
    link(tmp_path / "all.parts.json", [a, b])
    with FeatureStore.open(tmp_path / "all.parts.json") as store:
        assert store.items.root == ""
        assert store.items.paths["image"].tolist()[1:3] == [
            "/one/pictures/r1.png",
            "/two/pictures/r2.png",
        ]


def test_a_part_that_grows_shows_its_new_rows_to_the_next_who_opens(parts, toy):
    path, _ = parts
    with FeatureStore.open(path) as store:
        before = store.matrix("image")[0]
        with FeatureStore.open(path.with_name("p0.h5"), "a") as part:
            part.register(Items.of(["new"], paths={"image": ["new.png"]}))
            part.commit("image", toy.batch(["new"]))
        store.refresh()
        assert np.array_equal(store.matrix("image")[0], before)
    with FeatureStore.open(path) as store:
        assert store.items.id[4] == "new"
        assert np.array_equal(store.matrix("image")[0][4], toy.vector("new"))


def test_what_does_not_fit_together_is_refused(tmp_path, toy):
    a, b = fill(tmp_path / "a.h5", toy, 0, 4), fill(tmp_path / "b.h5", toy, 3, 8)
    with pytest.raises(ManifestError, match="'r3' is in two parts"):
        link(tmp_path / "all.parts.json", [a, b])
    other = fill(tmp_path / "c.h5", type(toy)(recipe=Recipe("image", {"weights": "x"})), 20, 24)
    with pytest.raises(RecipeMismatch, match=r"made another way than in a\.h5"):
        link(tmp_path / "all.parts.json", [a, other])
    with pytest.raises(OptionError, match=r"end it in \.parts\.json"):
        link(tmp_path / "all.h5", [a])
    (tmp_path / "sub").mkdir()
    with pytest.raises(OptionError, match="lies outside"):
        link(tmp_path / "sub/all.parts.json", [a])
    with pytest.raises(OptionError, match="no store here"):
        link(tmp_path / "all.parts.json", [tmp_path / "none.h5"])
    assert not (tmp_path / "all.parts.json").exists()


def test_nothing_is_written_to_a_list(parts, toy):
    path, _ = parts
    before = path.read_bytes()
    for act in (
        lambda: FeatureStore.open(path, "a"),
        lambda: repair(path),
        lambda: merge(path, [path.with_name("p0.h5")]),
    ):
        with pytest.raises(OptionError, match="is a list of stores"):
            act()
    assert path.read_bytes() == before
    with FeatureStore.open(path) as store:
        assert not {"register", "declare", "commit", "compact", "drop"} & set(dir(store))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", StoreDamaged),
        (b"[" * 100_000, StoreDamaged),
        ({"format": "other", "parts": ["p.h5"]}, StoreDamaged),
        ({"parts": []}, StoreDamaged),
        ({"parts": [1]}, StoreDamaged),
        ({"parts": ["p.h5", "p.h5"]}, StoreDamaged),
        ({"parts": ["../p.h5"]}, UnsafeInput),
        ({"parts": ["/etc/passwd"]}, UnsafeInput),
        ({"parts": ["p\0.h5"]}, UnsafeInput),
        ({"parts": ["all.parts.json"]}, OptionError),
        ({"format_version": 9, "parts": ["p.h5"]}, VersionError),
        ({"parts": ["none.h5"]}, OptionError),
    ],
)
def test_a_list_that_somebody_made_up(tmp_path, body, error):
    path = tmp_path / "all.parts.json"
    if isinstance(body, dict):
        body = json.dumps({"format": "headstock parts", "format_version": 1, **body}).encode()
    path.write_bytes(body)
    with pytest.raises(error):
        FeatureStore.open(path)


PEAK = """
import resource, sys
import numpy as np
from headstock.store import FeatureStore
def peak():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM"))
with FeatureStore.open(sys.argv[1]) as store:
    before = peak()
    total = 0.0
    for own, part in store.each():
        rows = np.arange(part.n)
        for start in range(0, part.n, 512):
            total += float(part.feature_set("image").x(rows[start : start + 512]).sum())
print((peak() - before) >> 10)
"""


def test_reading_part_by_part_takes_the_memory_of_a_block(tmp_path):
    """48 MiB of vectors in 6 parts, read by less than 16."""
    recipe, d, n = Recipe("image", {"weights": "wide"}), 1024, 2048
    made = []
    for k in range(6):
        path = tmp_path / f"p{k}.h5"
        with FeatureStore.open(path, "a") as store:
            ids = [f"{k}-{i}" for i in range(n)]
            store.register(Items.of(ids))
            store.declare("image", recipe, d)
            store.commit(
                "image",
                Batch(
                    ids=ids,
                    digest=np.random.default_rng(k).integers(0, 256, (n, 32), dtype=np.uint8),
                    stat=np.full((n, 2), -1),
                    x=np.ones((n, d), np.float32),
                    status=np.full(n, OK, np.uint8),
                ),
            )
            store.compact()
        made.append(path)
    link(tmp_path / "all.parts.json", made)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path / "all.parts.json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) < 16
