"""A store and a run name folders and files of a machine; what they name is a hint, and a reader's
own word counts."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from headstock.cli import cli
from headstock.extract import extract, image_encoder
from headstock.heads import evaluate
from headstock.store import FeatureStore, Items
from headstock.store.errors import HeadstockError


@pytest.fixture
def run():
    """A command's result; its text on stderr, and the line of an error, are part of the output."""

    def run(*words):
        done = CliRunner().invoke(cli, [str(word) for word in words])
        if isinstance(done.exception, HeadstockError):
            done.exit_code = done.exception.exit_code
            done.output_bytes += str(done.exception).encode()
        return done

    return run


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder that somebody shares, with a store and a run, and his pictures in another."""
    place = tmp_path_factory.mktemp("places")
    private, folder = place / "private", place / "shared"
    private.mkdir()
    folder.mkdir()
    rng = np.random.default_rng(0)
    names = [f"{i}.png" for i in range(16)]
    for name in names:
        Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(private / name)
    label = ["ant", "bee"] * 8
    items = Items.of(names, paths={"image": names}, label=label, root=str(private))
    with FeatureStore.open(folder / "f.h5", "a") as store:
        encoder = image_encoder("timm:test_resnet", untrained_seed=0, device="cpu", input_size=32)
        extract(store, items, {"image": encoder}, workers=1)
        store.compact()
        evaluate(store, ["lda"], folds=2).save(folder / "run")
    return place


@pytest.fixture
def places(shared, tmp_path):
    """A copy of it: the pictures are still where the store says."""
    shutil.copytree(shared / "shared", tmp_path / "shared")
    told = tmp_path / "shared" / "run" / "metrics.json"
    told.write_text(told.read_text().replace(f"{shared}/shared", f"{tmp_path}/shared"))
    return tmp_path / "shared", shared / "private"


def pictures(page: Path) -> int:
    held = re.search(r'"pictures":\s*(\{.*?\})', page.read_text("utf-8"))
    assert held is not None
    return len(json.loads(held.group(1)))


def test_a_page_shows_pictures_of_another_folder_only_when_it_is_named(run, places, tmp_path):
    folder, private = places
    page = tmp_path / "page.html"
    first = run("report", folder / "run", "-o", page)
    assert first.exit_code == 0, first.output
    assert pictures(page) == 0
    assert f"--data {private}" in first.output
    way_out = re.search(r"--data (\S+)", first.output)
    assert way_out is not None
    again = run("report", folder / "run", "-o", page, "--data", way_out.group(1))
    assert again.exit_code == 0, again.output
    assert pictures(page) > 0
    assert "--data" not in again.output


def test_a_page_shows_the_pictures_beside_its_store(run, places, tmp_path):
    folder, private = places
    inside = folder / "pictures"
    shutil.copytree(private, inside)
    with FeatureStore.open(folder / "f.h5", "a") as store:
        items = store.items
        moved = Items.of(
            items.id.tolist(), paths={"image": items.paths["image"].tolist()}, root=str(inside)
        )
        store.register(moved)
        store.compact()
    page = tmp_path / "page.html"
    assert run("report", folder / "run", "-o", page).exit_code == 0
    assert pictures(page) > 0


@pytest.mark.parametrize("root", ["..", "../..", "/", "/etc", "pictures/../..", "link", "\x1b[31m"])
def test_whatever_a_store_says_stays_in_its_folder(run, places, tmp_path, root):
    folder, private = places
    (folder / "link").symlink_to(private)
    with FeatureStore.open(folder / "f.h5", "a") as store:
        items = store.items
        names = [os.path.relpath(private / i, folder / root) for i in items.id.tolist()]
        store.register(Items.of(items.id.tolist(), paths={"image": names}, root=root))
        store.compact()
    page = tmp_path / "page.html"
    done = run("report", folder / "run", "-o", page)
    assert done.exit_code == 0, done.output
    assert pictures(page) == 0
    assert "\x1b" not in done.output


def test_recompute_and_files_ask_for_the_folder_and_read_nothing_outside_it(run, places):
    folder, private = places
    for words in (["--recompute", 4], ["--files"]):
        refused = run("store", "verify", folder / "f.h5", *words)
        assert refused.exit_code == 2, refused.output
        assert f"--data {private}" in refused.output
        done = run("store", "verify", folder / "f.h5", *words, "--data", private)
        assert done.exit_code == 0, done.output
    assert "no findings" in run("store", "verify", folder / "f.h5").output


def test_recompute_waits_for_no_pipe_and_follows_no_link(run, places, tmp_path):
    """A pipe under a row's name would hang a plain open for ever."""
    folder, private = places
    copied = tmp_path / "copied"
    shutil.copytree(private, copied)
    (tmp_path / "secret.png").write_bytes((copied / "1.png").read_bytes())
    for name in ("0.png", "1.png"):
        (copied / name).unlink()
    os.mkfifo(copied / "0.png")
    (copied / "1.png").symlink_to(tmp_path / "secret.png")
    done = run("store", "verify", folder / "f.h5", "--recompute", 16, "--data", copied)
    assert done.exit_code == 0, done.output
    assert "14 rows again" in done.output
    assert "0.png: is not a plain file" in done.output
    assert "1.png: leads out of the data root" in done.output
    done = run("store", "verify", folder / "f.h5", "--files", "--data", copied)
    assert done.exit_code == 1, done.output
    assert "0.png: row 0.png of set image cannot be read (is not a plain file)" in done.output
    assert "1.png: row 1.png of set image cannot be read (leads out of" in done.output


def test_a_run_opens_the_store_it_was_made_of_and_no_other(run, places, tmp_path):
    """A shared run that names a store of the reader's: its ids, labels and pictures would go onto
    a page that is shared again."""
    folder, private = places
    other = tmp_path / "elsewhere"
    (other / "run").parent.mkdir()
    shutil.copytree(folder / "run", other / "run")
    page = tmp_path / "page.html"
    metrics = json.loads((other / "run" / "metrics.json").read_text())
    metrics["settings"]["store"] = str(folder / "f.h5")
    (other / "run" / "metrics.json").write_text(json.dumps(metrics))
    done = run("report", other / "run", "-o", page, "--data", private)
    assert pictures(page) > 0, done.output  # the very store, wherever it lies
    for uuid in ("", None, "0" * 36):
        metrics["settings"]["store_uuid"] = uuid
        (other / "run" / "metrics.json").write_text(json.dumps(metrics))
        done = run("report", other / "run", "-o", page, "--data", private)
        assert done.exit_code == 0
        assert pictures(page) == 0
        assert "--store" in done.output
    done = run("report", other / "run", "-o", page, "--data", private, "--store", folder / "f.h5")
    assert pictures(page) > 0


@pytest.mark.parametrize("told", ["\0", "x" * 100_000, ["f.h5"], {"a": 1}, 7, "../../../../etc"])
def test_what_a_run_says_of_its_store_may_be_anything(run, places, tmp_path, told):
    folder, _ = places
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    metrics["settings"]["store"] = told
    (tmp_path / "away").mkdir()
    shutil.move(folder / "run", tmp_path / "away" / "run")
    (tmp_path / "away" / "run" / "metrics.json").write_text(json.dumps(metrics))
    done = run("report", tmp_path / "away" / "run", "-o", tmp_path / "page.html")
    if isinstance(told, str):
        assert done.exit_code == 0, done.output
        assert pictures(tmp_path / "page.html") == 0
    else:
        assert "settings.store is" in str(done.exception)
        assert "and not text" in str(done.exception)
