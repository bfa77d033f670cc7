"""Weights files: what is read, what is refused, and how weights are named."""

import json
import pickle
import zipfile

import pytest
import safetensors.torch
import torch
from torch import nn

from headstock.extract.encoders.checkpoint import digest, fit, read_settings, read_state_dict
from headstock.store.errors import UnsafeInput, WeightsError


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


@pytest.fixture
def state() -> dict:
    return {k: v.clone() for k, v in network(1).state_dict().items()}


WRAPPED = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"epoch": 3, "state_dict": s},
    "model": lambda s: {"model": s, "optimizer": {}},
    "averages first": lambda s: {"state_dict": {"x": torch.zeros(1)}, "state_dict_ema": s},
    "nested": lambda s: {"model": {"state_dict": s}},
    "parallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "compiled": lambda s: {"state_dict": {f"_orig_mod.{k}": v for k, v in s.items()}},
}


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_pt_files_come_out_of_their_wrappers(tmp_path, state, wrapping):
    torch.save(WRAPPED[wrapping](state), tmp_path / "w.pt")
    read = read_state_dict(tmp_path / "w.pt")
    assert read.keys() == state.keys()
    assert all(torch.equal(read[k], state[k]) for k in state)


def test_the_digest_is_of_the_weights_and_not_of_the_file(tmp_path, state):
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    torch.save({"state_dict": state}, tmp_path / "w.pt")
    digests = set()
    for name in ("w.safetensors", "w.pt"):
        module = network(2)
        fit(module, read_state_dict(tmp_path / name), name)
        digests.add(digest(module))
    assert len(digests) == 1
    assert digests != {digest(network(2))}


def test_the_digest_ignores_what_inference_does_not_use(state):
    module = network(1)
    before = digest(module)
    module[1].num_batches_tracked += 5
    assert digest(module) == before
    module[1].running_mean += 1e-6
    assert digest(module) != before


def test_classifier_keys_are_dropped_whatever_they_hold(state):
    state["2.weight"] = torch.zeros(1000, 7)
    fit(network(), state, "file", classifier=["2"])
    del state["2.weight"], state["2.bias"]
    fit(network(), state, "file", classifier=["2"])


def test_missing_extra_and_misshaped_keys_are_listed(state):
    del state["0.weight"]
    state["1.weight"] = torch.zeros(5)
    state["9.weight"] = torch.zeros(1)
    with pytest.raises(WeightsError) as caught:
        fit(network(), state, "file.pt")
    text = str(caught.value)
    assert text.startswith("file.pt: ")
    assert "1 missing: 0.weight" in text
    assert "1 unexpected: 9.weight" in text
    assert "1 misshaped: 1.weight (5,) for (4,)" in text
    assert "\n" not in text


@pytest.mark.parametrize("change", ["missing", "extra", "misshaped"])
def test_one_wrong_key_is_enough(state, change):
    if change == "missing":
        del state["1.running_var"]
    elif change == "extra":
        state["0.scale"] = torch.zeros(1)
    else:
        state["0.bias"] = torch.zeros(1)
    module = network()
    before = digest(module)
    with pytest.raises(WeightsError, match=f"1 {change if change != 'extra' else 'unexpected'}"):
        fit(module, state, "file")
    assert digest(module) == before  # nothing was loaded


def test_old_files_without_batch_counters_fit(state):
    del state["1.num_batches_tracked"]
    fit(network(), state, "file")


def test_a_translation_is_tried_and_must_fit_entirely(state):
    old = {f"old_{k}": v for k, v in state.items()}
    fit(network(), old, "file", rename=lambda s: {k[4:]: v for k, v in s.items()})
    with pytest.raises(WeightsError, match="missing"):
        fit(network(), old, "file", rename=lambda s: {k[3:]: v for k, v in s.items()})


class Payload:
    def __reduce__(self):
        return (print, ("ran",))


def test_code_in_a_file_is_refused_and_not_run(tmp_path, capsys):
    torch.save({"state_dict": Payload()}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="nothing of it was run"):
        read_state_dict(tmp_path / "w.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Payload(), protocol=2))
    with pytest.raises(WeightsError):
        read_state_dict(tmp_path / "raw.pt")
    assert "ran" not in capsys.readouterr().out


def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", bytes(64 << 20))
    with pytest.raises(UnsafeInput, match="unpacks to"):
        read_state_dict(tmp_path / "w.pt")


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x08\0\0\0\0\0\0\0{", b"\xff" * 8 + b"{}", b"PK\x03\x04"]
)
def test_files_of_nothing_are_refused(tmp_path, content):
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(WeightsError):
        read_state_dict(tmp_path / "w")


def test_state_dicts_of_something_else_are_refused(tmp_path):
    for number, odd in enumerate(([1, 2], {}, {"a": 1}, {"state_dict": {"a": "b"}})):
        torch.save(odd, tmp_path / f"{number}.pt")
        with pytest.raises(WeightsError):
            read_state_dict(tmp_path / f"{number}.pt")


def test_no_file(tmp_path):
    with pytest.raises(WeightsError, match="no such weights file"):
        read_state_dict(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.safetensors.json", "w.json"])
def test_settings_beside_the_weights(tmp_path, name):
    said = {"architecture": "resnet18", "mean": [0.5], "std": None, "author": "ignored"}
    (tmp_path / name).write_text(json.dumps(said))
    read = read_settings(tmp_path / "w.safetensors")
    assert read == {"architecture": "resnet18", "mean": [0.5]}


def test_odd_settings(tmp_path):
    assert read_settings(tmp_path / "w.pt") == {}
    for text in ("[1]", "{"):
        (tmp_path / "w.json").write_text(text)
        with pytest.raises(WeightsError):
            read_settings(tmp_path / "w.pt")
