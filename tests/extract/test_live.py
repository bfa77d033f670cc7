"""Single uploads: the vectors of extraction, and hostile bytes that cost their own call."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
import soundfile
from counting import CountingLoader
from PIL import Image

from headstock.extract.encoders.backbones import audio_encoder, image_encoder
from headstock.extract.live import Live
from headstock.store.errors import BundleError, ItemError
from headstock.store.recipe import Recipe

NANO = "headstock:resnext_nano"


def picture(seed: int = 0) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def sound() -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.sin(np.arange(9000) / 9), 8000, format="WAV")
    return out.getvalue()


@pytest.fixture(scope="module")
def encoders():
    return {"image": image_encoder(NANO, device="cpu"), "audio": audio_encoder("mfcc")}


@pytest.fixture(scope="module")
def live(encoders):
    with Live({n: e.recipe() for n, e in encoders.items()}, device="cpu", seconds=2.0) as one:
        one.start()
        yield one


def test_gives_what_extraction_gives(live, encoders) -> None:
    assert live.modalities == ("image", "audio")
    files = {"image": picture(), "audio": sound()}
    said = live(files)
    for name, data in files.items():
        whole = encoders[name].encode([encoders[name].loader(data)])
        assert said[name].shape == (1, encoders[name].dim)
        np.testing.assert_allclose(said[name], whole, rtol=1e-4, atol=1e-5)
    assert set(live({"audio": sound()})) == {"audio"}


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("image", b"", "empty"),
        ("image", b"hello", "not-an-image"),
        ("image", picture()[:200], "truncated"),
        ("audio", picture(), "not-audio"),
        ("audio", b"RIFF\0\0\0\0WAVE", "corrupt"),
    ],
)
def test_bad_bytes_are_named_and_leave_nothing(live, name, data, code) -> None:
    with pytest.raises(ItemError) as told:
        live({"image": picture(), "audio": sound(), name: data})
    assert told.value.where == name
    assert told.value.code == code
    assert not list(live._folder.iterdir())
    assert live({"audio": sound()})["audio"].shape == (1, 104)


def test_calls_beside_each_other_do_not_mix(live) -> None:
    wanted = [live({"image": picture(i)})["image"] for i in range(4)]
    got: dict[int, np.ndarray] = {}

    def ask(i: int) -> None:
        got[i] = live({"image": picture(i % 4)})["image"]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for i in range(12):
        np.testing.assert_array_equal(got[i], wanted[i % 4])


@pytest.mark.parametrize(
    ("data", "code"), [(b"hang", "timeout"), (b"die", "worker-died"), (b"huge", "out-of-memory")]
)
def test_a_decoder_that_hangs_dies_or_eats_costs_its_call(data, code) -> None:
    live = Live({"audio": audio_encoder("mfcc").recipe()}, lanes=1, seconds=0.5)
    (encoder,) = live._encoders.values()
    encoder.loader = CountingLoader(dim=104)
    live._lanes = {"audio": live._idle(encoder, 1)}
    with live:
        with pytest.raises(ItemError) as told:
            live({"audio": data})
        assert told.value.code == code
        assert live({"audio": b"fine"})["audio"].shape == (1, 104)


def test_a_set_of_columns_is_refused() -> None:
    with pytest.raises(BundleError, match="set table: is made of columns"):
        Live({"table": Recipe("columns", {"columns": ["a"]})})
