"""What an answer was computed from, as text that differs when any of it does: arrays, the source of
this package, the reader's own heads, the libraries and the arithmetic of this machine."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["arithmetic", "array_digest", "code_of", "package_digest", "text_digest"]

READS = frozenset(
    "open exec eval compile __import__ import_module run_path run_module load loadtxt genfromtxt "
    "fromfile memmap read_csv read_text read_bytes environ getenv argv".split()
)
"""Names by which a head's file may take in what its own digest does not cover."""
SHOWING = frozenset({"onnx", "report", "run", "service"})
"""Rooms of this package that show or carry answers and make none."""
LIBRARIES = ("numpy", "scipy", "scikit-learn", "lightgbm", "xgboost", "torch", "numba")


def array_digest(array: np.ndarray) -> str:
    whole = np.ascontiguousarray(array)
    digest = hashlib.blake2b(f"{whole.dtype.str} {whole.shape}".encode() + b"\0", digest_size=32)
    digest.update(whole.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def text_digest(values: np.ndarray) -> str:
    text = json.dumps([str(v) for v in values])
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def package_digest() -> str:
    """sha256 of the source of every head, solver and fold: a changed line is another head."""
    digest, room = hashlib.sha256(), Path(__file__).parents[1]
    for path in _sources():
        digest.update(f"{path.relative_to(room).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _sources() -> list[Path]:
    """The files of this package that answers come from; not those that show them."""
    room = Path(__file__).parents[1]
    found = sorted(room.rglob("*.py"))
    return [path for path in found if path.relative_to(room).parts[0] not in SHOWING]


def arithmetic() -> list[Any]:
    """Versions of the libraries, and kernels and threads of the linear algebra."""
    import scipy.linalg  # noqa: F401  its library must be loaded to be counted

    from headstock.heads.threads import libraries, threads

    found: list[Any] = [sys.version_info[:3], threads(), os.environ.get("OMP_NUM_THREADS")]
    blas = [p for p in libraries().info() if p["user_api"] == "blas"]
    names = ("internal_api", "version", "architecture", "num_threads")
    return [*found, _versions(), sorted([p.get(name) for name in names] for p in blas)]


@cache
def _versions() -> list[list[str | None]]:
    from importlib.metadata import PackageNotFoundError, version

    found: list[list[str | None]] = []
    for name in LIBRARIES:
        try:
            found.append([name, version(name)])
        except PackageNotFoundError:
            found.append([name, None])
    return found


def code_of(function: str) -> str | None:
    """What code a head runs: its name in the table (the package's own source is counted apart), or
    the digest of the reader's file; None when that imports what has no version, or may read more
    than itself."""
    path, colon, attribute = function.rpartition(":")
    if not (colon and path.endswith(".py")):
        return function
    try:
        source = Path(path).read_bytes()
        tree = ast.parse(source)
    except (OSError, ValueError, SyntaxError):
        return None
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("" if node.level else (node.module or "").partition(".")[0])
            if READS & {alias.name for alias in node.names}:
                return None
        elif getattr(node, "id", getattr(node, "attr", "")) in READS:
            return None
    versions = []
    for name in sorted(names - {"headstock", *sys.stdlib_module_names}):
        found = _versions_of(name)
        if found is None:
            return None
        versions.append(found)
    return json.dumps([hashlib.sha256(source).hexdigest(), attribute, versions])


def _versions_of(module: str) -> list[str] | None:
    """The installed distributions that a module comes from; None when it comes from none, or from
    a folder that is installed as it stands and may change under one version."""
    from importlib.metadata import distribution, packages_distributions

    found = [distribution(name) for name in set(packages_distributions().get(module, ()))]
    if not found or any('"editable"' in (d.read_text("direct_url.json") or "") for d in found):
        return None
    return sorted(f"{d.metadata['Name']} {d.version}" for d in found)
