"""``docs/format.md`` holds: its reader gives what headstock gives, and the bytes stay the same."""

import os
import random
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # as tests/test_docs.py

from format_reader import Damaged, Store

from headstock.store import OK, FeatureStore, Items, Recipe, open_store
from headstock.store.disk.rows import columns_of

ARCHIVE = Path(__file__).with_name("golden.tar.xz")
HALF = Recipe("audio", {"kind": "toy", "größe": 1.5})
GONE, NEW = "r3", "größe/neu"


def golden(path, toy):
    """Three generations, two sets and a replaced one, names that need escapes; failed, changed,
    dropped, unseen and new rows. Some of it waits in patches and shards."""
    with FeatureStore.open(path, "a") as store:
        extra = {"a/b%": ["x", "y", "", "z", "", "é"], "..": list("uvwxyz")}
        store.register(toy.items(6, group=list("aabbcc"), extra=extra, root="/data"))
        store.declare("image", toy.recipe, toy.dim, provenance={"torch": "2"})
        store.declare("half", HALF, toy.dim, "float16", feature_names=list("abcdé"))
        store.declare("other", HALF, toy.dim)
        store.commit("image", toy.batch(["r0", "r1", "r2"], failed=["r1"]))
        store.commit("other", toy.batch(["r0", "r1"]))
        store.compact()
        store.commit("half", toy.batch(["r2", "r0"]))
        store.commit("image", toy.batch(["r3", "r4"]))
        store.drop([GONE])  # and compacts
        store.register(Items.of(["r0", NEW], label=["bird", ""], root="/data"))
        store.commit("image", toy.batch(["r0", NEW], version=1))  # r0 changed: its words go
        store.commit("image", toy.batch(["r1"]))  # and r1 did not fail this time
        store.commit("half", toy.batch(["r4", "r5"], failed=["r5"], code="silence"))
        store.declare("other", toy.recipe, toy.dim, overwrite=True)
        store.commit("other", toy.batch(["r5"]))
        store.mark_unseen("image", {"r2": "missing"})


def same(path):
    """Hold the page's reader against headstock."""
    raw = Store(path)
    with open_store(path) as store:
        state = store._state
        assert (raw.uuid.decode(), raw.generation) == (store.uuid, store.generation)
        assert (raw.ids, raw.root) == (store.items.id.tolist(), store.items.root)
        assert raw.dropped == state.dropped
        for column, cells in columns_of(store.items).items():
            assert [raw.columns.get(column, {}).get(i, "") for i in raw.ids] == cells.tolist()
        hidden = {c for c in raw.columns if c.startswith("extra/headstock.unseen.")}
        assert set(raw.columns) - hidden <= set(columns_of(store.items))
        assert list(raw.sets) == store.all_sets
        for name, declared in store.declarations.items():
            assert raw.sets[name] == declared.to_meta()
            known, progress = raw.rows[name], store.progress(name)
            assert [known[i][0] if i in known else 0 for i in raw.ids] == progress.status.tolist()
            for row, identity in enumerate(raw.ids):
                if identity in known:
                    assert known[identity][1] == progress.digest[row].tobytes()
            done = np.flatnonzero(progress.status == OK)
            wanted = [known[raw.ids[row]][2] for row in done]
            got = store.feature_set(name).x(done)
            assert np.array_equal(got, np.reshape(wanted, (len(done), declared.dim)))
            failed = [(i, *known[i][3]) for i in raw.ids if i in known and known[i][3]]
            assert [(e.id, e.code, e.line) for e in store.errors(name)] == failed
            marks = raw.columns.get(f"extra/headstock.unseen.{name}", {})
            assert store.unseen(name) == {
                i: mark for i, mark in marks.items() if mark and known.get(i, (0,))[0] == OK
            }


