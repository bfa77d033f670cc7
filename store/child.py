"""A call in a process of its own: a hostile file may crash or fill that one, not ours."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from typing import Any

from headstock.store import errors
from headstock.store.errors import HeadstockError, StorageError
from headstock.store.progress import Report

__all__ = ["Died", "call_in_child"]

COMMAND = ["-m", "headstock.store.child"]
BEAT = 0.2  # seconds between two reports
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)
MEMORY = 16 << 30  # bytes of address space for the child
FIX = "check the disk, permissions and limits; nothing committed is lost"


class Died(Exception):
    """The child crashed over what it read, or met a fault of ours: how, in words."""


def call_in_child(
    call: str, path: str | os.PathLike[str], options: Mapping[str, Any], progress: Report
) -> dict[str, Any]:
    """The fields of what ``call`` (``module:function``, which gives a dataclass) makes of ``path``,
    JSON ``options`` and a report of progress.

    Raises what it raises, Died, and StorageError when the system ended the child or gave it no
    memory.
    """
    child = subprocess.Popen(
        [sys.executable, *COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    line = ""
    with child:
        try:
            with suppress(BrokenPipeError), child.stdin:  # type: ignore[union-attr]
                json.dump([call, os.fspath(path), options], child.stdin)  # type: ignore[arg-type]
            for line in child.stdout or ():
                if line.startswith("["):
                    with suppress(ValueError, TypeError):
                        progress(*json.loads(line))
        except BaseException:  # who asked is told to end: so is the child
            child.terminate()
            raise
    try:
        body = json.loads(line)
        if not isinstance(body, dict):
            raise ValueError(line)
    except ValueError:
        code = child.returncode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if -code in CRASHES:
            raise Died(f"died ({how})") from None
        raise StorageError(path, f"the process that read it was ended ({how})", FIX) from None
    if "error" in body:
        raise getattr(errors, body["error"])(*body["args"])
    if "fault" in body:
        raise Died(f"failed ({body['fault']})")
    return body


def main() -> None:
    """What the child runs: JSON lists of how far it is, then one object, to standard output."""
    call, path, options = json.load(sys.stdin)
    last = time.monotonic()

    def progress(done: int, total: int, what: str) -> None:
        nonlocal last
        if time.monotonic() - last > BEAT:
            last = time.monotonic()
            print(json.dumps([done, total, what]), flush=True)

    with suppress(ValueError, OSError):  # a lower limit may be in force
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    module, _, function = call.partition(":")
    try:
        body = asdict(getattr(import_module(module), function)(path, progress=progress, **options))
    except HeadstockError as error:
        body = {"error": type(error).__name__, "args": error.args}
    except (MemoryError, OSError) as error:
        what = f"could not be read ({getattr(error, 'strerror', None) or 'not enough memory'})"
        body = {"error": "StorageError", "args": [path, what, FIX]}
    except Exception as error:  # noqa: BLE001  a file that meets a fault of ours is not to be used either
        body = {"fault": f"{type(error).__name__}: {error}"}
    print(json.dumps(body, default=str))


if __name__ == "__main__":
    main()
