import json
import os
import random
import shutil

import h5py
import numpy as np
import pytest

from headstock.store import ABSENT, OK, FeatureStore
from headstock.store.care.repair import repair
from headstock.store.care.verify import verify
from headstock.store.disk import commit
from headstock.store.disk.file import StoreFile
from headstock.store.disk.layout import gaps
from headstock.store.errors import OptionError, StoreDamaged


def made(path, toy, n=8):
    with FeatureStore.open(path, "a") as store:
        toy.fill(store, n)
        store.compact()
    return path


def flip(path, position):
    raw = bytearray(path.read_bytes())
    raw[position] ^= 4
    path.unlink()
    path.write_bytes(raw)


def offset(path, dataset):
    with h5py.File(path, "r") as file:
        return file[dataset].id.get_offset()


def alone(path):
    shutil.rmtree(path.with_name(path.name + ".d"), ignore_errors=True)
    return path


def test_a_good_store_is_left_alone(tmp_path, toy):
    path = made(tmp_path / "f.h5", toy)
    before = path.read_bytes()
    told = repair(path)
    assert not told.changed
    assert "nothing to repair" in told.text()
    assert path.read_bytes() == before
    with pytest.raises(OptionError):
        repair(tmp_path / "none.h5")


def test_a_damaged_vector_costs_its_own_row(tmp_path, toy):
    path = alone(made(tmp_path / "f.h5", toy))
    flip(path, offset(path, "features/image/x") + 3 * 20)
    assert verify(path).exit_code == 4
    told = repair(path)
    assert told.rows == {"image": ["r3"]}
    assert "1 rows to extract again: r3" in told.text()
    with FeatureStore.open(path, "a") as store:
        status = store.progress("image").status
        assert np.flatnonzero(status == ABSENT).tolist() == [3]
        store.commit("image", toy.batch(["r3"]))
        assert np.array_equal(store.matrix("image")[0], toy.matrix(toy.ids(8)))
        store.compact()
    assert not verify(path).findings


@pytest.mark.parametrize("column", ["status", "content_sha256", "stat", "seq", "crc32"])
def test_damage_beside_the_vectors_costs_at_most_one_row(tmp_path, toy, column):
    path = alone(made(tmp_path / "f.h5", toy))
    flip(path, offset(path, f"features/image/{column}"))
    assert verify(path).exit_code == 4
    lost = repair(path).rows.get("image", [])
    assert lost == (["r0"] if column in ("content_sha256", "crc32") else [])
    assert not verify(path).findings
    with FeatureStore.open(path) as store:
        rows = np.flatnonzero(store.complete("image"))
        assert len(rows) == 8 - len(lost)
        x = store.matrix("image", rows)[0]
        assert np.array_equal(x, toy.matrix([f"r{i}" for i in rows]))


def test_a_failed_row_does_not_come_back_as_done(tmp_path, toy):
    path = tmp_path / "f.h5"
    with FeatureStore.open(path, "a") as store:
        store.register(toy.items(4))
        store.declare("image", toy.recipe, 5)
        store.commit("image", toy.batch(["r0", "r1", "r2"], failed=["r1"]))
        store.compact()
    alone(path)
    flip(path, offset(path, "features/image/status"))
    repair(path)
    with FeatureStore.open(path) as store:
        assert store.progress("image").status.tolist() == [OK, ABSENT, OK, ABSENT]


def test_damaged_labels_are_emptied_and_told(tmp_path, toy):
    path = alone(made(tmp_path / "f.h5", toy))
    flip(path, offset(path, "items/label"))
    told = repair(path)
    assert told.columns == ["label"]
    assert told.rows == {}
    with FeatureStore.open(path) as store:
        assert set(store.items.label) == {""}
        assert store.complete("image").all()


def test_a_damaged_shard_costs_its_rows(tmp_path, toy):
    path = tmp_path / "f.h5"
    with FeatureStore.open(path, "a") as store:
        toy.fill(store, 8)
    shard = sorted((tmp_path / "f.h5.d").glob("shard-*"))[0]
    whole = shard.read_bytes()
    flip(shard, offset(shard, "x") + 2 * 20 + 3)
    with h5py.File(shard, "r") as file:
        ids = file["id"].asstr()[:].tolist()
    told = repair(path)
    assert told.files == [shard.name]
    assert told.rows == {"image": [ids[2]]}
    assert told.taken[shard.name] == {"image": 3}
    assert f"{shard.name}: 3 rows of image taken" in told.text()
    assert not verify(path).findings
    with FeatureStore.open(path) as store:
        status = store.progress("image").status
        assert (status == OK).sum() == 7
    aside = told.aside / "f.h5.d" / shard.name
    assert aside.read_bytes() != whole  # kept as it was: damaged


def test_the_generation_before_rescues_when_the_newest_cannot_be_read(tmp_path, toy):
    path = made(tmp_path / "f.h5", toy)
    with FeatureStore.open(path, "a") as store:
        store.register(toy.items(9))
        store.commit("image", toy.batch(["r8"]))
        newest = store.compact()
    pending = tmp_path / "f.h5.d"
    raw = path.read_bytes()
    for spoilt in (path, pending / f"gen-{newest:08d}.h5"):
        spoilt.unlink()
        spoilt.write_bytes(raw[:5000])
    with pytest.raises(StoreDamaged):
        FeatureStore.open(path)
    assert repair(path).files == ["f.h5", f"gen-{newest:08d}.h5"]
    with FeatureStore.open(path) as store:
        assert store.n == 8
        assert np.array_equal(store.matrix("image")[0], toy.matrix(toy.ids(8)))


