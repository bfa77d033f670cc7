"""``verify`` in a process of its own: a hostile file may crash or fill a reader, not us."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from headstock.store import errors
from headstock.store.errors import HeadstockError, StoreDamaged
from headstock.store.verify import Verdict, verify

__all__ = ["verify_apart"]

COMMAND = ["-m", "headstock.store.apart"]
MEMORY = 16 << 30  # bytes of address space for the child


def verify_apart(path: str | os.PathLike[str], files: bool = False) -> Verdict:
    """``verify`` in a child process with a limit of memory.

    A child that dies is a finding, with exit code 4. Raises what ``verify`` raises.
    """
    told = subprocess.run(
        [sys.executable, *COMMAND, os.fspath(path), "files" if files else ""],
        capture_output=True, check=False, text=True,
    )  # fmt: skip
    try:
        body = json.loads(told.stdout)
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
    """What the child runs: one JSON object to standard output."""
    with suppress(ValueError, OSError):  # a lower limit may be in force
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        body = asdict(verify(sys.argv[1], bool(sys.argv[2])))
        body["path"] = str(body["path"])
    except HeadstockError as error:
        body = {"error": type(error).__name__, "args": error.args}
    print(json.dumps(body))


if __name__ == "__main__":
    main()
