"""Small networks of our own, as a library beside timm and torchvision: no weights come with them.

``cnn4``: four convolutions, each normalised, rectified and pooled; the mean over what is left of
the picture is the vector. Trained from scratch by ``headstock adapt --from-scratch``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headstock.extract.decode.preprocess import Preprocess
from headstock.extract.encoders.arguments import checked_arguments
from headstock.extract.encoders.checkpoint import fit, read_state_dict
from headstock.extract.encoders.network import Network, option_error, seeded
from headstock.extract.encoders.size import Fitting
from headstock.store.errors import OptionError, WeightsError

__all__ = ["CNN4", "build", "names"]

HALF = (0.5, 0.5, 0.5)


class CNN4(nn.Sequential):
    """(b, 3, h, w) -> (b, widths[3]); h and w are 16 or more."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 256)) -> None:
        blocks, inputs = [], 3
        for width in widths:
            blocks += [
                nn.Conv2d(inputs, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
            inputs = width
        super().__init__(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean((2, 3))


NETWORKS = {"cnn4": CNN4}


def names() -> list[str]:
    """All architectures."""
    return list(NETWORKS)


def build(
    name: str,
    *,
    weights: Path | None = None,
    model_args: Mapping[str, Any] | None = None,
    preprocess: Mapping[str, Any] | None = None,
    offline: bool = False,
    seed: int | None = None,
) -> Network:
    """The network ``name`` with the weights of a file, or at random from ``seed``.

    Raises OptionError, WeightsError.
    """
    if name not in NETWORKS:
        raise OptionError(f"headstock:{name}", "no such network", f"one of {', '.join(NETWORKS)}")
    if weights is None and seed is None:
        what = "has no pretrained weights"
        raise WeightsError(f"headstock:{name}", what, "train it: headstock adapt --from-scratch")
    args = checked_arguments(f"headstock:{name}", model_args or {}, own=("widths",))
    try:
        with Fitting(f"headstock:{name}"):
            module = seeded(seed or 0, lambda: NETWORKS[name](**args))
    except (TypeError, ValueError, RuntimeError) as error:
        raise option_error(f"headstock:{name}", error) from error
    if weights is not None:
        fit(module, read_state_dict(weights), weights)
    said: dict[str, Any] = {
        "input_size": (64, 64), "crop_pct": 1.0, "mean": HALF, "std": HALF,
        "interpolation": "bicubic", "crop_mode": "center", **(preprocess or {}),
    }  # fmt: skip
    return Network(
        module=module,
        library="headstock",
        architecture=name,
        preprocess=Preprocess.of_size(
            said["input_size"], said["crop_pct"], said["mean"], said["std"],
            said["interpolation"], said["crop_mode"],
        ),
        model_args=args,
        pooling="mean",
        seed=seed if weights is None else None,
        file=None if weights is None else str(weights.absolute()),
        source=str(weights) if weights is not None else "random",
        versions={"torch": torch.__version__},
    )  # fmt: skip
