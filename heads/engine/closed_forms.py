"""Linear heads on all training parts at once: by closed forms from the products of the columns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from headstock.heads.engine.parts import Part, Scores, Weigh
from headstock.heads.engine.shared import Shared
from headstock.heads.kinds.discriminant import intensity, pairs_squared, sampled
from headstock.heads.kinds.linear import lengths
from headstock.heads.solvers.descent import solve_positive
from headstock.heads.solvers.scaling import inverse
from headstock.heads.threads import beside

__all__ = ["WIDEST", "from_gram"]

WIDEST = 6000
"""Columns beyond which a Gram matrix a fold is too much memory."""


def from_gram(
    shared: Shared, on: str, kind: str, setting: float | str, weigh: Weigh
) -> Callable[..., Scores]:
    """Scores by a closed form (``lda`` with its shrinkage, ``ridge`` with its alpha) from Gram
    matrices of which a part's is the total minus those of the folds it leaves out."""

    def scores_of(parts: list[Part]) -> Scores:
        Z, fresh = shared.matrix(on)
        mean, scale = shared.scaling(on, parts)
        grams = shared.gram(on)
        total = grams.sum(axis=0)
        _, _, own = shared.sums(on)
        auto = kind == "lda" and setting == "auto"
        norms = _squared_norms(shared, on, Z, parts, mean, scale) if auto else None
        out: dict[Part, tuple[np.ndarray, np.ndarray | None]] = {}
        found: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

        def one(p: int) -> None:
            part = parts[p]
            left = shared.left(part)
            there = np.flatnonzero(shared.present(part))
            counts = shared.counts[left].sum(axis=0)[there]
            sums = own[left].sum(axis=0)[there]
            gram = shared.part_gram(on, part, grams, total)
            if kind == "lda":
                share = setting
                if norms is not None:
                    means = sums / counts[:, None]
                    share = _intensity(shared, Z, part, there, means, scale[p], norms[:, p])
                W, b = _discriminant(gram, sums, counts, mean[p], scale[p], float(share))
            else:
                W, b = _least_squares(gram, sums, counts, mean[p], scale[p], float(setting))
            if len(part) == 1:
                weigh[part] = lengths(W * scale[p][:, None])
            b = b - mean[p] @ W
            found[p] = there, W.astype(np.float32), b

        beside(one, range(len(parts)))
        every = _beside(Z, np.hstack([found[p][1] for p in sorted(found)]))
        start = 0
        for p in sorted(found):
            there, W, b = found[p]
            scores = np.full((len(Z), shared.k), -np.inf)
            scores[:, there] = every[:, start : start + len(there)] + b
            start += len(there)
            tested = None
            if parts[p] == () and fresh is not None:
                tested = np.full((len(fresh), shared.k), -np.inf)
                tested[:, there] = fresh @ W + b
            out[parts[p]] = scores, tested
        return out

    return scores_of


