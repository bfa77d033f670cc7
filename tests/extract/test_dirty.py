"""Every broken file at once, through the real workers: the run ends, and says what was wrong."""

import csv
import hashlib

import numpy as np
import pytest

from headstock.extract import audio_encoder, extract, image_encoder
from headstock.extract.decode.preprocess import ImageLoader, Preprocess
from headstock.extract.decode.reading import Task
from headstock.extract.decode.workers import Workers
from headstock.extract.encoders.mfcc import MfccLoader
from headstock.store import FAILED, OK, FeatureStore, Items
from headstock.store.datafile import Reader
from headstock.store.errors import TooManyFailures


@pytest.fixture(scope="module")
def encoders():
    image = image_encoder("timm:test_resnet", untrained_seed=0, device="cpu", input_size=64)
    return {"image": image, "audio": audio_encoder("mfcc")}


@pytest.fixture
def dirty(shared_data):
    """One manifest of both folders: 147 rows with a picture and 198 with a sound."""
    paths = {
        kind: [
            f"dirty_{kind}s/{row['file']}" if kind == "image" else f"dirty_audio/{row['file']}"
            for row in csv.DictReader((shared_data / folder / "manifest.csv").open())
        ]
        for kind, folder in (("image", "dirty_images"), ("audio", "dirty_audio"))
    }
    images, sounds = paths["image"], paths["audio"]
    return Items.of(
        [*images, *sounds],
        paths={
            "image": [*images, *[""] * len(sounds)],
            "audio": [*[""] * len(images), *sounds],
        },
        root=str(shared_data),
    )


def test_all_broken_files_in_one_run(tmp_path, dirty, encoders):
    pytest.importorskip("av")
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        account = extract(store, dirty, encoders, workers=2)
        image, audio = account.sets["image"], account.sets["audio"]
        assert (image.done + image.reused, image.failed, image.missing) == (99, 48, 198)
        # nine of the sounds are AAC, which libsndfile does not know
        assert (audio.done + audio.reused, audio.failed, audio.missing) == (115, 83, 147)
        for name, tally in account.sets.items():
            errors = store.errors(name)
            assert len(errors) == len({e.id for e in errors}) == tally.failed
            assert {e.id for e in errors} == {f.id for f in tally.failures}
            assert all(e.code and e.line.startswith(e.id) for e in errors)
            status = store.progress(name).status
            assert (status == FAILED).sum() == tally.failed
            x = store.feature_set(name).x(np.flatnonzero(status == OK))
            assert np.isfinite(x).all()
        again = extract(store, dirty, encoders, workers=2)
        assert again.calls == 0
        assert all(f.known for f in again.failures)
        assert again.failed == account.failed


def test_a_hopeless_run_is_stopped(tmp_path, dirty, encoders):
    with (
        FeatureStore.open(tmp_path / "f.h5", "a") as store,
        pytest.raises(TooManyFailures, match="rows failed"),
    ):
        extract(store, dirty, encoders, workers=2, fail_threshold=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["image", "audio"])
def test_mutated_files_never_end_the_parent(tmp_path, shared_data, kind):
    """600 mutations of the broken and of good files: each is a vector or a named failure."""
    folder = shared_data / ("dirty_images" if kind == "image" else "dirty_audio")
    files = sorted(p for p in folder.iterdir() if p.suffix != ".csv" and p.stat().st_size < 200_000)
    rng = np.random.default_rng(2026)
    out = tmp_path / "mutated"
    out.mkdir()
    for i in range(600):
        data = bytearray(files[int(rng.integers(len(files)))].read_bytes())
        if not data:
            continue
        for at in rng.integers(0, len(data), int(rng.integers(1, 20))):
            data[at] = rng.integers(0, 256)
        if rng.random() < 0.3:
            data = data[: int(rng.integers(1, len(data) + 1))]
        (out / f"{i:04d}").write_bytes(bytes(data))
    loader = (
        ImageLoader(Preprocess.of_size((64, 64), 1.0, (0.5,), (0.5,)))
        if kind == "image"
        else MfccLoader()
    )
    names = sorted(p.name for p in out.iterdir())
    with Workers(Reader(str(out)), loader, 2, seconds=20) as pool:
        results = list(pool.run(Task(i, name) for i, name in enumerate(names)))
    assert [r.number for r in results] == list(range(len(names)))
    codes = {r.error[0] for r in results if r.error}
    assert "loader-error" not in codes, {r.error for r in results if r.error}
    for name, result in zip(names, results):
        assert (result.item is None) == (result.error is not None)
        if not result.error or result.error[0] not in ("worker-died", "timeout"):
            assert result.digest == hashlib.sha256((out / name).read_bytes()).digest()
