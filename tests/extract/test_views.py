"""Layers, poolings and mirrored pictures: equal to the textbook way, and each its own recipe."""

import numpy as np
import pytest
import torch
from torch import nn

from headstock.extract import encoder_from_recipe, image_encoder
from headstock.extract.runtimes.views import View, Whole
from headstock.store.errors import OptionError

OPTIONS = {"untrained_seed": 0, "device": "cpu", "input_size": 64}


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def normalised(encoder, images: np.ndarray) -> torch.Tensor:
    p = encoder.network.preprocess
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(p.mean).view(1, 3, 1, 1)) / torch.tensor(p.std).view(1, 3, 1, 1)


def layer_of(encoder, images: np.ndarray, layer: str) -> torch.Tensor:
    seen = []
    hook = encoder.network.module.get_submodule(layer).register_forward_hook(
        lambda _, __, out: seen.append(out)
    )
    with torch.inference_mode():
        encoder.network.module(normalised(encoder, images))
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("runtime", ["torch", "auto"])
@pytest.mark.parametrize("pool", [None, "avg", "max"])
def test_a_layer_of_a_convolutional_network(runtime, pool):
    encoder = image_encoder(
        "timm:test_resnet", layer="layer3", pool=pool, runtime=runtime, **OPTIONS
    )
    images = pictures(9)
    maps = layer_of(encoder, images, "layer3")
    expected = maps.amax(dim=(2, 3)) if pool == "max" else maps.mean(dim=(2, 3))
    assert encoder.dim == expected.shape[1]
    shown = encoder.encode(list(images))
    assert np.abs(shown - expected.numpy()).max() <= 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize("pool", ["avg", "max", "cls"])
def test_a_layer_of_a_transformer(pool):
    encoder = image_encoder(
        "timm:test_vit", untrained_seed=0, device="cpu", layer="blocks.1", pool=pool
    )
    size = encoder.network.preprocess.crop[0]
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    tokens = layer_of(encoder, images, "blocks.1")
    expected = {"avg": tokens.mean(1), "max": tokens.amax(1), "cls": tokens[:, 0]}[pool]
    shown = encoder.encode(list(images))
    assert np.abs(shown - expected.numpy()).max() <= 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize("runtime", ["torch", "auto"])
def test_mirrored_pictures(runtime):
    made = {
        flip: image_encoder("timm:test_resnet", flip=flip, runtime=runtime, **OPTIONS)
        for flip in ("none", "mean", "both", "only")
    }
    images = pictures(5)
    plain = made["none"].encode(list(images))
    mirrored = made["none"].encode(list(images[:, :, ::-1]))
    near = {"rtol": 1e-4, "atol": 1e-5}
    assert np.allclose(made["only"].encode(list(images)), mirrored, **near)
    assert np.allclose(made["mean"].encode(list(images)), (plain + mirrored) / 2, **near)
    both = np.concatenate([plain, mirrored], axis=1)
    assert np.allclose(made["both"].encode(list(images)), both, **near)
    assert made["both"].dim == 2 * made["none"].dim


def test_maps_with_channels_last_are_pooled_over_places():
    class Last(nn.Module):
        output_fmt = "NHWC"

        def __init__(self):
            super().__init__()
            self.stage = nn.Identity()

        def forward(self, x):
            return self.stage(x.permute(0, 2, 3, 1)).mean(dim=(1, 2))

    encoder = image_encoder("timm:test_resnet", **OPTIONS)
    whole = Whole(Last(), encoder.network.preprocess, [View("stage")])
    images = pictures(2)
    expected = normalised(encoder, images).mean(dim=(2, 3))
    assert torch.allclose(whole(torch.from_numpy(images)), expected, atol=1e-5)


def test_views_are_recipes_of_their_own_and_go_both_ways():
    plain = image_encoder("timm:test_resnet", **OPTIONS)
    assert {"layer", "flip"}.isdisjoint(plain.recipe().fields)
    seen = {plain.recipe().fingerprint}
    for told in ({"layer": "layer2"}, {"layer": "layer2", "pool": "max"}, {"flip": "mean"}):
        encoder = image_encoder("timm:test_resnet", **told, **OPTIONS)
        seen.add(encoder.recipe().fingerprint)
        again = encoder_from_recipe(encoder.recipe(), device="cpu")
        images = list(pictures(2))
        assert np.array_equal(again.encode(images), encoder.encode(images))
    assert len(seen) == 4


def test_views_without_meaning_are_refused_with_what_is_near():
    with pytest.raises(OptionError, match="layer3"):
        image_encoder("timm:test_resnet", layer="layer33", **OPTIONS)
    for wrong in ({"pool": "max"}, {"layer": "layer2", "pool": "median"}, {"flip": "up"}):
        with pytest.raises(OptionError):
            image_encoder("timm:test_resnet", **wrong, **OPTIONS)
