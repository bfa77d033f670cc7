"""The contract of Encoder, for each kind in the table. A new kind is one more line in ENCODERS."""

import functools
import pickle
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from headstock.extract import (
    Encoder,
    Loader,
    audio_encoder,
    check_encoder,
    encoder_from_recipe,
    extract,
    image_encoder,
)
from headstock.extract.contract import sample_files
from headstock.extract.encoders.audio import AUDIO
from headstock.extract.encoders.backbones import LIBRARIES
from headstock.extract.encoders.fingerprints import PictureFingerprint, SoundFingerprint
from headstock.store import FeatureStore, Items, Recipe
from headstock.store.errors import EncoderError, ItemError, OptionError


@functools.cache
def network() -> Path:
    """A network of sounds in a file."""
    path = Path(tempfile.mkdtemp(prefix="headstock-test-"), "small.onnx")
    torch.manual_seed(0)
    module = torch.nn.Linear(800, 4)
    torch.onnx.export(module, (torch.zeros(1, 800),), str(path), dynamo=False)
    return path


ENCODERS = {
    "timm": lambda: image_encoder("timm:test_resnet", untrained_seed=0, input_size=64),
    "timm transformer": lambda: image_encoder("timm:test_vit", untrained_seed=0),
    "torchvision": lambda: image_encoder("torchvision:mnasnet0_5", untrained_seed=0),
    "headstock": lambda: image_encoder("headstock:cnn4", untrained_seed=0),
    "headstock layer": lambda: image_encoder("headstock:resnext_nano", layer="layer3", flip="mean"),
    "mfcc": lambda: audio_encoder("mfcc"),
    "net:FILE": lambda: audio_encoder(f"net:{network()}", rate=8000, axes="bt", window=800),
    "headstock:speech_embedding": lambda: audio_encoder("headstock:speech_embedding"),
    "mfcc with more": lambda: audio_encoder("mfcc", stats=("mean", "std"), windows=3, rate=8000),
}
PRINTS = {"picture fingerprint": PictureFingerprint, "sound fingerprint": SoundFingerprint}


def test_the_table_is_covered():
    kinds = {name.split()[0] for name in ENCODERS}
    elsewhere = {"hf:FOLDER"}  # tests/extract/test_folder_sounds.py, where its extra is
    assert kinds >= {*LIBRARIES, *AUDIO} - elsewhere


@pytest.mark.parametrize("kind", [*ENCODERS, *PRINTS])
def test_it_keeps_the_contract(kind):
    kept = check_encoder((ENCODERS | PRINTS)[kind])
    assert len(kept) == 13  # no word of workers that cannot have its loader


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_rebuilt_from_its_recipe_gives_the_same_vectors(kind):
    encoder = ENCODERS[kind]()
    items = [encoder.loader(data) for data in sample_files(encoder.modality)]
    again = encoder_from_recipe(encoder.recipe(), provenance=encoder.provenance())
    assert np.array_equal(again.encode(items), encoder.encode(items))


@dataclass(frozen=True)
class Bytes(Loader):
    """The first bytes of a file."""

    count: int = 4

    def decode(self, data):
        if len(data) < 20:
            raise ItemError("item", "is too short", code="short")
        if data.startswith(b"nonsense"):
            raise ItemError("item", "is nonsense", code="nonsense")
        return np.frombuffer(data[16:20], np.uint8).copy()


class Plain(Encoder):
    """Keeps the contract; each mutant below breaks one clause of it."""

    name, modality, dim, loader = "plain", "bytes", 4, Bytes()

    def recipe(self):
        return Recipe("bytes", {"encoder": "plain"})

    def encode(self, items):
        return np.stack(items).astype(np.float32)


class Nameless(Plain):
    name = ""


class Drifting(Plain):
    def encode(self, items):
        self.recipe = lambda: Recipe("bytes", {"encoder": "plain", "calls": 1})
        return super().encode(items)


class Double(Plain):
    def encode(self, items):
        return super().encode(items).astype(np.float64)


class Crowd(Plain):
    def encode(self, items):
        return super().encode(items) + np.float32(len(items))


class Vandal(Plain):
    def encode(self, items):
        out = super().encode(items)
        for item in items:
            item += 1
        return out


class Confused(Plain):
    def finish(self, flight):
        return super().finish(flight) + 1


class Backwards(Plain):
    calls = 0

    def status(self):
        from headstock.extract.encoder import Status

        self.calls += 1
        return Status(model_seconds=float(-self.calls))


class Secret(Plain):
    def provenance(self):
        return {"array": np.zeros(2)}


class Sharing(Plain):
    trunk = "one"

    def shared(self, encoders):
        return [Confused() for _ in encoders]


class Taking(Plain):
    @dataclass(frozen=True)
    class Any(Bytes):
        def decode(self, data):
            return np.frombuffer(data[16:20] or b"none", np.uint8)

    loader = Any()


class Spoilt(Plain):
    def prepare(self, batch):
        self.encode = lambda items: Plain.encode(self, items) * 2


class Once(Plain):
    class Spent(Bytes):
        def transform(self, decoded):
            out = decoded.copy()
            decoded += 1
            return out

    loader = Spent()


class Stranger(Plain):
    class Alone(Bytes):
        __hash__ = object.__hash__

        def __eq__(self, other):
            return self is other

    loader = Alone()


FILES = [bytes([n]) * 40 for n in (3, 5, 250)]


def test_an_encoder_of_ones_own_is_checked():
    assert len(check_encoder(Plain, FILES)) == 13


def test_a_loader_of_a_script_is_said_to_be_one(monkeypatch):
    module = type(sys)("nowhere_to_be_found")
    module.Bytes = Bytes
    monkeypatch.setitem(sys.modules, "nowhere_to_be_found", module)
    monkeypatch.setattr(Bytes, "__module__", "nowhere_to_be_found")
    kept = check_encoder(Plain, FILES)
    assert len(kept) == 14
    assert kept[-1].endswith("it works with -j 0 alone")


@pytest.mark.parametrize(
    ("mutant", "clause"),
    [
        (Nameless, "name and modality"),
        (Drifting, "changes with the first items"),
        (Secret, "provenance is plain data: it raised TypeError"),
        (Double, "float64"),
        (Crowd, "neighbours change a vector"),
        (Vandal, "encode changes its items"),
        (Confused, "is not encode"),
        (Sharing, "share passes give other vectors"),
        (Backwards, "clocks run backwards"),
        (Stranger, "is another one"),
        (Once, "second transform"),
        (Taking, "is taken for a file"),
        (Spoilt, "another vector after prepare"),
        (lambda: object(), "object is no Encoder"),
    ],
)
def test_each_broken_clause_is_named(mutant, clause):
    with pytest.raises(EncoderError, match=clause):
        check_encoder(mutant, FILES)


def test_what_is_no_encoder_is_refused_before_anything_is_made(tmp_path):
    class Alike:
        name, modality, dim, loader = "alike", "image", 4, bytes

    (tmp_path / "a").write_bytes(b"a")
    items = Items.of(["a"], paths={"image": ["a"]}, root=str(tmp_path))
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        with pytest.raises(OptionError, match=r"set image: Alike is no Encoder; inherit"):
            extract(store, items, {"image": Alike()}, workers=0)
        assert not store.n


def test_a_loader_is_its_equals():
    a, b = Bytes(), pickle.loads(pickle.dumps(Bytes()))  # noqa: S301
    assert a.decoding == b.decoding != Bytes(3).decoding
