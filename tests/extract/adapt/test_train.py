"""Training: the schedule, what learns when, and that an interruption changes nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from headstock.extract.adapt import Settings, augment, files, train
from headstock.extract.adapt.augment import centred, mixed, normalised, views
from headstock.extract.adapt.classified import answers, cast, fresh_model, moved
from headstock.extract.adapt.pictures import Pictures
from headstock.extract.adapt.train import Training, one_cycle
from headstock.extract.decode.preprocess import Preprocess
from headstock.extract.encoders.cnn4 import CNN4
from headstock.store.datafile import Reader
from headstock.store.errors import OptionError

HALF = (0.5, 0.5, 0.5)
PLAIN = Preprocess.of_size((16, 16), 1.0, HALF, HALF)
CPU = torch.device("cpu")


def backbone() -> CNN4:
    """One whose batch normalisations have seen something, as those of pretrained weights have."""
    torch.manual_seed(0)
    made = CNN4((8, 8, 16, 16))
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean += 0.01
    return made


@pytest.fixture
def pictures(items, tmp_path):
    names = items.paths["image"].tolist()
    with Pictures(names, names, Reader(items.root), PLAIN, folder=tmp_path, workers=0) as opened:
        opened.read()
        yield opened


def training(pictures, settings: Settings, state=None, keep=lambda body: None) -> Training:
    codes = np.arange(40) % 2
    model = fresh_model(backbone(), 16, 2, seed=0)
    rows = np.arange(40)
    return Training(
        model, pictures, codes, rows[:28], rows[28:], PLAIN, settings, CPU, 0, keep, state
    )


def test_the_rate_climbs_and_falls_to_nothing():
    shares = [one_cycle(i / 100, 0.25) for i in range(101)]
    assert shares[0] == pytest.approx(1 / 25)
    assert max(shares) == shares[25] == 1
    assert shares[100] == pytest.approx(1e-4)
    assert sorted(shares[:26]) == shares[:26]
    assert sorted(shares[25:], reverse=True) == shares[25:]
    assert one_cycle(0.0, 0.0) == 1


def test_it_learns_and_keeps_the_best_epoch(pictures, quick):
    run = training(pictures, quick)
    run.run()
    assert run.kept["errors"] == 0
    assert run.kept["log_loss"] == min(line["log_loss"] for line in run.history)
    said = answers(run.model, pictures, np.arange(28, 40), PLAIN, CPU, "fp32", 5)
    own = np.arange(28, 40) % 2
    assert float(-said[np.arange(12), own].mean()) == pytest.approx(run.kept["log_loss"], abs=1e-6)


def test_the_classifier_learns_alone_first_then_everything_at_a_lower_rate(pictures, quick):
    s = replace(quick, from_scratch=False, head_epochs=2, epochs=2, backbone_lr=0.1)
    rates, frozen = [], []
    run = training(pictures, s)
    before = [v.clone() for v in run.model.backbone.state_dict().values()]

    def tell(one: Training) -> None:
        now = run.model.backbone.state_dict().values()
        frozen.append(all(torch.equal(a, b) for a, b in zip(before, now)))
        by_share = {g["share"]: g["lr"] for g in run.optimizer.param_groups}
        rates.append((by_share[0.1], by_share[1.0]))

    run.run(tell)
    assert frozen == [True] * 8 + [False] * 8  # 28 pictures are 4 batches of 8 or less
    assert [line["trained"] for line in run.history] == ["classifier"] * 2 + ["all"] * 2
    assert all(low == pytest.approx(0.1 * high) for low, high in rates)
    assert max(high for _, high in rates[:8]) == pytest.approx(s.lr)  # both phases reach the peak
    assert max(high for _, high in rates[8:]) == pytest.approx(s.lr)


def test_statistics_of_batch_normalisation_stay_when_they_are_to(pictures, quick):
    s = replace(quick, from_scratch=False, head_epochs=0, epochs=1, train_norm=False)
    run = training(pictures, s)
    before = {n: v.clone() for n, v in run.model.backbone.named_buffers()}
    run.run()
    assert all(torch.equal(v, before[n]) for n, v in run.model.backbone.named_buffers())
    moved = training(pictures, replace(s, train_norm=True))
    moved.run()
    assert any(not torch.equal(v, before[n]) for n, v in moved.model.backbone.named_buffers())


def test_folded_batch_normalisation_is_never_trained_through(pictures, quick, monkeypatch):
    """Weights whose normalisation was folded into the convolutions hold means of 0 and variances of
    1, some less their epsilon: by a batch's own statistics such a network says something else."""

    def folded() -> CNN4:
        made = CNN4((8, 8, 16, 16))
        norms = [m for m in made.modules() if isinstance(m, nn.BatchNorm2d)]
        norms[1].running_var -= norms[1].eps
        return made

    monkeypatch.setattr(f"{__name__}.backbone", folded)
    s = replace(quick, from_scratch=False, head_epochs=0, epochs=1)
    run = training(pictures, s)
    norms = [m for m in run.model.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert run.folded == norms
    run.run()
    assert all(not m.running_mean.any() and m.running_var.min() > 0.9999 for m in norms)
    scratch = training(pictures, replace(s, from_scratch=True))
    assert scratch.folded == []
    scratch.run()
    assert any(m.running_mean.any() for m in scratch.model.modules() if hasattr(m, "running_mean"))


@pytest.mark.parametrize("stop_at", [3, 8, 13])
def test_killed_at_any_step_and_gone_on_with_it_ends_the_same_to_the_bit(
    pictures, quick, monkeypatch, tmp_path, stop_at
):
    s = replace(quick, from_scratch=False, head_epochs=1, epochs=3, mix=0.5, patience=9)
    whole = training(pictures, s)
    whole.run()
    monkeypatch.setattr(train, "SAVED", 0.0)
    file = tmp_path / "checkpoint"
    first = training(pictures, s, keep=lambda body: files.save_checkpoint(file, body))
    steps = iter(range(100))

    def kill(one: Training) -> None:
        if next(steps) == stop_at:
            raise RuntimeError("killed")  # not a KeyboardInterrupt: nothing is saved on the way

    with pytest.raises(RuntimeError, match="killed"):
        first.run(kill)
    second = training(pictures, s, state=files.load_checkpoint(file))
    assert (len(second.history), second.step) != (0, 0)
    second.run()
    assert second.history == whole.history
    for a, b in zip(second.model.weights().values(), whole.model.weights().values()):
        assert torch.equal(a, b)


def test_an_interruption_saves_first(pictures, quick):
    kept = []
    run = training(pictures, quick, keep=kept.append)

    def stop(one: Training) -> None:
        if one.trained > 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run(stop)
    assert kept[-1]["step"] == 2


def test_it_stops_early_and_says_so(pictures, quick):
    run = training(pictures, replace(quick, epochs=500, patience=2))
    run.run()
    assert len(run.history) == run.kept["epoch"] + 2 < 500


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_too(pictures, quick, precision):
    run = training(pictures, replace(quick, precision=precision))
    assert run.scaler.is_enabled() == (precision == "fp16")
    run.run()
    assert run.kept["errors"] <= 1
    assert all(
        v.dtype == torch.float32 for v in run.model.weights().values() if v.is_floating_point()
    )


def test_steps_that_overflow_in_half_precision_are_left_out_and_the_scale_falls(pictures, quick):
    run = training(pictures, replace(quick, precision="fp16", epochs=1))
    run.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    run.run()
    assert run.scaler.get_scale() < 2.0**126
    assert all(torch.isfinite(v).all() for v in run.model.weights().values())


def test_a_loss_that_is_no_number_and_too_little_memory_are_one_line(pictures, quick, monkeypatch):
    with pytest.raises(OptionError, match="no number"):
        training(pictures, replace(quick, lr=10.0, weight_decay=10.0, epochs=40, patience=40)).run(
            lambda one: one.losses.append(float("nan"))
        )

    def full(*_):
        raise RuntimeError("CUDA out of memory. Tried to allocate 3 GiB")

    monkeypatch.setattr(train, "views", full)
    with pytest.raises(OptionError, match="batch-size 8: does not fit"):
        training(pictures, quick).run()


def test_batches_reach_a_cuda_device_through_pinned_memory(monkeypatch):
    """No such device is here: the two calls are stood in for, the order is what is tested."""
    calls = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: calls.append("pin") or t)
    true_to = torch.Tensor.to

    def to(tensor, *args, **more):
        if more.pop("non_blocking", False):
            calls.append(f"to {args[0].type}")
            return tensor
        return true_to(tensor, *args, **more)

    monkeypatch.setattr(torch.Tensor, "to", to)
    pixels = np.zeros((2, 4, 5, 3), np.uint8)
    assert moved(pixels, torch.device("cuda")).shape == (2, 3, 4, 5)
    assert calls == ["pin", "to cuda"]
    assert train._cards(torch.device("cuda", 1)) == [torch.device("cuda", 1)]
    assert cast(torch.device("cpu"), "fp32").__class__.__name__ == "nullcontext"


