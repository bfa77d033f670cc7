"""What a file of ours may set before a loader sees it: never a path, an address or a callable, at
every door; and no loader asks the network when it was told not to."""

from __future__ import annotations

import hashlib
import json
import socket
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from click.testing import CliRunner
from PIL import Image

from headstock.cli import cli
from headstock.extract import encoder_from_recipe, image_encoder
from headstock.heads import fit
from headstock.store import OK, Batch, FeatureStore, Items, Recipe
from headstock.store.errors import HeadstockError, OptionError, UnsafeInput, WeightsError

URL = "http://attacker.invalid/w.pth"
DANGEROUS: list[dict[str, Any]] = [
    {"pretrained_cfg": {"url": URL}},
    {"pretrained_cfg": "a1_in1k"},
    {"pretrained_cfg_overlay": {"url": URL, "hf_hub_id": None}},
    {"pretrained_cfg_overlay": {"hf_hub_id": "attacker/model"}},
    {"pretrained_cfg_overlay": {"file": "/etc/passwd"}},
    {"pretrained_cfg_overlay": {"state_dict": {}}},
    {"pretrained_model_args": {"num_classes": 3}},
    {"pretrained": True},
    {"pretrained_strict": False},
    {"pretrained_filter_fn": "os.system"},
    {"checkpoint_path": "x.pth"},
    {"cache_dir": "here"},
    {"features_only": True},
    {"out_indices": [0]},
    {"feature_cfg": {}},
    {"feature_cls": "fx"},
    {"model_cfg": {}},
    {"kwargs_filter": ["num_classes"]},
    {"pruned": True},
    {"scriptable": True},
    {"exportable": True},
    {"no_jit": True},
    {"device": "cuda"},
    {"dtype": "float16"},
    {"weights": "DEFAULT"},
    {"weights_backbone": "DEFAULT"},
    {"progress": True},
    {"block": "timm.models.resnet.Bottleneck"},
    {"norm_layer": "torch.nn.BatchNorm2d"},
    {"act_layer": "../../etc/passwd"},
    {"stem_type": URL},
    {"global_pool": "/etc/passwd"},
    {"img_size": "/etc/passwd"},
    {"img_size": [224, "x"]},
    {"img_size": 1 << 20},
    {"layers": [1] * 1000},
    {"layers": [[[[[1]]]]]},
    {"layers": {"0": 1}},
    {"layers": [10**6, 1, 1, 1]},
    {"base_width": 10**9},
    {"base_width": -1},
    {"drop_rate": float("nan")},
    {"drop_rate": float("inf")},
    {"avg_down": "true"},
    {"__class__": 1},
    {"colour": "red"},
    {"": 1},
]
"""Arguments that no file and no flag may hand to a library's constructor."""


@pytest.fixture
def trapped(monkeypatch, tmp_path):
    """Empty caches, and every way to the network a trap; what was asked for is listed."""
    asked: list[str] = []

    def trap(name):
        def refuse(*args, **_):
            asked.append(f"{name} {args[:1]}")
            raise OSError(f"{name} was asked")

        return refuse

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr("urllib.request.urlopen", trap("urllib.request.urlopen"))
    monkeypatch.setattr("torch.hub.urlopen", trap("torch.hub.urlopen"))
    monkeypatch.setattr("torch.hub.download_url_to_file", trap("torch.hub.download_url_to_file"))
    monkeypatch.setattr("huggingface_hub.file_download.http_get", trap("huggingface_hub.http_get"))
    monkeypatch.setattr(socket.socket, "connect", trap("socket.connect"))
    monkeypatch.setattr(socket, "getaddrinfo", trap("socket.getaddrinfo"))
    monkeypatch.setattr(socket, "create_connection", trap("socket.create_connection"))
    return asked


def recipe_of(encoder="timm", **changed: Any) -> Recipe:
    """A recipe as a file may hold it, of a network with random weights."""
    fields = {
        "encoder": encoder,
        "version": 1,
        "architecture": "resnet18",
        "model_args": {},
        "weights": {"sha256": "0" * 64, "untrained_seed": 0},
        "pooling": "pre-logits",
        "preprocess": {
            "resize": [32, 32], "crop": [32, 32], "mode": "center", "interpolation": "bicubic",
            "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
        },
        "decoder": {},
        "precision": "fp32",
        **changed,
    }  # fmt: skip
    return Recipe("image", json.loads(json.dumps(fields)))


