"""What telephones write: HEIC and AAC, with the extra and without; folders that hold them."""

import base64
import io
import sys

import numpy as np
import pytest

from headstock.extract.decode import phone
from headstock.extract.decode.audio import mono_blocks
from headstock.extract.decode.images import decode_image
from headstock.extract.decode.reading import HEALS
from headstock.store.errors import ItemError, ManifestError
from headstock.store.manifest import folder
from headstock.store.manifest.manifest import Manifest

HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAchtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAA"
    "AAAAAAAAAAAAADRpbG9jAAAAAERAAAIAAQAAAAAB7AABAAAAAAAAAHYAAgAAAAACYgABAAAAAAAAACQAAAA4aWlu"
    "ZgAAAAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAAB"
    "B2lwcnAAAADmaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMA"
    "AAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkA"
    "AAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAADAAAAABAAAAIAAAAAH////w"
    "AAAAAv///+AAAAACAAAAEHBpeGkAAAAAAwgICAAAAAlpcm90AwAAABlpcG1hAAAAAAAAAAEAAQaBAgMFhIYAAAAa"
    "aXJlZgAAAAAAAAAOY2RzYwACAAEAAQAAAKJtZGF0AAAAcigBrwngyAk4R//gn3/9/hofaOlvco/898Tvavf/m8P+"
    "5yubRysqU9pw67xX3841f9vugOWK/27TjLZq6tqVj/I473VI+9GCRN4NHM4hb8Onfs/u39cvSyR7zOXGl3dPP0eE"
    "KEK3xvz5S+T3e2MPJSjT0AAAAAZFeGlmAABNTQAqAAAACAABARIAAwAAAAEABgAAAAAAAA=="
)
"""48 x 32 before EXIF orientation 6 turns it: red, blue right above, lime left below."""


def code_of(read, data):
    with pytest.raises(ItemError) as caught:
        read(data)
    return caught.value.code


def sound(data, rate=22050):
    return np.concatenate(list(mono_blocks(data, rate)))


@pytest.fixture
def without(monkeypatch):
    """As if a package were not installed."""

    def hide(*names):
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)
        phone._heif.cache_clear()
        folder._installed.cache_clear()
        monkeypatch.setattr(folder.importlib.util, "find_spec", lambda name: None)

    yield hide
    phone._heif.cache_clear()
    folder._installed.cache_clear()


def test_a_heic_picture_comes_upright():
    pytest.importorskip("pi_heif")
    image = decode_image(HEIC)
    assert (image.size, image.mode) == ((32, 48), "RGB")
    corners = [image.getpixel(place) for place in ((3, 3), (28, 3), (3, 44), (28, 44))]
    wanted = [(0, 255, 0), (255, 0, 0), (255, 0, 0), (0, 0, 255)]
    assert np.abs(np.array(corners) - wanted).max() <= 2


def test_damaged_heic_pictures():
    pytest.importorskip("pi_heif")
    for data in (HEIC[:300], HEIC[:-60], HEIC[:12], b"\0\0\0\x18ftypheic" + b"\0" * 900):
        assert code_of(decode_image, data) == "corrupt"


def test_without_the_packages(without):
    without("pi_heif", "pillow_heif", "av")
    with pytest.raises(ItemError, match=r"HEIC picture; pip install 'headstock\[phone\]'"):
        decode_image(HEIC)
    assert code_of(decode_image, HEIC) == "needs-extra"
    for data in (b"\xff\xf1\x50\x80" + b"\0" * 99, b"\0\0\0\x1cftypM4A " + b"\0" * 99):
        assert code_of(sound, data) == "needs-extra"
    assert "needs-extra" in HEALS  # tried again by itself once it is there


@pytest.fixture
def aac():
    av = pytest.importorskip("av")

    def make(tones, form="ipod", rate=22050):
        time = np.arange(rate) / rate
        waves = np.stack([0.5 * np.sin(2 * np.pi * f * time) for f in tones]).astype(np.float32)
        out = io.BytesIO()
        with av.open(out, "w", format=form) as file:
            stream = file.add_stream("aac", rate=rate)
            stream.layout = "mono" if len(tones) == 1 else "stereo"
            frame = av.AudioFrame.from_ndarray(waves, "fltp", stream.layout.name)
            frame.sample_rate, frame.pts = rate, 0
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                file.mux(packet)
        return out.getvalue(), waves

    return make


