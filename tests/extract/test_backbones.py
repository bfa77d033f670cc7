"""Names to encoders: both libraries, files and JSON, and vectors equal to a plain forward pass."""

import json
import re
import sys

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn

from headstock.extract import encoder_from_recipe, image_encoder
from headstock.extract.encoders import hub
from headstock.extract.encoders.backbones import DEFAULT_IMAGE, LIBRARIES, embedded, listing
from headstock.extract.encoders.network import NetworkEncoder
from headstock.store.errors import OptionError, WeightsError

SMALL = {"input_size": 64}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pictures(count: int, size: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def plain(images: np.ndarray) -> torch.Tensor:
    """The textbook way: ToTensor, Normalize."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255
    return (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def relative(ours: np.ndarray, theirs: torch.Tensor) -> float:
    theirs = theirs.numpy()
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.fixture(scope="module")
def resnext(tmp_path_factory):
    """ResNeXt-50 32x4d with random weights, as each library saves it, and its forward pass."""
    folder = tmp_path_factory.mktemp("resnext")
    torch.manual_seed(5)
    theirs = torchvision.models.resnext50_32x4d(weights=None).eval()
    state = theirs.state_dict()
    safetensors.torch.save_file(state, folder / "w.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, folder / "w.pt")
    images = pictures(3, 64)
    theirs.fc = nn.Identity()
    with torch.inference_mode():
        vectors = theirs(plain(images))
    return folder, images, vectors


@pytest.mark.parametrize("file", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_resnext50_from_a_file_gives_the_reference_vectors(resnext, library, file):
    folder, images, theirs = resnext
    encoder = image_encoder(f"{library}:resnext50_32x4d", weights=folder / file, **SMALL)
    assert encoder.dim == 2048
    assert relative(encoder.encode(list(images)), theirs) <= 1e-5
    assert len({encoder.recipe().fields["weights"]["sha256"]}) == 1


def test_one_digest_for_one_set_of_weights(resnext):
    folder, _, _ = resnext
    made = [image_encoder("timm:resnext50_32x4d", weights=folder / f) for f in ("w.pt",)]
    made += [image_encoder("timm:resnext50_32x4d.a1h_in1k", weights=folder / "w.safetensors")]
    assert len({e.recipe().fingerprint for e in made}) == 1


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize("change", ["missing", "unexpected", "misshaped"])
def test_a_file_with_one_wrong_key_is_refused(resnext, tmp_path, library, change):
    folder, _, _ = resnext
    state = safetensors.torch.load_file(folder / "w.safetensors")
    key = "layer3.2.conv2.weight"
    if change == "missing":
        del state[key]
    elif change == "unexpected":
        key = "layer9.weight"
        state[key] = torch.zeros(1)
    else:
        state[key] = state[key][:, :2].contiguous()
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=rf"1 {change}: {key}"):
        image_encoder(f"{library}:resnext50_32x4d", weights=tmp_path / "w.safetensors")


FAMILIES = {
    "resnet18": 512, "mobilenet_v2": 1280, "mobilenet_v3_small": 1024, "shufflenet_v2_x0_5": 1024,
    "squeezenet1_1": 512, "mnasnet0_5": 1280,
}  # fmt: skip
LARGE = {
    "alexnet": 4096, "vgg11": 4096, "vit_b_32": 768, "maxvit_t": 512, "googlenet": 1024,
    "efficientnet_b0": 1280, "densenet121": 1024, "regnet_y_400mf": 440, "swin_t": 768,
    "convnext_tiny": 768,
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_torchvision_families_lose_their_classifier(name):
    _check_family(name, FAMILIES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_large_torchvision_families_lose_their_classifier(name):
    _check_family(name, LARGE[name])


def _check_family(name: str, dim: int) -> None:
    encoder = image_encoder(f"torchvision:{name}", untrained_seed=3)
    assert encoder.dim == dim
    size = encoder.network.preprocess.crop[0]
    images = pictures(1, size)
    extra = {"init_weights": True} if name == "googlenet" else {}
    torch.manual_seed(3)
    whole = torchvision.models.get_model(name, weights=None, **extra).eval()
    linear = [m for m in whole.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    seen = []
    linear.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    if name == "googlenet":
        return  # its pretrained constructor transforms the input; the shape is what can be compared
    with torch.inference_mode():
        whole(plain(images))
    expected = seen[0] if seen[0].ndim == 2 else seen[0].relu().mean(dim=(2, 3))
    assert relative(encoder.encode(list(images)), expected) <= 1e-5


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_timm_vectors_are_the_pooled_features_before_the_classifier(name):
    encoder = image_encoder(f"timm:{name}", untrained_seed=3, mean=MEAN, std=STD)
    torch.manual_seed(3)
    whole = timm.create_model(name, num_classes=0).eval()
    images = pictures(2, encoder.network.preprocess.crop[0])
    with torch.inference_mode():
        expected = whole.forward_head(whole.forward_features(plain(images)), pre_logits=True)
    assert relative(encoder.encode(list(images)), expected) <= 1e-5


def test_training_mode_does_not_leak_in():
    encoder = image_encoder("timm:test_resnet", untrained_seed=0)
    assert not any(m.training for m in encoder.network.module.modules())
    assert not any(p.requires_grad for p in encoder.network.module.parameters())


# --- settings


def test_settings_beside_a_file_and_on_top_of_it(tmp_path):
    torch.manual_seed(0)
    module = timm.create_model("test_resnet", num_classes=7)
    torch.save(module.state_dict(), tmp_path / "w.pt")
    said = {"input_size": [3, 48, 48], "crop_pct": 0.5, "mean": 0.1, "interpolation": "bilinear"}
    (tmp_path / "w.pt.json").write_text(json.dumps({"architecture": "timm:test_resnet", **said}))
    encoder = image_encoder("test_resnet", weights=tmp_path / "w.pt", crop_pct=0.75)
    made = encoder.network.preprocess
    assert (made.crop, made.resize, made.interpolation) == ((48, 48), (64, 64), "bilinear")
    assert made.mean == (0.1, 0.1, 0.1)
    with pytest.raises(OptionError, match="its JSON says"):
        image_encoder("timm:test_vit", weights=tmp_path / "w.pt")


def test_model_arguments_reach_the_network_and_the_recipe():
    plain_one = image_encoder("timm:test_resnet", untrained_seed=0)
    changed = image_encoder("timm:test_resnet", untrained_seed=0, model_args={"avg_down": True})
    assert changed.recipe().fields["model_args"] == {"avg_down": True}
    assert plain_one.recipe() != changed.recipe()
    with pytest.raises(OptionError, match="may not be set"):
        image_encoder("timm:test_resnet", untrained_seed=0, model_args={"colour": "red"})


def test_a_size_is_told_to_networks_of_one_size():
    encoder = image_encoder("timm:test_vit", untrained_seed=0, input_size=96)
    assert encoder.recipe().fields["model_args"] == {"img_size": [96, 96]}
    assert encoder.encode(list(pictures(1, 96))).shape == (1, encoder.dim)


def test_untrained_weights_are_marked():
    one, two = (image_encoder("timm:test_resnet", untrained_seed=s) for s in (1, 2))
    assert one.name == "timm:test_resnet[untrained:1]"
    assert one.recipe().fields["weights"]["untrained_seed"] == 1
    assert one.recipe() != two.recipe()
    assert one.recipe() == image_encoder("timm:test_resnet", untrained_seed=1).recipe()


def test_weights_and_a_seed_exclude_each_other(tmp_path):
    with pytest.raises(OptionError, match="one of the two"):
        image_encoder("timm:test_resnet", weights=tmp_path / "w.pt", untrained_seed=0)


# --- names


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnext50_32x4", "did you mean timm:resnext50_32x4d"),
        ("timm:resnext50_32x4d.a1h", "a1h_in1k"),
        ("torchvision:resnext50_32x4d.IMAGENET", "IMAGENET1K_V2"),
        ("torchvision:resnext50", "torchvision:resnext50_32x4d"),
        ("keras:resnet", "timm:"),
        ("headstock:nothing", "no such embedded backbone"),
        ("zzzzzzzzzz", "list backbones"),
    ],
)
def test_unknown_names_say_what_was_meant(name, hint):
    with pytest.raises(OptionError) as caught:
        image_encoder(name, untrained_seed=None if name.startswith("headstock") else 0)
    assert hint in str(caught.value)


def test_bare_names_are_looked_for_in_order():
    assert image_encoder("test_resnet", untrained_seed=0).name.startswith("timm:")
    assert image_encoder("mnasnet0_5", untrained_seed=0).name.startswith("torchvision:")


def test_every_table_entry_resolves():
    names = listing()
    for library in LIBRARIES:
        assert any(n.startswith(f"{library}:") for n in names)
    assert {"timm:resnext50_32x4d", "torchvision:resnext50_32x4d", "headstock:cnn4"} <= set(names)
    assert "mfcc" in names
    assert DEFAULT_IMAGE.partition(".")[0] in names
    assert all("resnext" in n for n in listing("resnext"))


# --- the hub


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """An empty cache, and a network in which nobody answers."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    asked = []

    def nobody(request, timeout):
        asked.append(request.full_url)
        raise OSError("no route")

    monkeypatch.setattr("urllib.request.urlopen", nobody)
    return asked


@pytest.mark.parametrize("name", ["timm:test_resnet.r160_in1k", "torchvision:resnet18"])
def test_a_hub_out_of_reach_is_one_line_that_says_what_to_do(no_network, name):
    with pytest.raises(WeightsError) as caught:
        image_encoder(name)
    text = str(caught.value)
    assert "out of reach" in text
    assert "--weights FILE" in text
    assert "\n" not in text
    assert len(no_network) == 1


@pytest.mark.parametrize("name", ["timm:test_resnet.r160_in1k", "torchvision:resnet18"])
def test_offline_asks_nobody(no_network, name):
    with pytest.raises(WeightsError, match="--offline"):
        image_encoder(name, offline=True)
    assert no_network == []


def test_a_network_that_answers_slowly_is_not_waited_for(monkeypatch):
    import threading

    never = threading.Event()

    def silence(*_, **__):
        never.wait(5)
        raise OSError("too late")

    monkeypatch.setattr(hub, "PATIENCE", 0.05)
    monkeypatch.setattr("urllib.request.urlopen", silence)
    with pytest.raises(WeightsError, match="out of reach"):
        hub.require("timm:x", None, offline=False)
    never.set()


def test_the_cache_is_enough(monkeypatch, no_network, tmp_path):
    """With the file in torch's cache, torchvision needs no network."""
    torch.manual_seed(0)
    entry = torchvision.models.MobileNet_V3_Small_Weights.IMAGENET1K_V1
    folder = tmp_path / "torch" / "checkpoints"
    folder.mkdir(parents=True)
    state = torchvision.models.mobilenet_v3_small(weights=None).state_dict()
    torch.save(state, folder / entry.url.rpartition("/")[2])
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    encoder = image_encoder("torchvision:mobilenet_v3_small", offline=True)
    assert encoder.dim == 1024
    assert no_network == []


class Library:
    """Stands in for timm's own loader: nothing in the cache, then what is told."""

    def __init__(self, monkeypatch, then):
        self.asked, self.then = [], then
        monkeypatch.setattr("headstock.extract.encoders.timm_networks._create", self.create)
        monkeypatch.setattr(hub, "require", lambda *_: None)
        # whoever runs the tests may have forbidden the hub
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def create(self, name, args, pretrained):
        import huggingface_hub.constants

        offline = huggingface_hub.constants.HF_HUB_OFFLINE
        self.asked.append((name, pretrained, offline))
        if offline:
            raise OSError("not in the cache")
        if isinstance(self.then, Exception):
            raise self.then
        return timm.create_model(name.partition(".")[0], pretrained=False, num_classes=0)


def test_what_is_not_in_the_cache_comes_through_the_librarys_own_loader(monkeypatch):
    library = Library(monkeypatch, then=None)
    encoder = image_encoder("timm:test_resnet.r160_in1k")
    name = "test_resnet.r160_in1k"
    assert library.asked == [(name, True, True), (name, True, False)]
    assert encoder.provenance()["source"] == "timm/test_resnet.r160_in1k"
    assert encoder.provenance()["weights"] is None


@pytest.mark.parametrize(
    ("then", "kind"),
    [(OSError("cut off"), WeightsError), (TypeError("no such argument"), OptionError)],
)
def test_what_the_librarys_loader_says_is_one_line(monkeypatch, then, kind):
    Library(monkeypatch, then)
    with pytest.raises(kind, match=str(then)):
        image_encoder("timm:test_resnet.r160_in1k")


def test_weights_at_a_plain_address(monkeypatch, no_network):
    from timm.models import PretrainedCfg

    cfg = PretrainedCfg(url="https://example.org/w.pth", architecture="test_resnet")
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: cfg)
    with pytest.raises(WeightsError, match=r"example.org is out of reach"):
        image_encoder("timm:test_resnet")
    assert no_network == ["https://example.org/w.pth"]


