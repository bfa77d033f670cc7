"""Runtimes: the fastest that agrees with torch computes, and one that does not is found out."""

import logging
import resource
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import torch
from torch import nn

from headstock.extract import image_encoder
from headstock.extract.decode.preprocess import Preprocess
from headstock.extract.encoders.network import Network, NetworkEncoder
from headstock.extract.runtimes import compiled as ours
from headstock.extract.runtimes import forward
from headstock.extract.runtimes.eager import TOLERANCE
from headstock.store.errors import OptionError, StorageError

PLAIN = Preprocess.of_size((16, 16), 1.0, (0.5,), (0.25,))
needs_openvino = pytest.mark.skipif(not ours.present(), reason="OpenVINO is not installed")


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, x):
        return self.body(x).mean(dim=(2, 3))


def encoder(**options) -> NetworkEncoder:
    return NetworkEncoder("small", Network(Small(), "test", "small", PLAIN), "cpu", **options)


def pictures(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(count).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8))


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float((np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)).max())


@needs_openvino
def test_auto_takes_openvino_and_it_agrees_with_torch():
    auto, torch_, images = encoder(), encoder(runtime="torch"), pictures(21)
    assert apart(auto.encode(images), torch_.encode(images)) <= TOLERANCE["fp32"]
    assert (auto.status().runtime, torch_.status().runtime, auto.status().note) == (
        "openvino",
        "torch",
        "",
    )
    assert auto.provenance()["runtime"] == "openvino"
    assert "openvino" in auto.provenance()["versions"]
    assert auto.recipe() == torch_.recipe()


@needs_openvino
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precisions_stay_in_their_class(precision):
    low = encoder(precision=precision, runtime="openvino")
    full, images = encoder(runtime="torch"), pictures(9)
    assert apart(low.encode(images), full.encode(images)) <= TOLERANCE[precision]


def wrong(whole, tile):
    """A conversion that forgets the mean: plausible vectors, and wrong ones."""
    mean = whole.mean.clone()
    whole.mean.zero_()
    try:
        return ours.converted(whole, tile)
    finally:
        whole.mean.copy_(mean)


class Blind(ours.OpenVinoRuntime):
    """Gives what is no number."""

    def _timed(self, pixels):
        vectors, transfer, model = super()._timed(pixels)
        return vectors * np.float32("nan"), transfer, model


@needs_openvino
@pytest.mark.parametrize("broken", [{"converted": wrong}, {"OpenVinoRuntime": Blind}])
def test_a_runtime_made_wrong_on_purpose_is_found_on_the_first_batch(monkeypatch, broken):
    for name, thing in broken.items():
        monkeypatch.setattr(forward, name, thing)
    images = pictures(5)
    auto = encoder()
    assert np.array_equal(auto.encode(images), encoder(runtime="torch").encode(images))
    assert auto.status().runtime == "torch"
    assert "from torch on the first pictures" in auto.status().note
    with pytest.raises(OptionError, match=r"more than 1\.0e-04"):
        encoder(runtime="openvino").encode(images)


@needs_openvino
def test_a_network_that_openvino_cannot_take_is_computed_by_torch_and_warnings_are_heard_after_it():
    class Odd(Small):
        def forward(self, x):
            return torch.linalg.svd(super().forward(x)[:, :3, None] + torch.zeros(3))[1]

    root = logging.getLogger()
    before = root.level, root.handlers[:], root.filters[:]
    auto = NetworkEncoder("odd", Network(Odd(), "test", "odd", PLAIN), "cpu")
    assert auto.encode(pictures(3)).shape == (3, 3)
    assert auto.status().runtime == "torch"
    assert "cannot take the network" in auto.status().note
    assert (root.level, root.handlers, root.filters) == before
    assert logging.getLogger("headstock").isEnabledFor(logging.WARNING)


@needs_openvino
def test_a_full_disk_is_told_as_such_and_auto_computes_by_torch():
    auto, asked = encoder(), encoder(runtime="openvino")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))  # bytes of any file, as on no room
    try:
        auto.encode(pictures(2))
        with pytest.raises(StorageError, match=r"cannot hold the network.*TMPDIR"):
            asked.encode(pictures(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert auto.status().runtime == "torch"
    assert f"{tempfile.gettempdir()} cannot hold the network" in auto.status().note


def test_without_openvino_auto_is_torch_and_asking_for_it_is_refused(monkeypatch):
    monkeypatch.setattr(forward, "present", lambda: False)
    auto = encoder()
    auto.encode(pictures(2))
    assert (auto.status().runtime, auto.status().note) == ("torch", "")
    with pytest.raises(OptionError, match="is not installed"):
        encoder(runtime="openvino")


def test_runtimes_without_meaning_are_refused():
    with pytest.raises(OptionError, match="runtime"):
        encoder(runtime="tensorrt")
    if ours.present():
        with pytest.raises(OptionError, match="compile"):
            encoder(runtime="openvino", compile=True)


@needs_openvino
def test_real_networks_agree(shared_data):
    """Real weights on real pictures: one network, two runtimes, cosine above 0.99999."""
    paths = sorted((shared_data / "imagenet_sample").rglob("*.JP*G"))[:8]
    told = {
        "weights": shared_data / "weights" / "mobilenetv2_100.imagenet.safetensors",
        "model_args": {"pad_type": "same"}, "mean": 0.5, "std": 0.5, "crop_pct": 0.875,
        "input_size": 224, "device": "cpu",
    }  # fmt: skip
    made = [image_encoder("timm:mobilenetv2_100", runtime=r, **told) for r in ("torch", "openvino")]
    items = [made[0].loader(path.read_bytes()) for path in paths]
    a, b = (m.encode(items).astype(np.float64) for m in made)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.min() > 0.99999
    assert made[1].status().runtime == "openvino"


@needs_openvino
def test_nobody_is_told_of_a_run() -> None:
    """OpenVINO's own reporting, from a forked child, is out before it is imported."""
    program = """
import io, os, socket, sys
import numpy as np
from PIL import Image
def called(*_): raise SystemExit("asked the network or forked")
socket.getaddrinfo = socket.create_connection = os.fork = called
from headstock.extract import image_encoder
encoder = image_encoder("headstock:resnext_nano", runtime="openvino")
file = io.BytesIO()
Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)).save(file, "PNG")
assert encoder.encode([encoder.loader(file.getvalue())]).shape == (1, 512)
assert "openvino.tools.ovc" in sys.modules and sys.modules["openvino_telemetry"] is None
print("quiet")
"""
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (told.stdout, told.returncode) == ("quiet\n", 0), told.stderr


@needs_openvino
def test_a_signal_finds_the_process_alive_after_networks_have_come_and_gone() -> None:
    """Cores that end in another order than they began, or in another thread, took the stack for
    signals with them: the next ctrl-C ended the process by SIGSEGV."""
    program = """
import gc, os, signal, threading
import numpy as np
import openvino.opset13 as ops
from headstock.extract.runtimes.compiled import openvino, requests_of
def made():
    parameter = ops.parameter([1, 4], np.float32)
    return requests_of(openvino().Model([ops.relu(parameter)], [parameter]), "fp32", 1)
first, second, third = [made()], [made()], [made()]
first.clear(), gc.collect()
second.clear(), gc.collect()
thread = threading.Thread(target=lambda: (third.clear(), gc.collect()))
thread.start(), thread.join()
heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append("heard"))
os.kill(os.getpid(), signal.SIGINT)
print(*heard)
"""
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (told.stdout, told.returncode) == ("heard\n", 0), told.stderr
