"""Several sets in one pass: each file read and decoded once, each set as if it were alone."""

import json
import os
from dataclasses import dataclass

import numpy as np
import pytest
from counting import CountingEncoder, vector_of

from headstock.extract import Loader, audio_encoder, extract, image_encoder
from headstock.extract.decode.reading import Several, Task, perform
from headstock.extract.doctor import sample_wav
from headstock.extract.encoders.network import NetworkEncoder
from headstock.extract.job import extract_manifest
from headstock.store import FeatureStore, Items, Manifest, Recipe
from headstock.store.datafile import Reader
from headstock.store.errors import ItemError, OptionError, TooManyFailures


@dataclass(frozen=True)
class Halves(Loader):
    """Decodes by counting in a folder, transforms to a vector of its own width."""

    dim: int
    marks: str
    refuses: bytes = b"-"
    decoding = "halves"

    def decode(self, data):
        name = f"{len(os.listdir(self.marks))}-{os.getpid()}-{data!r}"
        open(os.path.join(self.marks, name), "w").close()
        return data

    def transform(self, data):
        if data.startswith(self.refuses):
            raise ItemError("item", "not for this set", code="refused")
        return vector_of(data, self.dim)


class HalvesEncoder(CountingEncoder):
    def __init__(self, dim, marks, refuses=b"-"):
        super().__init__(dim)
        self.loader = Halves(dim, marks, refuses)


@pytest.fixture
def marks(tmp_path):
    folder = tmp_path / "marks"
    folder.mkdir()
    return str(folder)


def items_of(folder, n=12):
    names = [f"{i:02d}" for i in range(n)]
    return Items.of(names, paths={"image": names}, root=str(folder))


def expected(folder, dim, n=12):
    return np.stack([vector_of((folder / f"{i:02d}").read_bytes(), dim) for i in range(n)])


@pytest.mark.parametrize("workers", [0, 2])
def test_each_file_is_decoded_once_for_all_sets(folder, tmp_path, marks, workers):
    made = {f"d{d}": HalvesEncoder(d, marks) for d in (3, 5, 8)}
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        account = extract(store, items_of(folder), made, workers=workers, batch_size=5)
        for d in (3, 5, 8):
            assert np.array_equal(store.feature_set(f"d{d}").x(), expected(folder, d))
            assert account.sets[f"d{d}"].done == 12
    assert len(os.listdir(marks)) == 12
    assert account.sets["d3"].beside == ["d5", "d8"]
    assert "in one pass with d5, d8" in account.text()


def test_each_file_is_read_once(folder, tmp_path, marks, monkeypatch):
    read, real = [], Reader.read
    monkeypatch.setattr(Reader, "read", lambda self, path: read.append(path) or real(self, path))
    made = {"a": HalvesEncoder(3, marks), "b": CountingEncoder(4)}
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        extract(store, items_of(folder), made, workers=0)
    assert sorted(read) == [f"{i:02d}" for i in range(12)]


def test_equal_loaders_load_once(folder, tmp_path, marks):
    made = {name: CountingEncoder(8, marks, version=i) for i, name in enumerate("abc")}
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        extract(store, items_of(folder), made, workers=2)
        assert all(np.array_equal(store.feature_set(n).x(), expected(folder, 8)) for n in made)
    assert len(os.listdir(marks)) == 12


def test_a_set_that_is_behind_catches_up_alone(folder, tmp_path, marks):
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        extract(store, items_of(folder, 7), {"a": HalvesEncoder(3, marks)}, workers=0)
        made = {"a": HalvesEncoder(3, marks), "b": HalvesEncoder(5, marks)}
        account = extract(store, items_of(folder), made, workers=1)
        assert (account.sets["a"].done, account.sets["a"].reused) == (5, 7)
        assert (account.sets["b"].done, account.sets["b"].reused) == (12, 0)
        assert np.array_equal(store.feature_set("a").x(), expected(folder, 3))
        assert np.array_equal(store.feature_set("b").x(), expected(folder, 5))
        again = extract(store, items_of(folder), made, workers=0)
        assert (again.done, again.reused) == (0, 24)
    assert len(os.listdir(marks)) == 7 + 12


