"""Copies among pictures and sounds, and near duplicates that are none."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter

from headstock.extract.encoders.fingerprints import SpectrumLoader, ThumbnailLoader
from headstock.extract.job import extract_manifest
from headstock.heads import evaluate, make_folds
from headstock.heads.report.rows import hygiene_lines
from headstock.heads.rows.copies import copies
from headstock.heads.rows.hygiene import clean, find_duplicates, hygiene_report
from headstock.heads.rows.labelled import Rows
from headstock.heads.rows.media import media_of
from headstock.heads.run.as_json import parse
from headstock.heads.run.rows import Hygiene
from headstock.store import FeatureStore, Manifest

ORIGINALS = 40
RATE = 16_000


def _pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    out = []
    for _ in range(ORIGINALS):
        x = sum(
            weight * gaussian_filter(rng.normal(size=(96, 128, 3)), (sigma, sigma, 0.3)) * sigma
            for sigma, weight in ((24, 1.0), (8, 1.0), (3, 1.0))
        )
        x = (x - x.min()) / (x.max() - x.min())
        out.append(Image.fromarray((25 + 170 * x).astype(np.uint8)))
    return out


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(out)


PICTURES = {
    "jpeg 20": (lambda i: _jpeg(i, 20), 0.95),
    "half size": (lambda i: i.resize((64, 48)), 0.95),
    "grey": (lambda i: i.convert("L"), 0.95),
    "brighter": (lambda i: i.point(lambda v: min(255, int(1.2 * v))), 0.95),
    "mirrored": (ImageOps.mirror, 0.95),
    "crop 95 %": (lambda i: i.crop((3, 2, 125, 94)), 0.9),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_saved_again_are_found(kind: str) -> None:
    change, least = PICTURES[kind]
    load, pictures = ThumbnailLoader().transform, _pictures()
    X = np.stack([load(i) for i in pictures] + [load(change(i)) for i in pictures])
    found = {tuple(pair) for pair in copies(X.astype(np.float16), "image").tolist()}
    true = {(i, i + ORIGINALS) for i in range(ORIGINALS)}
    assert len(found & true) >= least * ORIGINALS
    assert not found - true


def _sounds() -> list[np.ndarray]:
    """Some seconds of chirps and bursts of noise, each its own."""
    rng, out = np.random.default_rng(1), []
    for _ in range(ORIGINALS):
        t, x = np.arange(int(1.6 * RATE)) / RATE, np.zeros(int(1.6 * RATE))
        for _ in range(8):
            at, length = rng.uniform(0, 1.4), rng.uniform(0.05, 0.4)
            bump = np.exp(-(((t - at) / length) ** 2) * 4)
            pitch = rng.uniform(150, 3000) * (1 + rng.uniform(-0.3, 0.3) * t)
            x += rng.uniform(0.2, 1) * bump * np.sin(2 * np.pi * np.cumsum(pitch) / RATE)
        x += 0.003 * rng.normal(size=len(t))
        out.append((0.5 * x / abs(x).max()).astype(np.float32))
    return out


def _file(x: np.ndarray, kind: str = "WAV") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, x, RATE, format=kind)
    return out.getvalue()


MOMENT = RATE // 20
SOUNDS = {
    "mp3": lambda x: _file(x, "MP3"),
    "ogg": lambda x: _file(x, "OGG"),
    "half as loud": lambda x: _file(0.5 * x),
    "cut": lambda x: _file(x[MOMENT:-MOMENT]),
    "moved": lambda x: _file(np.concatenate([np.zeros(MOMENT, np.float32), x])),
}


@pytest.mark.parametrize("kind", SOUNDS)
def test_sounds_saved_again_are_found(kind: str) -> None:
    load, sounds = SpectrumLoader(), _sounds()
    X = [load(_file(x)) for x in sounds] + [load(SOUNDS[kind](x)) for x in sounds]
    found = {tuple(pair) for pair in copies(np.stack(X).astype(np.float16), "audio").tolist()}
    true = {(i, i + ORIGINALS) for i in range(ORIGINALS)}
    assert len(found & true) >= 0.95 * ORIGINALS
    assert not found - true


@pytest.fixture(scope="module")
def twice(tmp_path_factory) -> Path:
    """Sounds of random labels, each once more as a quieter ogg, in a table."""
    folder = tmp_path_factory.mktemp("twice")
    rng, lines = np.random.default_rng(2), ["id,audio,label"]
    for number, sound in enumerate(_sounds()):
        label = "abcd"[rng.integers(4)]
        (folder / f"{number}.wav").write_bytes(_file(sound))
        (folder / f"{number}.ogg").write_bytes(_file(0.5 * sound, "OGG"))
        lines += [f"{number},{number}.wav,{label}", f"again{number},{number}.ogg,{label}"]
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_copies_do_not_lend_a_score(twice: Path) -> None:
    table = Manifest.read(twice / "index.csv")
    account = extract_manifest(table, twice / "with.h5", workers=0)
    assert list(account.sets) == ["audio"]
    assert account.fingerprints["audio.fingerprint"].done == 2 * ORIGINALS
    with FeatureStore.open(twice / "with.h5") as store:
        assert store.sets == ["audio"]
        assert store.fingerprints == ["audio.fingerprint"]
        honest = evaluate(store, ("knn",), folds=4)
        kept = evaluate(store, ("knn",), folds=4, dedupe="keep")
    told = honest.run.hygiene.copies["audio"]
    assert told.clusters >= 0.95 * ORIGINALS
    assert told.across_folds == 0
    assert "are copies of one sound (kept in one fold)" in honest.text()
    assert kept.leaderboard[0].accuracy.value > 0.6  # what copies would lend
    assert honest.leaderboard[0].accuracy.value < 0.45
    assert kept.run.hygiene.copies["audio"].across_folds > ORIGINALS / 2


def test_pictures_and_sounds_are_called_what_they_are() -> None:
    found = {"clusters": 1, "rows": 2, "across_folds": 0, "across_splits": 0, "other_label": 0}
    lines = hygiene_lines(
        parse(Hygiene, {"dedupe": "group", "copies": {"image": found, "audio": found}})
    )
    assert [line.partition(" (")[0] for line in lines] == [
        "image: 2 rows in 1 clusters are copies of one picture",
        "audio: 2 rows in 1 clusters are copies of one sound",
    ]


def test_above_the_limit_nothing_is_read_and_no_empty_advice_given(
    twice: Path, monkeypatch
) -> None:
    monkeypatch.setattr("headstock.heads.rows.media.LARGEST", 10)
    extract_manifest(Manifest.read(twice / "index.csv"), twice / "with.h5", workers=0)
    with FeatureStore.open(twice / "with.h5") as store:
        assert len(media_of(store, ["audio"], store.items.id).prints["audio"][1]) == 0
        text = evaluate(store, ("knn",), folds=4).text()
    assert "audio: copies of one sound are not searched above 10 rows" in text
    assert "no fingerprints" not in text


def test_a_store_without_fingerprints_says_so(twice: Path) -> None:
    table = Manifest.read(twice / "index.csv")
    extract_manifest(table, twice / "without.h5", fingerprints=False, workers=0)
    with FeatureStore.open(twice / "without.h5") as store:
        assert store.all_sets == ["audio"]
        text = evaluate(store, ("knn",), folds=4).text()
    assert "audio: no fingerprints: copies saved again are looked for among vectors only" in text
    extract_manifest(table, twice / "without.h5", workers=0)  # the way out
    with FeatureStore.open(twice / "without.h5") as store:
        assert "no fingerprints" not in evaluate(store, ("knn",), folds=4).text()


def test_a_broken_file_fails_once(twice: Path) -> None:
    (twice / "broken.wav").write_bytes(b"RIFF nothing")
    (twice / "some.csv").write_text("id,audio,label\n1,1.wav,a\n2,broken.wav,b\n")
    account = extract_manifest(Manifest.read(twice / "some.csv"), twice / "some.h5", workers=0)
    assert account.failed == 1
    assert len(account.failures) == 1
    with FeatureStore.open(twice / "some.h5") as store:
        assert [error.set for error in store.errors()] == ["audio"]


def _rows(X: np.ndarray) -> Rows:
    codes = (X[:, 0] > 0).astype(int)
    return Rows(np.arange(len(X)).astype(str), {"a": X.astype(np.float32)}, codes, np.array("ab"))


@pytest.mark.parametrize("factors", [2, 3])
def test_tables_of_few_factors_keep_even_folds(factors: int) -> None:
    """Every row has neighbours of cosine above .98, and none is a copy."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, factors)) @ rng.normal(size=(factors, 10))
    X += 0.05 * rng.normal(size=X.shape)
    rows = _rows(X)
    rows = replace(rows, classes=np.array(["x", "y"]))
    found = find_duplicates(rows)
    assert not found.near["a"]
    assert clean(rows, None, found, "drop")[1] == 0
    X[100:150] = X[:50]  # true copies are found among them all the same
    found = find_duplicates(replace(rows, X={"a": X.astype(np.float32)}))
    assert [list(c) for c in found.near["a"]] == [[i, i + 100] for i in range(50)]


def test_rows_of_noughts_and_ones_are_no_copies() -> None:
    X = np.random.default_rng(0).random((2000, 20)) < 0.1
    rows = replace(_rows(X), classes=np.array(["x", "y"]))
    found = find_duplicates(rows)
    assert not found.near
    assert len(np.unique(found.keys(2000))) == 2000
    assert "take many values" in found.skipped[0]


def test_what_no_fold_can_hold_is_told_and_not_tied() -> None:
    X = np.random.default_rng(0).normal(size=(300, 12))
    X[:120] = X[0]
    rows = replace(_rows(X), classes=np.array(["x", "y"]))
    found = find_duplicates(rows)
    assert found.large == {"a": [120]}
    assert clean(rows, None, found, "drop")[1] == 0
    plan = make_folds(rows.codes, 5, ids=rows.ids)
    lines = hygiene_lines(parse(Hygiene, hygiene_report(rows, None, found, plan, "group", 0)))
    assert any("120 rows have nearly the same vector, more than a fold holds" in x for x in lines)
