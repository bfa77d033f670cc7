"""Numeric columns of a manifest as a feature set."""

import csv

import numpy as np
import pytest

from headstock.extract.encoders.columns import ingest_columns, read_numbers
from headstock.store import FeatureStore, Manifest
from headstock.store.errors import IncompleteSet, ManifestError, RecipeMismatch


@pytest.fixture
def manifest(tmp_path):
    def of(text):
        path = tmp_path / "m.csv"
        path.write_text(text)
        return Manifest.read(path, columns=["m_*"])

    return of


def ingest(store, table, name, patterns):
    numbers = read_numbers(store, table, name, patterns)
    return ingest_columns(store, numbers, table.items.id.tolist())


def test_values_failures_and_gaps(tmp_path, manifest):
    table = manifest("id,m_1,m_2,label\na,1,2.5,x\nb,,3,y\nc,,,y\nd,inf,0,x\ne,1e300,0,x\n")
    with FeatureStore.open(tmp_path / "f.h5", mode="a") as store:
        store.register(table.items)
        counts = ingest(store, table, "audio", ["m_*"])
        assert counts == {"done": 2, "reused": 0, "failed": 2, "absent": 1}
        column = store.feature_set("audio")
        assert column.x(np.array([0, 1])).tolist() == [[1.0, 0.0, 2.5], [1.0, 1.0, 3.0]]
        assert list(column.feature_names) == ["m_1", "m_1 is empty", "m_2"]
        with pytest.raises(IncompleteSet):
            column.x()
        lines = {e.id: e.line for e in store.errors("audio")}
        assert "'m_1'" in lines["d"]
        assert lines.keys() == {"d", "e"}
        again = ingest(store, table, "audio", ["m_*"])
        assert again == {"done": 0, "reused": 4, "failed": 0, "absent": 1}


def test_column_order_follows_the_set_and_other_columns_are_refused(tmp_path, manifest):
    with FeatureStore.open(tmp_path / "f.h5", mode="a") as store:
        for text in ("id,m_1,m_2\na,1,2\n", "id,m_2,m_1\nb,20,10\n"):
            table = manifest(text)
            store.register(table.items)
            ingest(store, table, "t", ["m_*"])
        assert store.feature_set("t").x().tolist() == [[1, 2], [10, 20]]
        table = manifest("id,m_1,m_3\nc,1,2\n")
        store.register(table.items)
        with pytest.raises(RecipeMismatch, match="m_3"):
            ingest(store, table, "t", ["m_*"])
        with pytest.raises(ManifestError, match="no column matches"):
            ingest(store, table, "t", ["x*"])


def test_a_changed_row_is_taken_again(tmp_path, manifest):
    with FeatureStore.open(tmp_path / "f.h5", mode="a") as store:
        table = manifest("id,m_1\na,1\nb,2\n")
        store.register(table.items)
        ingest(store, table, "t", ["m_*"])
        counts = ingest(store, manifest("id,m_1\na,1\nb,5\n"), "t", ["m_*"])
        assert counts["done"] == 1
        assert store.feature_set("t").x().tolist() == [[1], [5]]


NOISE = "id,pixel0,pixel1,sex,target\n1,0.5,1,m,0\n2,0.25,3,f,1\n3,0.125,2,m,1\n"


def test_a_pattern_takes_no_id_no_label_and_no_text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(NOISE)
    table = Manifest.read(path, cols={"label": "target"}, columns=["*"])
    assert list(table.columns) == ["pixel0", "pixel1"]
    account = "\n".join(table.account())
    assert "columns '*': without id, target" in account
    assert "columns '*': without sex (no number in it; --categories sex takes its words)" in account
    assert "target" not in Manifest.read(path, columns=["[!i]*"]).columns  # nor where nobody says
    named = Manifest.read(path, cols={"label": "target"}, columns=["p*", "target"])
    assert list(named.columns) == ["pixel0", "pixel1", "target"]  # one by one
    with pytest.raises(ManifestError, match=r"'t\*' matches target alone, no measurement"):
        Manifest.read(path, columns=["t*"])


def test_a_named_column_enters_the_set_that_named_it_alone(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(NOISE)
    table = Manifest.read(path, cols={"label": "target"}, columns=["*", "target"])
    with FeatureStore.open(tmp_path / "f.h5", mode="a") as store:
        store.register(table.items)
        ingest(store, table, "all", ["*"])
        ingest(store, table, "leak", ["target"])
        assert list(store.feature_set("all").feature_names) == ["pixel0", "pixel1"]
        assert store.feature_set("leak").x().tolist() == [[0], [1], [1]]


ODD = ["feat[0]", "a:b", "x,y", '{"q"}', "größe", "sp ace", "<lt>", "f(x)", "?", "star*"]


def test_a_column_is_found_by_its_own_name_first(tmp_path):
    path = tmp_path / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = [[f"r{i}", *range(i, i + len(ODD) + 1)] for i in range(3)]
        csv.writer(file).writerows([["id", *ODD, "feat0"], *rows])
    for name in ODD:
        table = Manifest.read(path, columns=[name])
        assert list(table.columns) == [name]
        with FeatureStore.open(tmp_path / "f.h5", mode="a") as store:
            store.register(table.items)
            ingest(store, table, f"s{ODD.index(name)}", [name])
            assert store.feature_set(f"s{ODD.index(name)}").feature_names == [name]
    assert list(Manifest.read(path, columns=["feat[12340]"]).columns) == ["feat0"]  # a pattern


def test_a_cell_that_is_no_number_is_named_by_its_line(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,a\n1,2\n2,many\n")
    with pytest.raises(ManifestError, match=r"t\.csv:3: 'many' in column 'a' is not a number"):
        Manifest.read(path, columns=["*"])


def test_labels_that_are_numbers_are_no_classes_in_the_account(tmp_path, run_headstock):
    path = tmp_path / "n.csv"
    rows = (f"r{i},{i / 7},{20 + i / 4}" for i in range(60))
    path.write_text("\n".join(["id,m_1,label", *rows]) + "\n")
    words = ["--columns", "m_*", "--as", "t"]
    code, out, err = run_headstock("extract", path, "-o", tmp_path / "f.h5", *words)
    assert code == 0
    assert "evaluate uses 60, a number each" in out
    assert "labels: a number from 20 to 34.75, 60 different" in err
    assert "classes" not in out