def test_a_failure_of_one_set_is_not_the_others(folder, tmp_path, marks):
    (folder / "03").write_bytes(b"odd one")
    made = {"a": HalvesEncoder(3, marks, b"odd"), "b": HalvesEncoder(5, marks)}
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        account = extract(store, items_of(folder), made, workers=1)
    assert (account.sets["a"].failed, account.sets["a"].codes) == (1, {"refused": 1})
    assert account.sets["b"].failed == 0


def test_too_many_failures_of_one_set_stop_the_pass_and_keep_what_was_done(folder, tmp_path, marks):
    for i in range(12, 60):
        (folder / f"{i:02d}").write_bytes(b"odd %d" % i)
    made = {"a": HalvesEncoder(3, marks, b"odd"), "b": HalvesEncoder(5, marks)}
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        with pytest.raises(TooManyFailures, match="set a"):
            extract(store, items_of(folder, 60), made, workers=0, fail_threshold=0.3)
        assert (store.progress("b").status[:12] == 1).all()


def test_rows_that_another_extractor_took_for_one_set_alone_are_done_for_the_others(
    folder, tmp_path, marks
):
    """Blocks are claimed by the first set; here somebody finishes that set meanwhile."""
    items = items_of(folder)
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        real = type(store).share

        def share(self, name, ids, size=1024):
            if name == "a":
                with FeatureStore.open(tmp_path / "f.h5", "a") as other:
                    extract(other, items, {"a": CountingEncoder(3)}, workers=0)
            yield from real(self, name, ids, size)

        with pytest.MonkeyPatch.context() as patched:
            told = []
            patched.setattr(
                type(store), "share",
                lambda *args: (share if not told.append(1) and len(told) == 1 else real)(*args),
            )  # fmt: skip
            made = {"a": CountingEncoder(3), "b": HalvesEncoder(5, marks)}
            account = extract(store, items, made, workers=0)
        assert np.array_equal(store.feature_set("b").x(), expected(folder, 5))
    assert (account.sets["a"].done, account.sets["a"].reused) == (0, 12)
    assert (account.sets["b"].done, account.sets["b"].reused) == (12, 0)


def test_sounds_with_other_parameters_share_the_decoding(tmp_path, monkeypatch):
    from headstock.extract.encoders import mfcc

    (tmp_path / "a.wav").write_bytes(sample_wav(1.0))
    opened, real = [], mfcc.mono_blocks
    monkeypatch.setattr(mfcc, "mono_blocks", lambda *a: opened.append(1) or real(*a))
    loaders = tuple(audio_encoder("mfcc", n_mfcc=n).loader for n in (13, 20))
    done = perform(Task(0, "a.wav"), Reader(str(tmp_path)), Several(loaders))
    assert opened == [1]
    assert [len(item) for item in done.items] == [104, 160]
    for loader, item in zip(loaders, done.items):
        assert np.array_equal(item, loader((tmp_path / "a.wav").read_bytes()))
    alone = perform(Task(0, "a.wav"), Reader(str(tmp_path)), Several(loaders[:1]))
    assert alone.decode > 0
    assert alone.transform > 0


@pytest.fixture
def pictures(shared_data):
    folder = shared_data / "animals8_av"
    names = [f"images/{p.name}" for p in sorted((folder / "images").iterdir())[:21]]
    return Items.of(names, paths={"image": names}, root=str(folder))


VIEWS = {
    "whole": {}, "third": {"layer": "layer3"}, "most": {"layer": "layer3", "pool": "max"},
    "round": {"flip": "mean"},
}  # fmt: skip


