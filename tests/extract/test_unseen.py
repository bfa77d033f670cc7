"""An absent or unreadable file never takes a committed vector away, and says so."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
from counting import CountingEncoder, vector_of

from headstock.extract import extract
from headstock.extract.pipeline import pending
from headstock.extract.pipeline.options import Options
from headstock.heads import evaluate
from headstock.store import FAILED, OK, FeatureStore, Items
from headstock.store.datafile import Reader
from headstock.store.errors import StorageError

IDS = [f"{i:02d}" for i in range(12)]


@pytest.fixture
def store(tmp_path):
    with FeatureStore.open(tmp_path / "features.h5", "a") as opened:
        yield opened


def items_of(root, ids=IDS) -> Items:
    labels = ["ab"[i % 2] for i in range(len(ids))]
    return Items.of(ids, paths={"image": ids}, label=labels, root=str(root))


def go(store, folder, encoder=None, ids=IDS, **options):
    encoder = encoder or CountingEncoder()
    options = {"workers": 0, "batch_size": 4, **options}
    return encoder, extract(store, items_of(folder, ids), {"image": encoder}, **options)


def vectors(store) -> np.ndarray:
    return np.array(store.feature_set("image").x())


GOOD = np.array([vector_of(b"file %d" % i) for i in range(12)])


class Refusing(Reader):
    """A file system that refuses some files; importable in workers."""

    def read(self, path):
        number = REFUSED.get(path)
        real = os.open

        def refuse(*args, **options):
            if number:
                raise OSError(number, os.strerror(number))
            return real(*args, **options)

        os.open = refuse
        try:
            return super().read(path)
        finally:
            os.open = real


REFUSED: dict[str, int] = {}


@pytest.fixture
def refuse(monkeypatch):
    """Calls of ``open`` on the named files fail with that number."""

    def on(**numbers: int) -> None:
        REFUSED.clear()
        REFUSED.update({name.strip("_"): number for name, number in numbers.items()})

    monkeypatch.setattr(
        Options, "reader", lambda _, root: Refusing(str(root), (os.path.realpath(root),))
    )
    yield on
    REFUSED.clear()


# --- files that are absent


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_whose_files_are_absent_keep_their_vectors_and_are_counted(store, folder, workers):
    go(store, folder)
    for name in ("03", "07"):
        (folder / name).rename(folder.parent / name)
    encoder, account = go(store, folder, workers=workers)
    one = account.sets["image"]
    assert (one.done, one.reused, one.failed, len(one.unseen)) == (0, 10, 0, 2)
    assert "2 not seen this time, their vectors stay: 2 missing" in account.text()
    assert np.array_equal(vectors(store), GOOD)
    assert store.unseen("image") == {"03": "missing", "07": "missing"}

    for name in ("03", "07"):
        (folder.parent / name).rename(folder / name)
    encoder, account = go(store, folder, workers=workers)
    assert encoder.calls == []
    assert account.reused == 12
    assert account.sets["image"].unseen == []
    assert store.unseen("image") == {}
    assert np.array_equal(vectors(store), GOOD)


def test_the_mark_survives_compaction_and_a_file_that_comes_back_other(store, folder):
    go(store, folder)
    (folder / "03").unlink()
    go(store, folder)
    store.compact()
    assert store.unseen("image") == {"03": "missing"}
    assert "headstock" not in "".join(store.items.extra)
    (folder / "03").write_bytes(b"another")
    _, account = go(store, folder)
    assert account.done == 1
    assert store.unseen("image") == {}
    assert np.array_equal(vectors(store)[3], vector_of(b"another"))
    store.compact()
    with FeatureStore.open(store.path) as again:
        assert again.unseen("image") == {}


def test_evaluate_says_once_how_many_rows_were_not_seen(store, folder):
    go(store, folder)
    (folder / "03").unlink()
    go(store, folder)
    result = evaluate(store, heads=["lda"], folds=2)
    assert result.run.settings.rows.unseen == {"image": 1}
    assert result.text().count("1 rows of image: their files were absent") == 1
    (folder / "03").write_bytes(b"file 3")
    go(store, folder)
    assert "absent" not in evaluate(store, heads=["lda"], folds=2).text()


def test_a_folder_that_is_wholly_absent_is_one_line_and_changes_nothing(store, folder):
    go(store, folder)
    before = store.generation, store.pending, store.items.root
    folder.rename(folder.parent / "away")
    with pytest.raises(StorageError, match="not one of the 12 files of column image is there"):
        go(store, folder)
    folder.mkdir()  # a mount point without its disk
    with pytest.raises(StorageError, match=r"nothing was changed"):
        go(store, folder)
    store.refresh()
    assert (store.generation, store.pending, store.items.root) == before
    assert store.unseen("image") == {}
    assert np.array_equal(vectors(store), GOOD)
    folder.rmdir()
    (folder.parent / "away").rename(folder)
    encoder, account = go(store, folder)
    assert (encoder.calls, account.reused) == ([], 12)


def test_a_folder_that_goes_away_in_the_middle_ends_the_run(store, folder):
    ids = [f"{i:03d}" for i in range(200)]
    for i, name in enumerate(ids):
        (folder / name).write_bytes(b"file %d" % i)
    away = folder.parent / "away"

    class Leaving(CountingEncoder):
        def encode(self, items):
            if len(self.calls) == 2 and folder.exists():
                folder.rename(away)
            return super().encode(items)

    with pytest.raises(StorageError, match="what was committed is kept"):
        go(store, folder, Leaving(), ids=ids)
    assert store.errors("image") == []
    assert store.complete("image").sum() == 12
    away.rename(folder)
    _, account = go(store, folder, ids=ids)
    assert (account.reused, account.failed) == (12, 0)
    assert store.complete("image").all()


def test_many_absent_files_on_end_are_their_rows_own_matter(store, folder):
    ids = [*IDS, *(f"x{i}" for i in range(100)), *IDS[:1]]
    items = Items.of([f"r{i}" for i in range(len(ids))], paths={"image": ids}, root=str(folder))
    account = extract(store, items, {"image": CountingEncoder()}, workers=0)
    assert account.sets["image"].codes == {"missing": 100}


def test_a_single_absent_file_is_its_rows_own_matter(store, folder):
    _, account = go(store, folder, ids=["nothing"])
    assert account.sets["image"].codes == {"missing": 1}


def test_from_the_command_line_no_store_is_made_of_an_absent_folder(tmp_path):
    (tmp_path / "m.csv").write_text("id,audio,label\na,x/1.wav,k\nb,x/2.wav,l\n")
    words = ["extract", tmp_path / "m.csv", "-o", tmp_path / "f.h5", "--audio", "mfcc", "-q"]
    told = subprocess.run(
        [sys.executable, "-m", "headstock.cli", *map(str, words)], capture_output=True, text=True
    )
    assert told.returncode == 5
    assert len(told.stderr.strip().splitlines()) == 1
    assert "--audio-root" in told.stderr
    assert not (tmp_path / "f.h5").exists()


def test_a_file_named_twice_where_one_row_is_new(store, folder):
    """The old row keeps its vector, the new one has failed."""
    go(store, folder, ids=["00", "01"])
    (folder / "00").unlink()
    items = Items.of(["00", "01", "new"], paths={"image": ["00", "01", "00"]}, root=str(folder))
    account = extract(store, items, {"image": CountingEncoder()}, workers=0)
    assert store.progress("image").status.tolist() == [OK, OK, FAILED]
    assert account.failed == 1
    assert store.unseen("image") == {"00": "missing"}


# --- errors of the disk


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENOMEM, errno.EACCES])
def test_a_touched_file_that_cannot_be_read_keeps_its_vector(store, folder, refuse, number):
    go(store, folder)
    os.utime(folder / "03", ns=(1, 1))
    refuse(_03=number)
    _, account = go(store, folder)
    code = "out-of-memory" if number == errno.ENOMEM else "unreadable"
    assert (account.failed, len(account.sets["image"].unseen)) == (0, 1)
    assert store.unseen("image") == {"03": code}
    assert np.array_equal(vectors(store), GOOD)
    refuse()
    encoder, account = go(store, folder)
    assert (encoder.calls, account.reused) == ([], 12)
    assert store.unseen("image") == {}


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENOMEM])
def test_a_failure_of_the_disk_is_tried_again_by_the_next_run(store, folder, refuse, number):
    refuse(_05=number)
    _, account = go(store, folder)
    assert account.failed == 1
    store.compact()
    _, account = go(store, folder)  # as before: said again, and not committed again
    assert account.failed == 1
    assert not account.failures[0].known
    assert store.pending == 0
    refuse()
    encoder, account = go(store, folder)
    assert (encoder.calls, account.failed) == ([1], 0)
    assert np.array_equal(vectors(store), GOOD)


def test_a_bad_file_is_not_tried_again_but_a_killed_or_slow_one_is(store, folder, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    (folder / "02").write_bytes(b"bad")
    (folder / "03").write_bytes(b"kill")
    (folder / "04").write_bytes(b"hang")
    (folder / "05").write_bytes(b"die")
    options = {"workers": 1, "item_seconds": 1.0}
    go(store, folder, CountingEncoder(marks=str(marks)), **options)
    codes = {e.id: e.code for e in store.errors("image")}
    assert codes == {"02": "bad", "03": "worker-killed", "04": "timeout", "05": "worker-died"}
    tried = len(os.listdir(marks))
    _, account = go(store, folder, CountingEncoder(marks=str(marks)), **options)
    assert len(os.listdir(marks)) - tried == 4  # two of them, each twice
    assert sorted(f.id for f in account.failures if f.known) == ["02", "05"]
    digest = store.progress("image").digest
    assert digest[2:6].any(axis=1).all()  # what failed is known by its bytes


def test_a_changed_file_that_kills_its_decoder_is_no_longer_served(store, folder):
    go(store, folder)
    (folder / "03").write_bytes(b"die now")
    _, account = go(store, folder, workers=1)
    assert account.sets["image"].codes == {"worker-died": 1}
    assert store.progress("image").status[3] == FAILED
    assert store.unseen("image") == {}


def test_a_path_outside_the_data_root_is_tried_once_it_is_allowed(store, folder, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"outside")
    items = Items.of(["in", "out"], paths={"image": ["00", str(outside)]}, root=str(folder))
    account = extract(store, items, {"image": CountingEncoder()}, workers=0)
    assert account.sets["image"].codes == {"unsafe-path": 1}
    account = extract(store, items, {"image": CountingEncoder()}, workers=0)
    assert account.failures[0].known
    account = extract(store, items, {"image": CountingEncoder()}, workers=0, data_roots=[tmp_path])
    assert (account.done, account.failed) == (1, 0)
    os.utime(outside, ns=(1, 1))  # and without the flag, a touched one keeps its vector
    account = extract(store, items, {"image": CountingEncoder()}, workers=0)
    assert account.failed == 0
    assert store.unseen("image") == {"out": "unsafe-path"}
    assert np.array_equal(vectors(store)[1], vector_of(b"outside"))


def test_slow_file_systems_are_asked_in_threads_and_say_the_same(folder, monkeypatch):
    reader = Reader(str(folder))
    paths = [*IDS, "nothing"] * 40
    alone = pending.marks(reader, paths)
    monkeypatch.setattr(pending, "SLOW", 0.0)
    assert np.array_equal(pending.marks(reader, paths), alone)
    assert (alone[12] == -1).all()

    def broken(self, path):
        raise RuntimeError("told to")

    monkeypatch.setattr(pending, "PROBED", 0)
    monkeypatch.setattr(pending, "SLOW", -1.0)
    monkeypatch.setattr(Reader, "mark", broken)
    with pytest.raises(RuntimeError, match="told to"):
        pending.marks(reader, paths)