def test_a_server_that_says_no_is_there(monkeypatch):
    import urllib.error

    def refuse(request, timeout):
        raise urllib.error.HTTPError(request.full_url, 403, "no", None, None)

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    hub.require("timm:x", "https://example.org/x", offline=False)


def test_published_files_with_older_names_are_translated(monkeypatch, tmp_path):
    torch.manual_seed(0)
    state = timm.create_model("test_resnet").state_dict()
    torch.save({f"old.{k}": v for k, v in state.items()}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="missing"):
        image_encoder("timm:test_resnet", weights=tmp_path / "w.pt")
    family = sys.modules[timm.models.model_entrypoint("test_resnet").__module__]

    def translate(given, model):
        return {k.removeprefix("old."): v for k, v in given.items()}

    monkeypatch.setattr(family, "checkpoint_filter_fn", translate, raising=False)
    assert image_encoder("timm:test_resnet", weights=tmp_path / "w.pt").dim > 0

    def confused(given, model):
        raise KeyError("stem")

    monkeypatch.setattr(family, "checkpoint_filter_fn", confused, raising=False)
    with pytest.raises(WeightsError, match="missing"):
        image_encoder("timm:test_resnet", weights=tmp_path / "w.pt")


def test_published_densenet_names_are_translated(tmp_path):
    torch.manual_seed(0)
    state = torchvision.models.densenet121(weights=None).state_dict()
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", k): v for k, v in state.items()
    }
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "w.pt")
    assert image_encoder("torchvision:densenet121", weights=tmp_path / "w.pt").dim == 1024


