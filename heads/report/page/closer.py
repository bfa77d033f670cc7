"""One system looked at closely: confusion, classes, calibration, and the run's curves."""

from __future__ import annotations

from typing import Any

import numpy as np

from headstock.heads.metrics.labels import confusion
from headstock.heads.report.page import chart
from headstock.heads.report.page.board import number, percent
from headstock.heads.report.page.figures import coverage, reliability, thinned
from headstock.heads.report.page.markup import Safe, h, joined, table
from headstock.heads.report.saved import System
from headstock.heads.run.run import Run
from headstock.heads.run.scores import Gate, Point

__all__ = ["classes_table", "confusion_table", "coverage_chart", "gate_chart", "learning_chart",
           "reliability_chart"]  # fmt: skip

WIDEST = 24
LONGEST = 100
SHARES = (1.0, 0.95, 0.9, 0.8, 0.5)
NOISE = 0.05  # the accuracy of fewer rows than this share jumps about and says nothing


def confusion_table(system: System) -> Safe:
    """Counts by true and predicted class; beyond 24 classes those with the most errors."""
    run = system.saved
    counts = confusion(system.predicted, run.codes, len(run.classes))
    wrong = counts.sum(axis=1) + counts.sum(axis=0) - 2 * np.diag(counts)
    shown = np.sort(np.argsort(-wrong, kind="stable")[:WIDEST])
    rows = []
    for true in shown:
        total = max(int(counts[true].sum()), 1)
        cells: list[Any] = [h("th", run.classes[true], scope="row")]
        for said in shown:
            n = int(counts[true, said])
            kind = "right" if true == said else "wrong"
            cells.append(h("td", n or "·", style=f"--v:{n / total:.3f}", class_=kind))
        rows.append(cells)
    header = [
        h("th", "true \\ predicted", scope="col"),
        *(h("th", h("span", run.classes[c]), scope="col") for c in shown),
    ]
    note = None
    if len(run.classes) > len(shown):
        note = h(
            "p", f"The {len(shown)} of {len(run.classes)} classes with the most errors; the whole "
            "matrix lies in the run folder under confusion.", class_="says",
        )  # fmt: skip
    name = f"Confusion matrix of {system.name}: rows are true classes, columns predicted ones"
    return joined(table(name, header, rows, class_="matrix heat confusion"), note)


def classes_table(system: System) -> Safe:
    """Each class: rows, errors, recall with interval, precision, and what it is taken for; beyond
    100 classes those with the most errors."""
    run = system.saved
    counts = confusion(system.predicted, run.codes, len(run.classes))
    np.fill_diagonal(counts, 0)
    rows: list[list[Any]] = []
    of_class = list(zip(run.classes, system.line.per_class, counts))
    for c in sorted(sorted(range(len(of_class)), key=lambda c: -of_class[c][1].errors)[:LONGEST]):
        name, one, taken = of_class[c]
        most = int(taken.argmax())
        ends = one.interval
        rows.append([
            name, _value(one.n, one.n), _value(one.errors, one.errors),
            _value(number(one.recall), one.recall),
            h("td", f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "–", class_="number"),
            _value(number(one.precision), one.precision),
            f"{run.classes[most]} ({taken[most]})" if taken[most] else "–",
        ])  # fmt: skip
    kinds = ("text", "number", "number", "number", None, "number", None)
    names = ("Class", "Rows", "Errors", "Recall", "95 % interval", "Precision", "Most taken for")
    header = [
        h("th", h("button", n, type="button") if kind else n, scope="col", data_sort=kind)
        for n, kind in zip(names, kinds)
    ]
    left = len(run.classes) - len(rows)
    more = f", without the {left} that have the fewest errors" if left else ""
    return table(f"Classes of {system.name}{more}", header, rows, class_="sortable")


def _value(shown: object, value: float | None) -> Safe:
    return h("td", shown, data_value="" if value is None else value, class_="number")


def reliability_chart(system: System, name: str) -> Safe:
    """Accuracy against confidence, in ten parts of equal count."""
    assert system.proba is not None
    bins = reliability(system.proba, system.saved.codes)
    low = min(min(b.confidence, b.accuracy) for b in bins)

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=chart.FAINT, linewidth=1)
        x, y = [b.confidence for b in bins], [b.accuracy for b in bins]
        axes.plot(x, y, color=chart.colour(0), marker="o", markersize=4, linewidth=1.2)
        axes.set_xlim(max(low - 0.05, 0), 1.01)
        axes.set_ylim(max(low - 0.05, 0), 1.03)
        chart.axes_percent(axes, "confidence", "accuracy")

    gap = float(np.average([b.confidence - b.accuracy for b in bins], weights=[b.n for b in bins]))
    lean = "surer than it is right" if gap > 0 else "less sure than it is right"
    error = number(system.line.calibration_error)
    says = (
        f"On average it is {lean}, by {percent(abs(gap))}; expected calibration error "
        f"{error}. On the thin line confidence and accuracy are equal."
    )
    rows = [[i + 1, b.n, percent(b.confidence), percent(b.accuracy)] for i, b in enumerate(bins)]
    header = ["Part", "Rows", "Mean confidence", "Accuracy"]
    title = f"Reliability of {system.name}"
    return chart.figure(title, chart.svg(draw, name), says, header, rows)


