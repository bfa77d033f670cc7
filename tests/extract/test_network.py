"""The network encoder: bits that do not depend on batches, memory that runs out, precisions."""

import concurrent.futures
import contextlib
import functools
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from headstock.extract import extract, image_encoder
from headstock.extract.decode.preprocess import Preprocess
from headstock.extract.encoders.network import Network, NetworkEncoder, _devices, pick_device
from headstock.extract.pipeline.fill import _count
from headstock.extract.runtimes.compiled import present
from headstock.extract.runtimes.eager import PRECISIONS, CudaRuntime
from headstock.extract.runtimes.forward import Forward
from headstock.store import FeatureStore, Items
from headstock.store.errors import OptionError

RUNTIMES = ["torch", *(["openvino"] if present() else [])]
PLAIN = Preprocess.of_size((16, 16), 1.0, (0.5,), (0.25,))


class Small(nn.Module):
    """Mean colour, scaled; runs out of memory above ``most`` pictures."""

    def __init__(self, most: int = 1000, error: type[Exception] = torch.OutOfMemoryError):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0, 2.0, 4.0]))
        self.most, self.error, self.sizes = most, error, []

    def forward(self, x):
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise self.error("not enough memory: told to")
        return x.mean(dim=(2, 3)) * self.scale


def small(most=1000, error=torch.OutOfMemoryError, **options) -> tuple[NetworkEncoder, Small]:
    module = Small(most, error)
    options = {"runtime": "torch", **options}
    encoder = NetworkEncoder("small", Network(module, "test", "small", PLAIN), "cpu", **options)
    module.sizes.clear()
    return encoder, module


def pictures(count: int, size: int = 16) -> list[np.ndarray]:
    rng = np.random.default_rng(count)
    return list(rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8))


def test_vectors_are_of_normalised_pixels():
    encoder, _ = small()
    images = pictures(5)
    expected = [
        ((i / 255.0 - 0.5) / 0.25).mean(axis=(0, 1)) * np.array([1.0, 2.0, 4.0]) for i in images
    ]
    assert encoder.dim == 3
    assert np.allclose(encoder.encode(images), expected, atol=1e-5)
    assert encoder.encode(images).dtype == np.float32


def test_every_pass_on_the_cpu_has_one_size():
    encoder, module = small(tile=4)
    encoder.encode(pictures(11))
    assert module.sizes == [4, 4, 4]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", ["timm:test_resnet", "timm:test_vit", "torchvision:mnasnet0_5"])
def test_bits_do_not_depend_on_the_batch_or_the_place_in_it(name, runtime):
    encoder = image_encoder(name, untrained_seed=0, device="cpu", runtime=runtime)
    images = pictures(19, encoder.network.preprocess.crop[0])
    whole = encoder.encode(images)
    alone = np.concatenate([encoder.encode([image]) for image in images])
    turned = encoder.encode(images[::-1])[::-1]
    assert np.array_equal(whole, alone)
    assert np.array_equal(whole, turned)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_bits_do_not_depend_on_the_number_of_threads(runtime):
    made = image_encoder("timm:test_resnet", untrained_seed=0, device="cpu")
    images = pictures(19, 160)
    seen = set()

    def look(*_):
        if threading.current_thread() is not threading.main_thread():
            seen.add(torch.get_num_threads())

    made.network.module.register_forward_pre_hook(look)
    vectors = [
        NetworkEncoder("n", made.network, "cpu", threads=threads, runtime=runtime).encode(images)
        for threads in (1, 2, 5)
    ]
    assert seen == {1}
    assert np.array_equal(vectors[0], vectors[1])
    assert np.array_equal(vectors[0], vectors[2])


def test_the_threads_of_one_encoder_do_not_slow_the_next():
    before = torch.get_num_threads()
    first, _ = small(threads=3)
    first.encode(pictures(40))
    assert torch.get_num_threads() == before
    assert small()[0].forward.threads == small()[0].forward.threads


class Event:
    """A CUDA event as far as the encoder uses one; it goes to a stream of the current device."""

    order: list[str] = []  # noqa: RUF012
    device = "the first"  # that torch takes where nobody says

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        assert Event.device != "the first"
        self.order.append("record")

    def synchronize(self):
        self.order.append("synchronize")

    def elapsed_time(self, other):
        return 250.0