def test_torchvision_arguments_without_meaning(monkeypatch):
    with pytest.raises(OptionError, match="may not be set"):
        image_encoder("torchvision:mnasnet0_5", untrained_seed=0, model_args={"colour": 1})
    monkeypatch.setattr(hub, "cached_url", lambda url: True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "/nonexistent")
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError()))
    with pytest.raises(WeightsError, match="did not load"):
        image_encoder("torchvision:mnasnet0_5")


def test_models_without_published_weights(no_network):
    every = timm.list_models("resnet*")
    bare = next(n for n in every if not timm.get_pretrained_cfg(n).has_weights)
    with pytest.raises(WeightsError, match="no pretrained weights"):
        image_encoder(f"timm:{bare}")


# --- again from a recipe


def test_an_encoder_is_rebuilt_from_its_recipe(tmp_path):
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pt")
    made = image_encoder("timm:test_resnet", weights=tmp_path / "w.pt", input_size=48, mean=0.4)
    about = made.provenance()
    again = encoder_from_recipe(made.recipe(), provenance=about)
    images = list(pictures(2, 48))
    assert np.array_equal(again.encode(images), made.encode(images))
    hinted = encoder_from_recipe(made.recipe(), weights_hint=about["weights"])
    assert isinstance(hinted, NetworkEncoder)
    seeded = image_encoder("timm:test_resnet", untrained_seed=4)
    assert encoder_from_recipe(seeded.recipe()).recipe() == seeded.recipe()


