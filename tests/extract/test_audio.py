"""Sound files to mono blocks: formats, lies, limits."""

import contextlib
import csv
import io
import struct

import numpy as np
import pytest
import soundfile
import soxr

from headstock.extract.decode.audio import MAX_CHANNELS, mono_blocks
from headstock.extract.decode.phone import is_aac
from headstock.extract.encoders.mfcc import MfccLoader
from headstock.store.errors import ItemError

RATE = 8000


def sound(values: np.ndarray, kind: str = "WAV", subtype: str | None = "FLOAT", rate=RATE) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, values, rate, format=kind, subtype=subtype)
    return out.getvalue()


def read(data: bytes, rate: int = RATE, duration: float | None = None) -> np.ndarray:
    return np.concatenate(list(mono_blocks(data, rate, duration)))


def code_of(data: bytes, rate: int = RATE) -> str:
    with pytest.raises(ItemError) as caught:
        read(data, rate)
    return caught.value.code


@pytest.fixture
def tone() -> np.ndarray:
    return (0.5 * np.sin(np.arange(RATE) * 2 * np.pi * 440 / RATE)).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "subtype", "close"),
    [
        ("WAV", "FLOAT", 0),
        ("WAV", "DOUBLE", 0),
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "PCM_U8", 0.01),
        ("AIFF", "PCM_24", 1e-6),
        ("AU", "ULAW", 0.05),
        ("FLAC", "PCM_16", 1e-4),
        ("W64", "PCM_32", 1e-6),
        ("CAF", "PCM_16", 1e-4),
    ],
)
def test_formats(tone, kind, subtype, close):
    assert np.abs(read(sound(tone, kind, subtype)) - tone).max() <= close


def test_compressed_formats_have_the_right_length_and_level(tone):
    for kind, subtype in (("OGG", "VORBIS"), ("MP3", None)):
        shown = read(sound(tone, kind, subtype, rate=RATE))
        assert abs(len(shown) - len(tone)) < 3000
        assert abs(shown.std() - tone.std()) < 0.03


def test_mono_is_the_mean_of_channels(tone):
    stereo = np.stack([tone, -tone / 2, tone / 4], axis=1)
    assert np.allclose(read(sound(stereo)), tone / 4, atol=1e-6)


def test_resampling_in_blocks_equals_resampling_at_once():
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 700_000).astype(np.float32)
    whole = soxr.resample(noise, 44100, 22050, quality="HQ")
    shown = read(sound(noise, rate=44100), 22050)
    assert shown.shape == whole.shape
    assert np.abs(shown - whole).max() < 1e-6


def test_tags_with_padding_behind_them(tone):
    data = b"ID3\x03\x00\x00\x00\x00\x03\x74" + bytes(500 + 700) + sound(tone, "MP3", None)
    assert len(read(data)) > 7000


def test_duration_reads_only_the_start(tone):
    assert len(read(sound(tone), duration=0.25)) == RATE // 4
    assert len(read(sound(tone), duration=99)) == len(tone)


def test_silence_is_a_sound():
    vector = MfccLoader(rate=RATE, n_fft=256, hop_length=128)(sound(np.zeros(RATE, np.float32)))
    assert np.isfinite(vector).all()


def test_shorter_than_one_window_is_a_sound():
    vector = MfccLoader(rate=RATE)(sound(np.full(10, 0.1, np.float32)))
    assert vector.shape == (104,)
    assert np.isfinite(vector).all()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(tone, odd):
    tone[100] = odd
    assert code_of(sound(tone)) == "not-finite"


def test_overflowing_samples_are_refused():
    loud = np.full(4000, 3e38, np.float32) * np.resize([1, -1], 4000).astype(np.float32)
    with pytest.raises(ItemError) as caught, np.errstate(over="ignore", invalid="ignore"):
        MfccLoader(rate=RATE)(sound(loud))
    assert caught.value.code == "not-finite"


def wav_header(channels=1, rate=RATE, data=b"", claimed=None) -> bytes:
    block = channels * 2 % 65536
    body = struct.pack("<HHIIHH", 1, channels, rate, rate * block & 0xFFFFFFFF, block, 16)
    size = len(data) if claimed is None else claimed
    riff = b"WAVEfmt " + struct.pack("<I", 16) + body + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(riff) & 0xFFFFFFFF) + riff