class Stream:
    """A CUDA stream: what waits for what."""

    def __init__(self, device=None):
        self.waited = []

    def wait_event(self, event):
        self.waited.append(event)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


@contextlib.contextmanager
def current_device(device):
    Event.device, before = device, Event.device
    yield
    Event.device = before


@pytest.fixture
def stood_in(monkeypatch):
    """CUDA's own parts stood in for, so that its path runs on the CPU."""
    real, computing = torch.empty, Stream()
    monkeypatch.setattr(torch.cuda, "device", current_device)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: computing)
    pinned = []

    def empty(shape, dtype=None, pin_memory=False):
        made = real(shape, dtype=dtype)
        if pin_memory:
            pinned.append(made)
        return made

    def pin_memory(self):
        if not any(self.data_ptr() == one.data_ptr() for one in pinned):
            pinned.append(self)
        return self

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    monkeypatch.setattr(torch, "empty", empty)
    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7)
    return computing, pinned, emptied


def test_the_path_of_cuda_pins_flies_and_lands(stood_in):
    """Everything that runs on CUDA: pinned input, copies on a stream of their own, several batches
    under way before anything is waited for, halves when memory runs out."""
    computing, pinned, _ = stood_in
    expected, _ = small()
    encoder, module = small(most=6, threads=1)
    forward = encoder.forward
    forward.torch = forward._runtime = runtime = CudaRuntime(forward.whole, forward.device, "fp32")
    forward.tile = None
    images = pictures(10)
    Event.order.clear()
    flights = [encoder.start(images), encoder.start(images[:3])]
    assert "synchronize" not in Event.order
    assert len(computing.waited) == 2
    assert len(pinned) == 4  # each batch: its pictures, put there at once, and its vectors
    assert np.allclose(encoder.finish(flights[0]), expected.encode(images), atol=1e-6)
    assert np.allclose(encoder.finish(flights[1]), expected.encode(images[:3]), atol=1e-6)
    assert Event.order.count("synchronize") == 2
    assert (forward.model_seconds, forward.transfer_seconds) == (0.5, 1.0)
    runtime.device = torch.device("cpu")
    assert module.sizes[:3] == [10, 5, 5]
    assert runtime.most == 5
    encoder.abandon(encoder.start(images[:2]))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_what_cuda_computes_is_channels_last_at_its_precision_and_compiled(
    stood_in, monkeypatch, precision
):
    told, seen = [], []
    monkeypatch.setattr(torch, "compile", lambda whole, **how: told.append(how) or whole)

    class Watched(Small):
        def forward(self, x):
            kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
            seen.append((x.is_contiguous(memory_format=torch.channels_last), kind))
            return super().forward(x)

    made = NetworkEncoder("w", Network(Watched(), "test", "w", PLAIN), "cpu", runtime="torch")
    forward = made.forward
    forward.torch = forward._runtime = CudaRuntime(
        forward.whole, forward.device, precision, compiled=True
    )
    forward.tile, forward._one_shape = None, True
    seen.clear()
    vectors = made.encode(pictures(6))
    assert seen == [(True, PRECISIONS[precision])]
    assert told == [{"dynamic": False}]
    assert vectors.dtype == np.float32
    expected, _ = small()
    assert np.allclose(vectors, expected.encode(pictures(6)), atol=0.05)


def test_cuda_has_batches_in_flight_and_large_ones(monkeypatch, stood_in):
    whole = small()[0].forward.whole
    forward = Forward(whole, torch.device("cuda", 1), "bf16", compiled=True)
    assert (forward.in_flight, forward.batch_size, forward.runtime) == (3, 256, "torch")
    assert isinstance(forward.torch, CudaRuntime)
    assert forward.tile is None  # until the first batch says its shape


