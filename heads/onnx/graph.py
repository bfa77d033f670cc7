"""An ONNX graph under construction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from headstock.heads.kinds.components import OnComponents
from headstock.heads.solvers.scaling import FAR, Blocks, Standard, inverse
from headstock.store.errors import OptionError

__all__ = ["OPSET", "Graph", "require"]

OPSET = 18
ML_OPSET = 3
IR_VERSION = 8
"""The oldest file version that holds OPSET: runtimes since 2023 read it."""


def require() -> None:
    """Raises OptionError with the way to install onnx and onnxruntime when either is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise OptionError(
            "export-model", f"needs {error.name}", "pip install 'headstock[onnx]'"
        ) from error


class Graph:
    """Nodes and constants in the order they are made; ``g("Add", a, b)`` gives the sum's name.

    Values are float32 where headstock computes in float32 and float64 where it computes in
    float64, so that both round alike.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.bytes = 0
        self._count = 0

    def __call__(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        return self.several(op, *inputs, outputs=1, domain=domain, **attributes)[0]

    def several(
        self, op: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        """The names of a node's ``outputs`` values."""
        from onnx import helper

        names = [self.fresh(op) for _ in range(outputs)]
        node = helper.make_node(op, list(inputs), names, domain=domain or None, **attributes)
        self.nodes.append(node)
        return names

    def fresh(self, word: str) -> str:
        """A name that no feature set can have."""
        self._count += 1
        return f"/{word}/{self._count}"

    def constant(self, value: object, dtype: Any = None) -> str:
        """An array as an initialiser; text becomes strings."""
        from onnx import TensorProto, helper, numpy_helper

        array = np.asarray(value, dtype=dtype)
        name = self.fresh("constant")
        if array.dtype.kind in "OUS":
            words: Any = [str(v).encode("utf-8", "replace") for v in array.ravel()]
            tensor = helper.make_tensor(name, TensorProto.STRING, array.shape, words)
        else:
            tensor = numpy_helper.from_array(np.array(array, order="C"), name)
        self.bytes += array.nbytes
        self.constants.append(tensor)
        return name

    def cast(self, value: str, to: Any) -> str:
        from onnx import helper

        return self("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(to)))

    def total(self, value: str, axis: int, op: str = "ReduceSum") -> str:
        """The sum (or another reduction) along ``axis``, which stays with length 1."""
        return self(op, value, self.constant([axis], np.int64), keepdims=1)

    def scaled(self, x: str, scaler: Standard | Blocks) -> str:
        """float32 rows scaled as ``scaler`` does it: in float64, then rounded."""
        wide = self.cast(x, np.float64)
        centred = self("Sub", wide, self.constant(scaler.mean, np.float64))
        scaled = self("Mul", centred, self.constant(inverse(scaler.scale), np.float64))
        ends = (self.constant(end, np.float64) for end in (-FAR, FAR))
        return self.cast(self("Clip", scaled, *ends), np.float32)

    def seen(self, x: str, head: OnComponents) -> str:
        """(n, c) float32: the rows as the head sees them, components in place of wide sets."""
        if not any(head.components_):
            return x
        axis, start, parts = self.constant([1], np.int64), 0, []
        for found, width in zip(head.components_, head.widths_, strict=True):
            ends = self.constant([start], np.int64), self.constant([start + width], np.int64)
            part = self("Slice", x, *ends, axis)
            if found is not None:
                kind = found.axes.dtype.type
                wide, mean = self.cast(part, np.float64), self.constant(found.mean, np.float64)
                centred = self.cast(self("Sub", wide, mean), kind)
                part = self("MatMul", centred, self.constant(found.axes, kind))
                part = self.cast(part, np.float32)
            parts.append(part)
            start += width
        return self("Concat", *parts, axis=1)

    def shares(self, value: str) -> str:
        """(n, k) divided by each row's sum."""
        return self("Div", value, self.total(value, 1))

    def spread(self, proba: str, columns: Iterable[int], k: int) -> str:
        """(n, c) over all k classes; one that is not among ``columns`` has 0."""
        where = {int(c): at for at, c in enumerate(columns)}
        if list(where) == list(range(k)):
            return proba
        c = len(where)
        nothing = self("Mul", self.total(proba, 1), self.constant([[0.0]], np.float64))
        padded = self("Concat", proba, nothing, axis=1)
        order = [where.get(column, c) for column in range(k)]
        return self("Gather", padded, self.constant(order, np.int64), axis=1)

    def model(
        self, inputs: dict[str, int], outputs: dict[str, tuple[str, Any, list[Any]]], words: dict
    ) -> Any:
        """The finished model. inputs: {name: width} of float32 matrices; outputs: {name: (value,
        dtype, shape)}; words: metadata, text by key."""
        from onnx import TensorProto, helper

        made_in = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
            for name, width in inputs.items()
        ]
        made_out = []
        for name, (value, dtype, shape) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value], [name]))
            kind = TensorProto.STRING
            if dtype is not str:
                kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            made_out.append(helper.make_tensor_value_info(name, kind, shape))
        graph = helper.make_graph(self.nodes, "headstock", made_in, made_out, self.constants)
        model = helper.make_model(
            graph,
            ir_version=IR_VERSION,
            producer_name="headstock",
            opset_imports=[
                helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)
            ],
        )  # fmt: skip
        helper.set_model_props(model, words)
        return model
