"""A bundle as an ONNX file: built, run beside the bundle on the same rows, and written only when
both give the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstock import __version__
from headstock.heads.bundle.bundle import Bundle
from headstock.heads.bundle.predictions import answered
from headstock.heads.files import write_bytes
from headstock.heads.onnx.graph import Graph, require
from headstock.heads.onnx.kinds import attribute, head_graph
from headstock.heads.onnx.probe import on_edge, random_rows
from headstock.heads.rows.labelled import parts_of
from headstock.heads.specs import NUMBER
from headstock.store.disk.outputs import refuse_other
from headstock.store.errors import BundleError, OptionError

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = ["FRONT_TOLERANCE", "TOLERANCE", "Exported", "Front", "export_model"]

TOLERANCE = 1e-4
"""The most by which a probability may differ: float32 products over thousands of columns, summed in
another order and sharpened by a calibration, differ by some 1e-6."""
FRONT_TOLERANCE = 1e-4
"""The most by which a backbone's vector may differ, as a share of its length."""
LARGEST = 1_900_000_000
"""Bytes of constants that fit in one ONNX file, whose format ends at 2 GB."""
MOST_ROWS = 2000

FUSIONS: Mapping[str, str] = {
    "mean": "fusions:mean",
    "weighted": "fusions:mean",
    "product": "fusions:mean",
    "stacked": "fusions:stacked",
    "gated": "fusions:gated",
}


@dataclass(frozen=True)
class Front:
    """What makes a set's vectors, to go before the heads: an ONNX model with one input and one
    output (m, d), ``inputs`` to try it on, and the ``vectors`` (m, d) that headstock itself makes
    of them."""

    model: Any
    inputs: np.ndarray
    vectors: np.ndarray


@dataclass(frozen=True)
class Exported:
    """The file, its bytes and inputs; rows compared, the largest difference of a probability among
    them, and how many were left out because they hang on rounding; for each front the largest
    difference of a vector as a share of its length."""

    path: Path
    bytes: int
    inputs: list[str]
    random: int
    real: int
    difference: float
    edge: int
    fronts: dict[str, float] = field(default_factory=dict)

    def text(self) -> str:
        """What was written and how it was checked."""
        real = f" and {self.real:,} real" if self.real else ""
        lines = [
            f"{self.path}: {self.bytes / 1e6:.1f} MB, inputs {', '.join(self.inputs)}",
            f"checked on {self.random:,} random{real} rows: probabilities differ by "
            f"{self.difference:.1g} at most (allowed: {TOLERANCE:g})",
        ]
        if self.edge:
            lines.append(f"{self.edge:,} rows left out: their answer hangs on rounding")
        lines += [
            f"{name}: the backbone's vectors differ by {gap:.1g} of their length at most "
            f"(allowed: {FRONT_TOLERANCE:g})"
            for name, gap in self.fronts.items()
        ]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "path": str(self.path), "tolerance": TOLERANCE}


def export_model(
    bundle: Bundle,
    path: str | Path,
    *,
    on: str | None = None,
    store: StoreReader | None = None,
    fronts: Mapping[str, Front] | None = None,
    rows: int = 256,
    seed: int = 0,
) -> Exported:
    """Write ``bundle`` as an ONNX file at ``path``.

    Inputs: a float32 matrix (n, d) for each feature set, by its name, or for a set in ``fronts``
    that front's own input as ``<set>_<input>``. Outputs: ``probabilities`` (n, k) float32 and
    ``labels`` (n,) text. Metadata ``headstock``: class names, recipes and widths as JSON.

    ``on``: of a model for rows that may lack a set, the sets that the graph's rows have; by default
    all. The graph is run beside the bundle on ``rows`` random rows and, with an open ``store``, on
    up to 2,000 of its complete rows. Raises BundleError that names a head or fusion which ONNX
    cannot express, and when any probability differs by more than TOLERANCE; OptionError when onnx
    or onnxruntime is missing; StorageError.
    """
    if bundle.target == NUMBER:
        what = "it learns numbers, and graphs are drawn of models for classes"
        raise BundleError("model", what, "predict or serve it as it is")
    require()
    bundle = _answering(bundle, on)
    fronts = {name: front for name, front in (fronts or {}).items() if name in bundle.widths}
    model = _graph(bundle)
    plain = _session(model)
    drawn, real = random_rows(bundle, rows, seed), 0
    widest, edges = 0.0, 0
    for X in [drawn, *([_real_rows(bundle, store)] if store is not None else [])]:
        edge = on_edge(bundle, X)
        widest = max(widest, _compare(bundle, plain, X, X, ~edge))
        edges += int(edge.sum())
        real = 0 if X is drawn else len(edge)
    gaps: dict[str, float] = {}
    if fronts:
        model, gaps = _with_fronts(bundle, model, fronts)
        widest = max(widest, _compare_fronts(bundle, model, fronts, drawn))
    data = model.SerializeToString()
    refuse_other(path, "graph")
    write_bytes(path, data)
    inputs = [i.name for i in model.graph.input]
    return Exported(Path(path), len(data), inputs, rows, real, widest, edges, gaps)