def coverage_chart(systems: list[System], name: str) -> Safe:
    """Accuracy on the most confident share of the rows, for each system."""
    curves = [coverage(s.proba, s.saved.codes) for s in systems if s.proba is not None]

    def draw(axes: Any) -> None:
        for i, (share, accuracy) in enumerate(curves):
            at = thinned(len(share))
            at = at[share[at] >= NOISE]
            axes.plot(share[at], accuracy[at], color=chart.colour(i), linewidth=1.2,
                      linestyle=chart.STYLES[i % len(chart.STYLES)])  # fmt: skip
        axes.set_xlim(0, 1.01)
        chart.axes_percent(axes, "share of rows answered, most confident first", "accuracy")

    def at(curve: tuple[np.ndarray, np.ndarray], share: float) -> str:
        return percent(curve[1][max(round(share * len(curve[0])) - 1, 0)])

    names = [s.name for s in systems]
    rows: list[list[Any]] = [
        [s.name, *(at(curve, share) for share in SHARES)] for s, curve in zip(systems, curves)
    ]
    says = "; ".join(
        f"{s.name} has {at(curve, 1.0)} right of all rows and {at(curve, 0.8)} of the 80 % it is "
        "most confident of" for s, curve in list(zip(systems, curves))[:2]
    )  # fmt: skip
    header = ["System", *(f"at {100 * share:.0f} %" for share in SHARES)]
    title = "Accuracy against coverage"
    return chart.figure(title, chart.svg(draw, name), says + ".", header, rows, names)


def gate_chart(system: System, gate: Gate, name: str) -> Safe:
    """Accuracy against the share of rows that a gate hands on."""
    n = max(len(system.saved.ids), 1)
    points = [(k / n, accuracy) for k, accuracy in gate.curve]

    def draw(axes: Any) -> None:
        axes.plot([x for x, _ in points], [y for _, y in points], color=chart.colour(0),
                  linewidth=1.2)  # fmt: skip
        axes.axvline(gate.share, color=chart.colour(1), linewidth=1, linestyle="--")
        axes.axhline(gate.nested_accuracy, color=chart.colour(2), linewidth=1, linestyle=":")
        chart.axes_percent(axes, "share of rows handed to the second system", "accuracy")

    says = (
        f"Rows that {gate.first} is least sure of are answered by {gate.second}; "
        f"chosen on out-of-fold rows: {percent(gate.share)}. The best point of the curve "
        f"flatters itself; the nested estimate, {percent(gate.nested_accuracy, 2)}, is the one "
        f"to believe. In words: {gate.verdict}. Its best system alone, {gate.best}: "
        f"{percent(gate.best_accuracy, 2)}."
    )
    rows = [[percent(share, 2), percent(accuracy, 2)] for share, accuracy in points]
    series = ["handing over this share", "the chosen share", "nested estimate"]
    title, header = f"Gate of {system.name}", ["Share", "Accuracy"]
    return chart.figure(title, chart.svg(draw, name), says, header, rows, series)


def learning_chart(run: Run, name: str) -> Safe | None:
    """Accuracy against the number of training rows; None for a run without such a curve."""
    curves: dict[str, list[Point]] = {}
    for point in sorted(run.learning_curve, key=lambda p: p.n):
        curves.setdefault(point.system, []).append(point)
    if not curves:
        return None

    def draw(axes: Any) -> None:
        from matplotlib.ticker import PercentFormatter

        for i, points in enumerate(curves.values()):
            x, colour = [p.n for p in points], chart.colour(i)
            axes.plot(x, [p.accuracy.value for p in points], color=colour, marker="o", markersize=3,
                      linestyle=chart.STYLES[i % len(chart.STYLES)])  # fmt: skip
            lows, highs = zip(*((p.accuracy.low, p.accuracy.high) for p in points))
            axes.fill_between(x, lows, highs, color=colour, alpha=0.15, linewidth=0)
        axes.set_xlabel("training rows")
        axes.set_ylabel("accuracy")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(True)

    rows = [
        [system, p.n, percent(p.accuracy.value),
         f"{number(p.accuracy.low)} to {number(p.accuracy.high)}"]
        for system, points in curves.items()
        for p in points
    ]  # fmt: skip
    system, points = next(iter(curves.items()))
    first, last = points[0], points[-1]
    says = (
        f"{system} goes from {percent(first.accuracy.value)} with {first.n} training "
        f"rows to {percent(last.accuracy.value)} with {last.n}."
    )
    header = ["System", "Training rows", "Accuracy", "95 % interval"]
    picture = chart.svg(draw, name)
    return chart.figure("Learning curve", picture, says, header, rows, list(curves))
