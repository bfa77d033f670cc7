"""A run folder is of one evaluation, whatever was in it before and whatever happens meanwhile."""

import os
import shutil

import pytest
import some_run

from headstock.heads import evaluate
from headstock.heads.report.runs import look
from headstock.heads.report.saved import read_saved
from headstock.heads.run.folder import write_run
from headstock.store.disk import folder as folders
from headstock.store.errors import HeadError, StorageError


@pytest.fixture
def both(tmp_path_factory, make_store, rows):
    """An evaluation with a test split of two heads, and one of another head without."""
    split = ["test" if i % 5 == 0 else "" for i in range(len(rows))]
    with make_store(tmp_path_factory.mktemp("store") / "f.h5", rows, split=split) as store:
        old = evaluate(store, ("lda", "knn"), on=("image",), fusions=(), folds=3)
        new = evaluate(store, ("knn",), on=("image",), fusions=(), folds=4, seed=7)
    new.held = {}
    return old, new


@pytest.mark.parametrize("way", ["exchanged", "one by one", "a shell stands in it"])
def test_what_is_stale_goes_and_what_is_the_users_stays(tmp_path, both, monkeypatch, way):
    old, new = both
    run = tmp_path / "run"
    old.save(run, {"run.toml": "old = 1\n"})
    assert len(read_saved([run])[0].test_ids) == 32
    (run / "notes.txt").write_text("mine")
    (run / "figures").mkdir()
    (run / "figures" / "confusion.csv").write_text("mine too")
    (run / "latest").symlink_to("notes.txt")
    if way == "one by one":
        monkeypatch.setattr(folders, "_exchanged", lambda *_: False)
    if way == "a shell stands in it":
        (run / "deep").mkdir()
        monkeypatch.chdir(run / "deep")
    before = run.stat().st_ino
    new.save(run)
    assert (run.stat().st_ino == before) == (way != "exchanged")
    (read,) = read_saved([run])
    assert [s.name for s in read.systems] == [line.name for line in new.leaderboard]
    assert len(read.test_ids) == 0
    assert not (run / "test.npz").exists()
    assert not (run / "run.toml").exists()
    assert not [p for p in (run / "confusion").iterdir() if "lda" in p.name]
    assert (run / "notes.txt").read_text() == "mine"
    assert (run / "figures" / "confusion.csv").read_text() == "mine too"
    assert os.readlink(run / "latest") == "notes.txt"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("name", ["oof.npz", "test.npz", "folds.json"])
def test_a_folder_of_two_evaluations_is_refused_by_the_files_name(tmp_path, both, name):
    old, new = both
    old.save(tmp_path / "old")
    new.save(tmp_path / "new")
    shutil.copy(tmp_path / "old" / name, tmp_path / "new" / name)
    with pytest.raises(HeadError, match=rf"new/{name}: is of another evaluation than metrics"):
        read_saved([tmp_path / "new"])
    assert name in look([tmp_path]).unread[0]
    new.save(tmp_path / "new")  # the way out
    assert read_saved([tmp_path / "new"])[0].systems


def test_a_file_that_is_gone_is_named(tmp_path, both):
    old, _ = both
    old.save(tmp_path / "run")
    (tmp_path / "run" / "test.npz").unlink()
    with pytest.raises(HeadError, match=r"test\.npz: is gone"):
        read_saved([tmp_path / "run"])


def test_a_file_in_its_place_is_not_replaced_by_a_folder(tmp_path):
    run = some_run.run([some_run.line()])
    (tmp_path / "run").write_text("mine")
    with pytest.raises(StorageError, match="is no folder"):
        write_run(tmp_path / "run", run, {"a.txt": "a"})
    with pytest.raises(StorageError, match="run"):
        write_run(tmp_path / "run" / "below", run, {"a.txt": "a"})
    assert (tmp_path / "run").read_text() == "mine"


def test_a_full_disk_leaves_the_run_that_was_there(tmp_path, both, monkeypatch):
    old, new = both
    old.save(tmp_path / "run")
    real = os.pwrite

    def full(fd, data, at):
        if len(data) > 2000:
            raise OSError(28, "No space left on device")
        return real(fd, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageError, match="No space left"):
        new.save(tmp_path / "run")
    monkeypatch.undo()
    assert len(read_saved([tmp_path / "run"])[0].test_ids) == 32
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
