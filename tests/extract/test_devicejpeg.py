"""JPEGs decoded by the device, with the CPU standing in for it: same code, same answers nearly."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from headstock.extract import encoder_from_recipe, extract, image_encoder
from headstock.extract.decode import device_jpeg as devicejpeg
from headstock.extract.decode.device_jpeg import DeviceLoader, pixels_on
from headstock.extract.decode.images import plain_jpeg
from headstock.extract.decode.preprocess import ImageLoader, Preprocess
from headstock.extract.doctor import sample_jpeg
from headstock.extract.encoders import network
from headstock.store import FeatureStore, Items
from headstock.store.errors import ItemError, OptionError

CPU = torch.device("cpu")


def saved(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def exif(turn: int) -> bytes:
    said = Image.Exif()
    said[274] = turn
    return saved(Image.new("RGB", (40, 30)), exif=said.tobytes())


def headless() -> bytes:
    """A JPEG with a good header and end, and nothing in between."""
    data = sample_jpeg(300, 200)
    return data[: data.index(b"\xff\xda")] + b"\xff\xd9"


def test_only_plain_whole_jpegs_go_to_the_device():
    plain = sample_jpeg(100, 80)
    assert plain_jpeg(plain)
    assert plain_jpeg(saved(Image.new("L", (9, 9))))
    assert plain_jpeg(exif(1))
    for other in (
        exif(6), plain[:-40], saved(Image.new("CMYK", (9, 9))),
        saved(Image.new("RGB", (9, 9)), "PNG"), b"\xff\xd8\xff not a picture \xff\xd9", b"",
    ):  # fmt: skip
        assert not plain_jpeg(other)
    with pytest.raises(ItemError) as caught:
        plain_jpeg(saved(Image.new("L", (3, 900))))
    assert caught.value.code == "aspect"


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_those_of_the_host_within_some_grey_levels(mode, interpolation):
    for share in (0.875, 1.0, 1.15):
        preprocess = Preprocess.of_size((64, 64), share, (0.5,), (0.5,), interpolation, mode)
        files = [sample_jpeg(*size) for size in ((500, 375), (375, 500), (64, 64), (50, 70))]
        items = [DeviceLoader(preprocess)(data) for data in files]
        assert all(item.ndim == 1 for item in items)
        shown, errors = pixels_on(CPU, items, preprocess)
        expected = np.stack([ImageLoader(preprocess)(data) for data in files])
        assert errors == {}
        assert shown.shape == expected.shape
        assert np.abs(shown.numpy().astype(int) - expected).max() <= 3


def test_a_broken_picture_costs_itself(monkeypatch):
    preprocess = Preprocess.of_size((32, 32), 1.0, (0.5,), (0.5,))
    good = sample_jpeg(60, 40)
    broken = headless()
    png = saved(Image.new("RGB", (50, 50), "red"), "PNG")
    items = [DeviceLoader(preprocess)(data) for data in (good, broken, png, good)]
    real = devicejpeg._decoded

    def strict(data, device):  # as nvJPEG: one refused, all refused
        if any(len(one) == len(broken) for one in data):
            raise RuntimeError("told to refuse it")
        return real(data, device)

    monkeypatch.setattr(devicejpeg, "_decoded", strict)
    shown, errors = pixels_on(CPU, items, preprocess)
    assert list(errors) == [1]
    assert errors[1].code in ("truncated", "corrupt")
    assert shown[1].sum() == 0
    assert torch.equal(shown[0], shown[3])
    assert shown[2, 16, 16].tolist() == [255, 0, 0]


@pytest.fixture
def on_cpu(monkeypatch):
    for module in (devicejpeg, network):
        monkeypatch.setattr(module, "DEVICES", ("cuda", "cpu"))


def test_the_whole_way_through_the_store(on_cpu, tmp_path, monkeypatch):
    files = {"a.jpg": sample_jpeg(200, 150), "b.jpg": sample_jpeg(150, 200, 1), "d.jpg": exif(8)}
    bad = files["c.jpg"] = headless()
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    names = sorted(files)
    items = Items.of(names, paths={"image": names}, root=str(tmp_path))
    real = devicejpeg._decoded

    def strict(data, device):
        if any(len(one) == len(bad) for one in data):
            raise RuntimeError("told to refuse it")
        return real(data, device)

    monkeypatch.setattr(devicejpeg, "_decoded", strict)
    told = {"untrained_seed": 0, "device": "cpu", "input_size": 64}
    made = {
        "image": image_encoder("timm:test_resnet", decode="device", **told),
        "third": image_encoder("timm:test_resnet", decode="device", layer="layer3", **told),
    }
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        account = extract(store, items, made, workers=1)
        for name in made:
            assert list(account.sets[name].codes) in (["truncated"], ["corrupt"])
            assert account.sets[name].failures[0].line.startswith("c.jpg: ")
            assert account.sets[name].done == 3
            assert account.sets[name].decode == "device"
        x = store.feature_set("image").x(np.array([0, 1, 3]))
        again = encoder_from_recipe(store.feature_set("image").recipe, device="cpu")
    full = image_encoder("timm:test_resnet", **told)
    y = full.encode([full.loader(files[n]) for n in names if n != "c.jpg"]).astype(float)
    cosine = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    assert cosine.min() > 0.999
    assert isinstance(again.loader, DeviceLoader)
    assert again.recipe().difference(full.recipe()) != []


def test_a_device_that_decodes_nothing_is_refused_at_once(on_cpu, monkeypatch):
    """Else every picture would be the host's, and the recipe would say the device's."""

    def absent(data, device):
        raise RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG support")

    monkeypatch.setattr(devicejpeg, "_decoded", absent)
    with pytest.raises(OptionError, match=r"no JPEG decoder for cpu: .*nvJPEG"):
        image_encoder("timm:test_resnet", untrained_seed=0, device="cpu", decode="device")


def test_it_needs_a_device_and_a_transform_that_it_can_do():
    told = {"untrained_seed": 0, "device": "cpu", "decode": "device"}
    with pytest.raises(OptionError, match="needs a CUDA device"):
        image_encoder("timm:test_resnet", **told)
    for wrong in (("lanczos", "center"), ("bicubic", "border")):
        with pytest.raises(OptionError, match="does not do"):
            DeviceLoader(Preprocess.of_size((8, 8), 1.0, (0.5,), (0.5,), *wrong))
    with pytest.raises(OptionError, match="full, fast, device"):
        image_encoder("timm:test_resnet", untrained_seed=0, decode="quick")


@pytest.mark.gpu
def test_the_device_decodes_nearly_as_the_host():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    told = {"untrained_seed": 0, "device": "cuda"}
    here, there = (image_encoder("timm:test_resnet", decode=d, **told) for d in ("full", "device"))
    files = [sample_jpeg(500, 375, seed) for seed in range(6)] + [exif(6)]
    a, b = (e.encode([e.loader(data) for data in files]).astype(float) for e in (here, there))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() > 0.999
