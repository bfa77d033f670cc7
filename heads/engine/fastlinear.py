"""Linear heads on all training parts at once: by descent, and what scores become."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from headstock.heads.engine.parts import Part, Scores, Weigh, spread
from headstock.heads.engine.shared import Shared
from headstock.heads.kinds.linear import lengths
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows
from headstock.heads.solvers.calibration import softmax, temperature
from headstock.heads.solvers.descent import Problems, solve

__all__ = ["best_strength", "descent", "linear_answer", "tuned_answer"]

COLUMNS = 512
"""At most so many columns of weights in one product: beyond, memory grows and speed does not."""


def linear_answer(
    shared: Shared, scores_of: Callable[[list[Part]], Scores], calibrate: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Out-of-fold probabilities (e, n, k) and the refit's of the test rows, from a head's scores.

    With ``calibrate`` the temperature of a part is fitted on what parts that leave out one fold
    more say of that fold: exactly what the head does by itself with ``inner``.
    """
    parts = shared.calibrated_parts() if calibrate else shared.asked
    scores, chosen = scores_of(parts), shared.calibrating() if calibrate else {}
    proba = shared.empty()
    for part in shared.asked:
        rows = np.flatnonzero(np.isin(shared.fold, part))
        said = _proba(shared, scores, part, scores[part][0][rows], chosen.get(part))
        spread(proba, said, shared.fold, 0, part)
    fresh = None if shared.test is None else scores[()][1]
    test = None if fresh is None else _proba(shared, scores, (), fresh, chosen.get(()))
    return proba, test


def _proba(
    shared: Shared, scores: Scores, part: Part, raw: np.ndarray, held: np.ndarray | None
) -> np.ndarray:
    """``held``: the folds by which it is calibrated."""
    there = np.flatnonzero(shared.present(part))
    multiplier = 1.0
    if held is not None:
        held_out = np.full((len(shared.codes), shared.k), np.nan)
        for g in held:
            inner = tuple(sorted((*part, int(g))))
            rows = np.flatnonzero(shared.fold == g)
            seen = shared.present(inner)
            if seen.sum() > 1 and inner in scores:
                held_out[np.ix_(rows, seen)] = scores[inner][0][np.ix_(rows, seen)]
        mask = shared.mask(part)
        codes = np.searchsorted(there, shared.codes[mask])
        multiplier = temperature(held_out[np.ix_(mask, there)], codes)
    out = np.zeros((len(raw), shared.k))
    out[:, there] = softmax(multiplier * raw[:, there].astype(np.float64), axis=1)
    return out


