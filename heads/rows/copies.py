"""Copies among pictures and sounds, by their fingerprints (``extract/encoders/fingerprints``).

Two fingerprints are held against each other as closely as copies differ: pictures mirrored and
cropped by up to a twentieth, sounds moved by up to 80 ms, on what both have. All pairs are
screened by one product of a blurred form, and the nearest of each row are compared exactly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from headstock.store.fingerprints import BANDS, FRAMES, SIDE

__all__ = ["PICTURES", "SOUNDS", "copies"]

PICTURES = 0.965
"""Correlation of blurred grey values from which two pictures are copies."""
SOUNDS = 0.981
"""Correlation of levels from which two sounds are."""
NEAREST = 20
"""Rows nearest to a row by the screen that are compared with it."""
SCREEN = {"image": 0.7, "audio": 0.8}
"""Below this a pair is not looked at: copies are above (see docs/duplicates)."""
APART = 0.08
"""A copied picture is nearer than this share of what lies between a row and its tenth neighbour,
else pictures that are all alike, such as scans of one digit, would be copies of each other. Sounds
need no such rule: different recordings of one word by one speaker stay below ``SOUNDS``."""
WORTH = {"image": 0.6, "audio": 0.8}
"""A pair is compared exactly when by the screen it is nearer than this share of what lies between
its rows and their tenth neighbours: where all rows are alike, the screen suffices for most."""
CROPS = (0.975, 0.95, 0.925)
LAGS = 8
"""Frames by which sounds are moved against each other."""
BLOCK = 1024
Pairs = np.ndarray
"""(p, 2) row numbers, the smaller first."""


def copies(X: np.ndarray, modality: str) -> Pairs:
    """Pairs of rows of fingerprints (n, d) that are copies of one picture or sound."""
    screen, score, least = (
        (_blurred(X), _pictures(X), PICTURES)
        if modality == "image"
        else (_smooth(X), _sounds(X), SOUNDS)
    )
    flat = [form.reshape(len(X), -1) for form in screen]
    pairs, tenth = _candidates(flat, SCREEN[modality])
    room = np.minimum(tenth[pairs[:, 0]], tenth[pairs[:, 1]])
    alike = np.full(len(pairs), -1.0)
    for s in range(0, len(pairs), BLOCK):
        first, second = flat[0][pairs[s : s + BLOCK, 0]], pairs[s : s + BLOCK, 1]
        near = [(first * form[second]).sum(axis=1) for form in flat]
        alike[s : s + BLOCK] = np.max(near, axis=0)
    worth = 1 - alike <= WORTH[modality] * room + 1e-6
    pairs, room = pairs[worth], room[worth]
    if not len(pairs):
        return pairs
    said = np.concatenate([score(pairs[s : s + BLOCK]) for s in range(0, len(pairs), BLOCK)])
    found = said >= least
    if modality == "image":
        found &= 1 - said <= APART * room
    return pairs[found]


def _unit(x: np.ndarray) -> np.ndarray:
    """Each row (…, d) without its mean, of length 1; a row that is all alike is zeros."""
    x = x - x.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.divide(x, length, out=np.zeros_like(x), where=length > 1e-3)


def _candidates(forms: list[np.ndarray], least: float) -> tuple[Pairs, np.ndarray]:
    """The pairs whose largest product of the first of ``forms`` (n, d) with any of them is among
    the ``NEAREST`` of a row and not below ``least``; and what lies between each row and its tenth
    neighbour, as 1 - product."""
    n = len(forms[0])
    few, tenth = min(NEAREST, n - 1), np.ones(n)
    found: list[np.ndarray] = []
    for start in range(0, n, BLOCK):
        rows = slice(start, start + BLOCK)
        alike = forms[0][rows] @ forms[0].T
        for other in forms[1:]:
            np.maximum(alike, forms[0][rows] @ other.T, out=alike)
        here = np.arange(len(alike))
        alike[here, start + here] = -1
        if few < 1:
            break
        near = np.argpartition(-alike, few - 1, axis=1)[:, :few]
        values = np.take_along_axis(alike, near, axis=1)
        ordered = -np.sort(-values, axis=1)
        tenth[rows] = 1 - np.maximum(ordered[:, min(9, few - 1)], 0)
        i, j = np.nonzero(values >= least)
        found.append(np.stack([start + i, near[i, j]], axis=1))
    if not found:
        return np.empty((0, 2), dtype=np.int64), tenth
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.unique(pairs, axis=0), tenth


def _blurred(X: np.ndarray) -> list[np.ndarray]:
    """Grey values, blurred, and the same mirrored."""
    from scipy.ndimage import gaussian_filter

    whole = gaussian_filter(X.reshape(-1, SIDE, SIDE).astype(np.float32), (0, 1, 1))
    return [_unit(form.reshape(len(X), -1)) for form in (whole, whole[:, :, ::-1])]


def _crops() -> list[np.ndarray]:
    """(SIDE, SIDE) matrices that stretch a part of a line to the whole: R T S' crops a picture."""
    out = [np.eye(SIDE, dtype=np.float32)]
    for share in CROPS:
        for begin in (0.0, 0.5, 1.0):
            at = (np.arange(SIDE) + 0.5) * share + begin * (1 - share) * SIDE - 0.5
            at = np.clip(at, 0, SIDE - 1)
            low = np.minimum(at.astype(int), SIDE - 2)
            matrix = np.zeros((SIDE, SIDE), dtype=np.float32)
            matrix[np.arange(SIDE), low] = 1 - (at - low)
            matrix[np.arange(SIDE), low + 1] += at - low
            out.append(matrix)
    return out


