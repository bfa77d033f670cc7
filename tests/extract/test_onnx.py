"""Backbones as ONNX: the graph's vectors are the encoder's, whole from picture to probabilities."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstock.extract.encoders.backbones import audio_encoder, image_encoder
from headstock.extract.encoders.graphs import backbones
from headstock.store import FeatureStore, Items
from headstock.store.errors import BundleError, OptionError
from headstock.store.recipe import Recipe

onnx = pytest.importorskip("onnx", reason="an extra: pip install 'headstock[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="an extra: pip install 'headstock[onnx]'")

NANO = "headstock:resnext_nano"


@pytest.fixture(scope="module")
def nano():
    return image_encoder(NANO, device="cpu")


def test_the_graph_makes_the_encoders_vectors(nano, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    Image.fromarray(pixels).save(tmp_path.parent / "outside.png")
    names = ["b.png", "absent.png", "../outside.png", "a.png"]
    recipes = {"image": nano.recipe(), "audio": audio_encoder("mfcc").recipe()}
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        store.register(Items.of(names, paths={"image": names}, root=str(tmp_path)))
        made = backbones(recipes, store=store)
    assert list(made) == ["image"]
    one = made["image"]
    assert one.inputs.shape == (5, 64, 64, 3)  # noise, and the one that can be read
    session = onnxruntime.InferenceSession(one.model.SerializeToString())
    (vectors,) = session.run(None, {"pixels": one.inputs})
    lengths = np.linalg.norm(one.vectors, axis=1)
    assert (np.linalg.norm(vectors - one.vectors, axis=1) < 1e-5 * lengths).all()
    np.testing.assert_array_equal(one.vectors, nano.encode(list(one.inputs)))
    item = nano.loader((tmp_path / "a.png").read_bytes())
    np.testing.assert_array_equal(one.inputs[-1], item)
    onnx.checker.check_model(one.model)


@pytest.mark.parametrize(
    "flip", ["mean", *(pytest.param(f, marks=pytest.mark.slow) for f in ("both", "only"))]
)
def test_a_layers_map_and_mirrored_pictures(flip: str, nano) -> None:
    layer = next(n for n, _ in nano.network.module.named_modules() if n.endswith("3"))
    encoder = image_encoder(NANO, device="cpu", layer=layer, pool="max", flip=flip)
    one = backbones({"image": encoder.recipe()})["image"]
    session = onnxruntime.InferenceSession(one.model.SerializeToString())
    (vectors,) = session.run(None, {"pixels": one.inputs})
    assert vectors.shape == (4, encoder.dim)
    lengths = np.linalg.norm(one.vectors, axis=1)
    assert (np.linalg.norm(vectors - one.vectors, axis=1) < 1e-5 * lengths).all()


def test_what_the_graph_cannot_hold_is_refused(nano) -> None:
    with pytest.raises(OptionError, match="reads no network's vectors"):
        backbones({"audio": audio_encoder("mfcc").recipe()})
    low = Recipe("image", {**nano.recipe().fields, "precision": "bf16"})
    with pytest.raises(BundleError, match="backbone of image: its vectors were made in bf16"):
        backbones({"image": low})


@pytest.mark.slow
def test_the_command_writes_pixels_to_probabilities(tmp_path: Path, shared_data) -> None:
    """On real pictures and sounds, through the command line, and against ``predict``."""
    from click.testing import CliRunner

    from headstock.cli import cli
    from headstock.heads import Bundle

    def run(*words: object) -> str:
        done = CliRunner().invoke(cli, [str(w) for w in words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    store, model, out = (tmp_path / n for n in ("f.h5", "m.headstock", "m.onnx"))
    table = shared_data / "animals8_av" / "index.csv"
    run("extract", table, "-o", store, "--image", NANO, "--audio", "mfcc", "-q")
    run("fit", store, "--head", "logistic", "--head", "rbf-svm", "--fusion", "stacked", "-o", model)
    words = ("export-model", model, "-o", out, "--backbone", "--store", store, "--json")
    with pytest.raises(OptionError, match=f"--data {table.parent}"):  # the store's own word
        run(*words)
    words += ("--data", table.parent)
    told = json.loads(run(*words))
    assert told["inputs"] == ["image_pixels", "audio"]
    assert told["real"] == 401
    assert told["difference"] < 1e-5
    with FeatureStore.open(store) as features:
        said = Bundle.load(model).predict(features, np.arange(8))
        root, paths = Path(features.items.root), features.items.paths["image"][:8]
        audio = features.feature_set("audio").x(np.arange(8))
    loader = image_encoder(NANO, device="cpu").loader
    pixels = np.stack([loader((root / p).read_bytes()) for p in paths])
    session = onnxruntime.InferenceSession(str(out))
    proba, labels = session.run(None, {"image_pixels": pixels, "audio": audio})
    np.testing.assert_allclose(proba, said.proba, atol=1e-4)
    assert list(labels) == list(said.labels)
