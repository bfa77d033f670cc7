"""Real weights on real pictures, through the store: the right classes, and only when all is right.

MobileNetV2 has 88.2 % top-1 on all 1,000 pictures of this sample (see the data's README); 55 of
them are here.
"""

import csv

import numpy as np
import pytest
import safetensors.numpy

from headstock.extract import extract, image_encoder
from headstock.store import FeatureStore, Items

RIGHT = {
    "model_args": {"pad_type": "same"}, "input_size": 224, "crop_pct": 0.875, "mean": 0.5,
    "std": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def sample(request):
    shared_data = request.getfixturevalue("shared_data")
    rows = list(csv.DictReader((shared_data / "imagenet_sample" / "index.csv").open()))
    items = Items.of(
        [row["id"] for row in rows],
        paths={"image": [row["image"] for row in rows]},
        label=[row["class_index"] for row in rows],
        root=str(shared_data / "imagenet_sample"),
    )
    return items, shared_data / "weights" / "mobilenetv2_100.imagenet.safetensors"


def correct(sample, tmp_path, **changed) -> int:
    """How many of the 55 the weights' own classifier gets right from the store's vectors."""
    items, weights = sample
    encoder = image_encoder("timm:mobilenetv2_100", weights=weights, **{**RIGHT, **changed})
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        account = extract(store, items, {"image": encoder})
        assert account.failed == 0
        x = store.feature_set("image").x()
    own = safetensors.numpy.load_file(weights)
    logits = x @ own["classifier.weight"].T + own["classifier.bias"]
    return int((logits.argmax(axis=1) == items.label.astype(int)).sum())


def test_top1_through_the_store_agrees_with_the_published_figure(sample, tmp_path):
    right = correct(sample, tmp_path)
    assert right >= 46  # of 55; 88.2 % is 48.5, two standard deviations are 4.8


@pytest.mark.slow
def test_a_wrong_mean_and_std_would_be_noticed(sample, tmp_path):
    wrong = correct(sample, tmp_path, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    assert wrong <= 43


def test_the_reference_forward_pass_gives_the_same_vectors(sample, tmp_path):
    """timm's own transform and loop, with the same weights: cosine above 0.99999."""
    import timm
    import torch
    from PIL import Image
    from timm.data import create_transform

    items, weights = sample
    items = items.take(np.arange(6))
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        encoder = image_encoder("timm:mobilenetv2_100", weights=weights, **RIGHT)
        extract(store, items, {"image": encoder})
        ours = store.feature_set("image").x()
    model = timm.create_model(
        "mobilenetv2_100", pad_type="same", checkpoint_path=str(weights)
    ).eval()
    model.reset_classifier(0)
    transform = create_transform(
        (3, 224, 224), crop_pct=0.875, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3
    )
    paths = [f"{items.root}/{path}" for path in items.paths["image"]]
    batch = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    with torch.inference_mode():
        theirs = model(batch).numpy()
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosine.min() > 0.99999
