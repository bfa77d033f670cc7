"""Every field of every file of ours, replaced by values that would harm if they reached a loader, a
path or a format string: each file opens or is refused in one line, and nothing is asked or made."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from safetensors import safe_open

from headstock.extract import encoder_from_recipe, image_encoder
from headstock.heads import Bundle, FoldPlan, evaluate, fit
from headstock.heads.report.runs import look
from headstock.heads.report.text import leaderboard_text
from headstock.heads.run.folder import read_run
from headstock.store import FeatureStore, Recipe
from headstock.store.care.info import description
from headstock.store.disk.declared import Declared
from headstock.store.errors import HeadstockError
from headstock.store.jsonfile import parse_json

VALUES: list[Any] = [
    "../../../../etc/passwd", "/dev/zero", "http://attacker.invalid/w.pth", "file:///etc/passwd",
    "hf-hub:attacker/model", "__import__('os').system('touch ran')", "os.system", "{0.__class__}",
    "%s%n", "\x1b[31mred", "\0", "", "a" * 5000, -1, 0, 3, 10**9, 1 << 70, 1e308, float("nan"),
    True, None, [], [[]], {}, {"url": "http://attacker.invalid/w.pth"}, ["../x"], [1e308],
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside ``value``; of alike members of a long list the first two."""
    if path:
        yield path
    pairs = value.items() if isinstance(value, dict) else ()
    pairs = enumerate(value[:2]) if isinstance(value, list) else pairs
    for key, inner in pairs:
        yield from places(inner, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of ``value`` with ``new`` at ``path``."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def changed(body: Any, share: int) -> Iterator[tuple[str, Any]]:
    """``body`` with each of its values replaced by one in ``share`` of VALUES, other ones for each
    of its neighbours."""
    for number, path in enumerate(places(body)):
        for new in VALUES[number % share :: share]:
            yield f"{path} = {str(new)[:40]!r}", replaced(body, path, new)


def opened(
    body: Any, door: Callable[[Any], object], tmp_path: Path, share: int = 4
) -> dict[str, int]:
    """How often ``door`` opened and refused what somebody changed in ``body``."""
    counts = {"opened": 0, "refused": 0}
    door(body)
    before = sorted(tmp_path.rglob("*"))
    for what, other in changed(body, share):
        said = ""
        try:
            door(other)
        except HeadstockError as error:
            said = str(error)
        except Exception as bug:
            raise AssertionError(f"{what}: {type(bug).__name__}: {bug}") from bug
        counts["refused" if said else "opened"] += 1
        assert "\n" not in said, what
        assert "\x1b" not in said, what
    assert sorted(tmp_path.rglob("*")) == before
    return counts


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("somebody asked the network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.mark.parametrize("fusion", [None, "stacked"])
def test_every_field_of_a_model(store, tmp_path, fusion):
    heads = ("lda",) if fusion is None else ("lda", "knn")
    fit(store, heads[0], "image+audio" if fusion is None else None, fusion, heads,
        folds=2).save(tmp_path / "m.headstock")  # fmt: skip
    with safe_open(tmp_path / "m.headstock", framework="numpy") as file:
        body = json.loads(file.metadata()["headstock"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    body["settings"] = {"seed": 0}

    def door(body: Any) -> None:
        text = json.dumps(body)
        safetensors.numpy.save_file(arrays, tmp_path / "m.headstock", {"headstock": text})
        model = Bundle.load(tmp_path / "m.headstock")
        model.predict_arrays({n: np.zeros((1, w), np.float32) for n, w in model.widths.items()})

    counts = opened(body, door, tmp_path)
    assert min(counts.values()) > 20, counts


def test_every_field_of_a_recipe(tmp_path):
    made = image_encoder("timm:test_resnet", untrained_seed=0, device="cpu", input_size=32)
    fields = dict(made.recipe().fields)
    fields["model_args"] = {"avg_down": False}

    def door(fields: Any) -> None:
        recipe = Recipe.from_json(Recipe("image", fields).to_json())
        encoder_from_recipe(recipe, offline=True, device="cpu")

    given = image_encoder(
        "timm:test_resnet", untrained_seed=0, device="cpu", input_size=32,
        model_args=fields["model_args"],
    )  # fmt: skip
    counts = opened(dict(given.recipe().fields), door, tmp_path)
    assert counts["refused"] > 20 * counts["opened"], counts


def test_every_field_of_a_set(tmp_path):
    """As a generation, a patch and an export's description hold it."""
    made = Declared.of("image", Recipe("image", {"a": 1}), 3, "float32", ["x", "y", "z"], {"n": 1})

    def door(meta: Any) -> None:
        # whoever reads a file's schema says these as the damage it is
        with suppress(KeyError, TypeError, ValueError, AttributeError, OverflowError):
            Declared.from_meta(meta)

    counts = opened(made.to_meta(), door, tmp_path)
    assert counts["opened"] + counts["refused"] > 60


def test_every_field_of_a_weights_description(tmp_path):
    body = {
        "architecture": "timm:test_resnet", "model_args": {"drop_rate": 0.0},
        "input_size": [3, 32, 32], "crop_pct": 1.0, "crop_mode": "center", "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5], "interpolation": "bicubic",
    }  # fmt: skip
    given = image_encoder("timm:test_resnet", untrained_seed=0, device="cpu", input_size=32)
    state = {k: v.contiguous() for k, v in given.network.module.state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    beside = tmp_path / "w.json"
    beside.touch()

    def door(body: Any) -> None:
        beside.write_text(json.dumps(body))
        image_encoder("timm:test_resnet", weights=tmp_path / "w.safetensors", device="cpu")

    counts = opened(body, door, tmp_path, share=10)
    assert counts["refused"] > counts["opened"] > 0, counts


def test_every_field_of_a_run(store, tmp_path):
    evaluate(store, ["lda", "knn"], ["audio"], ["mean"], folds=2, reuse=False).save("run")
    run = tmp_path / "run"
    body = json.loads((run / "metrics.json").read_text())
    body.pop("files", None)

    def door(body: Any) -> None:
        (run / "metrics.json").write_text(json.dumps(body))
        text = leaderboard_text(read_run(run)) + look([run]).text()
        assert "\x1b" not in text

    opened(body, door, tmp_path)


def test_every_field_of_a_fold_plan(tmp_path):
    FoldPlan(("a", "b", "c", "d"), np.array([[0, 1, 0, 1]])).save(tmp_path / "p.json")

    def door(body: Any) -> None:
        (tmp_path / "p.json").write_text(json.dumps(body))
        FoldPlan.load(tmp_path / "p.json").summary()

    counts = opened(parse_json((tmp_path / "p.json").read_bytes()), door, tmp_path)
    assert counts["refused"] > counts["opened"], counts


def test_what_a_store_says_is_shown_as_letters(store, tmp_path):
    from headstock.store import Items

    odd = "\x1b[31m\u202egnp\r\nx"
    store.register(Items.of(["r0000"], label=[odd], split=["train"], extra={odd: ["a"]}))
    text = description(FeatureStore.open(store.path))
    assert "\x1b" not in text
    assert "\u202e" not in text
