"""The transforms of timm and torchvision, pixel for pixel."""

import itertools
import pickle

import numpy as np
import pytest
from PIL import Image

from headstock.extract.decode.preprocess import INTERPOLATIONS, ImageLoader, Preprocess
from headstock.store.errors import OptionError

SIZES = [(500, 375), (375, 500), (224, 224), (100, 60), (640, 227), (33, 300), (1, 5), (301, 299)]


def picture(size: tuple[int, int]) -> Image.Image:
    rng = np.random.default_rng(size[0] * 1000 + size[1])
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest", "lanczos"])
def test_equals_timm(mode, interpolation):
    from timm.data import create_transform

    for crop_pct, target in itertools.product((0.875, 0.95, 1.0, 1.15), ((64, 64), (64, 48))):
        theirs = create_transform(
            (3, *target),
            crop_pct=crop_pct,
            crop_mode=mode,
            interpolation=interpolation,
            mean=(0.485, 0.456, 0.406),
            normalize=False,
        )
        ours = Preprocess.of_size(
            target, crop_pct, (0.485, 0.456, 0.406), (0.2,), interpolation, mode
        )
        for size in SIZES:
            image = picture(size)
            expected = theirs(image).permute(1, 2, 0).numpy()
            apart = np.abs(np.asarray(ours(image)).astype(int) - expected)
            assert apart.max() <= 1, (crop_pct, target, size)


def test_equals_torchvision_over_its_own_weights():
    from torchvision import models
    from torchvision.transforms import functional as F

    from headstock.extract.encoders.torchvision_networks import _preprocess

    kinds = {}
    for name in models.list_models(module=models):
        for entry in models.get_model_weights(name):
            own = entry.transforms()
            kinds[(own.crop_size[0], own.resize_size[0], own.interpolation)] = own
    assert len(kinds) > 10
    for own in kinds.values():
        ours = _preprocess(own, {})
        assert (list(ours.mean), list(ours.std)) == (own.mean, own.std)
        for size in ((500, 375), (60, 100), (333, 1000)):
            image = picture(size)
            expected = F.center_crop(
                F.resize(image, own.resize_size, interpolation=own.interpolation), own.crop_size
            )
            apart = np.abs(np.asarray(ours(image)).astype(int) - np.asarray(expected))
            assert apart.max() <= 1, (own, size)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos", "hamming"])
def test_the_box_alone_is_the_crop_of_the_whole_within_one_grey_level(interpolation):
    """Pictures that overshoot: noise and hard edges, over sizes, crops and shapes."""
    rng = np.random.default_rng(5)
    boxes = 0
    for _ in range(40):
        w, h = (int(v) for v in rng.integers(70, 500, 2))
        values = rng.integers(0, 256, (h, w, 3)) if rng.random() < 0.5 else _checks(rng, w, h)
        image = Image.fromarray(values.astype(np.uint8))
        share = float(rng.choice([0.8, 0.875, 0.95, 1.0]))
        ours = Preprocess.of_size((56, 56), share, (0.5,), (0.5,), interpolation)
        th, tw = ours.resized(h, w)
        whole = image.resize((tw, th), INTERPOLATIONS[interpolation])
        top, left = round((th - 56) / 2), round((tw - 56) / 2)
        crop = np.asarray(whole.crop((left, top, left + 56, top + 56))).astype(int)
        apart = np.abs(np.asarray(ours(image)).astype(int) - crop)
        assert apart.max() <= 2, (w, h, share)
        assert (apart > 1).mean() < 1e-3, (w, h, share)
        boxes += ours._kept(w, h, (th, tw)) is not None
    assert boxes > 20


def _checks(rng, w: int, h: int) -> np.ndarray:
    """A board of black and white cells of random size."""
    step = int(rng.integers(2, 20))
    board = (np.arange(h)[:, None] // step + np.arange(w)[None] // step) % 2
    return np.repeat(board[:, :, None] * 255, 3, axis=2)


def test_photographs_differ_by_one_grey_level_at_most():
    from headstock.extract.decode.images import decode_image
    from headstock.extract.doctor import sample_jpeg

    for size in ((500, 375), (375, 500), (1280, 720)):
        image = decode_image(sample_jpeg(*size))
        for share in (0.875, 0.95, 1.0):
            ours = Preprocess.of_size((224, 224), share, (0.5,), (0.5,))
            h, w = ours.resized(*image.size[::-1])
            whole = image.resize((w, h), Image.Resampling.BICUBIC)
            top, left = round((h - 224) / 2), round((w - 224) / 2)
            crop = np.asarray(whole.crop((left, top, left + 224, top + 224))).astype(int)
            assert np.abs(np.asarray(ours(image)).astype(int) - crop).max() <= 1


def test_torchvision_with_a_stated_size_keeps_its_crop_share():
    from torchvision.models import ResNet50_Weights

    from headstock.extract.encoders.torchvision_networks import _preprocess

    own = ResNet50_Weights.IMAGENET1K_V1.transforms()  # 256, then 224
    assert _preprocess(own, {"input_size": (112, 112)}).resize == (128, 128)


def test_loader_gives_uint8_and_crosses_processes():
    from io import BytesIO

    loader = ImageLoader(Preprocess.of_size((32, 32), 1.0, (0.5,), (0.5,)))
    out = BytesIO()
    picture((60, 40)).save(out, "PNG")
    again = pickle.loads(pickle.dumps(loader))  # noqa: S301
    shown = again(out.getvalue())
    assert shown.shape == (32, 32, 3)
    assert shown.dtype == np.uint8
    assert np.array_equal(shown, loader(out.getvalue()))


def test_fast_decoding_keeps_twice_the_size_and_is_another_recipe():
    from headstock.extract.decode.images import decode_image
    from headstock.extract.doctor import sample_jpeg

    data = sample_jpeg(1280, 960)
    assert decode_image(data, enough=400).size == (640, 480)
    assert decode_image(data, enough=500).size == (1280, 960)
    full = ImageLoader(Preprocess.of_size((100, 100), 1.0, (0.5,), (0.5,)))
    fast = ImageLoader(full.preprocess, fast=True)
    assert fast.recipe() != full.recipe()
    difference = np.abs(full(data).astype(int) - fast(data))
    assert 0 < difference.mean() < 2


def test_recipe_goes_both_ways():
    made = Preprocess.of_size((64, 48), 0.9, (0.1, 0.2, 0.3), (0.4,), "bilinear", "squash")
    assert Preprocess.from_recipe(made.recipe()) == made


@pytest.mark.parametrize(
    "wrong",
    [
        {"interpolation": "cubic"},
        {"mode": "stretch"},
        {"std": (0.0,)},
        {"mean": (0.5, 0.5)},
        {"size": (0, 8)},
        {"size": (9000, 9000)},
        {"crop_pct": 0},
    ],
)
def test_settings_without_meaning_are_refused(wrong):
    settings = {"size": (8, 8), "crop_pct": 1.0, "mean": (0.5,), "std": (0.5,)}
    with pytest.raises(OptionError):
        Preprocess.of_size(**{**settings, **wrong})
