"""MFCC: librosa's definition over its parameters, and the summary in windows of time."""

import numpy as np
import pytest

from headstock.extract import audio_encoder
from headstock.extract.encoders.mfcc import MfccLoader, mfcc, windows
from headstock.extract.encoders.spectra import mel_filters
from headstock.store.errors import OptionError


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """Three seconds with a silent start, a sweep and noise."""
    rng = np.random.default_rng(0)
    t = np.arange(66150) / 22050
    sweep = np.sin(2 * np.pi * (200 * t + 900 * t**2)) * 0.4
    y = (sweep + rng.standard_normal(t.size) * np.linspace(0, 0.2, t.size)).astype(np.float32)
    y[:2000] = 0
    return y


PARAMETERS = [
    {},
    {"n_mfcc": 40, "n_mels": 64},
    {"n_fft": 512, "hop_length": 100, "n_mels": 40},
    {"n_fft": 1023},
    {"hop_length": 3000, "n_fft": 1024},
    {"win_length": 400, "n_fft": 1024, "hop_length": 160},
    {"window": "hamming"},
    {"fmin": 50.0, "fmax": 8000.0},
    {"htk": True},
    {"htk": True, "fmin": 300.0, "mel_norm": None},
    {"mel_norm": None},
    {"power": 1.0},
    {"power": 1.5},
    {"top_db": None},
    {"top_db": 20.0},
    {"dct_type": 3},
    {"dct_type": 1, "norm": None},
    {"norm": None},
    {"lifter": 22.0},
    {"n_mfcc": 128},
]


@pytest.mark.parametrize("changed", PARAMETERS, ids=str)
def test_equals_librosa(clip, changed):
    librosa = pytest.importorskip("librosa")
    p = MfccLoader(**changed)
    spectrum = librosa.feature.melspectrogram(
        y=clip.astype(np.float64), sr=p.rate, n_fft=p.n_fft, hop_length=p.hop_length,
        win_length=p.win_length, window=p.window, power=p.power, n_mels=p.n_mels, fmin=p.fmin,
        fmax=p.fmax, htk=p.htk, norm=p.mel_norm,
    )  # fmt: skip
    decibels = librosa.power_to_db(spectrum, top_db=p.top_db)
    theirs = librosa.feature.mfcc(
        S=decibels, n_mfcc=p.n_mfcc, dct_type=p.dct_type, norm=p.norm, lifter=p.lifter
    ).T
    ours = mfcc([clip], p)
    assert ours.shape == theirs.shape
    # librosa computes in double here, so that its own rounding stays out. The lifter multiplies by
    # up to 1 + lifter / 2; without normalisation a sum of 2 * n_mels takes the place of a mean.
    scale = (1 + p.lifter / 2) * (1.0 if p.norm else (2 * p.n_mels) ** 0.5)
    assert np.abs(ours - theirs).max() <= 2e-4 * scale


def steep() -> np.ndarray:
    """Noise that falls by 18 dB an octave: loud and very quiet mels in each frame."""
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(22050))
    spectrum /= np.maximum(np.arange(len(spectrum)), 20.0) ** 3
    sound = np.fft.irfft(spectrum, 22050)
    return (sound / np.abs(sound).max() / 2).astype(np.float32)


@pytest.mark.parametrize("sound", ["tone", "steep"])
@pytest.mark.parametrize(
    "changed",
    [{}, {"power": 1.0}, {"power": 0.5}, {"top_db": None}, {"top_db": 120.0}, {"power": 3.0}],
    ids=str,
)
def test_quiet_mels_beside_loud_ones_equal_librosa(sound, changed):
    """A tone leaves most mels empty, but for the rounding of the transform."""
    librosa = pytest.importorskip("librosa")
    y = (0.5 * np.sin(np.arange(22050) * 0.05)).astype(np.float32) if sound == "tone" else steep()
    p = MfccLoader(**changed)
    spectrum = librosa.feature.melspectrogram(y=y, sr=p.rate, power=p.power)
    decibels = librosa.power_to_db(spectrum, top_db=p.top_db)
    theirs = librosa.feature.mfcc(S=decibels, n_mfcc=p.n_mfcc).T
    # librosa takes logarithms in single precision: a unit in the last place of -1000 is 6e-5
    assert np.abs(mfcc([y], p) - theirs).max() <= 4e-4


def test_where_noise_of_the_transform_would_count_it_is_another_recipe():
    for changed, version in (
        ({}, 1),
        ({"top_db": 60.0}, 1),
        ({"power": 1.0}, 2),
        ({"top_db": None}, 2),
    ):
        assert audio_encoder(**changed).recipe().fields["version"] == version


def test_default_equals_librosa_in_one_call(clip):
    librosa = pytest.importorskip("librosa")
    theirs = librosa.feature.mfcc(y=clip, sr=22050, n_mfcc=13).T
    assert np.abs(mfcc([clip], MfccLoader()) - theirs).max() <= 2e-4


@pytest.mark.parametrize("htk", [False, True])
@pytest.mark.parametrize("norm", ["slaney", None])
def test_mel_filters_equal_librosa(htk, norm):
    librosa = pytest.importorskip("librosa")
    theirs = librosa.filters.mel(sr=16000, n_fft=400, n_mels=80, fmin=20, htk=htk, norm=norm)
    assert np.abs(mel_filters(16000, 400, 80, 20.0, None, htk, norm) - theirs).max() < 1e-6


