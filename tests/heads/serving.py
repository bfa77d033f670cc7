"""A service to test: a small fitted model, and an encoder that reads its rows out of the upload.

As a script (``serving.py MODEL [UPLOAD_SECONDS]``) it serves on a free port and prints the address.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Mapping

import numpy as np

from headstock.store.errors import ItemError

WIDTHS = {"image": 20, "audio": 6}


def vector_of(data: bytes, width: int) -> np.ndarray:
    """(1, width) float32 that only these bytes have."""
    seed = np.frombuffer(hashlib.sha256(data).digest()[:8], dtype=np.uint64)
    return np.random.default_rng(seed).standard_normal((1, width)).astype(np.float32)


def encode(files: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    """What the bytes ask for: ``slow 1.5`` seconds, ``fail CODE``, ``bug``; else their vector."""
    out = {}
    for name, data in files.items():
        word, _, rest = data[:40].decode("latin-1").partition(" ")
        if word == "slow":
            time.sleep(float(rest))
        if word == "fail":
            raise ItemError(name, "told to fail", code=rest)
        if word == "bug":
            raise ZeroDivisionError("a secret of the inside")
        out[name] = vector_of(data, WIDTHS[name])
    return out


if __name__ == "__main__":
    from headstock.heads import Bundle
    from headstock.heads.service import Limits, serve

    upload = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    limits = Limits(megabytes=1.0, upload=upload, seconds=5.0, at_once=1, waiting=2)
    serve(
        Bundle.load(sys.argv[1]),
        encode,
        port=0,
        limits=limits,
        title="<b>animals</b>",
        ready=lambda address: print(address, flush=True),
    )
