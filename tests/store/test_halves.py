"""Half precision by our own arithmetic: NumPy's bits, and back."""

import numpy as np
import pytest

from headstock.store.disk.float16 import narrowed, widen

EVERY = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
FINITE = np.sort(EVERY[np.isfinite(EVERY)].astype(np.float32))


def between() -> np.ndarray:
    """Every half, what lies midway between two, and the floats next to each."""
    middle = (FINITE[1:] + FINITE[:-1]) / 2
    some = np.concatenate([FINITE, middle])
    ends = [np.nextafter(some, np.float32(end)) for end in (-np.inf, np.inf)]
    return np.concatenate([some, *ends])


def anything() -> np.ndarray:
    bits = np.random.default_rng(0).integers(0, 1 << 32, 1 << 21, dtype=np.uint32)
    return bits.view(np.float32)


@pytest.mark.parametrize("x", [between(), anything()], ids=["between", "anything"])
def test_rounding_is_that_of_numpy(x):
    x = x[np.isfinite(x)]
    x = x[np.abs(x) <= 65504]
    assert len(x) > 10_000
    expected = x.astype(np.float16)
    assert narrowed(x).tobytes() == expected.tobytes()


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 5), (3, 70_000)])
def test_of_any_shape_and_from_strided_rows(shape):
    x = np.random.default_rng(1).normal(size=(shape[0], 2 * shape[1])).astype(np.float32)[:, ::2]
    assert np.array_equal(narrowed(x), x.astype(np.float16))


def test_zero_keeps_its_sign():
    assert np.signbit(narrowed(np.array([-0.0, 0.0], np.float32))).tolist() == [True, False]


@pytest.mark.parametrize("strided", [False, True])
def test_and_back(strided):
    x = FINITE[: 2 * (len(FINITE) // 2)].astype(np.float16).reshape(-1, 2)
    out = np.zeros((len(x), 4 if strided else 2), np.float32)[:, :2]
    widen(x, out)
    assert np.array_equal(out, x.astype(np.float32))
