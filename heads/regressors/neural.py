"""A small neural network, scikit-learn's, whose epochs are chosen on rows held out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from headstock.heads.solvers.scaling import Standard
from headstock.store.errors import BundleError

__all__ = ["NetworkRegressor", "mlp"]


class NetworkRegressor:
    """Standardised columns -> hidden layers of rectified linear units -> one number, standardised
    too. The number of epochs is chosen on the first fold of ``inner``, held out; then the network
    is trained anew on all rows for so long."""

    kind = "network-number"
    wants = frozenset({"inner"})
    unheld = "it trains for all its epochs"
    parallel = True

    def __init__(self, epochs: int, options: Mapping[str, Any]) -> None:
        self._epochs, self._options = epochs, dict(options)

    def fit(
        self, X: np.ndarray, y: np.ndarray, inner: np.ndarray | None = None
    ) -> NetworkRegressor:
        self._scaler = Standard.of(X)
        y = np.asarray(y, dtype=np.float64)
        self._middle, self._unit = float(y.mean()), float(y.std()) or 1.0
        Z, target = self._scaler(X), (y - self._middle) / self._unit
        if inner is None:
            inner = np.random.default_rng(0).permutation(np.arange(len(y)) % 5)
        held, epochs = inner == inner.min(), self._epochs
        if held.any() and not held.all():
            losses: list[float] = []
            train = Z[~held], target[~held]
            for model in self._trained(*train, epochs):
                losses.append(float(np.mean((model.predict(Z[held]) - target[held]) ** 2)))
            epochs = int(np.argmin(losses)) + 1
        self.chosen_ = {"max_iter": epochs}
        *_, model = self._trained(Z, target, epochs)
        self._weights = [np.asarray(w) for w in model.coefs_]
        self._biases = [np.asarray(b) for b in model.intercepts_]
        return self

    def _trained(self, Z: np.ndarray, y: np.ndarray, epochs: int) -> Any:
        """The network after each epoch."""
        from sklearn.neural_network import MLPRegressor

        model = MLPRegressor(**self._options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it stops before it has converged is the purpose
            for _ in range(epochs):
                yield model.partial_fit(Z, y)

    def predict(self, X: np.ndarray) -> np.ndarray:
        hidden: np.ndarray = self._scaler(X)
        for W, b in zip(self._weights[:-1], self._biases[:-1]):
            hidden = np.maximum(hidden @ W + b, 0)
        out = (hidden @ self._weights[-1] + self._biases[-1])[:, 0].astype(np.float64)
        return out * self._unit + self._middle

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        arrays = {"mean": self._scaler.mean, "scale": self._scaler.scale}
        for number, (W, b) in enumerate(zip(self._weights, self._biases)):
            arrays[f"weight{number}"], arrays[f"bias{number}"] = W, b
        meta = {"layers": len(self._weights), "middle": self._middle, "unit": self._unit}
        return meta, arrays

    @classmethod
    def from_state(
        cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> NetworkRegressor:
        head, layers = cls(1, {}), int(meta["layers"])
        if not 1 <= layers <= 100:
            raise BundleError("mlp", "has absurdly many layers", "fit the model again")
        head._scaler = Standard(arrays["mean"], arrays["scale"])
        head._weights = [arrays[f"weight{number}"] for number in range(layers)]
        head._biases = [arrays[f"bias{number}"] for number in range(layers)]
        head._middle, head._unit = float(meta["middle"]), float(meta["unit"])
        return head


def mlp(
    seed: int,
    hidden_layer_sizes: int | list[int] = 128,
    alpha: float = 1e-3,
    learning_rate_init: float = 1e-3,
    max_iter: int = 60,
    batch_size: int = 64,
) -> NetworkRegressor:
    """scikit-learn's MLPRegressor on standardised columns and numbers. hidden_layer_sizes: units of
    the hidden layer, or of each; alpha: penalty on the weights; learning_rate_init: Adam's step;
    max_iter: epochs at most."""
    sizes = hidden_layer_sizes if isinstance(hidden_layer_sizes, list) else [hidden_layer_sizes]
    if not sizes or min(sizes) < 1 or max_iter < 1:
        raise ValueError("hidden_layer_sizes and max_iter are whole numbers from 1")
    return NetworkRegressor(max_iter, {
        "hidden_layer_sizes": tuple(sizes), "alpha": alpha, "batch_size": batch_size,
        "learning_rate_init": learning_rate_init, "random_state": seed,
    })  # fmt: skip
