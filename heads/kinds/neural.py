"""A small neural network over one block of columns or one branch a feature set.

torch trains it, and is imported only then; a fitted network is a few matrices and predicts with
NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import softmax

from headstock.heads.codes import encode_labels, seeded_codes
from headstock.heads.metrics.probabilities import log_loss
from headstock.heads.solvers.scaling import Standard
from headstock.heads.threads import one_thread_each

__all__ = ["Network", "learned", "mlp"]
SMALL = 1 << 22
"""Multiplications of a batch in the first layers below which threads wait longer for each other
than they work, and on a busy machine many times as long."""


class Network:
    """Standardised columns -> a hidden layer for each branch -> joined -> class probabilities.

    Rectified linear units, dropout, AdamW with a cosine schedule. The number of epochs is chosen on
    the first fold of ``inner``, held out; then the network is trained anew on all rows for so long.
    With one branch there is one hidden layer, with several a second one joins them.
    """

    kind = "network"
    wants = frozenset({"inner", "spans"})
    unheld = "it trains for all its epochs"

    def __init__(self, branched: bool, seed: int, **settings: Any) -> None:
        if not (0 <= settings["dropout"] < 1 and settings["hidden"] > 0 and settings["epochs"] > 0):
            raise ValueError("dropout is from 0 to below 1, hidden_layer_sizes and max_iter from 1")
        self._branched, self._seed, self._settings = branched, seed, settings

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        inner: np.ndarray | None = None,
        spans: Mapping[str, slice] | None = None,
    ) -> Network:
        self.classes_, codes = encode_labels(y)
        if inner is None:
            inner = seeded_codes(codes, 5, self._seed)
        cuts = {s.start for s in spans.values()} if self._branched and spans else {0}
        self.cuts_ = np.array([*sorted(cuts), X.shape[1]], dtype=np.int64)
        train, held_out = np.flatnonzero(inner != inner.min()), np.flatnonzero(inner == inner.min())
        epochs = self._settings["epochs"]
        if len(train) and len(np.unique(codes[train])) == len(self.classes_):
            losses = self._train(X[train], codes[train], epochs, (X[held_out], codes[held_out]))
            epochs = int(np.argmin(losses)) + 1
        self._train(X, codes, epochs, None)
        return self

    def _train(
        self,
        X: np.ndarray,
        codes: np.ndarray,
        epochs: int,
        watch: tuple[np.ndarray, np.ndarray] | None,
    ) -> list[float]:
        """Train from the seeded start; the log-loss of watched rows after each epoch."""
        import torch
        from torch import nn

        self.scaler_ = Standard.of(X)
        settings = self._settings
        losses = []
        small = min(len(X), settings["batch"]) * X.shape[1] * settings["hidden"] < SMALL
        with one_thread_each(small), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            layers = [nn.Linear(a, b) for a, b in self._shapes(len(self.classes_))]
            parameters = [p for layer in layers for p in layer.parameters()]
            optimiser = torch.optim.AdamW(
                parameters, lr=settings["rate"], weight_decay=settings["decay"]
            )
            batches = -(-len(X) // settings["batch"])
            # The schedule is the whole plan's even when fewer epochs are run: an epoch that was
            # best on the held-out fold must be reached the same way again
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
                optimiser, settings["epochs"] * batches
            )
            Z, target = torch.from_numpy(self.scaler_(X)), torch.from_numpy(codes.astype(np.int64))
            for _ in range(epochs):
                for rows in torch.randperm(len(Z)).chunk(batches):
                    optimiser.zero_grad(set_to_none=True)
                    scores = self._forward(layers, Z[rows], settings["dropout"])
                    nn.functional.cross_entropy(scores, target[rows]).backward()
                    optimiser.step()
                    schedule.step()
                if watch is not None:
                    self._keep(layers)
                    losses.append(log_loss(self.predict_proba(watch[0]), watch[1]))
        self._keep(layers)
        return losses

    def _shapes(self, k: int) -> list[tuple[int, int]]:
        hidden = self._settings["hidden"]
        branches = [(int(w), hidden) for w in np.diff(self.cuts_)]
        joint = [(hidden * len(branches), hidden)] if len(branches) > 1 else []
        return [*branches, *joint, (hidden, k)]

    def _forward(self, layers: list[Any], Z: Any, dropout: float) -> Any:
        import torch
        from torch.nn.functional import dropout as drop

        branches = len(self.cuts_) - 1
        parts = [Z[:, a:b] for a, b in zip(self.cuts_[:-1], self.cuts_[1:])]
        hidden = [torch.relu(layer(part)) for layer, part in zip(layers[:branches], parts)]
        joined = drop(torch.cat(hidden, dim=1), dropout)
        for layer in layers[branches:-1]:
            joined = drop(torch.relu(layer(joined)), dropout)
        return layers[-1](joined)

    def _keep(self, layers: list[Any]) -> None:
        self.weights_ = [la.weight.detach().numpy().T.copy() for la in layers]
        self.biases_ = [la.bias.detach().numpy().copy() for la in layers]

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        branches = len(self.cuts_) - 1
        Z = self.scaler_(X)
        hidden = [
            np.maximum(Z[:, a:b] @ W + c, 0)
            for a, b, W, c in zip(self.cuts_[:-1], self.cuts_[1:], self.weights_, self.biases_)
        ]
        joined = np.hstack(hidden)
        for W, c in zip(self.weights_[branches:-1], self.biases_[branches:-1]):
            joined = np.maximum(joined @ W + c, 0)
        return softmax((joined @ self.weights_[-1] + self.biases_[-1]).astype(np.float64), axis=1)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        arrays = {"mean": self.scaler_.mean, "scale": self.scaler_.scale, "cuts": self.cuts_}
        for i, (W, c) in enumerate(zip(self.weights_, self.biases_)):
            arrays[f"weight{i}"], arrays[f"bias{i}"] = W, c
        return {"layers": len(self.weights_)}, arrays

    @classmethod
    def from_state(
        cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> Network:
        head = cls(False, 0, dropout=0.0, hidden=1, epochs=1)
        head.classes_ = np.arange(k)
        head.scaler_, head.cuts_ = Standard(arrays["mean"], arrays["scale"]), arrays["cuts"]
        head.weights_ = [arrays[f"weight{i}"] for i in range(int(meta["layers"]))]
        head.biases_ = [arrays[f"bias{i}"] for i in range(int(meta["layers"]))]
        return head


def mlp(
    seed: int,
    hidden_layer_sizes: int = 128,
    max_iter: int = 30,
    learning_rate_init: float = 1e-3,
    weight_decay: float = 0.05,
    dropout: float = 0.3,
    batch_size: int = 64,
) -> Network:
    """One hidden layer over all columns. hidden_layer_sizes: its units; max_iter: epochs at
    most; learning_rate_init and weight_decay: AdamW's."""
    return Network(
        False,
        seed,
        hidden=hidden_layer_sizes,
        epochs=max_iter,
        rate=learning_rate_init,
        decay=weight_decay,
        dropout=dropout,
        batch=batch_size,
    )


def learned(
    seed: int,
    hidden_layer_sizes: int = 128,
    max_iter: int = 30,
    learning_rate_init: float = 1e-3,
    weight_decay: float = 0.05,
    dropout: float = 0.3,
    batch_size: int = 64,
) -> Network:
    """One hidden layer for each feature set, a second that joins them: the learned fusion."""
    return Network(
        True,
        seed,
        hidden=hidden_layer_sizes,
        epochs=max_iter,
        rate=learning_rate_init,
        decay=weight_decay,
        dropout=dropout,
        batch=batch_size,
    )