def built(monkeypatch) -> list[str]:
    """What reaches the constructors of the libraries from now on."""
    made: list[str] = []

    def remember(name, *_, **more):
        made.append(f"{name} {more}")
        raise AssertionError("a constructor was called")

    monkeypatch.setattr(timm, "create_model", remember)
    monkeypatch.setattr("torchvision.models.get_model", remember)
    return made


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize("arguments", DANGEROUS, ids=str)
def test_no_recipe_sets_what_only_a_user_may(monkeypatch, trapped, library, arguments):
    """Refused before a constructor is called, whatever the arguments say."""
    made = built(monkeypatch)
    if any(isinstance(v, float) for v in arguments.values()):
        with pytest.raises(OptionError):  # JSON has no such number
            Recipe("image", {"model_args": arguments})
        return
    for weights in ({"sha256": "0" * 64, "untrained_seed": 0}, {"sha256": "0" * 64}):
        recipe = recipe_of(library, model_args=arguments, weights=weights)
        with pytest.raises(UnsafeInput) as caught:
            encoder_from_recipe(recipe)
        assert "\n" not in str(caught.value)
    assert not made
    assert not trapped


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize("arguments", DANGEROUS, ids=str)
def test_no_flag_and_no_description_sets_it_either(
    monkeypatch, trapped, tmp_path, library, arguments
):
    made = built(monkeypatch)
    with pytest.raises(OptionError):
        image_encoder(f"{library}:resnet18", untrained_seed=0, model_args=arguments)
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors")
    (tmp_path / "w.json").write_text(json.dumps({"model_args": arguments}))
    with pytest.raises(UnsafeInput, match=r"w\.json"):
        image_encoder(f"{library}:resnet18", weights=tmp_path / "w.safetensors")
    note = {"settings": {"model_args": arguments}}
    safetensors.torch.save_file(
        {"x": torch.zeros(1)}, tmp_path / "v.safetensors", {"headstock weights": json.dumps(note)}
    )
    with pytest.raises(UnsafeInput, match=r"v\.safetensors"):
        image_encoder(f"{library}:resnet18", weights=tmp_path / "v.safetensors")
    assert not made
    assert not trapped


SIZES = [
    ("timm", "resnet18", {"layers": [8192, 8192, 8192, 8192]}),
    ("timm", "resnext50_32x4d", {"base_width": 8192, "layers": [200, 200, 200, 200]}),
    ("timm", "vit_tiny_patch16_224", {"embed_dim": 8190, "depth": 1000}),
    ("torchvision", "vit_b_16", {"num_classes": 8192, "image_size": 8192}),
    ("torchvision", "resnet50", {"width_per_group": 8192}),
    ("headstock", "cnn4", {"widths": [8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192]}),
]


@pytest.mark.parametrize(("library", "architecture", "arguments"), SIZES)
def test_a_network_that_does_not_fit_takes_no_memory(monkeypatch, library, architecture, arguments):
    """As many numbers as a machine with 100 MB free could hold."""
    monkeypatch.setattr("headstock.extract.encoders.size._free", lambda: 100 << 20)
    recipe = recipe_of(library, architecture=architecture, model_args=arguments)
    with pytest.raises(OptionError, match="does not fit"):
        encoder_from_recipe(recipe)


ODD_FIELDS: list[dict[str, Any]] = [
    {"encoder": ["timm"]},
    {"encoder": "os"},
    {"encoder": {"timm": 1}},
    {"architecture": None},
    {"architecture": "../../etc/passwd"},
    {"architecture": "hf-hub:attacker/model"},
    {"architecture": "local-dir:x"},
    {"architecture": "resnet18.a1_in1k"},
    {"architecture": URL},
    {"architecture": "no_such_architecture"},
    {"architecture": "x" * 10_000},
    {"model_args": []},
    {"model_args": None},
    {"weights": []},
    {"weights": {}},
    {"weights": {"sha256": 5}},
    {"weights": {"sha256": "../" * 20 + "0000"}},
    {"weights": {"sha256": "0" * 64, "untrained_seed": "0"}},
    {"weights": {"sha256": "0" * 64, "untrained_seed": 10**30}},
    {"weights": {"sha256": "0" * 64, "untrained_seed": 0.5}},
    {"pooling": 3},
    {"pooling": "avg; rm"},
    {"layer": "__class__.__init__"},
    {"layer": "layer4" * 10_000},
    {"layer": 4},
    {"layer": "no.such.layer", "pooling": "avg"},
    {"layer": "layer4", "pooling": "median"},
    {"layer": "layer4", "pooling": "avg", "tokens": "all"},
    {"layer": "layer4", "pooling": "avg", "tokens": "places"},
    {"layer": "last4", "pooling": "cls"},
    {"flip": "up"},
    {"flip": ["mean"]},
    {"precision": "fp64"},
    {"precision": ["fp32"]},
    {"precision": "{0.__class__}"},
    {"decoder": []},
    {"decoder": {"jpeg": "by the device"}},
    {"preprocess": []},
    {"preprocess": {}},
    {"preprocess": {"resize": [32, 32]}},
    *(
        {"preprocess": {**json.loads(recipe_of().to_json())["fields"]["preprocess"], **wrong}}
        for wrong in (
            {"crop": [8192, 8192], "resize": [8192, 8192]},
            {"crop": [10**12, 1]},
            {"crop": ["32", 32]},
            {"crop": [32]},
            {"crop": 32},
            {"mean": ["x", 0, 0]},
            {"mean": [0.5]},
            {"std": [0, 0, 0]},
            {"std": [-1, 1, 1]},
            {"interpolation": "__import__"},
            {"interpolation": ["bicubic"]},
            {"mode": "stretch"},
            {"cls": 1},
            {"self": 1},
        )
    ),
]


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize("fields", ODD_FIELDS, ids=lambda fields: str(fields)[:60])
def test_each_field_of_a_recipe_has_a_kind(trapped, library, fields):
    """One line, whatever it says; and nobody is asked."""
    with pytest.raises(HeadstockError) as caught:
        encoder_from_recipe(recipe_of(**{"encoder": library, **fields}))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2500
    assert not trapped


