"""``verify`` in a process of its own: a hostile file may crash or fill a reader, not us."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from headstock.store import errors
from headstock.store.care.verify import Verdict, verify
from headstock.store.disk.hdf5 import CANNOT
from headstock.store.errors import HeadstockError, StorageError, StoreDamaged
from headstock.store.progress import Report, unheard

__all__ = ["verify_apart"]

COMMAND = ["-m", "headstock.store.care.apart"]
BEAT = 0.2  # seconds between two reports
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)
MEMORY = 16 << 30  # bytes of address space for the child


def verify_apart(
    path: str | os.PathLike[str],
    files: bool = False,
    progress: Report = unheard,
    data: str | os.PathLike[str] | None = None,
) -> Verdict:
    """``verify`` in a child process with a limit of memory.

    A child that crashes over a file is a finding, with exit code 4. Raises what ``verify`` raises,
    and StorageError when the system ended the child or gave it no memory.
    """
    child = subprocess.Popen(
        [
            sys.executable, *COMMAND, os.fspath(path), "files" if files else "",
            *([] if data is None else [os.fspath(data)]),
        ],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    said = ""
    with child:
        for said in child.stdout or ():
            if said.startswith("["):
                with suppress(ValueError, TypeError):
                    progress(*json.loads(said))
    try:
        body = json.loads(said)
        if not isinstance(body, dict):
            raise ValueError(said)
    except ValueError:
        return _died(Path(os.path.realpath(path)), child.returncode)
    if "error" in body:
        raise getattr(errors, body["error"])(*body["args"])
    return Verdict(**{**body, "path": Path(body["path"])})


def _died(path: Path, status: int) -> Verdict:
    """A crash is a finding; that somebody ended the child, or that it could not even start for
    lack of memory, is none. Raises StorageError."""
    how = signal.Signals(-status).name if status < 0 else f"exit code {status}"
    if -status not in CRASHES:
        raise StorageError(path, f"the process that checked it was ended ({how})", CANNOT)
    verdict = Verdict(path)
    verdict.found(StoreDamaged(path, f"the process that checked it died ({how})", "do not use it"))
    return verdict


def main() -> None:
    """What the child runs: JSON lists of how far it is, then one object, to standard output."""
    last = time.monotonic()

    def progress(done: int, total: int, what: str) -> None:
        nonlocal last
        if time.monotonic() - last > BEAT:
            last = time.monotonic()
            print(json.dumps([done, total, what]), flush=True)

    with suppress(ValueError, OSError):  # a lower limit may be in force
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        body = asdict(verify(sys.argv[1], bool(sys.argv[2]), progress, *sys.argv[3:4]))
        body["path"] = str(body["path"])
    except HeadstockError as error:
        body = {"error": type(error).__name__, "args": error.args}
    except (MemoryError, OSError) as error:
        what = f"could not be checked ({getattr(error, 'strerror', None) or 'not enough memory'})"
        body = {"error": "StorageError", "args": [sys.argv[1], what, CANNOT]}
    except Exception as error:  # noqa: BLE001  a file that meets a fault of ours is not to be used either
        verdict = Verdict(Path(os.path.realpath(sys.argv[1])))
        what = f"the check of it failed ({type(error).__name__}: {error})"
        verdict.found(StoreDamaged(verdict.path, what, "do not use it"))
        body = {**asdict(verdict), "path": str(verdict.path)}
    print(json.dumps(body))


if __name__ == "__main__":
    main()
