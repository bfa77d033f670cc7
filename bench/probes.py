"""How well does `resnext_nano` transfer? Linear probes on pictures that it was not trained on.

    python bench/probes.py --data ../shared/data

Every system turns a picture into a vector; one logistic regression on standardised vectors is
fitted inside each of the same 5 stratified folds (and on the official split of `digits_av`).
Two systems are compared on the same pictures with the exact two-sided McNemar test.

Letters: n pictures, d features, s pixels a side.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy.stats import binomtest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

WEIGHTS = Path(__file__).resolve().parents[1] / "extract" / "weights" / "resnext_nano.safetensors"
NANO = "resnext_nano"
CHOICES = (0.0003, 0.001, 0.003, 0.01, 0.1, 1.0)
SEED = 0  # of the folds and of the untrained networks


@dataclass(frozen=True)
class Probe:
    """n RGB pictures with labels; `folds` are (train, test) row lists."""

    name: str
    pictures: list[Image.Image]
    labels: np.ndarray
    folds: list[tuple[np.ndarray, np.ndarray]]


def five_folds(labels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    splitter = StratifiedKFold(5, shuffle=True, random_state=SEED)
    return list(splitter.split(np.zeros(len(labels)), labels))


def probes(data: Path) -> list[Probe]:
    """The four probes; a picture that two rows share counts once, at its first row."""
    found = []
    for folder in ("digits_av", "animals8_av"):
        with (data / folder / "index.csv").open(newline="") as file:
            first: dict[str, dict[str, str]] = {}
            for row in csv.DictReader(file):
                first.setdefault(row["image"], row)
        rows = list(first.values())
        pictures = [Image.open(data / folder / r["image"]).convert("RGB") for r in rows]
        labels = np.array([r["label"] for r in rows])
        found.append(Probe(f"{folder}, 5 folds", pictures, labels, five_folds(labels)))
        if "split" in rows[0]:
            test = np.array([r["split"] == "test" for r in rows])
            fold = (np.flatnonzero(~test), np.flatnonzero(test))
            found.append(Probe(f"{folder}, official split", pictures, labels, [fold]))
    digits = load_digits()
    grey = (digits.images * (255 / 16)).round().astype(np.uint8)
    pictures = [Image.fromarray(g).convert("RGB") for g in grey]
    found.append(
        Probe("sklearn digits, 5 folds", pictures, digits.target, five_folds(digits.target))
    )
    return found


def to_tensor(pictures: list[Image.Image], s: int) -> Tensor:
    """(n, 3, s, s) in [-1, 1], resized bicubically."""
    pixels = [np.asarray(p.resize((s, s), Image.Resampling.BICUBIC)) for p in pictures]
    x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    return x.contiguous(memory_format=torch.channels_last)


def embed(net: nn.Module, pictures: list[Image.Image], s: int) -> np.ndarray:
    """(n, d): what the classifier of `net` would see, in single precision."""
    parts = []
    with torch.inference_mode():
        for i in range(0, len(pictures), 128):
            maps = net.forward_features(to_tensor(pictures[i : i + 128], s))
            parts.append(net.forward_head(maps, pre_logits=True).numpy())
    return np.concatenate(parts)


def raw_pixels(pictures: list[Image.Image]) -> np.ndarray:
    """(n, d): the pixels at their own size, one channel of grey pictures."""
    x = np.stack([np.asarray(p) for p in pictures]).astype(np.float32)
    grey = (x[..., 0] == x[..., 1]).all() and (x[..., 0] == x[..., 2]).all()
    return (x[..., 0] if grey else x).reshape(len(x), -1)


def nano(weights: Path | None, **options: bool) -> nn.Module:
    """The shipped network with its weights, or with random ones of `SEED`."""
    torch.manual_seed(SEED)
    about = json.loads((weights or WEIGHTS).with_suffix(".json").read_text())
    library, _, architecture = about["architecture"].partition(":")
    assert library == "timm", library
    args = {**about["model_args"], **options}
    net = timm.create_model(architecture, num_classes=len(about["classes"]), **args)
    if weights:
        net.load_state_dict(load_file(weights))
    return net.eval().to(memory_format=torch.channels_last)


def mobilenet(folder: Path, version: int) -> nn.Module:
    """MobileNetV1 0.25 (1) or MobileNetV2 1.0 (2) with their ImageNet weights."""
    if version == 1:
        build = timm.models.efficientnet._gen_mobilenet_v1
        net = build(
            "mobilenetv1_100", channel_multiplier=0.25, fix_stem_head=False, pad_type="same"
        )
        file = "mobilenetv1_025.imagenet.safetensors"
    else:
        net = timm.create_model("mobilenetv2_100", pad_type="same")
        file = "mobilenetv2_100.imagenet.safetensors"
    net.load_state_dict(load_file(folder / file))
    return net.eval().to(memory_format=torch.channels_last)


def systems(data: Path, weights: Path) -> dict[str, Callable[[list[Image.Image]], np.ndarray]]:
    """Name -> pictures to vectors; `@64` is the network's input size in pixels."""
    v1, v2 = mobilenet(data / "weights", 1), mobilenet(data / "weights", 2)
    trained, fresh = nano(weights), nano(None)
    # timm starts every residual branch at zero; with them on, the random network is richer
    open_branches = nano(None, zero_init_last=False)
    return {
        "raw pixels": raw_pixels,
        "untrained @64": lambda p: embed(fresh, p, 64),
        "untrained, branches on @64": lambda p: embed(open_branches, p, 64),
        "MobileNetV1 0.25 @64": lambda p: embed(v1, p, 64),
        "MobileNetV1 0.25 @128": lambda p: embed(v1, p, 128),
        "MobileNetV2 1.0 @64": lambda p: embed(v2, p, 64),
        "MobileNetV2 1.0 @128": lambda p: embed(v2, p, 128),
        f"{NANO} @64": lambda p: embed(trained, p, 64),
    }


