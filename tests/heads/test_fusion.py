from __future__ import annotations

import numpy as np
import pytest

from headstock.heads.fusion.fusions import KINDS, cross_fuse, make_fusion
from headstock.store.errors import OptionError


def answers(n: int = 600, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three systems: a good one, an independent middling one, and one that guesses."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, k, n)
    P = []
    for strength in (2.0, 1.0, 0.0):
        z = rng.normal(size=(n, k))
        z[np.arange(n), codes] += strength
        P.append(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True))
    return np.stack(P, axis=1), codes


@pytest.mark.parametrize("kind", list(KINDS))
def test_contract(kind: str) -> None:
    P, codes = answers()
    inner = np.arange(len(codes)) % 5
    fusion = make_fusion(kind).fit(P, codes, inner)
    out = fusion.predict(P)
    assert out.shape == (600, 3)
    np.testing.assert_allclose(out.sum(axis=1), 1)
    assert (out >= 0).all()
    meta, arrays = fusion.state()
    back = KINDS[kind].from_state(kind, meta, arrays, 3)
    np.testing.assert_array_equal(back.predict(P), out)
    first = (P[:, 0].argmax(axis=1) == codes).mean()
    if kind in ("weighted", "stacked"):
        assert (out.argmax(axis=1) == codes).mean() > first


def test_weighted_finds_what_each_system_is_worth() -> None:
    P, codes = answers(4000)
    weights = make_fusion("weighted").fit(P, codes, codes * 0).weights_  # type: ignore[attr-defined]
    # The evidence of a row is z itself, so the best weights are the strengths and nothing for noise
    np.testing.assert_allclose(weights, [2.0, 1.0, 0.0], atol=0.15)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_fused_row_never_saw_its_label(kind: str) -> None:
    P, codes = answers()
    folds = (np.arange(600) % 5)[None]
    before = cross_fuse(kind, P[None], codes, folds)[0]
    changed = codes.copy()
    held_out = folds[0] == 2
    changed[held_out] = (changed[held_out] + 1) % 3
    after = cross_fuse(kind, P[None], changed, folds)[0]
    np.testing.assert_array_equal(before[held_out], after[held_out])


def test_a_zero_probability_is_bounded_evidence() -> None:
    P, codes = answers(60)
    P[0] = np.eye(3)[[0, 1, 2]]
    for kind in KINDS:
        out = make_fusion(kind).fit(P, codes, np.arange(60) % 5).predict(P)
        assert np.isfinite(out).all()


def test_unknown_fusion() -> None:
    with pytest.raises(OptionError, match="stacked"):
        make_fusion("early")
