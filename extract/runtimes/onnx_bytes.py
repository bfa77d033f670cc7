"""What an ONNX file refers to outside itself, found without the library that would follow it.

A tensor of ONNX may lie in another file, named by a path that readers open. The messages that can
hold tensors are walked here by their field numbers (onnx.proto3 of ONNX 1.20), the rest is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["has_outside_data"]

INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
OUTSIDE = {13, 14}  # of a tensor: external_data, data_location (0 says: in this file)
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def has_outside_data(model: bytes) -> bool:
    """Whether a tensor of ``model`` lies elsewhere. Raises ValueError for what is no ONNX."""
    waiting = [("model", memoryview(model))]
    while waiting:
        kind, message = waiting.pop()
        for field, value in _fields(message):
            if kind == "tensor" and field in OUTSIDE and value != 0:
                return True
            if (inner := INSIDE[kind].get(field)) is not None:
                if isinstance(value, int):
                    raise ValueError(f"field {field} of a {kind} is a number")
                waiting.append((inner, value))
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        value: int | memoryview
        if kind == VARINT:
            value, at = _varint(message, at)
        else:
            if kind == BYTES:
                size, at = _varint(message, at)
            elif kind in (FIXED64, FIXED32):
                size = 8 if kind == FIXED64 else 4
            else:
                raise ValueError(f"a field of the unknown kind {kind}")
            if at + size > len(message):
                raise ValueError("it ends early")
            value, at = message[at : at + size], at + size
        yield key >> 3, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("it ends early")
        byte, at = message[at], at + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number of more than ten bytes")
