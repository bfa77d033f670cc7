"""The checkup: it measures something, and what it advises follows from what it measured."""

import json

import pytest

from headstock.extract.doctor import Checkup, measure, sample_jpeg
from headstock.extract.images import decode_image


def checkup(**changed) -> Checkup:
    measured = {
        "versions": {"headstock": "0"}, "cores": 8, "device": "cpu", "backbone": "b", "dim": 4,
        "decode": {"500x375": 100.0, "1280x960": 30.0, "4000x3000": 4.0},
        "model": {"fp32": 80.0, "bf16": 60.0}, "sounds": 300.0, "commit": 5000.0,
    }  # fmt: skip
    return Checkup(**{**measured, **changed})


def test_a_short_measurement(tmp_path):
    found = measure(tmp_path, "timm:test_resnet", device="cpu", seconds=0.3)
    assert set(found.decode) == {"500x375", "1280x960", "4000x3000"}
    assert all(rate > 0 for rate in (*found.decode.values(), *found.model.values()))
    assert found.sounds > 0
    assert found.commit > 0
    assert list(tmp_path.iterdir()) == []
    body = json.loads(found.to_json())
    assert body["settings"]["precision"] in found.model
    assert "hours for 1,000,000 pictures" in found.text()


def test_on_the_cpu_decoding_and_model_share_the_cores():
    assert checkup().rate() == pytest.approx(1 / (1 / 80 + 1 / 800))
    assert checkup().workers == 1
    assert checkup().hours(800) * 3600 == pytest.approx(11.0)


def test_on_a_gpu_the_slower_of_the_two_decides():
    gpu = checkup(device="cuda", model={"fp32": 500.0, "bf16": 2000.0, "fp16": 1900.0})
    assert gpu.precision == "bf16"
    assert gpu.rate() == 800
    assert gpu.workers == 8
    assert gpu.rate("4000x3000") == 32


def test_a_small_gain_is_not_worth_a_lower_precision():
    assert checkup(model={"fp32": 100.0, "bf16": 105.0}).precision == "fp32"


def test_samples_are_photograph_like():
    data = sample_jpeg(500, 375)
    assert decode_image(data).size == (500, 375)
    assert 40_000 < len(data) < 200_000
