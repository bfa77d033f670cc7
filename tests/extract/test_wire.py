"""Objects over a socket: what arrives is what was sent, and a sender that dies is noticed."""

import os
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from headstock.extract.decode.reading import Done
from headstock.extract.decode.wire import receive, send

FROZEN = np.arange(12, dtype=np.uint8)
FROZEN.setflags(write=False)
VALUES = [
    None,
    {"a": [1, "zwei", b"three"]},
    np.zeros((224, 224, 3), np.uint8) + 7,
    np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.empty((0, 5), np.float32),
    np.arange(10)[::3],
    FROZEN,
    np.float32(3.5),
]


@pytest.fixture
def pair():
    a, b = socket.socketpair()
    with a, b:
        yield a, b


def across(pair, value):
    """Sent in a thread: a large array is more than a socket holds."""
    thread = threading.Thread(target=send, args=(pair[0], value))
    thread.start()
    out = receive(pair[1])
    thread.join()
    return out


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_it_arrives_as_it_was(pair, value):
    got = across(pair, value)
    if isinstance(value, np.ndarray):
        assert (got.dtype, got.shape) == (value.dtype, value.shape)
        assert np.array_equal(got, value)
    else:
        assert got == value


def test_messages_follow_each_other(pair):
    many = [Done(i, item=np.full((50, 50), i), items=(np.ones(i), None)) for i in range(5)]
    for sent in many:
        got = across(pair, sent)
        assert got.number == sent.number
        assert np.array_equal(got.item, sent.item)
        assert np.array_equal(got.items[0], sent.items[0])


@pytest.mark.parametrize("keep", [0, 3, 10, 40, 5000])
def test_a_sender_that_dies_within_is_an_end(pair, keep):
    whole, other = socket.socketpair()
    with whole, other:
        send(whole, np.zeros(10_000, np.uint8))
        data = other.recv(1 << 20)
    pair[0].sendall(data[:keep])
    pair[0].close()
    with pytest.raises(EOFError):
        receive(pair[1])


def test_nobody_listens(pair):
    pair[1].close()
    with pytest.raises(OSError, match="pipe"):
        send(pair[0], np.zeros(1 << 20))


def test_it_needs_little_to_import():
    """Workers start with it."""
    program = "import sys, headstock.extract.decode.wire; print('torch' in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ
    )
    assert told.stdout == "False\n"
