"""Objects over a socket between processes: arrays go beside the pickle, straight into new memory.

``multiprocessing`` puts them into the pickle and copies that three times on its way in.
"""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Any

import numpy as np

__all__ = ["receive", "send"]


def send(to: socket.socket, value: Any) -> None:
    """Raises OSError when nobody listens any more."""
    beside: list[pickle.PickleBuffer] = []
    body = pickle.dumps(value, protocol=5, buffer_callback=beside.append)
    parts = [buffer.raw() for buffer in beside]
    sizes = [len(body), *(part.nbytes for part in parts)]
    to.sendall(struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes) + body)
    for part in parts:
        to.sendall(part)


def receive(of: socket.socket) -> Any:
    """What ``send`` sent. Raises EOFError or OSError when the other end closed, or died within."""
    (count,) = struct.unpack("<I", _read(of, 4))
    sizes = struct.unpack(f"<{count}Q", _read(of, 8 * count))
    body, *beside = (_read(of, size) for size in sizes)
    return pickle.loads(body, buffers=beside)  # noqa: S301  our own worker's words


def _read(of: socket.socket, size: int) -> memoryview:
    out = np.empty(size, dtype=np.uint8).data
    done = 0
    while done < size:
        got = of.recv_into(out[done:], size - done, socket.MSG_WAITALL)
        if not got:
            raise EOFError
        done += got
    return out
