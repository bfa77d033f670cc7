"""Heads and metrics from a file of the user's own: found, run, and named by what the file was.

Naming ``./mine.py:knn`` runs ``mine.py``. A name that was read from a run's folder may be a
stranger's, and runs nothing that its reader has not named (``only_files``). A saved model with such
a head holds its numbers, and the file's name and digest, never its code: whoever loads it names the
file again, and it must be the same one.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from headstock.store.errors import BundleError, HeadError, OptionError, UnsafeInput

__all__ = [
    "OWN",
    "described",
    "function_of",
    "is_own",
    "kind_of",
    "only_files",
    "unrun",
    "with_state",
]

OWN = "own file"
"""What a model file calls a head whose class is in a file of the user's own."""

_loaded: dict[tuple[str, str], ModuleType] = {}
_allowed: list[frozenset[str]] = []


def is_own(name: str) -> bool:
    """Whether ``name`` is of the form ``./file.py:function``."""
    path, colon, attribute = name.rpartition(":")
    return bool(colon and attribute and path.endswith(".py"))


@contextmanager
def only_files(files: Iterable[str | Path] = ()) -> Iterator[None]:
    """While it lasts no file of the user's is run, in any thread, but these and those that a
    ``only_files`` around it allows: names then come from a file that may be a stranger's."""
    around = _allowed[-1] if _allowed else frozenset()
    _allowed.append(around | {os.path.realpath(file) for file in files})
    try:
        yield
    finally:
        _allowed.pop()


def unrun(name: str) -> list[str]:
    """A line about the metric ``name`` of a run, where ``only_files`` keeps its file from running:
    the page then compares by the accuracy."""
    file, _, _ = name.rpartition(":")
    if not is_own(name) or not _kept_from(Path(file)):
        return []
    what = f"metric {name}: its code was not run, and systems are compared by the accuracy"
    return [f"{what}; if you know the file: --head-file {file}"]


def _kept_from(file: Path) -> bool:
    return bool(_allowed) and os.path.realpath(file) not in _allowed[-1]


def function_of(name: str, what: str = "head") -> Any:
    """The function of ``./file.py:function``, a ``what``. Runs the file once for each content it
    has.

    Raises OptionError when there is no such file or function, UnsafeInput inside ``only_files`` for
    another file, HeadError when running it fails.
    """
    path, _, attribute = name.rpartition(":")
    module = _module(Path(path), f"{what} {name}")
    function = getattr(module, attribute, None)
    if not callable(function):
        has = [
            k
            for k, v in vars(module).items()
            if inspect.isfunction(v) and v.__module__ == module.__name__
        ]
        raise OptionError(
            f"{what} {name}", f"no function {attribute} there", f"it has {', '.join(has) or 'none'}"
        )
    return function


def _module(file: Path, where: str) -> ModuleType:
    if not file.is_file():
        raise OptionError(where, f"there is no file {file}", "give a path from here")
    if _kept_from(file):
        fix = f"if you know the file: --head-file {file}"
        raise UnsafeInput(where, f"the code of {file} would be run", fix)
    digest = _digest(file)
    key = str(file.resolve()), digest
    if key in _loaded:
        return _loaded[key]
    called = f"headstock_user_{file.stem}_{digest[:12]}"
    spec = importlib.util.spec_from_file_location(called, file)
    if spec is None or spec.loader is None:
        raise HeadError(where, "this file cannot be imported", "give a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[called] = module  # dataclasses and others look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[called]
        raise HeadError(
            where, f"importing it raised {type(error).__name__}: {error}", "mend the file"
        ) from error
    module.__headstock_digest__ = digest  # type: ignore[attr-defined]
    _loaded[key] = module
    return module


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def described(fitted: Any, head: str) -> dict[str, Any]:
    """What a model file says of a head whose class is the user's: file, digest, class.

    Raises BundleError when its class is not in the file, or cannot say its state.
    """
    kind = type(fitted)
    module = sys.modules.get(kind.__module__)
    digest = getattr(module, "__headstock_digest__", None)
    saves = callable(getattr(fitted, "state", None)) and callable(getattr(kind, "from_state", None))
    if not is_own(head) or digest is None or "." in kind.__qualname__ or not saves:
        raise BundleError(
            f"head {head}",
            f"a {kind.__name__} cannot be saved without pickle",
            "return one of headstock's own heads, or a class of the file with state() and "
            "from_state(meta, arrays, k); or keep the bundle in memory",
        )
    name = Path(head.rpartition(":")[0]).name
    return {"file": name, "sha256": digest, "class": kind.__name__}


def kind_of(entry: Any, head: str, files: Sequence[str | Path]) -> Any:
    """The class that ``described`` names, from the one of ``files`` with its digest, which is run.

    Raises BundleError when none of them is that file.
    """
    name, digest, attribute = str(entry["file"]), str(entry["sha256"]), str(entry["class"])
    for file in map(Path, files):
        if file.is_file() and _digest(file) == digest:
            return getattr(_module(file, f"head {file}:{attribute}"), attribute)
    alike = [str(f) for f in files if Path(f).name == name]
    what = f"its head comes from {name} (sha256 {digest[:12]}…)"
    if alike:
        what += f", and {alike[0]} is another version of it"
    raise BundleError(f"head {head}", what, f"give that file as head file ({name}); it will be run")


def with_state(kind: Any, meta: Any, arrays: Any, k: int, head: str) -> Any:
    """A head built by a class of the user's. Raises HeadError for whatever it raises."""
    try:
        return kind.from_state(meta, arrays, k)
    except Exception as error:
        raise HeadError(
            f"head {head}", f"from_state raised {type(error).__name__}: {error}", "mend the file"
        ) from error