def test_fast_decoding_is_rebuilt_too():
    made = image_encoder("timm:test_resnet", untrained_seed=0, decode="fast")
    assert encoder_from_recipe(made.recipe()).loader.fast
    with pytest.raises(OptionError, match="decode"):
        image_encoder("timm:test_resnet", untrained_seed=0, decode="slow")


def test_other_weights_do_not_pass_for_the_recipe(tmp_path):
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / f"{seed}.pt")
    made = image_encoder("timm:test_resnet", weights=tmp_path / "0.pt")
    with pytest.raises(WeightsError, match=r"weights.sha256"):
        encoder_from_recipe(made.recipe(), weights_hint=tmp_path / "1.pt")


def test_embedded_backbones_build_and_are_found_again():
    if not embedded():
        pytest.skip("no embedded weights in this checkout yet")
    for name in embedded():
        made = image_encoder(f"headstock:{name}")
        assert made.name == f"headstock:{name}"
        assert encoder_from_recipe(made.recipe()).recipe() == made.recipe()
        with pytest.raises(OptionError, match="carries its own weights"):
            image_encoder(f"headstock:{name}", weights="w.pt")


def test_foreign_recipes_are_refused():
    from headstock.store import Recipe

    with pytest.raises(OptionError, match="not one of ours"):
        encoder_from_recipe(Recipe("image", {"unknown": "from an import"}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_size": "abc"}, {"input_size": 64.5}, {"input_size": (64, "a")}, {"crop_pct": "big"},
        {"crop_pct": float("nan")}, {"mean": "x"}, {"mean": (123.0, 116.0, 103.0)}, {"layer": ""},
        {"layer": 3}, {"untrained_seed": 1.5}, {"untrained_seed": True}, {"compile": "maybe"},
        {"precision": ["fp32"]}, {"decode": 1}, {"runtime": {}}, {"flip": 1},
    ],
    ids=str,
)  # fmt: skip
def test_options_of_another_kind_are_refused_in_one_line(wrong):
    with pytest.raises(OptionError):
        image_encoder("timm:test_resnet", **{"untrained_seed": 0, "device": "cpu", **wrong})
