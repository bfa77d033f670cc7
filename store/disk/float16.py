"""float32 to float16 and back, at the same speed whatever the values are.

NumPy's own casts take a branch for each value: several times as long where many are zero, forty
times where many are below 6e-5.
"""

from __future__ import annotations

from functools import cache

import numpy as np

__all__ = ["narrowed", "widen"]

PIECE = 1 << 16  # values at a time: they stay in the cache
LEAST = 0x38800000  # bits of 2**-14 in float32, the least normal half
REBIASED = (127 - 15) << 23  # what the exponents differ by
HALF_STEP = 0xFFF  # with the lowest bit that stays: rounds to nearest, ties to even


def widen(x: np.ndarray, out: np.ndarray) -> None:
    """Copy ``x`` (m, d), float32 or float16, into ``out`` (m, d) as float32."""
    if x.dtype.itemsize != 2:
        out[:] = x
    elif out.flags.c_contiguous:
        np.take(_halves(), x.view("<u2"), out=out, mode="wrap")
    else:
        out[:] = _halves()[x.view("<u2")]


def narrowed(x: np.ndarray) -> np.ndarray:
    """``x`` (m, d) float32, no value beyond 65,504 either way, as float16; ties go to even.

    Normal halves are the float's bits with another bias, rounded at bit 13. Below them 0.5 is
    added, whose lowest bit is worth as much as theirs (2**-24), so that the addition rounds.
    """
    bits = np.ascontiguousarray(x).reshape(-1).view(np.uint32)
    out = np.empty(bits.size, np.uint16)
    n = min(PIECE, bits.size)
    normal, tiny, is_tiny = np.empty(n, "u4"), np.empty(n, "u4"), np.empty(n, "i4")
    for start in range(0, bits.size, PIECE):
        b = bits[start : start + PIECE]
        h, t, small = normal[: b.size], tiny[: b.size], is_tiny[: b.size]
        np.bitwise_and(b, 0x7FFFFFFF, out=t)
        np.subtract(t.view("i4"), LEAST, out=small)
        small >>= 31  # all ones where it is tiny: a choice without a branch
        np.right_shift(t, 13, out=h)
        h &= 1
        h += t
        h -= REBIASED - HALF_STEP
        h >>= 13
        as_float = t.view("f4")
        as_float += np.float32(0.5)
        t -= 0x3F000000
        t ^= h
        t &= small.view("u4")
        h ^= t
        np.right_shift(b, 16, out=t)
        t &= 0x8000
        h |= t
        out[start : start + PIECE] = h
    return out.view(np.float16).reshape(x.shape)


@cache
def _halves() -> np.ndarray:
    """(65536,) float32: the value of each pattern of 16 bits."""
    return np.arange(1 << 16, dtype="<u2").view("<f2").astype(np.float32)