def right(x: np.ndarray, probe: Probe, choose_c: bool = False) -> np.ndarray:
    """(rows tested,) bool, fold after fold: the held-out pictures that are told correctly.

    C is 1, or chosen by 5 folds inside the training part.
    """
    told = []
    for train, test in probe.folds:
        head = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=2000))
        if choose_c:
            head = GridSearchCV(head, {"logisticregression__C": CHOICES}, cv=5)
        head.fit(x[train], probe.labels[train])
        told.append(head.predict(x[test]) == probe.labels[test])
    return np.concatenate(told)


def interval(k: int, n: int) -> tuple[float, float]:
    """95 % Wilson interval of k right out of n."""
    ci = binomtest(k, n).proportion_ci(method="wilson")
    return ci.low, ci.high


def mcnemar(ours: np.ndarray, theirs: np.ndarray) -> tuple[int, int, float]:
    """Pictures that only we, and that only they, tell correctly, and the exact two-sided p."""
    we, they = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return we, they, binomtest(we, we + they).pvalue if we + they else 1.0


def speed(net: nn.Module, batch: int = 128, rounds: int = 20) -> float:
    """Pictures a second through the network alone, single precision, median of the rounds."""
    x = torch.rand(batch, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    seconds = []
    with torch.inference_mode():
        for _ in range(rounds + 2):
            start = time.perf_counter()
            net(x)
            seconds.append(time.perf_counter() - start)
    return batch / float(np.median(seconds[2:]))


@click.command(help=__doc__)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("../shared/data"),
    show_default=True,
)
@click.option(
    "--weights",
    type=click.Path(exists=True, path_type=Path),
    default=WEIGHTS,
    help="A .safetensors file of the training script, its JSON beside it.",
)
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the figures there too.")
@click.option("--only", multiple=True, help="Systems whose name holds this; all without it.")
@click.option("--choose-c", is_flag=True, help="Choose C inside every training part (slow).")
@click.option("--threads", default=2, show_default=True)
def main(
    data: Path,
    weights: Path,
    out: Path | None,
    only: tuple[str, ...],
    choose_c: bool,
    threads: int,
) -> None:
    torch.set_num_threads(threads)
    load = os.getloadavg()[0]
    rate = speed(nano(weights))
    click.echo(
        f"{NANO}: {rate:.0f} pictures a second, {threads} threads, batches of 128, "
        f"single precision; load average before it {load:.1f}\n"
    )
    figures = []
    encoders = {
        name: encode
        for name, encode in systems(data, weights).items()
        if not only or name.startswith(NANO) or any(part in name for part in only)
    }
    for probe in probes(data):
        outcome = {
            name: right(encode(probe.pictures), probe, choose_c)
            for name, encode in encoders.items()
        }
        ours = outcome[f"{NANO} @64"]
        click.echo(f"{probe.name}: n = {len(ours)}, {len(set(probe.labels))} classes\n")
        click.echo("| features | errors | accuracy | 95 % interval | only nano / only it | p |")
        click.echo("|---|---|---|---|---|---|")
        for name, hit in outcome.items():
            k, n = int(hit.sum()), len(hit)
            low, high = interval(k, n)
            we, they, p = mcnemar(ours, hit)
            pair = f"{we} / {they} | {p:.1e}" if hit is not ours else " | "
            click.echo(f"| {name} | {n - k} | {k / n:.3f} | {low:.3f} to {high:.3f} | {pair} |")
            figures.append(
                {
                    "probe": probe.name,
                    "features": name,
                    "n": n,
                    "errors": n - k,
                    "accuracy": k / n,
                    "low": low,
                    "high": high,
                    "only_nano": we,
                    "only_it": they,
                    "p": p,
                }
            )
        click.echo()
    if out:
        out.write_text(
            json.dumps(
                {"pictures_per_second": rate, "load": load, "threads": threads, "probes": figures},
                indent=1,
            )
            + "\n"
        )


if __name__ == "__main__":
    main()
