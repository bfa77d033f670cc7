"""Bytes to RGB: what is accepted, what it looks like, and what is refused with which code."""

import contextlib
import csv
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from headstock.extract.decode.images import MAX_ASPECT, MAX_PIXELS, decode_image
from headstock.store.errors import ItemError


def saved(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(decode_image(data))


def code_of(data: bytes) -> str:
    with pytest.raises(ItemError) as caught:
        decode_image(data)
    return caught.value.code


@pytest.fixture
def picture() -> Image.Image:
    """A 6 x 4 picture whose every pixel differs."""
    values = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3
    return Image.fromarray(values)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *chunks, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# --- what is right


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_every_exif_orientation_gives_the_same_upright_picture(picture, orientation, kind):
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = picture.transpose(turns[orientation]) if orientation > 1 else picture
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(stored, kind, exif=exif, **options)
    assert np.array_equal(pixels(data), np.asarray(picture))


@pytest.mark.parametrize("orientation", [0, 9, 255, 60000])
def test_nonsense_orientation_is_ignored(picture, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(pixels(saved(picture, "PNG", exif=exif)), np.asarray(picture))


def test_damaged_exif_is_ignored(picture):
    data = saved(picture, "JPEG", quality=95, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert pixels(data).shape == (4, 6, 3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_is_scaled_and_not_clipped(kind):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    shown = pixels(saved(Image.fromarray(ramp), kind))[..., 0]
    assert np.array_equal(shown, np.rint(ramp / 257).astype(np.uint8))
    assert 120 < shown.mean() < 135  # Pillow's own conversion clips all of it to 255


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 1.0, (0, 255)), (0.0, 200.0, (0, 200)), (-3.0, 3.0, (0, 255)), (0.0, 9e4, (0, 255))],
)
def test_float_pictures_keep_their_range(low, high, expected):
    ramp = np.linspace(low, high, 256, dtype=np.float32).reshape(16, 16)
    shown = pixels(saved(Image.fromarray(ramp), "TIFF"))[..., 0]
    assert (shown.min(), shown.max()) == expected
    assert (np.diff(shown.ravel().astype(int)) >= 0).all()


def test_float_pictures_with_holes_and_without_any_number():
    holed = np.full((4, 4), 0.5, dtype=np.float32)
    holed[0, 0], holed[1, 1] = np.nan, np.inf
    assert pixels(saved(Image.fromarray(holed), "TIFF")).shape == (4, 4, 3)
    empty = np.full((4, 4), np.nan, dtype=np.float32)
    assert code_of(saved(Image.fromarray(empty), "TIFF")) == "not-finite"


def test_32_bit_integers_are_stretched():
    ramp = np.linspace(0, 2**30, 16, dtype=np.int32).reshape(4, 4)
    shown = pixels(saved(Image.fromarray(ramp), "TIFF"))
    assert (shown.min(), shown.max()) == (0, 255)


def test_alpha_is_laid_on_white():
    clear = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    clear.putpixel((1, 0), (10, 20, 30, 255))
    assert pixels(saved(clear, "PNG")).tolist() == [[[255, 255, 255], [10, 20, 30]]]


def test_grey_with_alpha_and_transparent_palette_are_laid_on_white():
    grey = Image.new("LA", (2, 1), (40, 0))
    assert pixels(saved(grey, "PNG")).tolist() == [[[255] * 3] * 2]
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([9, 9, 9, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    data = saved(palette, "PNG", transparency=0)
    assert pixels(data).tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_colour_key_transparency_is_honoured():
    key = Image.new("RGB", (2, 1), (1, 2, 3))
    key.putpixel((1, 0), (7, 8, 9))
    data = saved(key, "PNG", transparency=(1, 2, 3))
    assert pixels(data).tolist() == [[[255, 255, 255], [7, 8, 9]]]


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_one_bit_and_palette_become_rgb(picture, mode):
    data = saved(picture.convert(mode), "PNG")
    assert np.array_equal(pixels(data), np.asarray(picture.convert(mode).convert("RGB")))


def test_cmyk_and_ycck_jpeg_look_like_the_picture():
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    shown = pixels(saved(red, "JPEG", quality=95)).mean(axis=(0, 1))
    assert shown[0] > 240
    assert shown[1] < 15
    assert shown[2] < 15


def test_lab_becomes_srgb():
    white = Image.new("LAB", (2, 2), (255, 128, 128))
    assert pixels(saved(white, "TIFF")).min() > 245


def test_only_the_first_of_many_frames(picture):
    second = Image.new("RGB", picture.size, (255, 0, 0))
    data = saved(picture, "PNG", save_all=True, append_images=[second])
    assert np.array_equal(pixels(data), np.asarray(picture))


# --- what is refused


def test_empty_file():
    assert code_of(b"") == "empty"


@pytest.mark.parametrize(
    "data", [b"%PDF-1.7\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"8BPS\x00\x01", b"hello", bytes(99)]
)
def test_other_formats_are_refused_by_content(data):
    assert code_of(data) == "not-an-image"


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_truncated_files_are_refused_and_not_filled(kind, keep):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), kind)
    assert code_of(data[: int(len(data) * keep)]) in ("truncated", "corrupt", "not-an-image")


def test_pixel_bomb_is_refused_before_it_unpacks():
    side = int(MAX_PIXELS**0.5) + 1
    assert code_of(png(side, side)) == "bomb"
    assert code_of(png(50_000, 50_000)) == "bomb"


def test_text_and_profile_bombs_are_refused():
    blown = zlib.compress(bytes(200 << 20))
    assert code_of(png(1, 1, chunk(b"zTXt", b"a\x00\x00" + blown))) == "bomb"
    assert code_of(png(1, 1, chunk(b"iCCP", b"a\x00\x00" + blown))) in ("bomb", "corrupt")


def test_absurd_aspect_is_refused():
    assert code_of(saved(Image.new("L", (1, 65_500)), "PNG")) == "aspect"
    assert decode_image(saved(Image.new("L", (3, 3 * MAX_ASPECT)), "PNG")).size == (3, 600)


def test_pictures_that_do_not_fit_in_memory(monkeypatch, picture):
    def full(self):
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", full)
    assert code_of(saved(picture, "PNG")) == "out-of-memory"


def test_exif_that_cannot_be_parsed_counts_as_none(monkeypatch, picture):
    def broken(image):
        raise struct.error("unpack")

    monkeypatch.setattr("PIL.ImageOps.exif_transpose", broken)
    assert np.array_equal(pixels(saved(picture, "PNG")), np.asarray(picture))


def test_random_damage_gives_a_picture_or_an_item_error(picture):
    rng = np.random.default_rng(7)
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM"):
        clean = bytearray(saved(picture, kind))
        for _ in range(60):
            broken = bytearray(clean)
            for at in rng.integers(0, len(broken), 3):
                broken[at] = rng.integers(0, 256)
            with contextlib.suppress(ItemError):
                assert decode_image(bytes(broken)).mode == "RGB"


# --- files from the wild


def test_dirty_images_agree_with_the_manifest(shared_data):
    """46 files that Pillow refuses and the two that were made broken are refused; nothing else."""
    folder = shared_data / "dirty_images"
    refused, differ = [], []
    for row in csv.DictReader((folder / "manifest.csv").open()):
        verdict = row["pillow13_open_load_convertRGB"]
        try:
            shown = np.asarray(decode_image((folder / row["file"]).read_bytes()))
            assert shown.dtype == np.uint8
            assert shown.shape[2] == 3
            good = True
        except ItemError as error:
            refused.append(error.code)
            good = False
        if good != (verdict == "ok"):
            differ.append(row["file"])
    assert differ == []
    assert len(refused) == 48
    expected = {"corrupt": 28, "not-an-image": 8, "truncated": 6, "bomb": 5, "empty": 1}
    assert {code: refused.count(code) for code in set(refused)} == expected


def test_dirty_orientations_show_one_picture(shared_data):
    folder = shared_data / "dirty_images"
    shown = [
        pixels((folder / f"pillow_tests__Tests_images_g4_orientation_{n}.tif").read_bytes())
        for n in range(2, 9)
    ]
    assert all((shown[0] != other).mean() < 0.005 for other in shown[1:])  # a turn: 0.09 and more
