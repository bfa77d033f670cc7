"""The checkup: it measures something, and what it advises follows from what it measured."""

import json

import pytest

from headstock.extract.decode.images import decode_image
from headstock.extract.doctor import Checkup, measure, sample_jpeg
from headstock.extract.runtimes.compiled import present


def checkup(**changed) -> Checkup:
    measured = {
        "versions": {"headstock": "0"}, "cores": 8, "device": "cpu", "backbone": "b", "dim": 4,
        "decode": {"500x375": 100.0, "1280x960": 30.0, "4000x3000": 4.0},
        "fast": {"500x375": 110.0, "1280x960": 80.0, "4000x3000": 40.0},
        "model": {"torch fp32": 80.0, "torch bf16": 60.0}, "sounds": 300.0, "commit": 5000.0,
    }  # fmt: skip
    return Checkup(**{**measured, **changed})


def test_a_short_measurement(tmp_path):
    found = measure(tmp_path, "timm:test_resnet", device="cpu", seconds=0.3)
    assert set(found.decode) == {"500x375", "1280x960", "4000x3000"}
    assert all(rate > 0 for rate in (*found.decode.values(), *found.model.values()))
    assert found.sounds > 0
    assert found.commit > 0
    assert list(tmp_path.iterdir()) == []
    assert {"torch fp32", "torch bf16"} <= set(found.model)
    assert ("openvino bf16" in found.model) == present()
    settings = json.loads(found.to_json())["settings"]
    assert f"{settings['runtime']} {settings['precision']}" in found.model
    assert f"--runtime {settings['runtime']} --precision" in found.text()
    assert "time for 1,000,000 pictures" in found.text()


def test_on_the_cpu_decoding_and_model_share_the_cores():
    assert checkup().rate() == pytest.approx(1 / (1 / 80 + 1 / 800))
    assert checkup().workers == 1
    assert checkup().hours(800) * 3600 == pytest.approx(11.0)


def test_times_are_said_in_a_unit_that_tells_something():
    both = checkup(model={"torch fp32": 80.0, "torch bf16": 160.0})
    text = both.text(100_000)
    assert "time for 100,000 pictures: 500x375 12.5 min, 1280x960 17.4 min, 4000x3000 1.0 h" in text
    assert "with --precision fp32, the weights' own: 500x375 22.9 min" in text
    assert "500x375 1 s" in both.text(100)
    assert "the weights' own" not in checkup().text()


def test_on_a_gpu_the_slower_of_the_two_decides():
    gpu = checkup(device="cuda", model={"torch fp32": 500.0, "torch bf16": 2000.0})
    assert gpu.best == ("torch", "bf16")
    assert gpu.rate() == 800
    assert gpu.workers == 8
    assert gpu.rate("4000x3000") == 32
    assert (
        gpu.limit("500x375")
        == "500x375: decoding is the limit; --decode device leaves it to the GPU"
    )
    assert gpu.limit("4000x3000").endswith(
        "10.0 times faster; --decode device leaves it to the GPU"
    )


def test_a_small_gain_is_not_worth_a_lower_precision():
    assert checkup(model={"torch fp32": 100.0, "torch bf16": 105.0}).precision == "fp32"
    model = {"torch fp32": 50.0, "openvino fp32": 60.0, "openvino bf16": 61.0}
    assert checkup(model=model).best == ("openvino", "fp32")


def test_where_decoding_is_the_limit_it_is_said():
    fast = checkup(model={"torch fp32": 600.0})
    assert fast.limit("500x375") == ""
    assert fast.limit("4000x3000").endswith("--decode fast makes it 6.9 times faster")
    assert "4000x3000: decoding is the limit" in fast.text()


def test_samples_are_photograph_like():
    data = sample_jpeg(500, 375)
    assert decode_image(data).size == (500, 375)
    assert 40_000 < len(data) < 200_000