def _pictures(X: np.ndarray) -> Callable[[Pairs], np.ndarray]:
    from scipy.ndimage import gaussian_filter

    blurred = gaussian_filter(X.reshape(-1, SIDE, SIDE).astype(np.float32), (0, 1, 1))
    whole = _unit(blurred.reshape(len(X), -1))
    crops = _crops()
    kinds = [(0, 0)] + [
        (1 + 3 * c + i, 1 + 3 * c + j)
        for c in range(len(CROPS)) for i in range(3) for j in range(3)
    ]  # fmt: skip
    down, across = (np.stack([crops[kind[side]] for kind in kinds]) for side in (0, 1))

    def score(pairs: Pairs) -> np.ndarray:
        """(p,) the largest correlation of one of a pair with a part of the other or its mirror."""
        best = np.full(len(pairs), -1.0, dtype=np.float32)
        for moved, still in ((0, 1), (1, 0)):
            order = np.argsort(pairs[:, moved], kind="stable")
            cuts = np.flatnonzero(np.diff(pairs[order, moved])) + 1
            for same in np.split(order, cuts):  # the parts of a picture are cut once for all
                parts = down @ blurred[pairs[same[0], moved]] @ across.transpose(0, 2, 1)
                forms = np.concatenate([parts, parts[:, :, ::-1]])
                alike = _unit(forms.reshape(len(forms), -1)) @ whole[pairs[same, still]].T
                best[same] = np.maximum(best[same], alike.max(axis=0))
        return best

    return score


def _smooth(X: np.ndarray) -> list[np.ndarray]:
    """Levels blurred over time, so that a moment more or less changes little."""
    from scipy.ndimage import gaussian_filter1d

    levels = X.reshape(-1, FRAMES, BANDS).astype(np.float32)
    padded = np.pad(levels, ((0, 0), (20, 20), (0, 0)))
    blurred = gaussian_filter1d(padded, 6, axis=1)[:, ::5]
    return [_unit(blurred.reshape(len(X), -1))]


def _sounds(X: np.ndarray) -> Callable[[Pairs], np.ndarray]:
    levels = X.reshape(-1, FRAMES, BANDS)
    sounding = levels.max(axis=2) > 0
    length = FRAMES - np.argmax(sounding[:, ::-1], axis=1)
    length[~sounding.any(axis=1)] = 0

    def score(pairs: Pairs) -> np.ndarray:
        """(p,) the largest correlation of levels, band by band about their means, over the moves
        that leave four fifths of the longer."""
        best = np.full(len(pairs), -1.0)
        first, second = length[pairs[:, 0]], length[pairs[:, 1]]
        frames = np.arange(FRAMES)
        for lag in range(-LAGS, LAGS + 1):
            i, j = max(0, lag), max(0, -lag)
            both = np.minimum(first - i, second - j)
            enough = both >= np.maximum(0.8 * np.maximum(first, second) - 8, 8)
            which = np.flatnonzero(enough)
            if not len(which):
                continue
            most = int(both[which].max())
            a = levels[pairs[which, 0], i : i + most].astype(np.float32)
            b = levels[pairs[which, 1], j : j + most].astype(np.float32)
            there = (frames[: a.shape[1]] < both[which, None])[:, :, None].astype(np.float32)
            count = both[which, None, None].astype(np.float32)
            a = (a - (a * there).sum(axis=1, keepdims=True) / count) * there
            b = (b - (b * there).sum(axis=1, keepdims=True) / count) * there
            size = np.sqrt((a * a).sum(axis=(1, 2)) * (b * b).sum(axis=(1, 2)))
            product = (a * b).sum(axis=(1, 2)) / np.maximum(size, 1e-6)
            best[which] = np.maximum(best[which], product)
        return best

    return score
