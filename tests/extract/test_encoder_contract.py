"""The contract of Encoder, for each kind in the table. A new kind is one more line in ENCODERS."""

import io
import pickle

import numpy as np
import pytest
import soundfile
from PIL import Image

from headstock.extract import Encoder, Loader, audio_encoder, encoder_from_recipe, image_encoder
from headstock.extract.encoders.backbones import AUDIO, LIBRARIES
from headstock.store import Recipe
from headstock.store.errors import ItemError


def picture(number: int) -> bytes:
    rng = np.random.default_rng(number)
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (40 + number, 60, 3), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def sound(number: int) -> bytes:
    rng = np.random.default_rng(number)
    out = io.BytesIO()
    values = rng.uniform(-0.5, 0.5, 4000 + 500 * number).astype(np.float32)
    soundfile.write(out, values, 8000, format="WAV")
    return out.getvalue()


ENCODERS = {
    "timm": lambda: image_encoder("timm:test_resnet", untrained_seed=0, input_size=64),
    "timm transformer": lambda: image_encoder("timm:test_vit", untrained_seed=0),
    "torchvision": lambda: image_encoder("torchvision:mnasnet0_5", untrained_seed=0),
    "headstock": lambda: image_encoder("headstock:cnn4", untrained_seed=0),
    "mfcc": lambda: audio_encoder("mfcc"),
    "mfcc with more": lambda: audio_encoder("mfcc", stats=("mean", "std"), windows=3, rate=8000),
}


@pytest.fixture(params=ENCODERS, scope="module")
def made(request):
    encoder = ENCODERS[request.param]()
    files = [(picture if encoder.modality == "image" else sound)(i) for i in range(5)]
    return request.param, encoder, files, [encoder.loader(data) for data in files]


def test_the_table_is_covered():
    kinds = {name.split()[0] for name in ENCODERS}
    assert kinds >= {*LIBRARIES, *AUDIO}


def test_it_is_an_encoder(made):
    _, encoder, _, _ = made
    assert isinstance(encoder, Encoder)
    assert isinstance(encoder.loader, Loader)
    assert encoder.modality in ("image", "audio")
    assert encoder.name


def test_vectors_have_the_promised_shape(made):
    _, encoder, _, items = made
    for b in (1, 5):
        vectors = encoder.encode(items[:b])
        assert vectors.shape == (b, encoder.dim)
        assert vectors.dtype == np.float32
        assert np.isfinite(vectors).all()
    names = getattr(encoder, "feature_names", None)
    assert names is None or len(names) == encoder.dim


def test_a_vector_depends_on_its_own_item_alone_and_leaves_no_state(made):
    _, encoder, _, items = made
    together = encoder.encode(items)
    assert np.array_equal(together, encoder.encode(items))
    alone = np.concatenate([encoder.encode([item]) for item in reversed(items)])[::-1]
    assert np.allclose(together, alone, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(together[0], together[1])


def test_encoding_does_not_change_its_items(made):
    _, encoder, _, items = made
    before = [item.copy() for item in items]
    encoder.encode(items)
    assert all(np.array_equal(a, b) for a, b in zip(items, before))


def test_the_recipe_is_plain_stable_and_complete_before_the_first_item(made):
    kind, _, _, _ = made
    encoder = ENCODERS[kind]()
    before = encoder.recipe()
    assert before.modality == encoder.modality
    assert Recipe.from_json(before.to_json()) == before
    data = (picture if encoder.modality == "image" else sound)(0)
    encoder.encode([encoder.loader(data)])
    assert encoder.recipe() == before == ENCODERS[kind]().recipe()


def test_an_encoder_rebuilt_from_its_recipe_gives_the_same_vectors(made):
    _, encoder, _, items = made
    again = encoder_from_recipe(encoder.recipe())
    assert np.array_equal(again.encode(items), encoder.encode(items))


def test_the_loader_travels_and_is_the_same_function_there(made):
    _, encoder, files, items = made
    loader = pickle.loads(pickle.dumps(encoder.loader))  # noqa: S301
    assert np.array_equal(loader(files[1]), items[1])


@pytest.mark.parametrize("data", [b"", b"nonsense" * 50])
def test_the_loader_refuses_with_a_code(made, data):
    _, encoder, _, _ = made
    with pytest.raises(ItemError) as caught:
        encoder.loader(data)
    assert caught.value.code
