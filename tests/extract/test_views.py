"""Layers, poolings and mirrored pictures: equal to the textbook way, and each its own recipe."""

import numpy as np
import pytest
import torch
from torch import nn

from headstock.extract import encoder_from_recipe, image_encoder
from headstock.extract.runtimes.views import View, Whole
from headstock.store import Recipe
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


TINY = {"depth": 2, "embed_dim": 24, "num_heads": 2}
TOKENS = [  # architecture, arguments, layer, tokens before those of places, class token
    ("timm:test_vit", {}, "blocks.1", 1, True),
    ("timm:test_vit2", {}, "blocks.1", 1, False),
    ("timm:vit_little_patch16_reg4_gap_256", TINY, "blocks.1", 4, False),
    ("timm:vit_small_patch14_reg4_dinov2", {**TINY, "img_size": 56}, "blocks.1", 5, True),
    ("timm:vit_base_patch16_radio_v3", TINY, "blocks.1", 8, True),
    ("timm:vit_tiny_r_s16_p8_224", {"depth": 2}, "blocks.1", 1, True),
    ("timm:vit_tiny_r_s16_p8_224", {"depth": 2}, "patch_embed.proj", 0, False),
    ("timm:vit_relpos_medium_patch16_cls_224", TINY, "blocks.1", 1, True),
    ("timm:vit_base_patch16_siglip_224", TINY, "blocks.1", 0, False),
    ("timm:deit_tiny_distilled_patch16_224", TINY, "blocks.1", 2, True),
    ("timm:beit_base_patch16_224", TINY, "blocks.1", 1, True),
    ("timm:eva02_tiny_patch14_224", {"depth": 2}, "blocks.1", 1, True),
    ("timm:vit_tiny_patch16_dinov3_qkvb", {"depth": 2}, "blocks.1", 5, True),
    ("timm:vit_medium_patch16_rope_reg1_gap_256", {"depth": 2}, "blocks.1", 1, False),
    ("timm:naflexvit_base_patch16_parfac_gap", TINY, "blocks.1", 4, False),
    ("timm:cait_xxs24_224", {"depth": 2}, "blocks.1", 0, False),
    ("timm:cait_xxs24_224", {"depth": 2}, "norm", 1, True),
    ("timm:xcit_nano_12_p8_224", {"depth": 2}, "blocks.1", 0, False),
    ("timm:xcit_nano_12_p8_224", {"depth": 2}, "cls_attn_blocks.1", 1, True),
    ("timm:convit_tiny", {}, "blocks.9", 0, False),
    ("timm:convit_tiny", {}, "blocks.10", 1, True),
    ("timm:coat_tiny", {}, "serial_blocks2.1", 1, True),
    ("timm:crossvit_tiny_240", {}, "norm.1", 1, True),
    ("timm:mvitv2_small_cls", {}, "norm", 1, True),
    ("timm:pit_ti_distilled_224", {}, "transformers.1", 0, False),
    ("timm:tnt_s_patch16_224", {"depth": 2}, "norm", 1, True),
    ("timm:volo_d1_224", {}, "post_network.0", 1, True),
    ("timm:volo_d1_224", {}, "network.2", 0, False),
    ("timm:swin_tiny_patch4_window7_224", {}, "layers.1", 0, False),
    ("timm:swin_tiny_patch4_window7_224", {}, "patch_embed.proj", 0, False),
    ("torchvision:vit_b_32", {"image_size": 96}, "encoder.layers.encoder_layer_0", 1, True),
]
"""Of every family of timm, and of torchvision, that puts tokens before those of places."""
LAST_CHANNELS = {"network.2", "layers.1"}
OTHER_LAYOUT = {  # than the library says of the whole network
    ("timm:volo_d1_224", "network.2"),
    ("timm:swin_tiny_patch4_window7_224", "patch_embed.proj"),
}


def transformer(name: str, args: dict, **view: str):
    told = {"input_size": args["img_size"]} if "img_size" in args else {}
    told |= {"input_size": args["image_size"]} if "image_size" in args else {}
    return image_encoder(
        name, untrained_seed=0, device="cpu", runtime="torch", model_args=args, **told, **view
    )


