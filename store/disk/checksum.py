"""CRC32 of rows, and their comparison a block at a time.

CRC32 is linear over GF(2): the checksum of two joined pieces is that of the first, shifted by the
length of the second, xor that of the second (zlib's ``crc32_combine``). So what a whole block must
have follows from what its rows must have, and one pass of CRC32 over the block, which
leaves other threads the interpreter, takes the place of a call for each row. Any change of at most
32 neighbouring bits is seen with certainty, as with a checksum for each row.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

try:  # the same numbers some ten times faster, where it is installed
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

__all__ = ["agree", "block_crcs", "crc32", "row_crcs"]

POLYNOMIAL = 0xEDB88320  # of zlib, bits reversed
RADIX = 16  # pieces joined at a time
MOST = 1 << 13  # rows at a time: the tables' indices take some 600 bytes a row


def row_crcs(ids: np.ndarray, digests: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(b,) uint32: CRC32 of each row's id (UTF-8), content digest and vector bytes.

    ``ids`` (b,) fixed-length bytes, ``digests`` (b, 32) uint8, ``x`` (b, d) as stored.
    """
    width = x.shape[1] * x.dtype.itemsize
    raw = np.ascontiguousarray(x).reshape(-1).view(np.uint8).data
    heads = _heads(ids, digests).tolist()
    crcs = [crc32(raw[k * width : (k + 1) * width], head) for k, head in enumerate(heads)]
    return np.array(crcs, dtype="<u4")


def agree(ids: np.ndarray, digests: np.ndarray, x: np.ndarray, crcs: np.ndarray) -> bool:
    """Whether ``x`` (b, d), in one piece, is what the row checksums ``crcs`` (b,) were made of."""
    if not x.size:
        return bool(np.array_equal(row_crcs(ids, digests, x), crcs))
    wanted = block_crcs(ids, digests, crcs, x.shape[1] * x.dtype.itemsize, len(x))
    return crc32(x.reshape(-1).view(np.uint8).data) == wanted[0]


def block_crcs(
    ids: np.ndarray, digests: np.ndarray, crcs: np.ndarray, width: int, step: int
) -> list[int]:
    """CRC32 of each block of ``step`` vectors of ``width`` bytes (the last may be shorter), as the
    row checksums ``crcs`` (b,) have it."""
    vectors = crcs.astype(np.uint32) ^ _shift(_heads(ids, digests), width)
    whole = vectors[: len(vectors) // step * step].reshape(-1, step)
    some = max(1, MOST // step)
    parts = [_joined(whole[i : i + some], width) for i in range(0, len(whole), some)]
    if whole.size < len(vectors):
        parts.append(_joined(vectors[None, whole.size :], width))
    return [crc for part in parts for crc in part.tolist()]


def _heads(ids: np.ndarray, digests: np.ndarray) -> np.ndarray:
    """(b,) uint32: CRC32 of each row's id and content digest."""
    b, width = len(ids), ids.dtype.itemsize
    if b > MOST:
        parts = [slice(i, i + MOST) for i in range(0, b, MOST)]
        return np.concatenate([_heads(ids[part], digests[part]) for part in parts])
    raw = np.ascontiguousarray(ids).view(np.uint8).reshape(b, width)
    if not b or not raw[:, -1].all():  # shorter ids than others: row by row
        digest = np.ascontiguousarray(digests).tobytes()
        heads = [crc32(i + digest[32 * k : 32 * k + 32]) for k, i in enumerate(ids.tolist())]
        return np.array(heads, np.uint32)
    length = width + digests.shape[1]
    at = np.empty((length, b), np.intp)
    at[:width], at[width:] = raw.T, digests.T
    at += 256 * np.arange(length)[:, None]
    return np.bitwise_xor.reduce(_places(length).take(at), axis=0) ^ np.uint32(crc32(bytes(length)))


def _joined(crcs: np.ndarray, width: int) -> np.ndarray:
    """(m,) CRC32 of m joined rows of pieces of ``width`` bytes, from that of each piece (m, k)."""
    while crcs.shape[1] > 1:
        m, k = crcs.shape
        if spare := -k % RADIX:  # empty pieces before all others change nothing
            crcs = np.concatenate([np.zeros((m, spare), np.uint32), crcs], axis=1)
        octets = np.ascontiguousarray(crcs, "<u4").view(np.uint8).reshape(-1, 4 * RADIX)
        shifted = _ladder(width).take(octets + 256 * np.arange(4 * RADIX))
        crcs = np.bitwise_xor.reduce(shifted, axis=1).reshape(m, -1)
        width *= RADIX
    return crcs[:, 0]


def _shift(crcs: np.ndarray, length: int) -> np.ndarray:
    """What each CRC32 is after ``length`` more zero bytes, without zlib's inversions."""
    return _looked_up(_table(length), crcs)


def _looked_up(table: np.ndarray, crcs: np.ndarray) -> np.ndarray:
    return (
        table[0][crcs & 255]
        ^ table[1][(crcs >> 8) & 255]
        ^ table[2][(crcs >> 16) & 255]
        ^ table[3][crcs >> 24]
    )


@lru_cache(maxsize=256)
def _table(length: int) -> np.ndarray:
    """(4, 256) uint32: the shift by ``length`` bytes of each value of each byte of a CRC32."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    step = bits.copy()  # the images of the 32 bits after one zero byte
    for _ in range(8):
        halved = (step >> 1) ^ np.where(step & 1, np.uint32(POLYNOMIAL), np.uint32(0))
        step = halved.astype(np.uint32)
    made = bits
    while length:
        if length & 1:
            made = _apply(step, made)
        step = _apply(step, step)
        length >>= 1
    values = np.arange(256, dtype=np.uint32)
    return np.stack([_apply(made, values << np.uint32(8 * k)) for k in range(4)])


@lru_cache(maxsize=32)
def _ladder(width: int) -> np.ndarray:
    """(16, 4, 256) uint32: the table of a shift by 15, 14, ... 0 times ``width`` bytes."""
    values = np.arange(256, dtype=np.uint32)
    made = [np.stack([values << np.uint32(8 * k) for k in range(4)])]
    for _ in range(RADIX - 1):
        made.append(_looked_up(_table(width), made[-1]))
    return np.stack(made[::-1])


@lru_cache(maxsize=32)
def _places(length: int) -> np.ndarray:
    """(length, 256) uint32: what each byte value at each place of a text adds to its CRC32."""
    one = np.array([crc32(bytes([value])) for value in range(256)], np.uint32)
    one ^= one[0]
    out = np.empty((length, 256), np.uint32)
    out[-1:] = one
    for place in range(length - 2, -1, -1):
        out[place] = (out[place + 1] >> 8) ^ one[out[place + 1] & 255]
    return out


def _apply(images: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A linear map, given by the images (32,) of the bits, of each of ``values``."""
    out = np.zeros_like(values)
    for bit in range(32):
        out ^= np.where((values >> np.uint32(bit)) & 1, images[bit], np.uint32(0))
    return out