def test_views_of_one_network_share_its_passes(pictures, tmp_path):
    told = {"untrained_seed": 0, "device": "cpu", "input_size": 64, "runtime": "torch"}
    made = {n: image_encoder("timm:test_resnet", **v, **told) for n, v in VIEWS.items()}
    passes = []
    for encoder in made.values():
        encoder.network.module.register_forward_pre_hook(lambda *_: passes.append(1))
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        account = extract(store, pictures, made, workers=1, batch_size=8)
        together = {name: store.feature_set(name).x() for name in VIEWS}
    assert len(passes) == 2 * 3  # three tiles of eight, both ways round
    assert all(one.seconds["model"] > 0 for one in account.sets.values())
    for name, encoder in made.items():
        with FeatureStore.open(tmp_path / f"{name}.h5", "a") as store:
            extract(store, pictures, {name: encoder}, workers=1)
            assert np.array_equal(store.feature_set(name).x(), together[name])


def test_two_backbones_on_the_command_line(shared_data, tmp_path, monkeypatch):
    read, real = [], Reader.read
    monkeypatch.setattr(Reader, "read", lambda self, path: read.append(path) or real(self, path))
    manifest = Manifest.read(str(shared_data / "animals8_av" / "index.csv")).take(np.arange(6))
    words = [
        "timm:test_resnet,untrained=0,input_size=64",
        "third=timm:test_resnet,untrained=0,layer=layer3,flip=both,input-size=64",
        "other=timm:test_efficientnet,untrained=1,input_size=96",
    ]
    account = extract_manifest(
        manifest, tmp_path / "f.h5", image=words, audio=["mfcc", "few=mfcc,n_mfcc=5,windows=2"],
        device="cpu", workers=0,
    )  # fmt: skip
    assert all(account.sets[n].done == 6 for n in ("image", "third", "other", "audio", "few"))
    assert len(read) == 6 + 6
    kept = json.loads((tmp_path / "f.run.json").read_text())
    assert kept["sets"]["third"]["encoded"] == 6
    assert kept["sets"]["third"]["runtime"] in ("torch", "openvino")
    assert {"busy", "advice", "items_a_second", "memory", "seconds"} <= set(kept["sets"]["image"])
    extract_manifest(manifest, tmp_path / "f.h5", image=words[:1], device="cpu", workers=0)
    assert json.loads((tmp_path / "f.run.json").read_text()) == kept  # nothing was computed
    with FeatureStore.open(tmp_path / "f.h5") as store:
        assert store.feature_set("few").dim == 10
        assert store.feature_set("third").recipe.fields["layer"] == "layer3"
    with pytest.raises(OptionError, match="no option of a set"):
        extract_manifest(manifest, tmp_path / "f.h5", image=["timm:test_resnet,colour=red"])


def test_a_shared_pass_lands_for_each_set_once():
    """Batches that the sets do not ask for alike are computed for each, and nothing is kept."""
    from headstock.extract.encoders.shared import HELD
    from headstock.extract.pipeline.run import sharing

    told = {"untrained_seed": 0, "device": "cpu", "input_size": 64, "runtime": "torch"}
    made = {n: image_encoder("timm:test_resnet", **VIEWS[n], **told) for n in ("whole", "third")}
    shares = sharing(made, dict.fromkeys(made, b"same"))
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (40, 64, 64, 3), dtype=np.uint8))
    for i in range(0, 40, 2):
        assert shares["whole"].encode(images[i : i + 2]).shape == (2, made["whole"].dim)
    passes = shares["whole"]._passes
    assert len(passes._batches) == HELD
    assert shares["third"].encode(images[:2]).shape == (2, made["third"].dim)
    again = sharing(made, dict.fromkeys(made, b"same"))
    assert again["whole"]._passes.forward is passes.forward  # a runtime is started once
    alone = sharing(made, {"whole": b"some", "third": b"others"})
    assert all(isinstance(encoder, NetworkEncoder) for encoder in alone.values())
    assert isinstance(shares["third"].recipe(), Recipe)
