"""Many linear models on one matrix at once.

B problems share the rows Z (n, d): each has its own training rows (a mask), its own scaling, maybe
its own C. One matrix product serves them all in every step of L-BFGS, which for a fold plan means
that all folds, and the predictions of the rows they hold out, cost little more than one fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstock.heads.solvers.dense import Dense
from headstock.heads.solvers.scaling import inverse
from headstock.heads.threads import beside, threads

__all__ = ["Problems", "solve", "solve_positive"]

MEMORY = 10
"""Pairs of steps and gradient changes that L-BFGS remembers."""


@dataclass
class Problems:
    """B problems on Z (n, d), float32 or held where its products are computed (``dense``), with
    classes codes (n,) of k.

    masks (B, n): training rows. mean, scale (B, d): problem b sees (Z - mean[b]) / scale[b], and 0
    in columns whose scale is 0.
    C (B,): weight of the summed loss against half the squared weights; the intercept is free.
    loss: ``softmax`` (multinomial logistic) or ``hinge`` (squared hinge, one against the rest).
    """

    Z: np.ndarray | Dense
    codes: np.ndarray
    k: int
    masks: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    C: np.ndarray
    loss: str = "softmax"

    def __post_init__(self) -> None:
        self.dense = self.Z if isinstance(self.Z, Dense) else Dense(self.Z)
        self.count, self.inverse = self.masks.sum(axis=1), inverse(self.scale)
        self.present = np.stack(
            [np.bincount(self.codes[m], minlength=self.k) > 0 for m in self.masks]
        )

    def take(self, which: np.ndarray) -> Problems:
        """The problems at ``which``."""
        return Problems(
            self.dense, self.codes, self.k, self.masks[which], self.mean[which], self.scale[which],
            self.C[which], self.loss,
        )  # fmt: skip

    def forward(self, theta: np.ndarray) -> np.ndarray:
        """(n, B, k) float32 scores of all rows; theta (B, d + 1, k), its last row intercepts."""
        return self.scores(theta).transpose(2, 0, 1)

    def scores(self, theta: np.ndarray) -> np.ndarray:
        """(B, k, n) float32 scores. Rows come last everywhere here, so that what is done over the
        few classes runs along many rows."""
        W = theta[:, :-1] * self.inverse[:, :, None]
        shift = theta[:, -1] - np.einsum("bd,bdk->bk", self.mean, W)
        B, d, k = W.shape
        flat = np.ascontiguousarray(W.transpose(0, 2, 1).reshape(B * k, d), dtype=np.float32)
        out = self.dense.across(flat).reshape(B, k, -1)
        out += shift.astype(np.float32)[:, :, None]
        return out

    def backward(self, residual: np.ndarray) -> np.ndarray:
        """(B, d + 1, k) gradient of the losses from residuals (B, k, n)."""
        B, k, n = residual.shape
        total = residual.sum(axis=2, dtype=np.float64)
        G = self.dense.along(residual.reshape(B * k, n)).astype(np.float64)
        G = G.reshape(B, k, -1).transpose(0, 2, 1)
        G = (G - self.mean[:, :, None] * total[:, None, :]) * self.inverse[:, :, None]
        return np.concatenate([G, total[:, None, :]], axis=1)

    def losses(self, scores: np.ndarray, want_residual: bool) -> tuple[np.ndarray, np.ndarray]:
        """(B,) mean training loss, and its (B, k, n) float32 derivative by the scores."""
        weight = (self.masks / self.count[:, None]).astype(np.float32)  # (B, n)
        rows = np.arange(len(self.codes))
        if self.loss == "softmax":
            z = scores
            if not self.present.all():
                z = np.where(self.present[:, :, None], z, np.float32(-1e30))
            z = z - z.max(axis=1, keepdims=True)
            own = z[:, self.codes, rows]
            np.exp(z, out=z)
            total = z.sum(axis=1)
            value = ((np.log(total) - own) * weight).sum(axis=1, dtype=np.float64)
            if not want_residual:
                return value, z
            z *= (weight / total)[:, None, :]
            z[:, self.codes, rows] -= weight
            return value, z
        sign = np.ones((1, self.k, len(rows)), dtype=np.float32)
        sign[:, self.codes, rows] = -1
        slack = np.maximum(1 + sign * scores, 0)  # 1 - y * score
        slack *= self.present[:, :, None]
        value = np.einsum("bkn,bkn,bn->b", slack, slack, weight, dtype=np.float64)
        return value, 2 * sign * slack * weight[:, None, :]


def solve(
    problems: Problems, tol: float = 1e-4, start: np.ndarray | None = None, max_iter: int = 1000
) -> np.ndarray:
    """Minimise all problems by L-BFGS; theta (B, d + 1, k) float64.

    A problem is done when no entry of its gradient (of the mean loss plus half the squared weights
    over C n) exceeds ``tol``, scikit-learn's rule; done problems leave the products. On the
    processor each thread has a share of the problems: what is done entry by entry takes as long as
    the products, and only these would be shared out by their library.
    """
    shares = min(threads(), len(problems.masks)) if type(problems.dense) is Dense else 1
    which = [np.arange(first, len(problems.masks), shares) for first in range(shares)]

    def share(mine: np.ndarray) -> np.ndarray:
        begin = None if start is None else start[mine]
        return _solve(problems.take(mine), tol, begin, max_iter)

    found = beside(share, which) if shares > 1 else [share(which[0])]
    theta = np.empty((len(problems.masks), *found[0].shape[1:]))
    for mine, some in zip(which, found):
        theta[mine] = some
    return theta


def _solve(problems: Problems, tol: float, start: np.ndarray | None, max_iter: int) -> np.ndarray:
    B, d, k = len(problems.masks), problems.dense.shape[1], problems.k
    theta = np.zeros((B, d + 1, k)) if start is None else start.copy()
    live = np.arange(B)
    state = _State(problems, theta)
    for _ in range(max_iter):
        done = (np.abs(state.gradient).max(axis=(1, 2)) <= tol) | state.stalled
        if done.any():
            theta[live[done]] = state.theta[done]
            live = live[~done]
            if not len(live):
                return theta
            state.keep(~done)
        state.step()
    theta[live] = state.theta
    return theta


class _State:
    """Where L-BFGS stands in each problem that is not done."""

    def __init__(self, problems: Problems, theta: np.ndarray) -> None:
        self.problems, self.theta = problems, theta.copy()
        self.steps: list[np.ndarray] = []
        self.changes: list[np.ndarray] = []
        self.products: list[np.ndarray] = []
        self.stalled = np.zeros(len(theta), dtype=bool)
        self.scores = problems.scores(self.theta)
        self._measure()

    def _penalty(self) -> np.ndarray:
        """1 / (C n). Softmax over two classes carries each weight twice at half its size, so half
        the penalty: doubling it gives scikit-learn's one-column logistic regression."""
        problems = self.problems
        twice = (problems.present.sum(axis=1) == 2) & (problems.loss == "softmax")
        return np.where(twice, 2.0, 1.0) / (problems.C * problems.count)

    def _measure(self) -> None:
        loss, residual = self.problems.losses(self.scores, True)
        W = self.theta[:, :-1]
        penalty = self._penalty()
        self.value = loss + 0.5 * penalty * np.einsum("bdk,bdk->b", W, W)
        self.gradient = self.problems.backward(residual)
        self.gradient[:, :-1] += penalty[:, None, None] * W

    def keep(self, which: np.ndarray) -> None:
        self.problems = self.problems.take(which)
        self.theta, self.gradient = self.theta[which], self.gradient[which]
        self.value, self.scores = self.value[which], self.scores[which]
        self.stalled = self.stalled[which]
        self.steps = [s[which] for s in self.steps]
        self.changes = [c[which] for c in self.changes]
        self.products = [p[which] for p in self.products]

    def _direction(self) -> np.ndarray:
        """The two-loop recursion, for all problems at once."""
        q = -self.gradient
        alphas = []
        for s, y, sy in zip(self.steps[::-1], self.changes[::-1], self.products[::-1]):
            alpha = _dot(s, q) / sy
            q -= alpha[:, None, None] * y
            alphas.append(alpha)
        if self.steps:
            y = self.changes[-1]
            q *= (self.products[-1] / _dot(y, y))[:, None, None]
        else:
            q = q / np.maximum(np.sqrt(_dot(q, q)), 1e-12)[:, None, None]
        for s, y, sy, alpha in zip(self.steps, self.changes, self.products, alphas[::-1]):
            beta = _dot(y, q) / sy
            q += (alpha - beta)[:, None, None] * s
        return q

    def step(self) -> None:
        """One step in every problem, each backtracking by itself. One that cannot go down any more
        has met the rounding of float32 before its tolerance, and is ``stalled``."""
        D = self._direction()
        slope = _dot(self.gradient, D)
        moved = self.problems.scores(D)
        W, DW, penalty = self.theta[:, :-1], D[:, :-1], self._penalty()
        ww, wd, dd = (np.einsum("bdk,bdk->b", a, b) for a, b in ((W, W), (W, DW), (DW, DW)))
        size = np.ones(len(self.theta))
        for _ in range(30):
            trial = self.scores + size[:, None, None].astype(np.float32) * moved
            loss, _ = self.problems.losses(trial, False)
            value = loss + 0.5 * penalty * (ww + 2 * size * wd + size**2 * dd)
            bad = value > self.value + 1e-4 * size * slope + 1e-7 * np.abs(self.value)
            if not bad.any():
                break
            size = np.where(bad, size * 0.5, size)
        self.stalled = bad
        size = np.where(bad, 0.0, size)
        self.scores = self.scores + size[:, None, None].astype(np.float32) * moved
        step = size[:, None, None] * D
        before = self.gradient
        self.theta = self.theta + step
        self._measure()
        change = self.gradient - before
        # Where rounding hides the curvature, the unit matrix stands in for it
        flat = _dot(step, change) <= 1e-10 * _dot(step, step)
        change[flat] = step[flat] = D[flat]
        self.steps = [*self.steps, step][-MEMORY:]
        self.changes = [*self.changes, change][-MEMORY:]
        self.products = [*self.products, _dot(step, change)][-MEMORY:]


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("bdk,bdk->b", a, b)


