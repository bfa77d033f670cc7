"""A decode worker: a process that reads, hashes and decodes until its pipe closes.

It is a plain child process with a pipe and not a ``multiprocessing`` one, so a user's script needs
no ``if __name__ == "__main__"`` and is never imported twice. What a hostile file may do to it is
bounded by the kernel: address space, processor core dumps, and a clock that ends a decoder that
hangs.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import socket
import sys
from multiprocessing.connection import Connection

from headstock.extract.decode.reading import Task, peak_memory, perform
from headstock.extract.decode.wire import send

__all__ = ["main"]


def main(descriptor: int) -> None:
    """Serve the parent at the other end of the socket ``descriptor``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process even inside C code
    with Connection(descriptor) as pipe, socket.socket(fileno=os.dup(descriptor)) as out:
        try:
            reader, loader, seconds, memory = pickle.loads(pipe.recv_bytes())  # noqa: S301  ours
        except EOFError:
            return
        except Exception as error:  # noqa: BLE001  any loader, any failure: the parent says it
            pipe.send(f"{type(error).__name__}: {error}")
            return
        _bound(memory)
        _hush()
        pipe.send(None)
        while True:
            try:
                task = pipe.recv()
            except EOFError:  # the parent closed the pipe, or died
                return
            signal.setitimer(signal.ITIMER_REAL, seconds)
            done = perform(Task(*task), reader, loader)
            signal.setitimer(signal.ITIMER_REAL, 0)
            done.peak = peak_memory()
            try:
                send(out, done)
            except OSError:
                return


def _bound(memory: int) -> None:
    """Allow ``memory`` bytes of address space beyond what is mapped now, and no core files."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open("/proc/self/statm") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (mapped + memory, hard))
    except (OSError, ValueError):
        return  # not Linux: the clock and the decoders' own limits remain


def _hush() -> None:
    """C libraries write warnings about odd files straight to stderr, over the progress bar."""
    sys.stderr.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
