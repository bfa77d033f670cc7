"""``verify`` in a process of its own."""

from __future__ import annotations

import os
from pathlib import Path

from headstock.store.care.verify import Verdict
from headstock.store.child import Died, call_in_child
from headstock.store.errors import StoreDamaged
from headstock.store.progress import Report, unheard

__all__ = ["verify_in_child"]


def verify_in_child(
    path: str | os.PathLike[str],
    files: bool = False,
    progress: Report = unheard,
    data: str | os.PathLike[str] | None = None,
) -> Verdict:
    """``verify`` in a child process with a limit of memory.

    A child that crashes over a file is a finding, with exit code 4. Raises what ``verify`` raises,
    and StorageError when the system ended the child or gave it no memory.
    """
    options = {"files": files, "data": None if data is None else os.fspath(data)}
    try:
        body = call_in_child("headstock.store.care.verify:verify", path, options, progress)
    except Died as how:
        verdict = Verdict(Path(os.path.realpath(path)))
        what = f"the process that checked it {how}"
        verdict.found(StoreDamaged(verdict.path, what, "do not use it"))
        return verdict
    return Verdict(**{**body, "path": Path(body["path"])})
