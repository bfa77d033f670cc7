"""Extracting again: agreement, a changed file, and a store that another machine filled."""

import numpy as np
import pytest
from soundfile import write

from headstock.extract import audio_encoder, extract
from headstock.extract.recompute import recompute
from headstock.store import OK, Batch, FeatureStore, Items


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"{i}.wav" for i in range(6)]
    for name in names:
        write(tmp_path / name, rng.normal(size=4000) * 0.1, 8000)
    items = Items.of(names, paths={"audio": names}, root=str(tmp_path))
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        extract(store, items, {"audio": audio_encoder("mfcc")}, workers=1)
        store.compact()
        yield store


def test_the_same_machine_agrees(store):
    (told,) = recompute(store, 4)
    assert told.rows == 4
    assert told.good
    assert told.worst < 1e-6
    assert "agrees" in told.text()


def test_a_changed_file_is_named_and_not_compared(store):
    path = f"{store.items.root}/3.wav"
    write(path, np.zeros(4000), 8000)
    (told,) = recompute(store, 6)
    assert told.rows == 5
    assert "3.wav" in told.skipped[0]
    assert "changed" in told.skipped[0]


def test_a_wrong_vector_is_seen(store):
    told = store.progress("audio", ["2.wav"])
    store.commit(
        "audio",
        Batch(
            ids=["2.wav"],
            digest=told.digest,
            stat=told.stat,
            x=np.ones((1, 104), np.float32),
            status=np.array([OK], np.uint8),
            errors=[],
        ),
    )
    store.refresh()
    (told,) = recompute(store, 6)
    assert not told.good
    assert told.worst_id == "2.wav"
    assert "DIFFERS" in told.text()
