"""Every way by which a row's path becomes a picture: none waits at a pipe, leaves the data folder,
or decodes what it should not."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from headstock.extract import encoder_from_recipe, extract
from headstock.extract.encoders.backbones import image_encoder
from headstock.extract.encoders.graphs import backbones
from headstock.extract.job import extract_like
from headstock.extract.live import Live
from headstock.extract.recompute import recompute
from headstock.heads.report.page.media import thumbnail
from headstock.heads.report.page.source import Source
from headstock.store import OK, Batch, FeatureStore, Items, Manifest
from headstock.store.errors import ItemError

NANO = "headstock:resnext_nano"
BAD = ("pipe", "outside", "bomb")


def bomb() -> bytes:
    """A PNG of 30,000 x 30,000 grey pixels in some hundred bytes, as its header says."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(bytes(64))), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture(scope="module")
def nano():
    return image_encoder(NANO, device="cpu", runtime="torch")


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "data"
    inside.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (70, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(inside / "good.png")
    Image.fromarray(pixels).save(tmp_path / "elsewhere.png")
    os.mkfifo(inside / "pipe")
    (inside / "outside").symlink_to(tmp_path / "elsewhere.png")
    (inside / "bomb").write_bytes(bomb())
    return inside


@pytest.fixture
def filled(folder, nano):
    """A store that claims to have vectors of all, with the digests of what lies there."""
    names = ["good.png", *BAD]
    store = FeatureStore.open(folder / "f.h5", "a")
    store.register(Items.of(names, paths={"image": names}, root=str(folder)))
    store.declare("image", nano.recipe(), nano.dim)
    b = len(names)
    x = np.ones((b, nano.dim), np.float32)
    digest, hint = np.ones((b, 32), np.uint8), np.full((b, 2), -1)
    store.commit("image", Batch(names, digest, hint, x, np.full(b, OK, np.uint8)))
    store.refresh()
    with store:
        yield store


def test_extract_and_predict_name_each(folder, nano, tmp_path):
    names = ["good.png", *BAD]
    items = Items.of(names, paths={"image": names}, root=str(folder))
    with FeatureStore.open(tmp_path / "g.h5", "a") as store:
        account = extract(store, items, {"image": nano}, workers=1)
    codes = {"not-a-file": 1, "unsafe-path": 1, "bomb": 1}
    assert (account.done, account.sets["image"].codes) == (1, codes)
    table = folder / "t.csv"
    table.write_text("id,image\n" + "".join(f"{name},{name}\n" for name in names))
    recipes = {"image": nano.recipe()}
    with extract_like(Manifest.read(table), recipes, device="cpu") as (_, account):
        assert (account.done, account.sets["image"].codes) == (1, codes)


def test_recompute_compares_none_of_them(filled):
    (told,) = recompute(filled, 9, device="cpu")
    assert told.rows == 0
    text = "\n".join(told.skipped)
    for words in ("good.png: has changed", "pipe: is not a plain file", "outside: leads out"):
        assert words in text
    assert "decompression bombs are refused" in text


def test_a_graph_is_tried_on_what_can_be_decoded_alone(filled, nano):
    pytest.importorskip("onnx", reason="an extra: pip install 'headstock[onnx]'")
    (one,) = backbones({"image": nano.recipe()}, store=filled).values()
    assert len(one.inputs) == 5  # noise, and the good one
    good = nano.loader((filled_root(filled) / "good.png").read_bytes())
    assert np.array_equal(one.inputs[-1], good)


def filled_root(store):
    return type(store.path)(store.items.root)


def test_the_report_shows_none_of_them(filled):
    source = Source(filled)
    with source.open("image", "good.png") as file:
        assert thumbnail(file)[1]
    for name in ("pipe", "outside"):
        with pytest.raises(ItemError):
            source.open("image", name)
    with source.open("image", "bomb") as file, pytest.raises(ItemError) as told:
        thumbnail(file)
    assert told.value.code == "bomb"


def test_the_service_refuses_a_bomb(nano):
    with Live({"image": nano.recipe()}, device="cpu", lanes=1) as live:
        with pytest.raises(ItemError) as told:
            live({"image": bomb()})
        assert told.value.code == "bomb"
        file = io.BytesIO()
        Image.new("RGB", (9, 9)).save(file, "PNG")
        assert live({"image": file.getvalue()})["image"].shape == (1, nano.dim)


def test_a_recipe_makes_the_same_encoder_whoever_asks(nano):
    again = encoder_from_recipe(nano.recipe(), device="cpu")
    assert again.loader == nano.loader
    assert again.recipe() == nano.recipe()