@pytest.mark.parametrize("field", ["architecture", "model_args", "weights", "preprocess",
                                   "decoder", "precision", "pooling"])  # fmt: skip
def test_a_recipe_that_lacks_a_field_is_one_line(trapped, field):
    fields = dict(recipe_of().fields)
    del fields[field]
    with pytest.raises(OptionError, match=field):
        encoder_from_recipe(Recipe("image", fields))
    assert not trapped


@pytest.mark.parametrize(
    "fields",
    [
        {"n_fft": 1 << 20, "n_mels": 4096, "n_mfcc": 13},
        {"windows": 1024, "stats": ["mean", "std", "min", "max"], "n_mels": 4096, "n_mfcc": 4096},
        {"stats": ["mean"] * 10_000},
        {"window": "../../x"},
        {"window": ["hann"]},
        {"rate": "8000"},
        {"rate": 10**400},
        {"fmin": 10**400},
        {"n_mfcc": [13]},
        {"stats": [["mean"]]},
        {"htk": "no"},
        {"duration": 10**9},
    ],
    ids=lambda fields: str(fields)[:60],
)
def test_each_parameter_of_a_sound_has_a_bound(fields):
    with pytest.raises(HeadstockError):
        encoder_from_recipe(Recipe("audio", {"encoder": "mfcc", **fields}))


@pytest.mark.parametrize(
    "provenance",
    [
        {"name": "timm:resnet18.../../x"},
        {"name": "timm:resnet18.a1_in1k:../x"},
        {"name": ["resnet18"]},
        {"name": "timm:resnet18" + "." * 10_000},
        {"weights": URL},
        {"weights": "/dev/zero"},
        {"weights": "\0"},
        {"weights": ["w.pt"]},
        {"weights": "x" * 100_000},
        {"weights": 3},
    ],
    ids=lambda told: str(told)[:60],
)
def test_what_a_file_says_of_its_weights_is_a_hint(trapped, provenance):
    recipe = recipe_of("timm", weights={"sha256": "0" * 64})
    with pytest.raises(WeightsError, match="--offline"):
        encoder_from_recipe(recipe, provenance=provenance, offline=True)
    assert not trapped


SETTINGS = [
    {"architecture": "hf-hub:attacker/model"},
    {"architecture": "../w"},
    {"architecture": ["timm:resnet18"]},
    {"model_args": [1]},
    {"input_size": [10**9]},
    {"input_size": "64"},
    {"crop_pct": 0},
    {"crop_pct": "1"},
    {"crop_mode": "x"},
    {"mean": ["x"]},
    {"std": [0]},
    {"interpolation": ["bicubic"]},
    {"interpolation": "__class__"},
]


@pytest.mark.parametrize("said", SETTINGS, ids=str)
def test_each_field_of_a_weights_description_has_a_kind(trapped, tmp_path, said):
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors.json").write_text(json.dumps(said))
    with pytest.raises(UnsafeInput, match=r"w\.safetensors\.json"):
        image_encoder("timm:resnet18", weights=tmp_path / "w.safetensors")
    assert not trapped


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000, '{"mean": ' + "9" * 10_000 + "}"]
)
def test_a_description_without_end_is_one_line(tmp_path, text):
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors")
    (tmp_path / "w.json").write_text(text)
    with pytest.raises(HeadstockError) as caught:
        image_encoder("timm:resnet18", weights=tmp_path / "w.safetensors")
    assert "\n" not in str(caught.value)


