import errno
import os
import shutil

import h5py
import numpy as np
import pytest

from headstock.store import FeatureStore
from headstock.store.care.repair import repair
from headstock.store.care.verify import verify
from headstock.store.care.verify_child import verify_in_child
from headstock.store.disk.layout import Plan
from headstock.store.errors import (
    HeadstockError,
    OptionError,
    StorageError,
    StoreDamaged,
    UnsafeInput,
    VersionError,
)


def made(path, toy, n=8, compact=True):
    with FeatureStore.open(path, "a") as store:
        toy.fill(store, n)
        if compact:
            store.compact()
    return path


def flip(path, position, bit=0):
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1 << bit
    path.unlink()  # a flipped copy must not change its hard links
    path.write_bytes(raw)


def test_a_good_store_has_no_findings(tmp_path, toy):
    for compact in (False, True):
        verdict = verify(made(tmp_path / f"{compact}.h5", toy, compact=compact))
        assert (verdict.findings, verdict.notes, verdict.exit_code) == ([], [], 0)
        assert verdict.sets == {"image": 8}
        assert verdict.text().endswith("no findings")


def test_there_must_be_a_store(tmp_path):
    with pytest.raises(OptionError):
        verify(tmp_path / "f.h5")


def test_every_byte_counts(tmp_path, toy):
    """One flipped bit in every 13th byte of a store is found, wherever it is."""
    path = made(tmp_path / "f.h5", toy, n=3)
    shutil.rmtree(tmp_path / "f.h5.d")
    raw = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in range(0, len(raw), 1013):
        spoilt = bytearray(raw)
        spoilt[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(spoilt)
        assert verify(path).findings, position


def test_a_flipped_vector_is_never_served(tmp_path, toy):
    path = made(tmp_path / "f.h5", toy)
    with h5py.File(path, "r") as file:
        offset = file["features/image/x"].id.get_offset()
    flip(path, offset + 3 * 20 + 2)
    shutil.rmtree(tmp_path / "f.h5.d")
    with FeatureStore.open(path) as store:
        x = store.feature_set("image").x(np.array([0, 1, 2, 4]))
        assert np.array_equal(x, toy.matrix(["r0", "r1", "r2", "r4"]))
        for rows in (None, np.array([3]), np.array([0, 3])):
            with pytest.raises(StoreDamaged, match="vector of r3 fails its checksum"):
                store.feature_set("image").x(rows)
    with FeatureStore.open(path, "a") as store, pytest.raises(StoreDamaged):
        store.compact(force=True)


def test_a_spoilt_shard_is_named(tmp_path, toy):
    path = made(tmp_path / "f.h5", toy, compact=False)
    shard = sorted((tmp_path / "f.h5.d").glob("shard-*"))[0]
    flip(shard, shard.stat().st_size // 2)
    verdict = verify(path)
    assert verdict.exit_code == 4
    assert shard.name in verdict.text()


@pytest.mark.parametrize("keep", [0, 1, 100, 4096, 40000, -4096, -1])
def test_a_cut_file_is_damaged(tmp_path, toy, keep):
    path = made(tmp_path / "f.h5", toy)
    shutil.rmtree(tmp_path / "f.h5.d")
    raw = path.read_bytes()
    path.write_bytes(raw[:keep])
    with pytest.raises(StoreDamaged):
        FeatureStore.open(path)
    assert verify(path).exit_code == 4


def test_a_longer_file_is_damaged(tmp_path, toy):
    path = made(tmp_path / "f.h5", toy)
    with open(path, "ab") as file:
        file.write(b"\0")
    with pytest.raises(StoreDamaged):
        FeatureStore.open(path)


def test_another_stores_directory_is_noticed(tmp_path, toy):
    path, other = made(tmp_path / "f.h5", toy), made(tmp_path / "g.h5", toy)
    shutil.copy(other, tmp_path / "copy")
    os.replace(tmp_path / "copy", path)
    with pytest.raises(StoreDamaged, match="another store"):
        FeatureStore.open(path)
    assert verify(path).exit_code == 4


def test_another_stores_shard_is_noticed(tmp_path, toy):
    path = made(tmp_path / "f.h5", toy, compact=False)
    made(tmp_path / "g.h5", toy, n=12, compact=False)
    for shard in (tmp_path / "g.h5.d").glob("shard-*"):
        shutil.copy(shard, tmp_path / "f.h5.d" / shard.name)
    with FeatureStore.open(path) as store, pytest.raises(StoreDamaged, match="another store"):
        store.feature_set("image")


def test_an_older_generation_put_back_is_rolled_forward(tmp_path, toy):
    path = made(tmp_path / "f.h5", toy)
    shutil.copy(path, tmp_path / "backup")
    with FeatureStore.open(path, "a") as store:
        store.commit("image", toy.batch(["r1"], version=1))
        store.compact()
    os.replace(tmp_path / "backup", path)
    with FeatureStore.open(path) as store:
        x = store.feature_set("image").x(np.array([1]))
        assert np.array_equal(x, toy.matrix(["r1"], version=1))


def test_a_newer_store_is_refused_with_the_version_needed(tmp_path, monkeypatch):
    monkeypatch.setattr("headstock.store.disk.layout.VERSION", 9)
    plan = Plan("generation", "u", 1, 0, {}, {"/items/id": ("S1", (0,))})
    (tmp_path / "f.h5").write_bytes(plan.pack({"/items/id": np.empty(0, "S1")}))
    with pytest.raises(VersionError, match="format 9, this one reads up to format 1; upgrade"):
        FeatureStore.open(tmp_path / "f.h5")


def test_files_that_are_no_stores(tmp_path):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3)
    with pytest.raises(StoreDamaged):
        FeatureStore.open(path)
    path.write_bytes(b"id,label\n1,a\n")
    with pytest.raises(StoreDamaged):
        FeatureStore.open(path)


def hostile(path, schema: bytes, **attributes):
    """A file with correct checksums over whatever it claims."""
    from headstock.store.disk import layout

    root = {
        "format": "headstock", "format_version": 1, "min_reader_version": 1, "kind": "generation",
        "uuid": "u", "generation": 1, "n": 3, "schema": schema, "writer": "0",
    }  # fmt: skip
    root["root_crc"] = layout.root_crc(root)
    with h5py.File(path, "w", libver=("v108", "v108")) as file:
        for key, value in root.items():
            layout._set_attribute(file, key, value)
        for key, value in attributes.items():
            file.attrs[key] = value


@pytest.mark.parametrize(
    "spec",
    [
        b'["<f4",[1000000000000,1000000],4096,null]',
        b'["<f4",[99999999999999999999999,2],4096,null]',
        b'["<f4",[-1,2],4096,null]',
        b'["<f4",[1,2,3],0,null]',
        b'["<f4",[2.5],0,1]',
        b'["<f4",[true],0,1]',
        b'["|O",[3],0,1]',
        b'["|V8",[3],0,1]',
        b'["|S99999999999999999999",[3],0,1]',
        b'[["<f4"],[3],0,1]',
        b'["<f4",3,0,1]',
        b"7",
    ],
)
def test_shape_bombs_are_refused_at_no_cost(tmp_path, spec):
    path = tmp_path / "f.h5"
    schema = b'{"datasets":{"/features/image/x":%s},"length":%d,"meta":{}}'
    hostile(path, schema % (spec, 0))
    hostile(path, schema % (spec, path.stat().st_size))
    for _ in range(3):  # the length is part of what it depends on
        hostile(path, schema % (spec, path.stat().st_size))
    with pytest.raises((UnsafeInput, StoreDamaged)):
        FeatureStore.open(path)


def test_a_sparse_bomb_is_refused(tmp_path):
    path, n = tmp_path / "f.h5", 1 << 40
    meta = {"columns": [], "root": "", "sets": [], "patches": 0, "clock": 0}
    plan = Plan("generation", "u", 1, n, meta, {"/items/id": ("S1", (n,))})
    with open(path, "wb") as file:
        file.truncate(plan.length)
        for offset, raw in plan.skeleton({}):
            file.seek(offset)
            file.write(raw)
    with pytest.raises(UnsafeInput, match="holds almost none of them"):
        FeatureStore.open(path)


@pytest.mark.parametrize("number", [-1, 7])
def test_a_generation_under_a_wrong_number_is_refused(tmp_path, toy, number):
    path = made(tmp_path / "f.h5", toy)
    meta = {"columns": [], "root": "", "sets": [], "patches": 0, "clock": 0}
    with FeatureStore.open(path) as store:
        plan = Plan("generation", store.uuid, number, 0, meta, {"/items/id": ("S1", (0,))})
    (tmp_path / "f.h5.d" / "gen-00000009.h5").write_bytes(
        plan.pack({"/items/id": np.empty(0, "S1")})
    )
    for mode in ("r", "a"):
        with pytest.raises(StoreDamaged):
            FeatureStore.open(path, mode)


@pytest.mark.parametrize(
    "odd", ["root", "sets", {"root": 1}, {"root": "", "clock": -1}, {"columns": ["x"]}]
)
def test_a_schema_that_makes_no_sense_is_refused(tmp_path, odd):
    meta = {"columns": [], "root": "", "sets": [], "patches": 0, "clock": 0}
    meta = {**meta, **odd} if isinstance(odd, dict) else {k: v for k, v in meta.items() if k != odd}
    plan = Plan("generation", "u", 1, 0, meta, {"/items/id": ("S1", (0,))})
    (tmp_path / "f.h5").write_bytes(plan.pack({"/items/id": np.empty(0, "S1")}))
    with pytest.raises(StoreDamaged, match="makes no sense"):
        FeatureStore.open(tmp_path / "f.h5")
    with pytest.raises(StoreDamaged, match="no generation of it can be read"):
        repair(tmp_path / "f.h5")


@pytest.mark.parametrize("schema", [b"[" * 100000, b"{}", b"null", b"\xff", b'{"datasets":[]}'])
def test_odd_schemas_are_refused(tmp_path, schema):
    hostile(tmp_path / "f.h5", schema)
    with pytest.raises(HeadstockError):
        FeatureStore.open(tmp_path / "f.h5")


def test_attributes_of_other_kinds_are_refused(tmp_path):
    for value in (np.zeros((1000, 1000)), "text of no fixed length", 1.5):
        hostile(tmp_path / "f.h5", b"{}")
        with h5py.File(tmp_path / "f.h5", "a", track_order=True) as file:
            del file.attrs["generation"]
            file.attrs["generation"] = value if not isinstance(value, np.ndarray) else value[0]
        with pytest.raises((UnsafeInput, StoreDamaged)):
            FeatureStore.open(tmp_path / "f.h5")


def test_external_and_soft_links_are_not_followed(tmp_path, toy):
    path = made(tmp_path / "f.h5", toy)
    shutil.rmtree(tmp_path / "f.h5.d")
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.arange(3)
    with h5py.File(path, "a") as file:
        file["outside"] = h5py.ExternalLink(str(secret), "/x")
    with pytest.raises(StoreDamaged):
        FeatureStore.open(path)
    assert verify(path).exit_code == 4


def test_checking_in_a_child_process_says_the_same(tmp_path, toy):
    path = made(tmp_path / "f.h5", toy)
    assert verify_in_child(path) == verify(path)
    flip(path, 30000)
    assert verify_in_child(path).findings == verify(path).findings
    assert verify_in_child(path).exit_code == 4
    with pytest.raises(OptionError, match="no store here"):
        verify_in_child(tmp_path / "none.h5")


def test_a_child_that_dies_is_a_finding(tmp_path, toy, monkeypatch):
    path = made(tmp_path / "f.h5", toy)
    monkeypatch.setattr("headstock.store.child.COMMAND", ["-c", "import os; os.abort()"])
    assert verify_in_child(path).exit_code == 4
    assert "died" in verify_in_child(path).text()


def test_files_since_extraction(tmp_path, toy):
    import hashlib

    path, pictures = tmp_path / "f.h5", tmp_path / "pictures"
    pictures.mkdir()
    with FeatureStore.open(path, "a") as store:
        from headstock.store import Items

        ids = toy.ids(3)
        store.register(Items.of(ids, paths={"image": ids}, root=str(pictures)))
        store.declare("image", toy.recipe, 5)
        batch = toy.batch(ids)
        for row, identity in enumerate(ids):
            (pictures / identity).write_bytes(identity.encode())
            raw = hashlib.sha256(identity.encode()).digest()
            batch.digest[row] = np.frombuffer(raw, np.uint8)
        store.commit("image", batch)
    assert verify(path, files=True).files_checked == 3
    assert verify(path, files=True).exit_code == 0
    (pictures / "r1").write_bytes(b"changed")
    (pictures / "r2").unlink()
    os.mkfifo(pictures / "r2")
    verdict = verify(path, files=True)
    assert verdict.exit_code == 1
    assert [n.split(": ")[1].split(" of ")[0] for n in verdict.notes] == ["row r1", "row r2"]


def test_what_the_system_refuses_is_no_damage_in_the_child_either(tmp_path, toy, monkeypatch):
    path = made(tmp_path / "f.h5", toy)
    ended = ["-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    for command in (ended, ["-c", "raise MemoryError"], ["-c", "import nothing_of_that_name"]):
        monkeypatch.setattr("headstock.store.child.COMMAND", command)
        with pytest.raises(StorageError, match="was ended"):
            verify_in_child(path)
    inside = (
        "from headstock.store import child\n"
        "from headstock.store.care import verify\n"
        "def full(*_, **__): raise {}\n"
        "verify.verify = full\n"
        "child.main()"
    )
    for error in ("MemoryError", "OSError(5, 'Input/output error')"):
        monkeypatch.setattr("headstock.store.child.COMMAND", ["-c", inside.format(error)])
        with pytest.raises(StorageError, match="could not be read"):
            verify_in_child(path)
    monkeypatch.setattr("headstock.store.child.COMMAND", ["-c", inside.format("KeyError('x')")])
    assert verify_in_child(path).exit_code == 4
    assert "failed (KeyError: 'x')" in verify_in_child(path).text()


def test_a_child_ends_when_who_asked_for_it_is_told_to_end(tmp_path, toy, monkeypatch):
    path = made(tmp_path / "f.h5", toy)
    begun = tmp_path / "begun"
    program = (
        "import os, time, pathlib\n"
        f"pathlib.Path({str(begun)!r}).write_text(str(os.getpid()))\n"
        "print('[1, 2, \"x\"]', flush=True)\n"
        "time.sleep(600)"
    )
    monkeypatch.setattr("headstock.store.child.COMMAND", ["-c", program])

    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_in_child(path, progress=interrupted)
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun.read_text()), 0)


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENOMEM, errno.EACCES])
def test_a_read_that_is_refused_is_not_a_finding(tmp_path, toy, monkeypatch, number):
    path, real = made(tmp_path / "f.h5", toy), os.preadv

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "preadv", refuse)
    verdict = verify(path)
    assert (verdict.findings, verdict.exit_code) == ([], 5)
    assert os.strerror(number) in verdict.text()
    assert "not checked" in verdict.text()
    monkeypatch.setattr(os, "preadv", real)
    assert verify(path).exit_code == 0


def test_without_memory_nothing_that_hdf5_says_is_damage(tmp_path, toy, monkeypatch):
    path, real = made(tmp_path / "f.h5", toy), h5py.File
    calls = []

    def failing(*args, **options):
        calls.append(args)
        if len(calls) <= times:
            raise OSError("Unable to synchronously open file (memory allocation failed)")
        return real(*args, **options)

    monkeypatch.setattr("headstock.store.disk.hdf5.h5py.File", failing)
    times = 1  # it went by: nothing to say
    with FeatureStore.open(path) as store:
        assert store.n == 8
    times = 1 << 30
    with pytest.raises(StoreDamaged):
        FeatureStore.open(path)
    monkeypatch.setattr("headstock.store.disk.hdf5.PROBE", 1 << 60)
    with pytest.raises(StorageError, match="no memory is left"):
        FeatureStore.open(path)