def test_headers_that_lie():
    samples = np.arange(2000, dtype="<i2").tobytes()
    assert len(read(wav_header(data=samples, claimed=0xFFFFFFF0))) == 2000  # claims 4 GB
    assert code_of(wav_header(channels=0, data=samples)) in ("corrupt", "channels")
    assert code_of(wav_header(channels=65535, data=samples * 70)) in ("corrupt", "channels")
    assert code_of(wav_header(channels=MAX_CHANNELS + 1, data=samples)) == "channels"
    assert code_of(wav_header(rate=0, data=samples)) in ("corrupt", "rate")
    assert code_of(wav_header(rate=1, data=samples)) == "rate"
    assert code_of(wav_header()) == "no-samples"


def test_empty_and_foreign_files():
    assert code_of(b"") == "empty"
    assert code_of(b"ID3") == "not-audio"
    assert code_of(b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + b"ID3" * 50) == "not-audio"
    assert code_of(b"%PDF-1.7 " * 30) == "not-audio"


def test_an_hour_in_a_small_file_stays_in_bounded_memory():
    import tracemalloc

    hour = io.BytesIO()
    with soundfile.SoundFile(hour, "w", 16000, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(60):
            file.write(np.zeros(60 * 16000, dtype=np.int16))
    data = hour.getvalue()
    assert len(data) < 1 << 20
    loader = MfccLoader(rate=16000, n_fft=512, hop_length=512, n_mels=40)
    tracemalloc.start()
    vector = loader(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert vector.shape == (104,)
    # the samples alone are 230 MB; the mels, once, are 18 MB and the coefficients 6 MB
    assert peak < 40 << 20


def test_too_long_is_refused_unless_a_duration_is_stated(monkeypatch, tone):
    monkeypatch.setattr("headstock.extract.decode.audio.MAX_SECONDS", 0.5)
    assert code_of(sound(tone)) == "too-long"
    assert len(read(sound(tone), duration=0.75)) == 6000


def test_random_damage_gives_a_vector_or_an_item_error(tone):
    rng = np.random.default_rng(3)
    loader = MfccLoader(rate=RATE, n_fft=256, hop_length=128, n_mels=20)
    for kind, subtype in (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("AIFF", None)):
        clean = bytearray(sound(tone[:2000], kind, subtype))
        for _ in range(40):
            broken = bytearray(clean)
            for at in rng.integers(0, min(len(broken), 200), 3):
                broken[at] = rng.integers(0, 256)
            with contextlib.suppress(ItemError):
                assert np.isfinite(loader(bytes(broken))).all()


# Where we differ from the manifest's libsndfile verdict on purpose: no samples, no vector.
SILENT = {
    "mutagen__tests__data__lame397v9short.mp3",
    "pydub__test__data__test1_empty.wav",
    "tinytag__tinytag__tests__samples__aiff_with_image.aiff",
    "tinytag__tinytag__tests__samples__test.aiff",
    "tinytag__tinytag__tests__samples__vbr_xing_header_short.mp3",
}


# Its tag lies about its length; libsndfile knows it for MP3 by the ending of its name alone.
BY_NAME_ALONE = "tinytag__tinytag__tests__samples__id3_xxx_lang.mp3"


def test_dirty_audio_agrees_with_the_manifest(shared_data):
    folder = shared_data / "dirty_audio"
    loader, refused, differ, silent = MfccLoader(), 0, [], set()
    for row in csv.DictReader((folder / "manifest.csv").open()):
        data = (folder / row["file"]).read_bytes()
        if is_aac(data) and row["soundfile"] != "ok":  # another library reads it where it is there
            refused += 1
            continue
        try:
            assert np.isfinite(loader(data)).all()
            good = True
        except ItemError as error:
            refused += 1
            good = False
            if error.code == "no-samples":
                silent.add(row["file"])
                continue
        verdict = row["soundfile"]
        if verdict != "not tried" and good != (verdict == "ok"):
            differ.append(row["file"])
    assert differ == [BY_NAME_ALONE]
    assert silent == SILENT
    assert refused == 92