def test_when_nothing_can_be_read_nothing_is_pretended(tmp_path, toy):
    path = alone(made(tmp_path / "f.h5", toy))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(StoreDamaged, match="extract into a new store"):
        repair(path)
    assert [p.name for p in tmp_path.iterdir()] == ["f.h5"]
    assert path.stat().st_size == 3000


def metadata(path):
    """Positions of bytes that are neither zero, nor data, nor the schema's text."""
    raw = path.read_bytes()
    with StoreFile(path, "generation") as file:
        places = list(gaps(file.regions, file.length))
    start = raw.index(b'{"datasets"')
    end = start + json.JSONDecoder().raw_decode(raw[start:].decode("latin-1"))[1]
    return [
        at for low, high in places for at in range(low, high) if raw[at] and not start <= at < end
    ]


def test_a_lone_file_with_damaged_metadata_keeps_all_its_rows(tmp_path, toy):
    whole = alone(made(tmp_path / "whole.h5", toy))
    with FeatureStore.open(whole) as store:
        uuid = store.uuid
    busy = metadata(whole)
    for at in random.Random(0).sample(busy, 25):
        path = tmp_path / f"at-{at}" / "f.h5"
        path.parent.mkdir()
        raw = bytearray(whole.read_bytes())
        raw[at] ^= 16
        path.write_bytes(raw)
        assert verify(path).exit_code in (4, 8)
        told = repair(path)
        assert told.files == ["f.h5"]
        assert told.rows == {}
        assert told.aside == path.with_name("f.h5.damaged-1")
        assert (told.aside / "f.h5").read_bytes() == raw
        assert not verify(path).findings
        with FeatureStore.open(path) as store:
            assert store.items.label.tolist() == ["dog", "cat"] * 4
            assert np.array_equal(store.matrix("image")[0], toy.matrix(toy.ids(8)))
            again = store.uuid
        assert (again == uuid) == (uuid.encode() in raw)


def test_damaged_metadata_of_the_newest_generation_does_not_send_the_store_back(tmp_path, toy):
    path = made(tmp_path / "f.h5", toy)
    with FeatureStore.open(path, "a") as store:
        store.register(toy.items(10))
        store.commit("image", toy.batch(["r8", "r9"]))
        store.compact()
        store.register(toy.items(11))
        store.commit("image", toy.batch(["r10"]))
    at = metadata(path)[100]
    with open(path, "r+b") as file:  # both names of the newest generation share these bytes
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    assert verify(path).exit_code == 4
    assert repair(path).files == ["f.h5"]
    assert not verify(path).findings
    with FeatureStore.open(path) as store:
        assert np.array_equal(store.matrix("image")[0], toy.matrix(toy.ids(11)))
        assert store.pending == 0


def test_a_damaged_schema_is_refused_and_the_file_left(tmp_path, toy):
    path = alone(made(tmp_path / "f.h5", toy))
    raw = path.read_bytes().replace(b'{"datasets"', b'{"datasetz"')
    path.write_bytes(raw)
    with pytest.raises(StoreDamaged, match="no generation of it can be read"):
        repair(path)
    assert path.read_bytes() == raw


def test_a_damaged_id_costs_its_own_row(tmp_path, toy):
    path = alone(made(tmp_path / "f.h5", toy))
    flip(path, offset(path, "items/id") + 2 * 2 + 1)
    told = repair(path)
    assert told.nameless == 1
    assert told.rows == {}
    assert "1 rows with a damaged id" in told.text()
    with FeatureStore.open(path, "a") as store:
        kept = [i for i in toy.ids(8) if i != "r2"]
        assert store.items.id.tolist() == kept
        assert np.array_equal(store.matrix("image")[0], toy.matrix(kept))
        assert store.items.label.tolist() == [["dog", "cat"][int(i[1]) % 2] for i in kept]
        toy.fill(store, 8)
        store.compact()
        assert store.complete("image").sum() == 8
    assert not verify(path).findings


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("call", ["mkdir", "fsync", "link", "rename"])
def test_a_killed_repair_leaves_no_empty_folder(tmp_path, toy, monkeypatch, call):
    """Killed before the old store's folder is whole it leaves a temp, which the next one sweeps."""
    path = made(tmp_path / "f.h5", toy)
    flip(path, offset(path, "features/image/x"))
    with monkeypatch.context() as patched:
        if (pid := os.fork()) == 0:
            real = getattr(os, call)

            def last(*args, **options):
                real(*args, **options) if call == "mkdir" else None
                os._exit(9)

            patched.setattr(os, call, last)
            repair(path)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert not list(tmp_path.glob("*.damaged-*"))
    assert len(list(tmp_path.glob(f"{commit.OWN_TEMP}*"))) == 1
    (tmp_path / "f.h5.damaged-1").mkdir()  # an older headstock left such ones
    (tmp_path / "f.h5.damaged-2").write_text("somebody's file")
    (tmp_path / "f.h5.damaged-3").mkdir()
    (tmp_path / "f.h5.damaged-3/mine").touch()
    told = repair(path)
    assert told.aside == tmp_path / "f.h5.damaged-1"
    assert not list(tmp_path.glob(f"{commit.OWN_TEMP}*"))
    assert sorted(os.listdir(told.aside)) == ["f.h5", "f.h5.d"]
    assert verify(path).exit_code == 0
    flip(path, offset(path, "features/image/x"))
    assert repair(path).aside == tmp_path / "f.h5.damaged-4"
    assert os.listdir(tmp_path / "f.h5.damaged-3") == ["mine"]
