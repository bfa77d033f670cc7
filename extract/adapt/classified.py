"""A backbone with a classifier on it, and what the two say of pictures.

Letters: b batch, n rows, k classes, d features.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headstock.extract.adapt.augment import centred
from headstock.extract.adapt.pictures import Pictures
from headstock.extract.decode.preprocess import Preprocess
from headstock.extract.encoders.checkpoint import CLASSIFIER
from headstock.extract.runtimes.eager import PRECISIONS

__all__ = ["Classified", "answers", "cast", "fresh_model", "moved"]


class Classified(nn.Module):
    """``backbone`` (b, 3, h, w) -> (b, d), and a linear classifier of its features."""

    def __init__(self, backbone: nn.Module, d: int, k: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.add_module(CLASSIFIER, nn.Linear(d, k))

    @property
    def classifier(self) -> nn.Linear:
        return getattr(self, CLASSIFIER)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.backbone(x))

    def weights(self) -> dict[str, Tensor]:
        """A copy on the CPU of all of them, named as the backbone names its own."""
        state = {**self.backbone.state_dict()}
        state |= {f"{CLASSIFIER}.{n}": v for n, v in self.classifier.state_dict().items()}
        return {n: v.detach().cpu().clone().contiguous() for n, v in state.items()}

    def take(self, weights: dict[str, Tensor]) -> None:
        """The inverse of ``weights``."""
        own = {n.removeprefix(f"{CLASSIFIER}."): v for n, v in weights.items() if _top(n)}
        self.classifier.load_state_dict(own)
        self.backbone.load_state_dict({n: v for n, v in weights.items() if not _top(n)})


def _top(name: str) -> bool:
    return name.startswith(f"{CLASSIFIER}.")


def answers(
    model: Classified,
    pictures: Pictures,
    rows: np.ndarray,
    preprocess: Preprocess,
    device: torch.device,
    precision: str,
    batch: int,
) -> np.ndarray:
    """(n, k) float64 log-probabilities of ``rows``, cropped as the network's evaluation does."""
    model.eval()
    cuts = [rows[i : i + batch] for i in range(0, len(rows), batch)]
    out = [np.empty((0, model.classifier.out_features))]
    for pixels in pictures.batches(cuts):
        with torch.inference_mode(), cast(device, precision):
            logits = model(centred(moved(pixels, device), preprocess))
        out.append(logits.double().log_softmax(1).cpu().numpy())
    return np.concatenate(out)


def cast(device: torch.device, precision: str) -> Any:
    low = PRECISIONS[precision]
    return nullcontext() if low is None else torch.autocast(device.type, low)


def moved(pixels: np.ndarray, device: torch.device) -> Tensor:
    """(b, h, w, 3) uint8 -> (b, 3, h, w) on the device, through pinned memory if CUDA."""
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    if device.type == "cuda":
        return batch.pin_memory().to(device, non_blocking=True)
    return batch.to(device)


def fresh_model(backbone: nn.Module, d: int, k: int, seed: int) -> Classified:
    """A copy of ``backbone`` with a classifier whose first weights ``seed`` alone determines."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classified(copy.deepcopy(backbone), d, k)