def test_cuda_counts_its_memory_and_gives_it_back(stood_in):
    _, _, emptied = stood_in
    encoder, _ = small(most=3)
    encoder.forward.torch.device = encoder.forward.device = torch.device("cuda")
    assert encoder.status().device_bytes == 7
    runtime = encoder.forward.torch
    runtime._pass = lambda pixels, forward: forward(pixels)
    with torch.inference_mode():
        runtime.run(torch.from_numpy(np.stack(pictures(4))))
    assert emptied == [1]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_real_network_gives_the_same_bytes_after_interruptions(tmp_path, shared_data, runtime):
    """Interrupted anywhere, with other batch sizes in between: byte for byte the same set."""
    root = shared_data / "animals8_av"
    names = [f"images/{path.name}" for path in sorted((root / "images").iterdir())[:45]]
    items = Items.of(names, paths={"image": names}, root=str(root))
    encoder = image_encoder(
        "timm:test_resnet", untrained_seed=0, device="cpu", input_size=64, runtime=runtime
    )

    def run(path, batch_size, stop=None):
        calls = []
        real = NetworkEncoder.start

        def start(self, pixels):
            if stop is not None and len(calls) >= stop:
                raise KeyboardInterrupt
            calls.append(len(pixels))
            return real(self, pixels)

        with FeatureStore.open(path, "a") as store, pytest.MonkeyPatch.context() as patched:
            patched.setattr(NetworkEncoder, "start", start)
            options = {"batch_size": batch_size, "workers": 1}
            if stop is None:
                extract(store, items, {"image": encoder}, **options)
                return store.feature_set("image").x(), calls
            with pytest.raises(KeyboardInterrupt):
                extract(store, items, {"image": encoder}, **options)
            return None, calls

    whole, calls = run(tmp_path / "whole.h5", 16)
    assert calls == [16, 16, 13]
    run(tmp_path / "parts.h5", 16, stop=2)
    run(tmp_path / "parts.h5", 5, stop=3)
    parts, _ = run(tmp_path / "parts.h5", 7)
    assert whole.tobytes() == parts.tobytes()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_a_batch_that_does_not_fit_is_halved_and_stays_so(error):
    encoder, module = small(most=3, error=error, tile=16)
    expected, _ = small()
    images = pictures(16)
    assert np.array_equal(encoder.encode(images), expected.encode(images))
    assert max(module.sizes[-4:]) == 2
    module.sizes.clear()
    encoder.encode(images)
    assert set(module.sizes) == {2}


def test_other_errors_and_a_single_picture_that_does_not_fit_are_raised():
    encoder, module = small()
    module.most = 0
    with pytest.raises(torch.OutOfMemoryError):
        encoder.encode(pictures(1))
    module.error = IndexError
    with pytest.raises(IndexError):
        encoder.encode(pictures(1))


def test_batches_fly_and_abandoned_ones_are_not_begun():
    encoder, module = small(tile=1, threads=2)
    gate = threading.Event()
    module.register_forward_pre_hook(lambda *_: gate.wait(5))
    flights = encoder.start(pictures(64))
    encoder.abandon(flights)
    gate.set()
    concurrent.futures.wait(flights.tiles[1:])
    assert len(module.sizes) <= 4


def test_the_model_clock_counts_threads_once():
    encoder, _ = small()
    encoder.encode(pictures(32))
    assert 0 < encoder.status().model_seconds < 5


@pytest.mark.parametrize(("precision", "close"), [("bf16", 0.05), ("fp16", 0.01)])
def test_lower_precisions_are_near_and_another_recipe(precision, close):
    full = image_encoder("timm:test_resnet", untrained_seed=0, device="cpu")
    low = image_encoder("timm:test_resnet", untrained_seed=0, device="cpu", precision=precision)
    images = pictures(3, 160)
    a, b = full.encode(images), low.encode(images)
    assert b.dtype == np.float32
    assert np.abs(a - b).max() <= close * np.abs(a).max()
    assert low.recipe().difference(full.recipe()) == [f"precision: {precision} -> fp32"]


def test_layout_changes_nothing_but_rounding():
    images = pictures(3, 160)
    a, b = (
        image_encoder("timm:test_resnet", untrained_seed=0, device="cpu", channels_last=c)
        for c in (True, False)
    )
    assert np.allclose(a.encode(images), b.encode(images), rtol=1e-5, atol=1e-6)
    assert a.recipe() == b.recipe()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_compiled_network_is_one_graph_of_one_batch_shape(monkeypatch, precision):
    """torch's own compiler up to the graph, whose shapes are to be numbers and not symbols."""
    graphs, real = [], torch.compile

    def keep(graph, inputs):
        given = [n.meta["example_value"] for n in graph.graph.nodes if n.op == "placeholder"]
        graphs.append([tuple(one.shape) for one in given if one.dtype == torch.uint8])
        assert all(isinstance(side, int) for one in given for side in one.shape)
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(real, backend=keep))
    told = {"untrained_seed": 0, "device": "cpu", "input_size": 32, "precision": precision}
    encoder = image_encoder("timm:test_resnet", compile=True, **told)
    images = pictures(12, 32)
    vectors = encoder.encode(images)
    encoder.encode(images[:3])
    assert graphs == [[(encoder.forward.tile, 32, 32, 3)]]
    plain = image_encoder("timm:test_resnet", runtime="torch", **told)
    assert np.allclose(vectors, plain.encode(images), rtol=1e-3, atol=1e-3)


