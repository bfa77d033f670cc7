"""From rows to weights files, and from these to vectors."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from tiny import SIDE, TINY, draw

from headstock.extract import encoder_from_recipe, extract, image_encoder
from headstock.extract.adapt import adapt
from headstock.extract.adapt.files import fold_files
from headstock.extract.adapt.train import Training
from headstock.extract.encoders.checkpoint import read_note, read_seen
from headstock.extract.job import extract_manifest
from headstock.heads import FoldPlan, make_folds
from headstock.store import FeatureStore, Items, Manifest
from headstock.store.errors import HeadError, OptionError, TooManyFailures, WeightsError


def run(items, folder, settings, **more):
    more = {**TINY, "divide": make_folds, "settings": settings, **more}
    return adapt(items, folder / "w.safetensors", "headstock:cnn4", **more)


@pytest.fixture
def folded(items, tmp_path, quick):
    """Forty rows adapted on four folds; the last four rows are the test split."""
    items.split[36:] = "test"
    return run(items, tmp_path, replace(quick, epochs=3), folds=4)


def test_weights_make_an_encoder_by_themselves(items, tmp_path, quick):
    told = run(items, tmp_path, quick)
    assert told.scores["held-out"]["errors"] == 0
    assert "flatters" in told.text()
    weights = tmp_path / "w.safetensors"
    encoder = image_encoder("headstock:cnn4", weights=weights, runtime="torch")
    assert encoder.dim == 16
    assert encoder.network.preprocess.crop == (SIDE, SIDE)
    recipe = encoder.recipe()
    assert recipe.fields["weights"]["adapted"]["folds"] == 0
    assert recipe.fields["model_args"] == {"widths": [8, 8, 16, 16]}
    again = encoder_from_recipe(recipe, provenance=encoder.provenance())
    picture = np.full((SIDE, SIDE, 3), 7, np.uint8)
    assert np.allclose(again.encode([picture]), encoder.encode([picture]), rtol=1e-4, atol=1e-5)
    with pytest.raises(WeightsError):  # without the file nothing makes this recipe
        encoder_from_recipe(recipe)


def test_the_files_say_what_they_are(folded, tmp_path):
    card = json.loads((tmp_path / "w.json").read_text())
    assert card["architecture"] == "headstock:cnn4"
    assert card["recipe"]["settings"]["epochs"] == 3
    assert [n["fold"] for n in card["networks"]] == [0, 1, 2, 3, None]
    assert card["scores"]["out-of-fold"]["n"] == 36
    assert card["scores"]["test"]["n"] == 4
    plan = FoldPlan.load(tmp_path / "w.folds.json")
    assert (plan.folds, plan.n) == (4, 36)
    assert len(fold_files(tmp_path / "w.safetensors")) == 4
    with (tmp_path / "w.out-of-fold.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [line["id"] for line in table] == list(plan.ids)
    right = sum(line["prediction"] == "ab"[int(line["id"][:3]) % 2] for line in table)
    assert right == 36 - card["scores"]["out-of-fold"]["errors"]
    assert all(abs(float(x["p_a"]) + float(x["p_b"]) - 1) < 1e-5 for x in table)


def test_each_network_is_hidden_from_one_fold_and_all_of_them_from_the_test_rows(
    folded, items, tmp_path
):
    plan = FoldPlan.load(tmp_path / "w.folds.json")
    digest = digests(items)
    for fold, file in enumerate(fold_files(tmp_path / "w.safetensors")):
        seen = read_seen(file)
        assert seen.own == fold
        assert (seen.saw(digest[:36]) == (plan.codes[0] != fold)).all()
        assert not seen.saw(digest[36:]).any()
    assert read_seen(tmp_path / "w.safetensors").saw(digest).sum() == 36


def digests(items: Items) -> np.ndarray:
    import hashlib

    raw = [open(f"{items.root}/{p}", "rb").read() for p in items.paths["image"]]  # noqa: SIM115
    return np.stack([np.frombuffer(hashlib.sha256(r).digest(), np.uint8) for r in raw])


def test_extraction_fills_a_set_a_fold(folded, items, tmp_path):
    store = tmp_path / "f.h5"
    manifest = Manifest("rows", items)
    flags = {"weights": tmp_path / "w.safetensors", "workers": 0, "runtime": "torch"}
    account = extract_manifest(manifest, store, **flags)
    names = ["image", *(f"image.fold{k}" for k in range(4))]
    assert list(account.sets) == names
    with FeatureStore.open(store) as features:
        told = [features.feature_set(n).recipe.fields["weights"]["adapted"] for n in names]
        assert [t["fold"] for t in told] == [None, 0, 1, 2, 3]
        assert len({t["labels"] for t in told}) == 1
        X = [features.feature_set(n).x(np.arange(36)) for n in names]
        assert all(not np.allclose(X[0], x) for x in X[1:])
    again = extract_manifest(manifest, store, **flags)
    assert again.done == 0


def test_a_fold_that_is_missing_or_of_another_run_is_named(folded, items, tmp_path, quick):
    weights = tmp_path / "w.safetensors"
    other = tmp_path / "other"
    other.mkdir()
    run(items, other, replace(quick, epochs=1, seed=1), folds=4)
    (other / "w.fold2.safetensors").replace(tmp_path / "w.fold2.safetensors")
    with pytest.raises(WeightsError, match=r"w.fold2.safetensors: is of another run"):
        fold_files(weights)
    (tmp_path / "w.fold2.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"w.fold2.safetensors is not beside it"):
        fold_files(weights)


def test_run_again_it_does_nothing_and_with_other_settings_it_refuses(
    folded, items, tmp_path, quick, monkeypatch
):
    monkeypatch.setattr(Training, "run", None)  # nothing may be trained
    before = {p.name: p.read_bytes() for p in tmp_path.glob("w.*")}
    again = run(items, tmp_path, replace(quick, epochs=3), folds=4)
    assert again.scores == folded.scores
    assert {p.name: p.read_bytes() for p in tmp_path.glob("w.*")} == before
    with pytest.raises(OptionError, match="other rows, settings or weights"):
        run(items, tmp_path, replace(quick, epochs=4), folds=4)
    with pytest.raises(OptionError, match="other rows, settings or weights"):
        run(items, tmp_path, replace(quick, epochs=3), folds=3)
    items.label[0] = "b"
    with pytest.raises(OptionError, match="other rows, settings or weights"):
        run(items, tmp_path, replace(quick, epochs=3), folds=4)


def test_overwrite_begins_anew_and_leaves_no_fold_of_before(folded, items, tmp_path, quick):
    told = run(items, tmp_path, replace(quick, epochs=1), folds=3, overwrite=True)
    assert len(told.networks) == 4
    assert len(list(tmp_path.glob("w.fold?.safetensors"))) == 3


def test_one_seed_gives_one_result(items, tmp_path, quick):
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        run(items, tmp_path / name, replace(quick, epochs=1, seed=seed))
        weights.append(load_file(tmp_path / name / "w.safetensors"))
    a, b, c = weights
    assert all((a[n] == b[n]).all() for n in a)
    assert any((a[n] != c[n]).any() for n in a)


def test_adapted_weights_are_where_no_adaptation_begins(folded, items, tmp_path, quick):
    with pytest.raises(OptionError, match="was adapted already"):
        adapt(
            items, tmp_path / "v.safetensors", "cnn4", divide=make_folds,
            settings=replace(quick, from_scratch=False), weights=tmp_path / "w.safetensors",
            model_args=TINY["model_args"],
        )  # fmt: skip


def test_a_network_without_weights_is_trained_from_scratch_or_not_at_all(items, tmp_path, quick):
    with pytest.raises(WeightsError, match="from-scratch"):
        run(items, tmp_path, replace(quick, from_scratch=False))


def test_broken_pictures_cost_their_rows(items, tmp_path, quick):
    for i in (3, 8):
        (tmp_path / "pictures" / f"{i:03d}.png").write_bytes(b"?")
    told = run(items, tmp_path, replace(quick, epochs=1))
    assert [f.id for f in told.failures] == ["003.png", "008.png"]
    assert told.networks[0]["trained_on"] + told.networks[0]["watched"] == 38
    with pytest.raises(TooManyFailures):
        run(items, tmp_path, replace(quick, epochs=1), fail_threshold=0.01)


def test_too_few_rows_of_a_class_are_named(items, tmp_path, quick):
    items.label[:] = "a"
    items.label[5] = "rare"
    with pytest.raises(HeadError, match="rare"):
        run(items, tmp_path, quick)


def test_what_cannot_be_adapted_is_said_in_a_line(items, tmp_path, quick):
    with pytest.raises(OptionError, match="no weights file"):
        adapt(items, tmp_path / "w.pt", "cnn4", divide=make_folds)
    silent = Items.of(["a"], paths={"audio": ["a.wav"]}, label=["x"])
    with pytest.raises(OptionError, match="no image column"):
        run(silent, tmp_path, quick)


def test_a_timm_network_is_adapted_head_first(items, tmp_path, quick):
    """The embedded one: its own statistics, its own preprocessing, at the smallest size."""
    s = replace(quick, from_scratch=False, head_epochs=1, epochs=1, batch_size=16)
    told = adapt(
        items, tmp_path / "n.safetensors", "headstock:resnext_nano", divide=make_folds,
        settings=s, workers=0, input_size=32,
    )  # fmt: skip
    assert told.networks[0]["history"][0]["trained"] == "classifier"
    encoder = image_encoder("timm:resnext50_32x4d", weights=tmp_path / "n.safetensors")
    assert encoder.network.preprocess.crop == (32, 32)
    with FeatureStore.open(tmp_path / "n.h5", "a") as store:
        account = extract(store, items.take(np.arange(4)), {"image": encoder}, workers=0)
    assert account.done == 4
    note = read_note(tmp_path / "n.safetensors")
    assert note["recipe"]["base"]["architecture"] == "resnext50_32x4d"


@pytest.mark.slow
def test_a_torchvision_network_is_adapted_and_read_again(items, tmp_path, quick):
    s = replace(quick, epochs=1, batch_size=20)
    adapt(
        items, tmp_path / "t.safetensors", "torchvision:mobilenet_v3_small", divide=make_folds,
        settings=s, workers=0, input_size=32,
    )  # fmt: skip
    encoder = image_encoder("torchvision:mobilenet_v3_small", weights=tmp_path / "t.safetensors")
    assert encoder.encode([np.zeros((32, 32, 3), np.uint8)]).shape == (1, 1024)


def test_noise_is_not_learned(tmp_path, quick):
    """Labels at random: the networks' own answers of rows they did not see are chance."""
    folder = tmp_path / "noise"
    folder.mkdir()
    told = run(draw(folder, 60, noise=True), tmp_path, replace(quick, epochs=4), folds=3)
    accuracy = told.scores["out-of-fold"]["accuracy"]
    assert accuracy["low"] < 0.5 < accuracy["high"]


def test_the_command_says_what_it_did_and_ends_with_3_when_pictures_failed(
    items, tmp_path, monkeypatch, capsys
):
    from headstock.cli import cli

    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures" / "005.png").write_bytes(b"")
    with (tmp_path / "pictures" / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "label"], *zip(items.id, items.label)])
    words = (
        "adapt pictures/index.csv --backbone headstock:cnn4 --from-scratch --epochs 1 --no-flip "
        "--input-size 16 --model-arg widths=[8,8,16,16] --set colour=0 -j 0 -o out/w.safetensors "
        "--json"
    ).split()
    with pytest.raises(SystemExit) as end:
        cli.main(words, standalone_mode=False)
    assert end.value.code == 3
    told = json.loads(capsys.readouterr().out)
    assert told["recipe"]["settings"]["colour"] == 0.0
    assert told["failures"][0]["code"] == "empty"
    assert Path(told["output"]).is_file()
    with pytest.raises(OptionError, match="no sharpness"):
        cli.main([*words, "--set", "sharpness=1"], standalone_mode=False)