def _without(gram: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> None:
    """gram -= rows.T diag(weights) rows, in place; (d, d) float32, rows (c, d)."""
    from scipy.linalg.blas import sgemm

    weighed = (rows * np.sqrt(weights)[:, None]).astype(np.float32)
    done = sgemm(-1.0, weighed, weighed, 1.0, gram.T, trans_a=True, overwrite_c=True)
    assert np.shares_memory(done, gram)


def _leave_out(gram: np.ndarray, target: np.ndarray, constant: np.ndarray) -> None:
    """Columns that are constant in a part weigh nothing: an equation of their own in gram (d, d),
    with 0 on the right, target (k, d)."""
    which = np.flatnonzero(constant)
    gram[which] = gram[:, which] = target[:, which] = 0.0
    gram[which, which] = 1.0


def _discriminant(
    gram: np.ndarray,
    sums: np.ndarray,
    counts: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    share: float,
) -> tuple[np.ndarray, np.ndarray]:
    """``discriminant`` of standardised rows from the Gram matrix (d, d) of rows as they are, which
    is overwritten: W (d, k) for them, b (k,) for them less their mean.

    With D = diag(1 / scale) the shrunk system (1 - s) D S D + s mu I is that of (1 - s) S +
    s mu D^-2 for the weights of the rows as they are: the scaling touches the diagonal alone.
    """
    n, d, means = counts.sum(), len(gram), sums / counts[:, None]
    _without(gram, means, counts)
    gram *= np.float32(1.0 / n)
    diagonal = np.diag_indices(d)
    trace = float((gram[diagonal] * inverse(scale) ** 2).sum())
    gram *= np.float32(1.0 - share)
    gram[diagonal] += (max(share * trace / d, 1e-6) * scale**2).astype(np.float32)
    means -= mean
    _leave_out(gram, means, scale == 0)
    W = solve_positive(gram, means.T)
    return W, np.log(counts / n) - 0.5 * np.einsum("kd,dk->k", means, W)


def _least_squares(
    gram: np.ndarray,
    sums: np.ndarray,
    counts: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    alpha: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge onto the classes' indicators, as in ``linear.ridge``, by the same rearrangement."""
    n = counts.sum()
    _without(gram, mean[None], np.array([n]))
    gram[np.diag_indices(len(gram))] += (alpha * n / 10.0 * scale**2).astype(np.float32)
    target = sums - counts[:, None] * mean
    _leave_out(gram, target, scale == 0)
    return solve_positive(gram, target.T), counts / n


def _squared_norms(
    shared: Shared,
    on: str,
    Z: np.ndarray,
    parts: list[Part],
    mean: np.ndarray,
    scale: np.ndarray,
) -> np.ndarray:
    """(n, p): |(z - its class's mean) / scale|^2 of each row as each part sees it, from |z|^2, z.m
    and |m|^2."""
    _, _, own = shared.sums(on)
    rows, k, factor = np.arange(len(Z)), shared.k, inverse(scale)
    means = []
    for part in parts:
        left = shared.left(part)
        counts = np.maximum(shared.counts[left].sum(axis=0), 1)
        means.append(own[left].sum(axis=0) / counts[:, None])
    weighted = [m * i**2 for m, i in zip(means, factor)]
    cross = _beside(Z, np.concatenate(weighted).T.astype(np.float32))
    out = _beside(Z, (factor**2).T.astype(np.float32), squared=True)
    for p in range(len(parts)):
        own_mean = (means[p] * weighted[p]).sum(axis=1)[shared.codes]
        out[:, p] += own_mean - 2 * cross[rows, p * k + shared.codes]
    return out


def _intensity(
    shared: Shared,
    Z: np.ndarray,
    part: Part,
    there: np.ndarray,
    means: np.ndarray,
    scale: np.ndarray,
    norms: np.ndarray,
) -> float:
    """``intensity`` of a part with the classes ``there``, whose means (k, d) are those of the rows
    Z (n, d) as they are; norms (n,) of ``_squared_norms``."""
    mask, factor = shared.mask(part), inverse(scale)
    of = [np.flatnonzero(mask & (shared.codes == c)) for c in there]
    squares = [norms[rows].astype(np.float64) for rows in of]
    pairs = []
    for rows, mean in zip(of, means):
        some = Z[rows[sampled(len(rows), len(there))]]
        pairs.append(pairs_squared(((some - mean) * factor).astype(np.float32)))
    return intensity(
        np.array([(own**2).sum() for own in squares]), np.array([own.sum() for own in squares]),
        np.array(pairs), np.array([len(rows) for rows in of]), Z.shape[1],
    )  # fmt: skip


def _beside(Z: np.ndarray, W: np.ndarray, squared: bool = False) -> np.ndarray:
    """(n, m) of Z (n, d), or of its squares, with what all parts have of columns, W (d, m): the
    rows are read once, by slices beside each other."""
    out = np.empty((len(Z), W.shape[1]), dtype=np.float32)

    def some(start: int) -> None:
        part = Z[start : start + 512]
        np.matmul(part**2 if squared else part, W, out=out[start : start + 512])

    beside(some, range(0, len(Z), 512))
    return out
