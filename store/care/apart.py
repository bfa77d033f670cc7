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
from headstock.store.errors import HeadstockError, StoreDamaged
from headstock.store.progress import Report, unheard

__all__ = ["verify_apart"]

COMMAND = ["-m", "headstock.store.care.apart"]
BEAT = 0.2  # seconds between two reports
MEMORY = 16 << 30  # bytes of address space for the child


def verify_apart(
    path: str | os.PathLike[str], files: bool = False, progress: Report = unheard
) -> Verdict:
    """``verify`` in a child process with a limit of memory.

    A child that dies is a finding, with exit code 4. Raises what ``verify`` raises.
    """
    told = subprocess.Popen(
        [sys.executable, *COMMAND, os.fspath(path), "files" if files else ""],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    said = ""
    with told:
        for said in told.stdout or ():
            if said.startswith("["):
                with suppress(ValueError, TypeError):
                    progress(*json.loads(said))
    try:
        body = json.loads(said)
        if not isinstance(body, dict):
            raise ValueError(said)
    except ValueError:
        verdict = Verdict(Path(os.path.realpath(path)))
        how = f"exit code {told.returncode}"
        if told.returncode < 0:
            how = signal.Signals(-told.returncode).name
        verdict.found(
            StoreDamaged(verdict.path, f"the process that checked it died ({how})", "do not use it")
        )
        return verdict
    if "error" in body:
        raise getattr(errors, body["error"])(*body["args"])
    return Verdict(**{**body, "path": Path(body["path"])})


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
        body = asdict(verify(sys.argv[1], bool(sys.argv[2]), progress))
        body["path"] = str(body["path"])
    except HeadstockError as error:
        body = {"error": type(error).__name__, "args": error.args}
    print(json.dumps(body))


if __name__ == "__main__":
    main()
