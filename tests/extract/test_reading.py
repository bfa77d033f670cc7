"""Reading one file: limits and codes that the manifest's own checks cannot give."""

import itertools
import os

import pytest

from headstock.extract.decode.reading import Task, perform
from headstock.extract.encoder import Loader
from headstock.store.datafile import Reader
from headstock.store.errors import ItemError


def code_of(reader: Reader, path: str) -> str:
    with pytest.raises(ItemError) as caught:
        reader.read(path)
    return caught.value.code


def test_codes(folder):
    reader = Reader(str(folder), (os.path.realpath(folder),), max_bytes=100)
    (folder / "large").write_bytes(bytes(101))
    assert code_of(reader, "large") == "too-large"
    assert code_of(reader, "nobody") == "missing"
    assert code_of(reader, "a\0b") == "unsafe-path"
    assert code_of(reader, "x" * 300) == "unreadable"
    data, stat = reader.read("00")
    assert data == b"file 0"
    assert stat == reader.mark("00")
    assert stat[0] == 6


def test_a_root_that_is_the_beginning_of_another_name_does_not_contain_it(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data2").mkdir()
    (tmp_path / "data2" / "x").write_bytes(b"x")
    reader = Reader(str(tmp_path / "data"), (os.path.realpath(tmp_path / "data"),))
    assert code_of(reader, "../data2/x") == "unsafe-path"


def test_a_file_that_changes_while_it_is_read_is_looked_at_again(folder, monkeypatch):
    real = os.fstat
    ticks = itertools.count()

    def moving(descriptor):
        times = {"st_mtime_ns": next(ticks), "st_ctime_ns": 0}
        return os.stat_result(real(descriptor)[:10], times)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", moving)
        data, stat = Reader(str(folder)).read("00")
    assert data == b"file 0"
    assert stat == (-1, -1)


def test_a_loader_without_memory_is_an_item_failure(folder):
    class Greedy(Loader):
        def decode(self, data):
            raise MemoryError

    done = perform(Task(0, "00"), Reader(str(folder)), Greedy())
    assert done.error[0] == "out-of-memory"


def test_an_item_error_names_the_path_once(folder):
    class Refusing(Loader):
        def decode(self, data):
            raise ItemError("image", "is odd", "draw it anew", code="odd")

    done = perform(Task(0, "00"), Reader(str(folder)), Refusing())
    assert done.error == ("odd", "00: is odd; draw it anew")


@pytest.mark.parametrize("call", ["open", "fstat", "fdopen"])
def test_a_disk_that_refuses_is_unreadable_and_leaves_nothing_open(folder, monkeypatch, call):
    def refuse(*_, **__):
        raise OSError(5, "Input/output error")

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        with pytest.raises(ItemError, match="Input/output") as told:
            Reader(str(folder)).open("00")
    assert told.value.code == "unreadable"
    assert len(os.listdir("/proc/self/fd")) == before
