"""A matrix and the products with it, on the processor or on a CUDA device.

Only the large products go to the device; what comes back and forth is small beside them. Products
are float32 on both (on a device without its reduced-precision modes), so that answers agree to the
tolerances of the solvers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from headstock.heads.threads import beside
from headstock.store.errors import OptionError

__all__ = ["Dense", "check_device", "dense"]

STRIP = 512
"""Rows of a strip of a symmetric product: enough for a fast product, few enough to share out."""


class Dense:
    """Z (n, d) float32 in memory, with NumPy's products."""

    def __init__(self, Z: np.ndarray) -> None:
        self.shape = Z.shape
        self._Z: Any = Z

    def across(self, A: np.ndarray) -> np.ndarray:
        """A (m, d) -> A Z.T (m, n), float32, by strips beside each other."""
        if len(A) <= STRIP:
            return np.asarray(A @ self._Z.T)
        out = np.empty((len(A), len(self._Z)), dtype=np.float32)

        def strip(start: int) -> None:
            stop = start + STRIP
            np.matmul(A[start:stop], self._Z.T, out=out[start:stop])

        beside(strip, range(0, len(A), STRIP))
        return out

    def products(self) -> np.ndarray:
        """Z Z.T (n, n), float32: one triangle by strips beside each other, the other its mirror,
        which NumPy's product of a matrix with itself copies an entry at a time on one thread."""
        Z, n = self._Z, len(self._Z)
        out = np.empty((n, n), dtype=np.float32)

        def strip(start: int) -> None:
            stop = min(start + STRIP, n)
            np.matmul(Z[start:stop], Z[:stop].T, out=out[start:stop, :stop])
            for s in range(0, start, STRIP):
                out[s : s + STRIP, start:stop] = out[start:stop, s : s + STRIP].T

        beside(strip, range(0, n, STRIP)[::-1])  # the longest first
        return out

    def along(self, R: np.ndarray) -> np.ndarray:
        """R (m, n) -> R Z (m, d), float32."""
        return np.asarray(R @ self._Z)

    def gram(self, rows: np.ndarray, other: Dense, out: np.ndarray) -> None:
        """out = Z.T Y (d, e) over ``rows`` (by number), for another matrix Y (n, e) or itself."""
        mine = self._Z[rows]
        np.matmul(mine.T, mine if other is self else other._Z[rows], out=out)


class _OnDevice(Dense):
    """The same with torch on a device."""

    def __init__(self, Z: np.ndarray, device: Any) -> None:
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        self._torch, self._device = torch, device
        self.shape = Z.shape
        self._Z = torch.from_numpy(np.ascontiguousarray(Z)).to(device)

    def _send(self, A: np.ndarray) -> Any:
        return self._torch.from_numpy(np.ascontiguousarray(A)).to(self._device)

    def across(self, A: np.ndarray) -> np.ndarray:
        return (self._send(A) @ self._Z.T).cpu().numpy()

    def products(self) -> np.ndarray:
        return (self._Z @ self._Z.T).cpu().numpy()

    def along(self, R: np.ndarray) -> np.ndarray:
        return (self._send(R) @ self._Z).cpu().numpy()

    def gram(self, rows: np.ndarray, other: Dense, out: np.ndarray) -> None:
        which = self._send(rows)
        mine = self._Z[which]
        out[:] = (mine.T @ (mine if other is self else other._Z[which])).cpu().numpy()


def dense(Z: np.ndarray, device: str = "cpu") -> Dense:
    """Z where its products are to be computed: ``cpu`` or a device torch knows, such as ``cuda``.
    Raises OptionError where it is not there."""
    if device == "cpu":
        return Dense(Z)
    return _OnDevice(Z, _device(device))


def check_device(name: str) -> None:
    """Raises OptionError for a device that is not there."""
    if name != "cpu":
        _device(name)


def _device(name: str) -> Any:
    try:
        import torch

        device = torch.device(name)
        torch.zeros(1, device=device)
    except (ImportError, RuntimeError, AssertionError) as error:
        raise OptionError(
            f"device {name}", str(error).splitlines()[0], "use cpu, or cuda where there is one"
        ) from error
    return device