def made(folder, recipe: Recipe, dim: int = 4):
    """A store as an attacker makes it, with right checksums: vectors of twelve pictures by
    ``recipe``. And a model on it."""
    rng = np.random.default_rng(0)
    names = [f"{i}.png" for i in range(12)]
    rows = ["id,image,label"]
    digests = []
    for i, name in enumerate(names):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / name)
        digests.append(hashlib.sha256((folder / name).read_bytes()).digest())
        rows.append(f"{name},{name},{'ab'[i % 2]}")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    items = Items.of(names, paths={"image": names}, label=["a", "b"] * 6, root=str(folder))
    with FeatureStore.open(folder / "f.h5", "a") as store:
        store.register(items)
        store.declare(
            "image", recipe, dim, provenance={"name": f"{recipe.fields['encoder']}:resnet18"}
        )
        x = rng.normal(size=(12, dim)).astype(np.float32)
        digest = np.frombuffer(b"".join(digests), np.uint8).reshape(12, 32)
        stat, status = np.full((12, 2), -1, np.int64), np.full(12, OK, np.uint8)
        store.commit("image", Batch(names, digest, stat, x, status, []))
        store.compact()
        fit(store, "logistic", folds=2).save(folder / "m.headstock")
    return folder


COMMANDS = {
    "predict": ["predict", "m.headstock", "index.csv", "-j", "1"],
    "serve": ["serve", "m.headstock", "--port", "0"],
    "export-model": ["export-model", "m.headstock", "-o", "out.onnx", "--backbone"],
    "recompute": ["store", "verify", "f.h5", "--recompute", "2"],
}


def told(command: str, *more: str) -> str:
    """What a command says; it has refused in one line, or said so of the set."""
    done = CliRunner().invoke(cli, [*COMMANDS[command], *more])
    if command == "recompute":
        assert done.exit_code == 0, done.output
        return done.output
    assert isinstance(done.exception, HeadstockError), done.output
    return str(done.exception)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "arguments",
    [
        {"pretrained_cfg_overlay": {"url": URL, "hf_hub_id": None}, "cache_dir": "."},
        {"checkpoint_path": "evil.pth"},
        {"pretrained_cfg": {"file": "evil.pth"}},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_no_command_hands_it_on(monkeypatch, trapped, tmp_path, command, arguments):
    """A model or a store that names an address, a cache, a file: nothing is asked, made, read."""
    monkeypatch.chdir(made(tmp_path, recipe_of("timm", model_args=arguments)))
    constructors = built(monkeypatch)
    before = sorted(tmp_path.rglob("*"))
    assert "may not be set" in told(command)
    assert sorted(tmp_path.rglob("*")) == before
    assert not constructors
    assert not trapped


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize("command", COMMANDS)
def test_offline_asks_nobody_from_any_command(monkeypatch, trapped, tmp_path, command, library):
    """Weights that are in no cache: with ``--offline`` one line, and no way out is tried."""
    recipe = recipe_of(library, weights={"sha256": "0" * 64})
    monkeypatch.chdir(made(tmp_path, recipe))
    assert "--offline forbids the network" in told(command, "--offline")
    assert not trapped


@pytest.mark.parametrize("name", ["timm:resnet18.a1_in1k", "torchvision:resnet18"])
@pytest.mark.parametrize("command", ["extract", "adapt"])
def test_offline_asks_nobody_for_weights_to_begin_with(
    monkeypatch, trapped, tmp_path, command, name
):
    monkeypatch.chdir(made(tmp_path, recipe_of("timm")))
    words = {
        "extract": ["extract", "index.csv", "-o", "g.h5", "--image", name],
        "adapt": ["adapt", "index.csv", "-o", "w.safetensors", "--backbone", name],
    }[command]
    done = CliRunner().invoke(cli, [*words, "--offline"])
    assert isinstance(done.exception, WeightsError), done.output
    assert "--offline forbids the network" in str(done.exception)
    assert not trapped


def test_without_offline_the_traps_do_catch(monkeypatch, trapped, tmp_path):
    """The test above can fail."""
    monkeypatch.chdir(made(tmp_path, recipe_of("timm", weights={"sha256": "0" * 64})))
    assert "out of reach" in told("predict")
    assert trapped