def test_centred_is_the_evaluation_of_the_network():
    tight = Preprocess.of_size((10, 12), 0.75, HALF, HALF, mode="squash")
    canvas = torch.randint(0, 256, (2, 3, *tight.resize), dtype=torch.uint8)
    got = centred(canvas, tight)
    assert got.shape == (2, 3, 10, 12)
    cut = canvas[:, :, round((13 - 10) / 2) : round((13 - 10) / 2) + 10, 2:14].float()
    assert torch.allclose(got, (cut / 255 - 0.5) / 0.5)


def test_views_depend_on_the_generator_alone_and_stay_in_range(quick):
    canvas = torch.randint(0, 256, (5, 3, 20, 20), dtype=torch.uint8)
    s = replace(quick, colour=0.3, crop=0.3, flip=True)

    def drawn(seed: int):
        return views(canvas, PLAIN, s, torch.Generator().manual_seed(seed))

    assert drawn(1).shape == (5, 3, 16, 16)
    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert drawn(1).abs().max() <= 1


def test_a_view_of_everything_is_the_picture(quick):
    canvas = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    s = replace(quick, crop=1.0, colour=0.0, flip=False)
    # aspect still varies: the widest box is cut to the picture, so only its middle is compared
    monkey = augment.ASPECT
    augment.ASPECT = 0.0
    try:
        got = views(canvas, PLAIN, s, torch.Generator().manual_seed(0))
    finally:
        augment.ASPECT = monkey
    assert torch.allclose(got, normalised(canvas.float() / 255, PLAIN), atol=1e-3)


def test_mixed_targets_still_sum_to_one(quick):
    x, y = torch.rand(4, 3, 2, 2), torch.eye(4)
    g = torch.Generator().manual_seed(0)
    mx, my = mixed(x, y, replace(quick, mix=1.0), g)
    assert torch.allclose(my.sum(1), torch.ones(4))
    assert not torch.equal(mx, x)
    same, _ = mixed(x, y, replace(quick, mix=0.0), g)
    assert torch.equal(same, x)


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"lr": -1.0}, {"precision": "fp8"}, {"crop": 0.0}, {"batch_size": 1}]
)
def test_settings_without_meaning_are_refused(wrong):
    with pytest.raises(OptionError):
        Settings(**wrong)


def test_settings_from_words():
    assert Settings.of({"lr": 1, "epochs": None, "flip": False}) == Settings(lr=1.0, flip=False)
    for wrong in ({"rate": 1}, {"epochs": "many"}, {"flip": 1}, {"epochs": 2.5}):
        with pytest.raises(OptionError):
            Settings.of(wrong)


def test_the_four_layer_network():
    net = CNN4()
    assert sum(isinstance(m, nn.Conv2d) for m in net.modules()) == 4
    assert net(torch.zeros(2, 3, 64, 48)).shape == (2, 256)