def test_a_device_gets_batches_of_one_shape():
    """That of the largest so far: a shorter one is filled up, a larger one is a new shape."""
    encoder, module = small()
    encoder.forward.tile, encoder.forward._one_shape = None, True  # as on CUDA
    expected, _ = small()
    for count, size in ((6, 6), (2, 6), (9, 9), (5, 9)):
        module.sizes.clear()
        assert np.array_equal(encoder.encode(pictures(count)), expected.encode(pictures(count)))
        assert module.sizes == [size]


def test_devices():
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(OptionError, match="not available"):
        pick_device("quantum")
    if not torch.cuda.is_available():
        with pytest.raises(OptionError, match="not available"):
            pick_device("cuda:0")
    for number in ("x", "1", "-1", ""):
        with pytest.raises(OptionError, match="one of: cpu:0"):
            pick_device(f"cpu:{number}")


def test_devices_are_counted_and_share_the_cores(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert pick_device("cuda:3").index == 3
    with pytest.raises(OptionError, match="one of: cuda:0, cuda:1, cuda:2, cuda:3"):
        pick_device("cuda:4")
    encoder, _ = small()
    assert (encoder.devices, encoder.on_cpu) == (1, True)
    assert _devices("cuda") == 4
    encoder.devices, encoder.on_cpu = 4, False
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(64), raising=False)
    assert _count(None, [SimpleNamespace(encoder=encoder)], 1000) == (16, 16)
    assert _count(5, [SimpleNamespace(encoder=encoder)], 1000) == (5, 0)


def test_options_without_meaning():
    with pytest.raises(OptionError, match="precision"):
        small(precision="int8")


@pytest.mark.parametrize("output", ["map", "tuple"])
def test_networks_without_pooled_features_are_refused(output):
    class Odd(Small):
        def forward(self, x):
            return x if output == "map" else (x.mean(dim=(2, 3)),)

    with pytest.raises((OptionError, AttributeError)):
        NetworkEncoder("odd", Network(Odd(), "test", "odd", PLAIN), "cpu")


def test_a_size_that_the_network_does_not_take():
    class Strict(Small):
        def forward(self, x):
            raise RuntimeError("input size 16 doesn't match 224")

    with pytest.raises(OptionError, match="does not take 16 x 16"):
        NetworkEncoder("strict", Network(Strict(), "test", "strict", PLAIN), "cpu")


def test_recipe_leaves_out_what_does_not_change_the_vector():
    encoder, _ = small()
    text = encoder.recipe().to_json()
    for absent in ("cpu", "device", "/", "torch", "batch"):
        assert absent not in text.replace("torchvision", "").replace("w/", ""), absent
    assert encoder.provenance()["device"] == "cpu"


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    on_cpu = image_encoder("timm:test_resnet", untrained_seed=0, device="cpu")
    on_gpu = image_encoder("timm:test_resnet", untrained_seed=0, device="cuda")
    images = pictures(40, 160)
    assert np.allclose(on_gpu.encode(images), on_cpu.encode(images), rtol=1e-3, atol=1e-4)
    assert on_gpu.recipe() == on_cpu.recipe()


@pytest.mark.gpu
@pytest.mark.parametrize(
    "told",
    [
        {"precision": "bf16"}, {"precision": "fp16"}, {"compile": True},
        {"compile": True, "precision": "bf16"},
    ],
    ids=str,
)  # fmt: skip
def test_every_way_on_cuda_is_near(told):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    last = f"cuda:{torch.cuda.device_count() - 1}"
    on_cpu = image_encoder("timm:test_resnet", untrained_seed=0, device="cpu", runtime="torch")
    on_gpu = image_encoder("timm:test_resnet", untrained_seed=0, device=last, **told)
    images = pictures(300, 160)
    a, b = (e.encode(images).astype(np.float64) for e in (on_cpu, on_gpu))
    assert (np.linalg.norm(a - b, axis=1) / np.linalg.norm(a, axis=1)).max() < 3e-2
    assert on_gpu.forward.tile == 300