def solve_positive(A: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A^-1 right for a positive definite A (d, d), float32 or float64, and right (d, k): factorised
    in float32, which is twice as fast, then refined to float64's accuracy; in float64 where that
    fails."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    def rest(x: np.ndarray) -> np.ndarray:
        out = right.astype(np.float64)
        for s in range(0, len(A), 128):  # a float64 copy of A would cost more than the product
            out[s : s + 128] -= A[s : s + 128].astype(np.float64, copy=False) @ x
        return out

    try:
        # Turned: LAPACK counts by columns, and would copy a matrix that counts by rows
        factor = cho_factor(A.astype(np.float32).T, overwrite_a=True, check_finite=False)
        x = cho_solve(factor, right.astype(np.float32), check_finite=False).astype(np.float64)
        size = np.abs(right).max() or 1.0
        for _ in range(20):
            left = rest(x)
            if np.abs(left).max() <= 1e-8 * size:
                return x
            x += cho_solve(factor, left.astype(np.float32), check_finite=False)
    except LinAlgError:
        pass
    try:
        factor = cho_factor(A.astype(np.float64).T, overwrite_a=True, check_finite=False)
        return cho_solve(factor, right)
    except LinAlgError:  # rounding is all there is in some direction: rows that are their means
        values, vectors = np.linalg.eigh(A.astype(np.float64))
        values = np.maximum(values, 1e-6 * max(values[-1], 1e-6))
        return vectors @ ((vectors.T @ right) / values[:, None])