def test_golden_values():
    """Librosa 0.11's numbers for a fixed signal, so that the definition holds without librosa."""
    t = np.arange(4096)
    y = (0.5 * np.sin(t * 0.05) + 0.25 * np.sin(t * 0.31)).astype(np.float32)
    shown = mfcc([y], MfccLoader(rate=8000, n_fft=512, hop_length=256, n_mels=40, n_mfcc=4))
    assert shown.shape == (17, 4)
    assert np.abs(shown[8] - GOLDEN).max() < 2e-4


GOLDEN = np.array([-316.1721, 86.1855, 66.1939, 39.1678])


@pytest.mark.parametrize("n_fft", [256, 255, 2048])
@pytest.mark.parametrize("hop", [1, 100, 5000])
def test_blocks_do_not_matter(n_fft, hop):
    y = np.random.default_rng(1).standard_normal(6000).astype(np.float32)
    p = MfccLoader(n_fft=n_fft, hop_length=hop, n_mels=20)
    whole = mfcc([y], p)
    assert len(whole) == 1 + (len(y) + 2 * (n_fft // 2) - n_fft) // hop
    cuts = [[y[:1], y[1:3000], y[3000:3000], y[3000:]], np.array_split(y, 60)]
    for blocks in cuts:
        assert np.allclose(mfcc(blocks, p), whole, atol=1e-4)


def test_windows_are_equal_parts_of_the_frames():
    frames = np.arange(20, dtype=np.float32).reshape(10, 2)
    shown = windows(frames, 4).reshape(4, 2)
    parts = [frames[0:2], frames[2:5], frames[5:7], frames[7:10]]
    assert np.array_equal(shown, [part.mean(axis=0) for part in parts])


def test_fewer_frames_than_windows_repeat():
    frames = np.array([[1.0], [2.0], [3.0]], dtype=np.float32)
    assert windows(frames, 8).tolist() == [1, 1, 1, 2, 2, 2, 3, 3]
    assert windows(frames[:1], 8).tolist() == [1.0] * 8


def test_statistics_and_names_are_in_one_order():
    frames = np.array([[1.0, 10.0], [3.0, 30.0]], dtype=np.float32)
    assert windows(frames, 1, ("mean", "std", "min", "max")).tolist() == [
        2.0, 20.0, 1.0, 10.0, 1.0, 10.0, 3.0, 30.0,
    ]  # fmt: skip
    names = MfccLoader(n_mfcc=2, windows=1, stats=("mean", "std")).names
    assert names == ["w1_mean_mfcc1", "w1_mean_mfcc2", "w1_std_mfcc1", "w1_std_mfcc2"]


def test_default_has_104_values():
    encoder = audio_encoder()
    assert encoder.dim == 104 == len(encoder.feature_names)
    assert encoder.feature_names[13] == "w2_mean_mfcc1"


def test_every_parameter_is_in_the_recipe():
    plain = audio_encoder().recipe()
    for name, value in {
        "rate": 16000, "n_mfcc": 20, "n_fft": 1024, "hop_length": 256, "win_length": 800,
        "window": "hamming", "n_mels": 64, "fmin": 20.0, "fmax": 8000.0, "htk": True,
        "mel_norm": None, "power": 1.0, "top_db": None, "dct_type": 3, "norm": None,
        "lifter": 22.0, "windows": 4, "stats": ("mean", "std"), "duration": 2.0,
    }.items():  # fmt: skip
        changed = plain.difference(audio_encoder(**{name: value}).recipe())
        assert len(changed) >= 1, name
        assert changed[0].startswith(name)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 1}, {"n_fft": 1}, {"hop_length": 0}, {"win_length": 4096}, {"n_mels": 0},
        {"n_mfcc": 129}, {"fmin": -1.0}, {"fmin": 9000.0, "fmax": 100.0}, {"mel_norm": "l1"},
        {"power": 0.0}, {"top_db": -1.0}, {"dct_type": 4}, {"norm": "max"}, {"lifter": -1.0},
        {"windows": 0}, {"stats": ()}, {"stats": ("median",)}, {"duration": 0.0}, {"colour": 1},
        {"windows": "abc"}, {"windows": 1.5}, {"windows": True}, {"n_mfcc": None}, {"fmin": "nan"},
        {"fmin": float("nan")}, {"power": float("inf")}, {"top_db": "loud"}, {"lifter": [1]},
        {"htk": "yes"}, {"window": 1}, {"window": "kaiser"}, {"window": "nothing"},
        {"stats": "mode"}, {"stats": 3}, {"rate": 22050.5},
    ],
)  # fmt: skip
def test_parameters_without_meaning_are_refused(wrong):
    with pytest.raises(OptionError):
        audio_encoder("mfcc", **wrong)


def test_one_value_has_one_recipe_however_it_was_written():
    plain = audio_encoder(fmin=20.0, n_fft=1024, norm=None, stats=("mean", "std")).recipe()
    said = audio_encoder(fmin=20, n_fft=1024.0, norm="none", stats="mean+std").recipe()
    assert plain == said


def test_unknown_encoder():
    with pytest.raises(OptionError, match="mfcc"):
        audio_encoder("wav2vec")
