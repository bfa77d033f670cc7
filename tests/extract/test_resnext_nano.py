"""The embedded ResNeXt: small, an ordinary timm model, and better than its own random start."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import headstock.extract

timm = pytest.importorskip("timm")
torch = pytest.importorskip("torch")

WEIGHTS = (
    Path(headstock.extract.__file__).parent / "encoders" / "weights" / "resnext_nano.safetensors"
)


@pytest.fixture(scope="module")
def about() -> dict:
    return json.loads(WEIGHTS.with_suffix(".json").read_text("utf-8"))


def network(about: dict, trained: bool):
    torch.manual_seed(0)
    library, _, architecture = about["architecture"].partition(":")
    assert library == "timm"
    net = timm.create_model(architecture, num_classes=len(about["classes"]), **about["model_args"])
    if trained:
        net.load_state_dict(load_file(WEIGHTS), strict=True)
    return net.eval()


def test_the_file_is_small_and_in_half_precision():
    assert WEIGHTS.stat().st_size <= 4_000_000
    kinds = {t.dtype for n, t in load_file(WEIGHTS).items() if "num_batches" not in n}
    assert kinds == {torch.float16}


def test_it_is_an_ordinary_grouped_timm_network(about):
    net = network(about, trained=True)
    assert net.num_features == 512
    assert max(m.groups for m in net.modules() if isinstance(m, torch.nn.Conv2d)) == 8
    assert 1_000_000 <= sum(p.numel() for p in net.parameters()) <= 2_000_000
    with torch.inference_mode():
        out = net(torch.zeros(2, *about["input_size"]))
    assert out.shape == (2, len(about["classes"]))
    assert out.isfinite().all()


def test_every_number_of_the_file_is_finite():
    assert all(t.isfinite().all() for t in load_file(WEIGHTS).values())


def errors_on_digits(net, n: int = 150) -> int:
    """Digits told wrongly out of ``n`` by a logistic regression in 3 folds."""
    digits = load_digits()
    grey = (digits.images[:n] * (255 / 16)).round().astype(np.uint8)
    pictures = [Image.fromarray(g).convert("RGB").resize((64, 64)) for g in grey]
    x = torch.from_numpy(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        maps = net.forward_features(x.float() / 127.5 - 1)
        vectors = net.forward_head(maps, pre_logits=True).numpy()
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    y = digits.target[:n]
    return int((cross_val_predict(head, vectors, y, cv=3) != y).sum())


def test_its_vectors_tell_digits_better_than_untrained_ones(about):
    assert errors_on_digits(network(about, True)) < errors_on_digits(network(about, False))


def test_it_knows_the_animals_better_than_chance(shared_data):
    """Real pictures that were kept out of its training, told by its own 200-class layer."""
    about = json.loads(WEIGHTS.with_suffix(".json").read_text("utf-8"))
    files = sorted((shared_data / "animals8_av" / "images").glob("*.JPEG"))[::4]
    wnids = [f.name.partition("_")[0] for f in files]
    x = torch.from_numpy(np.stack([np.asarray(Image.open(f).convert("RGB")) for f in files]))
    with torch.inference_mode():
        out = network(about, trained=True)(x.permute(0, 3, 1, 2).float() / 127.5 - 1)
    told = [about["classes"][i] for i in out.argmax(1)]
    assert np.mean([a == b for a, b in zip(told, wnids)]) > 0.2  # chance: 0.005