def some_pictures(encoder) -> np.ndarray:
    shape = (2, *encoder.network.preprocess.crop, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(("name", "args", "layer", "before", "cls"), TOKENS)
def test_places_are_told_from_other_tokens(name, args, layer, before, cls):
    encoder = transformer(name, args, layer=layer)
    images = some_pictures(encoder)
    out = layer_of(encoder, images, layer)
    out = out[0] if isinstance(out, tuple | list) else out
    if out.ndim == 4:
        out = out.flatten(1, 2) if layer in LAST_CHANNELS else out.flatten(2).transpose(1, 2)
    first, places = out[:, 0], out[:, before:]
    expected = {"avg": places.mean(1), "max": places.amax(1)}
    if cls:
        expected |= {"cls": first, "cls+avg": torch.cat([first, places.mean(1)], 1)}
    for pool in ("avg", "max", "cls", "cls+avg"):
        if pool not in expected:
            with pytest.raises(OptionError, match="no class token"):
                Whole(encoder.network.module, encoder.network.preprocess, [View(layer, pool)])(
                    torch.from_numpy(images)
                )
            continue
        whole = Whole(encoder.network.module, encoder.network.preprocess, [View(layer, pool)])
        with torch.inference_mode():
            shown = whole(torch.from_numpy(images))
        assert torch.allclose(shown, expected[pool], atol=1e-5 * float(out.abs().max())), pool
        if pool != "avg":
            continue
        assert ("tokens" in encoder.recipe().fields) == (
            before > 0 or (name, layer) in OTHER_LAYOUT
        )


@pytest.mark.parametrize("pool", ["avg", "cls", "cls+avg"])
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("timm:vit_tiny_patch16_dinov3_qkvb", {"depth": 4}),
        ("timm:vit_small_patch14_reg4_dinov2", {**TINY, "depth": 4, "img_size": 56}),
        ("timm:beit_base_patch16_224", {**TINY, "depth": 4}),
    ],
)
def test_the_last_blocks_are_those_of_the_library(name, args, pool):
    encoder = transformer(name, args, layer="last3", pool=pool)
    images = some_pictures(encoder)
    with torch.inference_mode():
        found = encoder.network.module.forward_intermediates(
            normalised(encoder, images), 3, return_prefix_tokens=True, norm=True,
            output_fmt="NLC", intermediates_only=True,
        )  # fmt: skip
    parts = []
    for places, prefix in found:
        own = {"avg": [places.mean(1)], "cls": [prefix[:, 0]]}
        parts += {**own, "cls+avg": own["cls"] + own["avg"]}[pool]
    expected = torch.cat(parts, 1).numpy()
    assert encoder.dim == expected.shape[1]
    assert np.abs(encoder.encode(list(images)) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_the_last_blocks_on_openvino_and_what_has_none():
    view = {"layer": "last2", "pool": "cls+avg"}
    one = transformer("timm:test_vit", {}, **view)
    other = image_encoder("timm:test_vit", untrained_seed=0, device="cpu", **view)
    images = list(some_pictures(one))
    assert np.allclose(one.encode(images), other.encode(images), rtol=1e-3, atol=1e-4)
    with pytest.raises(OptionError, match="6 blocks"):
        transformer("timm:test_vit", {}, layer="last9")
    with pytest.raises(OptionError, match="no one row"):
        transformer("timm:test_resnet", {}, layer="last2")
    with pytest.raises(OptionError, match="several sizes"):
        transformer("timm:convit_tiny", {}, layer="last3")
    with pytest.raises(OptionError, match="no places"):
        transformer("timm:cait_xxs24_224", {"depth": 2}, layer="blocks_token_only.1")


def test_a_recipe_from_before_places_were_told_keeps_its_meaning():
    """All tokens, the class token and registers among them; never another vector in silence."""
    encoder = transformer("timm:test_vit", {}, layer="blocks.1")
    fields = dict(encoder.recipe().fields)
    assert fields.pop("tokens") == "places"
    old = encoder_from_recipe(Recipe("image", fields), device="cpu")
    assert old.recipe().fields == fields
    images = some_pictures(encoder)
    tokens = layer_of(encoder, images, "blocks.1")
    assert np.allclose(old.encode(list(images)), tokens.mean(1), atol=1e-5)
    assert np.allclose(encoder.encode(list(images)), tokens[:, 1:].mean(1), atol=1e-5)
    assert encoder.recipe().difference(old.recipe()) == ["tokens: places -> absent"]
    registers = transformer("timm:test_vit2", {}, layer="blocks.1")
    with pytest.raises(OptionError, match="no class token"):
        encoder_from_recipe(
            Recipe("image", {**registers.recipe().fields, "pooling": "cls"}), device="cpu"
        )


def test_views_over_all_tokens_and_over_places_share_a_pass():
    encoder = transformer("timm:test_vit", {}, layer="blocks.1")
    images = some_pictures(encoder)
    views = [View("blocks.1", "avg"), View("blocks.1", "avg", tokens="all"), View("last2", "cls")]
    whole = Whole(encoder.network.module, encoder.network.preprocess, views)
    with torch.inference_mode():
        raw = whole(torch.from_numpy(images)).numpy()
    tokens = layer_of(encoder, images, "blocks.1")
    assert np.allclose(whole.take(raw, views[0]), tokens[:, 1:].mean(1), atol=1e-5)
    assert np.allclose(whole.take(raw, views[1]), tokens.mean(1), atol=1e-5)
    assert whole.take(raw, views[2]).shape == (2, 128)


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