@pytest.fixture
def kept(tmp_path):
    """The store as it was written when the format was made."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "kept", filter="data")
    return tmp_path / "kept/features.h5"


def files(path):
    """{name: bytes} of a store; the traces, whose names are random, aside."""
    return {
        str(file.relative_to(path.parent)): file.read_bytes()
        for file in [path, *path.with_name(path.name + ".d").iterdir()]
    }


def written(folder, toy, monkeypatch):
    monkeypatch.setattr("headstock.store.disk.depot.uuids.uuid4", lambda: "0" * 32)
    monkeypatch.setattr("headstock.store.disk.layout.__version__", "0.1.0")
    folder.mkdir()
    golden(folder / "features.h5", toy)
    return folder / "features.h5"


def test_the_bytes_are_those_that_they_were(kept, tmp_path, toy, monkeypatch):
    """If HDF5 one day lays its own metadata out otherwise, keep another archive beside this one."""
    now, then = files(written(tmp_path / "now", toy, monkeypatch)), files(kept)
    assert sorted(now) == sorted(then)
    assert {"features.h5", "features.h5.d/STORE.json"} < set(now)
    assert sum("shard-" in name for name in now) >= 4
    assert sum("patch-" in name for name in now) >= 4
    assert [name for name in now if now[name] != then[name]] == []


def test_the_reader_of_the_page_gives_what_headstock_gives(kept):
    same(kept)


def test_what_the_store_is_known_to_hold(kept, toy):
    """Neither reader against the other, but both against what was written."""
    raw = Store(kept)
    assert raw.ids == ["r0", "r1", "r2", "r4", "r5", NEW]
    assert (raw.generation, raw.gone) == (3, {GONE})
    assert {i: row[0] for i, row in raw.rows["image"].items()} == dict.fromkeys(
        ["r0", "r1", "r2", "r4", NEW], 1
    )
    assert np.array_equal(raw.rows["image"]["r0"][2], toy.vector("r0", 1))
    assert np.array_equal(raw.rows["half"]["r2"][2], toy.vector("r2").astype("f2").astype("f4"))
    assert raw.rows["half"]["r5"][3] == ("silence", "r5 cannot be read")
    assert list(raw.rows["other"]) == ["r5"]
    assert (raw.columns["label"]["r0"], raw.columns["label"]["r1"]) == ("", "cat")
    assert (raw.columns["extra/a/b%"]["r5"], raw.columns["extra/.."]["r1"]) == ("é", "v")


def test_the_reader_sees_every_flipped_bit(kept):
    rng = random.Random(0)
    folder = kept.with_name("features.h5.d")
    for _ in range(60):
        target = rng.choice(
            [p for p in sorted(folder.glob("*.h5")) if "gen-00000002" not in p.name]
        )
        raw = bytearray(target.read_bytes())
        at = rng.randrange(len(raw))
        spoilt = bytearray(raw)
        spoilt[at] ^= 1 << rng.randrange(8)
        target.write_bytes(spoilt)
        with pytest.raises((Damaged, OSError, KeyError, ValueError, RuntimeError)):
            Store(kept)
        target.write_bytes(raw)
    same(kept)


@pytest.mark.parametrize("seed", range(6))
def test_any_story_reads_the_same(tmp_path, toy, seed):
    """Random commits, labels, drops, declarations and compactions."""
    rng, path = random.Random(seed), tmp_path / "f.h5"
    with FeatureStore.open(path, "a") as store:
        store.register(toy.items(12))
        store.declare("image", toy.recipe, toy.dim)
        for step in range(25):
            ids = rng.sample(toy.ids(16), rng.randint(1, 5))
            what = rng.choice(("commit", "commit", "commit", "label", "drop", "again", "compact"))
            if what == "commit":
                here = [i for i in ids if i in store._state.known]
                if here:
                    fails = [i for i in here if rng.random() < 0.3]
                    store.commit("image", toy.batch(here, rng.randint(0, 2), fails))
            elif what == "label":
                store.register(Items.of(ids, label=[rng.choice(["", f"l{step}"]) for _ in ids]))
            elif what == "drop" and rng.random() < 0.4:
                store.drop(ids[:1])
            elif what == "again" and rng.random() < 0.3:
                store.declare("image", Recipe("image", {"v": step}), toy.dim, overwrite=True)
            elif what == "compact":
                store.compact()
            same(path)


def test_a_pending_file_that_went_is_missed(kept, tmp_path, toy):
    path = tmp_path / "f.h5"
    golden(path, toy)
    folder = path.with_name("f.h5.d")
    assert os.listdir(path.with_name("f.h5.pending"))
    same(path)
    for victim in (max(folder.glob("shard-*")), min(folder.glob("patch-*"))):
        raw = victim.read_bytes()
        victim.unlink()
        with pytest.raises(Damaged):
            Store(path)
        victim.write_bytes(raw)
