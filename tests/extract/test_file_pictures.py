"""Pictures by a network in a file: the forward pass of what was exported, and bounds."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from headstock.extract import check_encoder, encoder_from_recipe, image_encoder
from headstock.store import Recipe
from headstock.store.errors import HeadstockError, OptionError, UnsafeInput, WeightsError

GOOD = {"input_size": 32, "mean": [0.5, 0.4, 0.3], "std": 0.25, "crop_pct": 1.0}


class Small(nn.Module):
    """(b, 3, 32, 32) -> (b, 6, 4, 4)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 8, 8)

    def forward(self, x):
        return torch.tanh(self.conv(x))


def exported(module: nn.Module, example: torch.Tensor, path: Path, dynamic: bool = True) -> Path:
    axes = {"in": {0: "b"}} if dynamic else None
    torch.onnx.export(
        module.eval(), (example,), str(path), input_names=["in"], output_names=["out"],
        dynamic_axes=axes, dynamo=False,
    )  # fmt: skip
    return path


def described(path: Path, /, **fields) -> Path:
    path.with_name(path.name + ".json").write_text(json.dumps(fields))
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    return exported(Small(), torch.zeros(2, 3, 32, 32), folder / "small.onnx")


@pytest.fixture
def file(small, tmp_path):
    return described(Path(shutil.copy(small, tmp_path)), **GOOD, output_pool="mean")


def pictures(count: int = 11) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def maps(images: np.ndarray) -> np.ndarray:
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(GOOD["mean"]).view(1, 3, 1, 1)) / 0.25
    with torch.inference_mode():
        return Small().eval()(x).numpy()


def test_the_vectors_are_those_of_the_exported_network(file):
    images = pictures()
    encoder = image_encoder(f"net:{file}")
    assert encoder.dim == 6
    assert encoder.status().runtime == "openvino"
    shown = encoder.encode(list(images))
    assert np.abs(shown - maps(images).mean(axis=(2, 3))).max() < 1e-5
    first = described(file, **GOOD, output_pool="first")
    shown = image_encoder(f"net:{first}").encode(list(images))
    assert np.abs(shown - maps(images)[:, :, 0, 0]).max() < 1e-5
    both = image_encoder(f"net:{described(file, **GOOD, output_pool='mean')}", flip="both")
    expected = np.concatenate([maps(images), maps(images[:, :, ::-1].copy())], 1).mean(axis=(2, 3))
    assert np.abs(both.encode(list(images)) - expected).max() < 1e-5


@pytest.mark.parametrize("dynamic", [True, False])
def test_axes_channels_and_scale_of_the_file(tmp_path, dynamic):
    """Channels last, blue first, values to 255, one picture a pass where the file says so."""

    class Other(Small):
        def forward(self, x):
            x = x.permute(0, 3, 1, 2).flip(1) / 255
            mean = torch.tensor(GOOD["mean"]).view(1, 3, 1, 1)
            return super().forward((x - mean) / 0.25).mean(dim=(2, 3))

    path = exported(Other(), torch.zeros(1, 32, 32, 3), tmp_path / "other.onnx", dynamic)
    described(path, input_size=32, axes="bhwc", channels="bgr", scale=255)
    images = pictures()
    shown = image_encoder(f"net:{path}").encode(list(images))
    assert np.abs(shown - maps(images).mean(axis=(2, 3))).max() < 1e-4


def test_the_contract_and_the_recipe(file, tmp_path):
    check_encoder(lambda: image_encoder(f"net:{file}"))
    encoder = image_encoder(f"net:{file}", flip="mean")
    about, images = encoder.provenance(), list(pictures(3))
    again = encoder_from_recipe(encoder.recipe(), provenance=about)
    assert np.array_equal(again.encode(images), encoder.encode(images))
    moved = file.rename(tmp_path / "elsewhere.onnx")
    with pytest.raises(WeightsError, match="not where it was"):
        encoder_from_recipe(encoder.recipe(), provenance=about)
    assert encoder_from_recipe(encoder.recipe(), weights_hint=moved).recipe() == encoder.recipe()
    for wrong in ({"network": 1}, {"network": {}}, {"network": {"axes": "bchw"}},
                  {"network": {**encoder.recipe().fields["network"], "axes": "x"}},
                  {"weights": {"sha256": "../x"}},
                  {"layer": "conv", "pooling": "avg"}):  # fmt: skip
        recipe = Recipe("image", {**encoder.recipe().fields, **wrong})
        with pytest.raises(HeadstockError) as caught:
            encoder_from_recipe(recipe, weights_hint=moved)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_size": 33}, {"input_size": None}, {"input_size": "32"}, {"input_size": 10**6},
        {"mean": [1, 2]}, {"mean": "0"}, {"std": 0}, {"crop_pct": 0}, {"crop_mode": "stretch"},
        {"interpolation": "exec"}, {"axes": "cbhw"}, {"axes": "bhwc"}, {"channels": "rbg"},
        {"scale": 0}, {"scale": "255"}, {"input": "absent"}, {"output": 3}, {"output": "absent"},
        {"output_pool": "max"}, {"output_pool": "none"}, {"model_args": {}}, {"path": "/etc"},
        {"architecture": "resnet18"}, {"": 1},
    ],
    ids=lambda wrong: str(wrong)[:50],
)  # fmt: skip
def test_each_field_of_a_description_ends_in_one_line(file, wrong):
    described(file, **{**GOOD, "output_pool": "mean", **wrong})
    with pytest.raises((OptionError, UnsafeInput)) as caught:
        image_encoder(f"net:{file}")
    assert "\n" not in str(caught.value)


def test_flags_that_it_cannot_follow(file):
    for wrong in ({"precision": "bf16"}, {"layer": "conv"}, {"untrained_seed": 0},
                  {"model_args": {"depth": 2}}, {"weights": "x.pt"},
                  {"compile": True}):  # fmt: skip
        with pytest.raises(OptionError):
            image_encoder(f"net:{file}", **wrong)
    for name in ("net:", "net:absent.onnx", f"net:{file}.json"):
        with pytest.raises(HeadstockError):
            image_encoder(name)
    assert image_encoder(f"net:{file}", mean=0.1).recipe().fields["preprocess"]["mean"] == [0.1] * 3
