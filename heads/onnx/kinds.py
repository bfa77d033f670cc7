"""Which graph belongs to which kind of head."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from headstock.heads.onnx.graph import Graph
from headstock.heads.specs import KINDS
from headstock.store.errors import BundleError

__all__ = ["attribute", "head_graph", "own_head"]


def own_head(head: Any) -> Any:
    """``head``, or of one whose options were chosen inside the folds, the head chosen."""
    return head.head_ if hasattr(head, "points") else head


def head_graph(g: Graph, x: str, head: Any, where: str) -> str:
    """(n, c) float64 probabilities of a fitted ``head`` on x (n, d) float32. Raises BundleError
    that names ``where`` when there is no graph for its kind."""
    head = own_head(head)
    kind = getattr(head, "kind", type(head).__name__)
    graphs = {name: one.graph for name, one in KINDS.items() if one.graph}
    return attribute(graphs, kind, where)(g, x, head)


def attribute(table: Mapping[str, str], kind: object, where: str) -> Any:
    """The function behind ``kind``. Raises BundleError that names ``where``."""
    if kind not in table:
        raise BundleError(where, "cannot be expressed in ONNX", f"one of {', '.join(table)} can")
    module, _, name = table[str(kind)].partition(":")
    return getattr(import_module(f"headstock.heads.onnx.{module}"), name)