def _answering(bundle: Bundle, on: str | None) -> Bundle:
    """What of ``bundle`` answers rows with the sets ``on``, as a bundle of its own."""
    sets = list(bundle.widths) if on is None else list(parts_of(on))
    name = bundle.pattern(sets)
    if name is None or set(parts_of(name)) != set(sets):
        known = ", ".join(bundle.patterns or ["+".join(bundle.widths)])
        raise OptionError(
            "--on", f"the model has no answer for {'+'.join(sets)}", f"one of {known}"
        )
    if not bundle.patterns:
        return bundle
    how, parts = bundle.patterns[name], parts_of(name)
    return Bundle(
        [bundle.members[number] for number in how.members],
        how.fusion,
        bundle.classes,
        {part: bundle.recipes[part] for part in parts},
        {part: bundle.widths[part] for part in parts},
    )


def _graph(bundle: Bundle) -> Any:
    g, k, said = Graph(), len(bundle.classes), []

    def beside(parts: Sequence[str]) -> str:
        return parts[0] if len(parts) == 1 else g("Concat", *parts, axis=1)

    for member in bundle.members:
        proba = head_graph(g, beside(parts_of(member.on)), member.fitted, f"head {member.head}")
        said.append(g.spread(proba, np.asarray(member.fitted.classes_), k))
        if g.bytes > LARGEST:
            what = f"holds {g.bytes / 1e9:.1f} GB, and an ONNX file ends at 2 GB"
            raise BundleError(f"head {member.head}", what, "fit on fewer rows or columns")
    answer = said[0]
    if bundle.fusion is not None:
        make = attribute(FUSIONS, bundle.fusion.kind, f"fusion {bundle.fusion.kind}")
        answer = make(g, said, bundle.fusion, k, beside)
    if bundle.costs is None:
        best = g("ArgMax", answer, axis=1, keepdims=0)
    else:
        expected = g("MatMul", g.cast(answer, np.float64), g.constant(bundle.costs))
        best = g("ArgMin", expected, axis=1, keepdims=0)
    labels = g("Gather", g.constant(bundle.classes), best, axis=0)
    outputs: dict[str, tuple[str, Any, list[Any]]] = {
        "probabilities": (g.cast(answer, np.float32), np.float32, ["n", k]),
        "labels": (labels, str, ["n"]),
    }
    told = {
        "classes": [str(c) for c in bundle.classes],
        "widths": bundle.widths,
        "recipes": {name: json.loads(r.to_json()) for name, r in bundle.recipes.items()},
        "members": [{"head": m.head, "on": m.on} for m in bundle.members],
        "fusion": None if bundle.fusion is None else bundle.fusion.kind,
        "version": __version__,
    }
    return g.model(bundle.widths, outputs, {"headstock": json.dumps(told)})


