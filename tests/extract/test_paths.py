"""Paths of tables: as people write them, outside the data root, and several in one cell."""

import os
import re
import shlex
import shutil

import pytest
from counting import CountingEncoder

from headstock.extract import extract
from headstock.store import FeatureStore
from headstock.store.datafile import Reader, outside_folder
from headstock.store.errors import ItemError
from headstock.store.manifest.manifest import Manifest


@pytest.fixture
def table(tmp_path):
    """A table of image paths in a folder of its own, and the folder of its pictures beside it."""
    here, there = tmp_path / "here", tmp_path / "the pictures"
    here.mkdir()
    there.mkdir()
    for i in range(6):
        (here / f"{i}.png").write_bytes(b"inside %d" % i)
        (there / f"{i}.png").write_bytes(b"outside %d" % i)

    def make(cells):
        path = here / "t.csv"
        rows = [f'r{i},"{cell}",x' for i, cell in enumerate(cells)]
        path.write_text("\n".join(["id,image,label", *rows]) + "\n")
        return path

    make.here, make.there = here, there
    return make


def run(path, store="s.h5", **options):
    with FeatureStore.open(path.parent / store, "a") as opened:
        items = Manifest.read(path).items
        return extract(opened, items, {"image": CountingEncoder()}, workers=0, **options)


def test_ways_of_writing_a_path(table, monkeypatch):
    monkeypatch.setenv("HOME", str(table.there))
    (table.here / "a b").mkdir()
    shutil.copy(table.here / "2.png", table.here / "a b" / "2.png")
    path = table([
        "0.png", "~/1.png", r"a b\2.png", (table.there / "3.png").as_uri(),
        f"file://localhost{table.here}/4.png",
    ])  # fmt: skip
    manifest = Manifest.read(path)
    found = [os.path.join(manifest.items.root, p) for p in manifest.items.paths["image"]]
    here, there = table.here, table.there
    assert found == [f"{here}/0.png", f"{there}/1.png", f"{here}/a b/2.png", f"{there}/3.png",
                     f"{here}/4.png"]  # fmt: skip
    account = "\n".join(manifest.account())
    assert "5 found, 0 missing" in account
    for way in ("begin with ~", "are written with back-slashes", "2 paths are file:// addresses"):
        assert way in account


def test_what_is_there_as_written_is_taken_as_written(table):
    (table.here / "~").mkdir()
    (table.here / "~" / "x.png").write_bytes(b"x")
    (table.here / r"back\slash.png").write_bytes(b"y")
    (table.here / "back").mkdir()
    (table.here / "back" / "slash.png").write_bytes(b"other")
    manifest = Manifest.read(table(["~/x.png", r"back\slash.png"]))
    assert list(manifest.items.paths["image"]) == ["~/x.png", r"back\slash.png"]
    assert not manifest.notes


def test_what_cannot_be_read_is_said(table):
    cells = [r"C:\pictures\1.png", "https://example.org/2.png", "file://server/3.png", "0.png"]
    account = "\n".join(Manifest.read(table(cells)).account())
    assert "drive: write them relative to the table" in account
    assert "web addresses and no files" in account
    assert "of another machine" in account
    assert "1 found, 3 missing" in account


@pytest.mark.parametrize(
    "cell", ["0.png;1.png", "0.png 1.png", "['0.png', '1.png']", "0.png|1.png"]
)
def test_several_files_in_one_cell(table, cell):
    path = table([cell, "2.png"])
    assert any("name several files in one cell" in line for line in Manifest.read(path).account())
    account = run(path)
    assert (account.done, account.failed) == (1, 1)
    assert account.failures[0].code == "several-files"
    assert "a row has one: write a row for each" in account.failures[0].line


def test_a_name_with_spaces_is_one_file(table):
    (table.here / "my a.png and b.png").write_bytes(b"z")
    account = run(table(["my a.png and b.png", "2.png"]))
    assert account.failed == 0


def test_rows_outside_the_data_root_are_one_line_and_heal_by_its_flag(table):
    path = table([*(str(table.there / f"{i}.png") for i in range(4)), "5.png"])
    account = run(path)
    assert (account.done, account.failed) == (1, 4)
    told = [line for line in account.text().splitlines() if "data root" in line]
    assert len(told) == 1
    assert "4 rows lie outside the data root (first: r0)" in told[0]
    folder = shlex.split(re.search(r"(--data-root .*?) lets them in", told[0])[1])[1]
    assert folder == str(table.there)
    again = run(path)  # nothing has changed: they are not tried, and said again
    assert (again.done, again.reused, again.failed) == (0, 1, 4)
    assert sum("data root" in line for line in again.text().splitlines()) == 1
    healed = run(path, data_roots=[folder])
    assert (healed.done, healed.reused, healed.failed) == (4, 1, 0)


def test_the_folder_of_a_single_row(table):
    line = "/a/x.png: leads out of the data root; --data-root '/a b' (in Python data_roots) lets "
    assert outside_folder(f"{line}it in") == "/a b"
    assert outside_folder(line) is None
    assert outside_folder("x.png: no such file; check the path") is None
    reader = Reader(str(table.here), (str(table.here),))
    with pytest.raises(ItemError) as caught:
        reader.read(str(table.there / "0.png"))
    assert outside_folder(str(caught.value)) == str(table.there)
    account = run(table(["../the pictures/0.png", "1.png"]))
    assert account.failures[0].code == "unsafe-path"
    assert f"--data-root '{table.there}'" in account.text()
