"""Converted networks in the user's cache: the same vectors, no torch, and never damaged ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from headstock.extract import encoder_from_recipe, image_encoder
from headstock.extract.contract import check_encoder
from headstock.extract.encoders import converted
from headstock.extract.encoders.converted import ConvertedEncoder, folder_of
from headstock.extract.runtimes.compiled import present
from headstock.store import Recipe
from headstock.store.disk.naming import host

pytestmark = pytest.mark.skipif(not present(), reason="an extra: pip install 'headstock[cpu]'")
NANO = "headstock:resnext_nano"


@pytest.fixture(scope="module")
def nano():
    return image_encoder(NANO, device="cpu")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTOCK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def made(nano, tmp_path_factory):
    """A cache that holds the network, and nobody changes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HEADSTOCK_CACHE", str(tmp_path_factory.mktemp("cache")))
        kept(nano.recipe()).encode(pictures(1))
        return folder_of(nano.recipe()).parents[1]


@pytest.fixture
def filled(cache, made):
    """A copy of it."""
    shutil.copytree(made, cache)
    return cache


def pictures(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 255, (count, 64, 64, 3), dtype=np.uint8))


def kept(recipe: Recipe):
    return encoder_from_recipe(recipe, device="cpu", converted=True)


def test_it_is_kept_once_it_has_proven_itself_and_gives_the_same(cache, nano) -> None:
    first = kept(nano.recipe())
    assert not cache.exists()  # nothing was computed, so nothing is proven
    right = first.encode(pictures(21))
    again = kept(nano.recipe())
    assert not isinstance(first, ConvertedEncoder)
    assert isinstance(again, ConvertedEncoder)
    np.testing.assert_array_equal(again.encode(pictures(21)), right)
    assert again.recipe() == nano.recipe()
    assert again.loader == nano.loader
    assert again.provenance() == first.provenance()
    assert (again.dim, again.status().runtime) == (nano.dim, "openvino")
    check_encoder(lambda: kept(nano.recipe()))


def test_torch_is_not_imported(filled, nano) -> None:
    program = (
        "import sys, numpy as np\n"
        "from headstock.extract import encoder_from_recipe\n"
        "from headstock.store import Recipe\n"
        "recipe = Recipe.from_json(sys.stdin.read())\n"
        "encoder = encoder_from_recipe(recipe, device='cpu', converted=True)\n"
        "assert encoder.encode([np.zeros((64, 64, 3), np.uint8)]).shape == (1, encoder.dim)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-c", program], input=nano.recipe().to_json(), text=True, check=True
    )


@pytest.mark.parametrize("name", ["network.xml", "network.bin", "network.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_what_is_damaged_is_converted_again(filled, nano, name, damage) -> None:
    file = folder_of(nano.recipe()) / name
    data = bytearray(file.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 4
    file.write_bytes(data[: len(data) // 2] if damage == "cut" else data)
    if damage == "gone":
        file.unlink()
    again = kept(nano.recipe())
    if (name, damage) != ("network.json", "flipped"):  # it may have met the words for people
        assert not isinstance(again, ConvertedEncoder)
    if (name, damage) == ("network.bin", "cut"):
        again.encode(pictures(1))
        assert isinstance(kept(nano.recipe()), ConvertedEncoder)


def test_another_recipe_and_given_weights_are_not_taken_from_there(filled, nano) -> None:
    folder = folder_of(nano.recipe())
    other = image_encoder(NANO, device="cpu", precision="bf16").recipe()
    folder.rename(folder_of(other))  # what somebody put there under another name
    assert not isinstance(kept(other), ConvertedEncoder)
    assert not isinstance(encoder_from_recipe(nano.recipe(), device="cpu"), ConvertedEncoder)


def test_vectors_of_several_outputs_are_not_kept(cache) -> None:
    both = image_encoder(NANO, device="cpu", flip="both").recipe()
    kept(both).encode(pictures(1))
    assert not folder_of(both).exists()


def test_the_eight_used_last_stay(filled, nano) -> None:
    here = folder_of(nano.recipe())
    for number in range(converted.KEPT):
        (here.parent / f"{number:032d}").mkdir()
    kept(nano.recipe())  # used
    converted._forget(here.parent)
    assert here.exists()
    assert len(list(here.parent.iterdir())) == converted.KEPT


def test_what_a_killed_process_left_is_swept(cache, nano) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    networks = folder_of(nano.recipe()).parent
    left = networks / f"tmp-{host()}-{ended.pid}-0"
    mine = networks / f"tmp-{host()}-{os.getpid()}-0"  # of a process that lives
    for folder in (left, mine):
        folder.mkdir(parents=True)
        (folder / "network.bin").write_bytes(b"half")
    kept(nano.recipe()).encode(pictures(1))
    assert set(networks.iterdir()) == {mine, folder_of(nano.recipe())}


def test_a_cache_that_cannot_be_written_keeps_nothing(tmp_path, nano, monkeypatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("HEADSTOCK_CACHE", str(tmp_path / "file"))
    assert kept(nano.recipe()).encode(pictures(1)).shape == (1, nano.dim)