@pytest.mark.parametrize("tones", [(440,), (440, 1000)])
def test_a_sound_of_a_telephone(aac, tones):
    data, waves = aac(tones)
    heard, mono = sound(data), waves.mean(axis=0)
    assert len(mono) <= len(heard) <= len(mono) + 1024
    middle = slice(2000, 20000)
    assert np.corrcoef(heard[middle], mono[middle])[0, 1] > 0.999
    assert np.abs(heard[middle] - mono[middle]).max() < 0.05
    assert abs(len(sound(data, 16000)) - len(heard) * 16000 / 22050) < 20
    assert len(np.concatenate(list(mono_blocks(data, 22050, duration=0.25)))) == round(22050 / 4)


def test_a_bare_stream(aac):
    data, _ = aac((440,), "adts")
    heard = sound(data)
    spectrum = np.abs(np.fft.rfft(heard[2048 : 2048 + 16384]))
    assert abs(spectrum.argmax() * 22050 / 16384 - 440) < 2


def test_damaged_sounds(aac):
    data, _ = aac((440,))
    assert code_of(sound, b"\0\0\0\x20ftypM4A " + b"\0" * 900) == "corrupt"
    assert code_of(sound, data[:100]) == "corrupt"
    assert code_of(sound, b"\xff\xf1" + b"\x55" * 500) in (
        "corrupt",
        "not-audio",
        "rate",
        "channels",
    )
    assert code_of(sound, b"nothing of the kind") == "not-audio"


def _touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def telephones(root):
    _touch(root, *(f"cat/{i}.jpg" for i in range(3)), "dog/0.jpg", "dog/.thumb.jpg", "dog/read.me")
    _touch(root, "cat/a.HEIC", "cat/b.heic", "dog/c.m4a", "heic_only/d.heic", "labels.csv", "bare")
    (root / "empty_class").mkdir()
    (root / ".cache").mkdir()
    (root / "linked").symlink_to(root / "cat")


def test_files_that_are_not_taken_are_counted(tmp_path, without):
    telephones(tmp_path)
    without("av")
    manifest = Manifest.read(tmp_path)
    assert len(manifest.items) == 4
    account = "\n".join(manifest.account())
    counted = "3 .heic, 1 hidden, 1 .m4a, 1 .me, 1 .csv, 1 without an ending"
    line = next(line for line in account.splitlines() if "are no rows" in line)
    assert "8 files are no rows" in line
    assert sorted(line.partition(": ")[2].split(", ")) == sorted(counted.split(", "))
    assert ".heic and .m4a files are read after pip install 'headstock[phone]'" in account
    assert "labels.csv may be a table of these files" in account
    assert "3 class folders without a row: empty_class, heic_only, linked" in account
    assert "1 hidden folders are left out: .cache" in account
    assert "1 linked folders are not entered: linked" in account


def test_they_are_rows_with_the_extra(tmp_path):
    pytest.importorskip("pi_heif")
    pytest.importorskip("av")
    telephones(tmp_path)
    manifest = Manifest.read(tmp_path)
    assert set(manifest.items.label) == {"cat", "dog", "heic_only"}
    assert len(manifest.items) == 8
    assert "headstock[phone]" not in "\n".join(manifest.account())


def test_a_folder_with_nothing_to_take_says_what_is_there(tmp_path, without):
    _touch(tmp_path, "cat/a.heic", "cat/b.txt")
    without()
    with pytest.raises(ManifestError, match=r"1 \.heic, 1 \.txt; \.heic files are read after"):
        Manifest.read(tmp_path)


def test_class_folders_that_vanish_from_one_split(tmp_path):
    _touch(tmp_path, "train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "test/dog/4.txt")
    (tmp_path / "valid").mkdir()
    account = "\n".join(Manifest.read(tmp_path).account())
    assert "1 class folders without a row: test/dog" in account
    assert "1 split folders without a row: valid" in account
