"""Small text files and tables: where lines end, byte order marks, and cells of any text."""

import csv
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headstock.store.errors import ManifestError, OptionError
from headstock.store.exchange.foreign import open_source
from headstock.store.manifest.manifest import Manifest
from headstock.store.manifest.table import read_table
from headstock.store.settings import read_toml
from headstock.store.textfile import lines_of, read_text

BOM = b"\xef\xbb\xbf"
ODD = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"]
CELL = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=12)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_cells_come_in_as_a_writer_put_them(tmp_path, rows, ending):
    rows = [(f"k{a}", b) for a, b in rows]  # a row of blanks alone is no row
    out = io.StringIO(newline="")
    # Python's writer forgets the quotes around a lone CR when lines end with LF
    csv.writer(out, csv.unix_dialect, lineterminator=ending).writerows([("id", "x"), *rows])
    path = tmp_path / "t.csv"
    path.write_bytes(out.getvalue().encode())
    assert [tuple(row) for row in read_table(path).rows] == rows


@pytest.mark.parametrize("odd", ODD)
def test_only_cr_and_lf_end_a_line(tmp_path, odd):
    path = tmp_path / "t.csv"
    path.write_bytes(f"id,image\nr{odd}1,a{odd}b.png\nr2,c.png,surplus\n".encode())
    with pytest.raises(ManifestError, match=r"t\.csv:3: 3 cells"):  # and not a line before or after
        read_table(path)
    path.write_bytes(f"id\nr{odd}1\nr2\n".encode())
    assert read_table(path).rows == [[f"r{odd}1"], ["r2"]]


@pytest.mark.parametrize("ending", ["\n", "\r", "\r\n"])
def test_each_row_knows_its_line(tmp_path, ending):
    path = tmp_path / "t.csv"
    path.write_bytes(ending.join(["id,x", 'a,"1', '2"', "", "b,3", ""]).encode())
    table = read_table(path)
    assert table.rows == [["a", f"1{ending}2"], ["b", "3"]]  # line breaks in quotes stay
    assert table.lines == [2, 5]


def test_lines_join_to_the_text():
    text = "a\r\nb\rc\n\nd\u2028e\x0cf"
    assert lines_of(text) == ["a\r\n", "b\r", "c\n", "\n", "d\u2028e\x0cf"]
    assert lines_of("") == []


def test_what_is_no_text_is_named_by_its_line(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes("a\r\nb\x85c\rd".encode() + b"\xff\n")
    with pytest.raises(ManifestError, match=r"t\.txt:3: not UTF-8"):
        read_text(path, "")
    path.write_bytes(b"a\nb\n\0")
    with pytest.raises(ManifestError, match=r"t\.txt:3: a NUL"):
        read_text(path, "")


def test_a_toml_file_may_begin_with_a_mark(tmp_path):
    path = tmp_path / "run.toml"
    path.write_bytes(BOM + b"head = ['lda']\nseed = 3\n")
    assert read_toml(path) == {"head": ["lda"], "seed": 3}
    path.write_bytes(b"head = \xff")
    with pytest.raises(OptionError, match="not UTF-8"):
        read_toml(path)


def test_names_beside_an_array_keep_their_odd_letters(tmp_path):
    import numpy as np

    names = ["first", "se\u2028cond", "th\x0cird"]
    (tmp_path / "file_names.txt").write_bytes(BOM + "\r\n".join([*names, ""]).encode())
    np.save(tmp_path / "features.npy", np.zeros((3, 2), np.float32))
    assert open_source(tmp_path).items.id.tolist() == names


def test_a_table_with_a_mark_keeps_its_first_column(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(BOM + b"id,image\na,a.png\n")
    assert list(Manifest.read(path).items.id) == ["a"]