def descent(
    shared: Shared, on: str, loss: str, C: float, tol: float, weigh: Weigh
) -> Callable[..., Scores]:
    """Scores by L-BFGS over all parts in the same matrix products; into ``weigh`` what the columns
    weigh in each fold's head."""

    def scores_of(parts: list[Part]) -> Scores:
        held, fresh = shared.dense(on), shared.matrix(on)[1]
        out: dict[Part, tuple[np.ndarray, np.ndarray | None]] = {}
        ended: dict[Part, np.ndarray] = {}
        step = max(1, COLUMNS // shared.k)
        for some in _batches(parts, step):
            mean, scale = shared.scaling(on, some)
            masks = np.stack([shared.mask(p) for p in some])
            weight = np.full(len(some), C)
            problems = Problems(held, shared.codes, shared.k, masks, mean, scale, weight, loss)
            theta = solve(problems, tol, _starts(some, ended))
            ended |= dict(zip(some, theta))
            _weigh(weigh, some, theta)
            out |= _scores(problems, theta, some, fresh)
        return out

    return scores_of


def _weigh(weigh: Weigh, parts: list[Part], theta: np.ndarray) -> None:
    weigh |= {p: lengths(t[:-1]) for p, t in zip(parts, theta) if len(p) == 1}


def tuned_answer(
    shared: Shared, on: str, strengths: Sequence[float], tol: float, weigh: Weigh
) -> tuple[np.ndarray, np.ndarray | None, list[float], list[list[float]]]:
    """Logistic regression whose C is chosen inside each training part: out-of-fold probabilities,
    the refit's of the test rows, and by fold (and refit) the C and the held-out log-loss of all C.

    All parts go through the values of C together, each from where it stood at the value before. C
    is the one whose held-out log-loss is smallest, a part's being that of the parts which leave out
    one fold more: what ``search.tuning.Tuned`` does fold by fold.
    """
    held, fresh = shared.dense(on), shared.matrix(on)[1]
    asked = shared.asked
    loss, ended = _path(shared, on, asked, strengths, tol)
    best = [int(np.argmin(loss[part])) for part in asked]
    chosen = [strengths[number] for number in best]
    start = np.stack([_inside(ended, part)[number] for part, number in zip(asked, best)])
    mean, scale = shared.scaling(on, asked)
    masks = np.stack([shared.mask(p) for p in asked])
    problems = Problems(held, shared.codes, shared.k, masks, mean, scale, np.array(chosen))
    theta = solve(problems, tol, start)
    _weigh(weigh, asked, theta)
    out = _scores(problems, theta, asked, fresh)
    proba, test = linear_answer(shared, lambda _: out, False)
    losses = [(loss[part] / shared.mask(part).sum()).tolist() for part in asked]
    return proba, test, chosen, losses


def best_strength(
    X: np.ndarray, codes: np.ndarray, inner: np.ndarray, strengths: Sequence[float], tol: float
) -> tuple[float, np.ndarray, np.ndarray] | None:
    """The C whose log-loss on the folds of ``inner``, held out in turn, is smallest; theta
    (d + 1, k) of one of these folds' models at that C, to start from; the log-loss of every C.
    None for columns that take units of their own in each fold (``Shared.strained``)."""
    ids = tuple(map(str, range(len(X))))
    fold = np.unique(inner, return_inverse=True)[1]
    rows = Rows(np.array(ids, dtype=object), {"all": X}, codes, np.unique(codes).astype(object))
    shared = Shared(rows, FoldPlan(ids, fold[None]), 0, None)
    if shared.strained("all"):
        return None
    loss, ended = _path(shared, "all", [()], strengths, tol)
    number = int(np.argmin(loss[()]))
    return strengths[number], _inside(ended, ())[number], loss[()] / len(X)


def _inside(ended: Mapping[Part, np.ndarray], part: Part) -> np.ndarray:
    """Where a part that leaves out one fold more ended; zeros where there is none."""
    found = next((q for q in sorted(ended) if set(q) > set(part)), None)
    return np.zeros_like(next(iter(ended.values()))) if found is None else ended[found]


def _path(
    shared: Shared, on: str, asked: list[Part], strengths: Sequence[float], tol: float
) -> tuple[dict[Part, np.ndarray], dict[Part, np.ndarray]]:
    """For each part of ``asked``, the summed log-loss of every C on its folds, each answered by the
    part that leaves it out as well; and for each of those parts theta (s, d + 1, k) at every C."""
    held = shared.dense(on)
    inner = {tuple(sorted((*p, int(g)))) for p in asked for g in shared.left(p)}
    parts = [p for p in sorted(inner) if len(shared.left(p))]
    loss = {part: np.zeros(len(strengths)) for part in asked}
    ended = {
        part: np.zeros((len(strengths), held.shape[1] + 1, shared.k)) for part in parts or asked
    }
    step = max(1, COLUMNS // shared.k)
    for some in (parts[i : i + step] for i in range(0, len(parts), step)):
        mean, scale = shared.scaling(on, some)
        masks = np.stack([shared.mask(p) for p in some])
        path: list[tuple[float, np.ndarray]] = []
        for number in np.argsort(strengths):
            C = np.full(len(some), strengths[number])
            problems = Problems(held, shared.codes, shared.k, masks, mean, scale, C)
            theta = solve(problems, tol, _onward(path, strengths[number]))
            path = [*path[-1:], (strengths[number], theta)]
            for part, own in zip(some, theta):
                ended[part][number] = own
            scores = problems.forward(theta)
            for b, part in enumerate(some):
                there = shared.present(part)
                for held_out in part:
                    outer = tuple(f for f in part if f != held_out)
                    if outer not in loss:
                        continue
                    rows = shared.fold == held_out
                    proba = np.zeros((rows.sum(), shared.k))
                    proba[:, there] = softmax(scores[rows, b][:, there].astype(np.float64), axis=1)
                    own = proba[np.arange(len(proba)), shared.codes[rows]]
                    loss[outer][number] -= np.log(np.clip(own, 1e-7, 1.0)).sum()
    return loss, ended


def _onward(path: list[tuple[float, np.ndarray]], C: float) -> np.ndarray | None:
    """Where to start at C: from the solution at the value before, half as far on again as the last
    step of log C led."""
    if len(path) < 2 or path[-1][0] == path[-2][0]:
        return path[-1][1] if path else None
    (first, before), (second, last) = path
    share = np.log(C / second) / np.log(second / first)
    return last + 0.5 * min(1.0, share) * (last - before)


def _scores(
    problems: Problems, theta: np.ndarray, parts: list[Part], fresh: np.ndarray | None
) -> Scores:
    """Scores of all rows under each part's solution, and of the test rows under that of all."""
    scores = problems.forward(theta)
    out: dict[Part, tuple[np.ndarray, np.ndarray | None]] = {}
    for b, part in enumerate(parts):
        tested = None
        if part == () and fresh is not None:
            W = theta[b, :-1] * problems.inverse[b][:, None]
            tested = fresh @ W.astype(np.float32) + (theta[b, -1] - problems.mean[b] @ W)
        out[part] = scores[:, b], tested
    return out


def _batches(parts: list[Part], size: int) -> Iterator[list[Part]]:
    """Parts that leave out two folds first, then one; all rows together with the last of them, or
    after them where they can start it."""
    deepest = max(map(len, parts))
    for depth in range(deepest, -1, -1):
        level = [p for p in parts if len(p) == depth]
        if depth == 1 and deepest == 1:
            level += [p for p in parts if p == ()]
        if depth == 0 and deepest == 1:
            return
        for i in range(0, len(level), size):
            yield level[i : i + size]


def _starts(parts: list[Part], ended: Mapping[Part, np.ndarray]) -> np.ndarray | None:
    """Where smaller parts ended, for larger ones that hold all their rows.

    Never the other way: a solution that has seen a fold's rows, handed to a part that is to answer
    them, stops near where it was, and the tolerance lets it keep what it knew of them.
    """
    inside = [next((q for q in ended if set(q) > set(p)), None) for p in parts]
    if any(q is None for q in inside):
        return None
    return np.stack([ended[q] for q in inside if q is not None])