def _session(model: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise BundleError("ONNX", f"the runtime refuses the graph: {error}") from error


def _real_rows(bundle: Bundle, store: StoreReader) -> dict[str, np.ndarray]:
    """Up to MOST_ROWS complete rows of ``store``, evenly taken, its recipes held to the model's."""
    complete = np.flatnonzero(np.asarray(store.complete(list(bundle.recipes)), dtype=bool))
    if not len(complete):
        raise OptionError(store.path, "has no row with every vector that the model reads")
    at = np.linspace(0, len(complete) - 1, min(MOST_ROWS, len(complete))).astype(int)
    rows = complete[np.unique(at)]
    bundle.predict(store, rows[:1])  # recipes held to the model's
    return {name: store.feature_set(name).x(rows) for name in bundle.widths}


def _compare(
    bundle: Bundle, session: Any, X: Mapping[str, np.ndarray], feed: Mapping, sure: np.ndarray
) -> float:
    """The largest difference between ``session`` on ``feed`` and the bundle on X, over the rows
    ``sure``. Raises BundleError above TOLERANCE."""
    mine = bundle.predict_arrays(X)
    theirs, labels = session.run(["probabilities", "labels"], dict(feed))
    gap = np.abs(mine - theirs).max(axis=1)
    gap = np.where(np.isfinite(gap), gap, np.inf)
    order = np.sort(mine if bundle.costs is None else -(mine @ bundle.costs), axis=1)
    most = 1.0 if bundle.costs is None else float(bundle.costs.sum(axis=0).max())
    clear = sure & (order[:, -1] - order[:, -2] > 2 * TOLERANCE * most)
    said = bundle.classes[answered(mine, bundle.costs)].astype(str)
    other = (said != labels.astype(str)) & clear
    if other.any() or (gap[sure] > TOLERANCE).any():
        names = ", ".join(dict.fromkeys(m.head for m in bundle.members))
        raise BundleError(
            f"head {names}",
            f"ONNX gives other probabilities than headstock, by {gap[sure].max():.2g} where "
            f"{TOLERANCE:g} is allowed; nothing was written",
            "predict with headstock",
        )
    return float(gap[sure].max(initial=0.0))


def _with_fronts(
    bundle: Bundle, model: Any, fronts: Mapping[str, Front]
) -> tuple[Any, dict[str, float]]:
    """``model`` with each front before its set's input, and how far each front's vectors are off.
    Raises BundleError when one is off by more than FRONT_TOLERANCE."""
    from onnx import compose, helper

    gaps = {}
    words = {p.key: p.value for p in model.metadata_props}
    for name, front in fronts.items():
        theirs = _front_vectors(front)
        gap = np.linalg.norm(theirs - front.vectors, axis=1) / np.maximum(
            np.linalg.norm(front.vectors, axis=1), 1e-12
        )
        gaps[name] = float(gap.max())
        if not gaps[name] <= FRONT_TOLERANCE:
            raise BundleError(
                f"backbone of {name}",
                f"ONNX gives other vectors than headstock, by {gaps[name]:.2g} of their length "
                f"where {FRONT_TOLERANCE:g} is allowed; nothing was written",
                "export without the backbone",
            )
        prefixed = compose.add_prefix(front.model, f"{name}_")
        prefixed.ir_version = model.ir_version
        known = {o.domain for o in prefixed.opset_import}
        prefixed.opset_import.extend(o for o in model.opset_import if o.domain not in known)
        output = prefixed.graph.output[0].name
        model = compose.merge_models(
            prefixed, model, io_map=[(output, name)], outputs=["probabilities", "labels"]
        )
    helper.set_model_props(model, words)
    return model, gaps


def _front_vectors(front: Front) -> np.ndarray:
    session = _session(front.model)
    return session.run(None, {session.get_inputs()[0].name: front.inputs})[0]


def _compare_fronts(
    bundle: Bundle, model: Any, fronts: Mapping[str, Front], drawn: Mapping[str, np.ndarray]
) -> float:
    """As ``_compare``, for the joined graph: the bundle reads the vectors that the fronts make in
    ONNX, so that only the joining is judged here."""
    m = min(len(front.inputs) for front in fronts.values())
    X = {name: drawn[name][:m] for name in bundle.widths}
    feed: dict[str, np.ndarray] = {name: x for name, x in X.items() if name not in fronts}
    for name, front in fronts.items():
        X[name] = _front_vectors(front)[:m].astype(np.float32)
        feed[_front_input(name, front)] = front.inputs[:m]
    return _compare(bundle, _session(model), X, feed, ~on_edge(bundle, X))


def _front_input(name: str, front: Front) -> str:
    return f"{name}_{front.model.graph.input[0].name}"
