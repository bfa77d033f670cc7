"""A small prediction service: one picture and one sound in, class probabilities out.

``limits`` says what a request may cost, ``upload`` reads one under them, ``app`` is the ASGI
application, ``page`` the page to try it with, and ``run`` serves it. Vectors come from an
``encode`` that the caller hands over: this package never imports extraction.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {"Limits": "limits", "make_app": "app", "serve": "run"}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
