"""Fitted models as ONNX graphs, for places where no Python runs.

``graph`` puts nodes together, ``smooth``, ``kernel`` and ``trees`` hold a graph for each kind of
head, ``fusions`` for each late fusion, ``probe`` makes the rows on which a graph is checked, and
``export`` joins, checks and writes.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Exported", "Front", "export_model"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from headstock.heads.onnx import export

    return getattr(export, name)
