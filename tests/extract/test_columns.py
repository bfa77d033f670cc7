"""Numeric columns of a manifest as a feature set."""

import numpy as np
import pytest

from headstock.extract.encoders.columns import ingest_columns
from headstock.store import FeatureStore, Manifest
from headstock.store.errors import IncompleteSet, ManifestError, RecipeMismatch


@pytest.fixture
def manifest(tmp_path):
    def of(text):
        path = tmp_path / "m.csv"
        path.write_text(text)
        return Manifest.read(path, columns=["m_*"])

    return of


def test_values_failures_and_gaps(tmp_path, manifest):
    table = manifest("id,m_1,m_2,label\na,1,2.5,x\nb,,3,y\nc,,,y\nd,inf,0,x\ne,1e300,0,x\n")
    with FeatureStore.open(tmp_path / "f.h5", mode="a") as store:
        store.register(table.items)
        counts = ingest_columns(store, table, "audio", ["m_*"])
        assert counts == {"done": 1, "reused": 0, "failed": 3, "absent": 1}
        column = store.feature_set("audio")
        assert column.x(np.array([0])).tolist() == [[1.0, 2.5]]
        assert list(column.feature_names) == ["m_1", "m_2"]
        with pytest.raises(IncompleteSet):
            column.x()
        lines = {e.id: e.line for e in store.errors("audio")}
        assert "'m_1'" in lines["b"]
        assert lines.keys() == {"b", "d", "e"}
        again = ingest_columns(store, table, "audio", ["m_*"])
        assert again == {"done": 0, "reused": 4, "failed": 0, "absent": 1}


def test_column_order_follows_the_set_and_other_columns_are_refused(tmp_path, manifest):
    with FeatureStore.open(tmp_path / "f.h5", mode="a") as store:
        for text in ("id,m_1,m_2\na,1,2\n", "id,m_2,m_1\nb,20,10\n"):
            table = manifest(text)
            store.register(table.items)
            ingest_columns(store, table, "t", ["m_*"])
        assert store.feature_set("t").x().tolist() == [[1, 2], [10, 20]]
        table = manifest("id,m_1,m_3\nc,1,2\n")
        store.register(table.items)
        with pytest.raises(RecipeMismatch, match="m_3"):
            ingest_columns(store, table, "t", ["m_*"])
        with pytest.raises(ManifestError, match="no column matches"):
            ingest_columns(store, table, "t", ["x*"])


def test_a_changed_row_is_taken_again(tmp_path, manifest):
    with FeatureStore.open(tmp_path / "f.h5", mode="a") as store:
        table = manifest("id,m_1\na,1\nb,2\n")
        store.register(table.items)
        ingest_columns(store, table, "t", ["m_*"])
        counts = ingest_columns(store, manifest("id,m_1\na,1\nb,5\n"), "t", ["m_*"])
        assert counts["done"] == 1
        assert store.feature_set("t").x().tolist() == [[1], [5]]
