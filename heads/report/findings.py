"""What a run says beside its table, in words."""

from __future__ import annotations

from collections.abc import Mapping

from headstock.heads.run.numbers import NumberRun
from headstock.heads.run.run import Run
from headstock.heads.run.scores import Line, OfClass, Point, Scores, SystemName
from headstock.store.errors import one_line

__all__ = [
    "best_by_pattern", "check_lines", "failed_lines", "findings", "fold_lines", "fold_words",
    "pattern_words", "search_lines",
]  # fmt: skip


def findings(run: Run) -> list[str]:
    """Lines about the first system, what choosing it is worth, rows that lack a vector, learning
    curves and feature importances; those whose part is absent are left out."""
    lines: list[str] = []
    for part in (
        failed_lines, _first, _shared, _selection, _patterns, search_lines, _importances, _curves,
    ):  # fmt: skip
        lines += part(run)
    return lines


def check_lines(run: Run) -> list[str]:
    """What the automatic checks found, a line each."""
    return [
        f"{one_line(one.code, 10)}, {one_line(one.title, 80)}: "
        f"{one_line(one.found, 300)}; {one_line(one.do, 200)}"
        for one in run.checks
    ]


def fold_lines(run: Run) -> list[str]:
    """How many rows, rows of a class and groups the folds have, smallest to largest."""
    folds = [fold for repeat in run.fold_table for fold in repeat]
    return fold_words(
        {
            "rows": [fold.n for fold in folds],
            "of a class": [count for fold in folds for count in fold.classes],
            "groups": [fold.groups for fold in folds if fold.groups is not None],
        }
    )


def fold_words(kinds: Mapping[str, list[int]]) -> list[str]:
    """A line: what the folds hold out of each kind, smallest to largest."""
    words = [f"{_range(counts)} {name}" for name, counts in kinds.items() if counts]
    return [f"a fold holds out {', '.join(words)}"] if words else []


def _range(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def failed_lines(run: Run | NumberRun) -> list[str]:
    """Why systems have no score, each reason once."""
    by_reason: dict[str, list[str]] = {}
    for one in run.failed:
        by_reason.setdefault(one_line(one.reason, 200), []).append(one_line(one.name, 80))
    lines = []
    for reason, names in by_reason.items():
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        lines.append(f"no score: {', '.join(names[:2])}{more}: {reason}")
    return lines


def _first(run: Run) -> list[str]:
    """The first system's figures that the table has no room for."""
    line = run.leaderboard[0]
    lines = [
        f"{_name(line)}: macro F1 {line.macro_f1:.4f}, Brier score {line.brier:.4f}, "
        f"calibration error {line.calibration_error:.4f}",
        *_beside(line, run),
    ]
    if group := line.accuracy.by_group:
        lines.append(
            f"its 95 % interval with the spread of whole groups ({group.groups}): "
            f"{group.low:.4f}-{group.high:.4f}"
        )
    if line.error_rate_below is not None:
        lines.append(
            f"no error in {line.n} rows: its error rate is below "
            f"{100 * line.error_rate_below:.2g} % (exact one-sided 95 % bound)"
        )
    if line.repeats:
        each = ", ".join(f"{value:.4f}" for value in line.repeats.accuracy[:10])
        lines.append(f"over repeats: {each}; standard deviation {line.repeats.sd:.4f}")
    wrong = [
        (one.recall, name, one)
        for one, name in zip(line.per_class, run.settings.classes)
        if one.errors and one.recall is not None
    ]
    worst = [
        f"{one_line(name, 40)} {recall:.3f} ({_ends(one)}{one.errors}/{one.n})"
        for recall, name, one in sorted(wrong, key=lambda c: c[0])[:3]
    ]
    return [*lines, f"its lowest recall: {', '.join(worst)}"] if worst else lines


def _beside(line: Line, run: Run) -> list[str]:
    """Intervals of the first system's other figures, how far its probabilities can be taken at
    their word, and what guessing would score."""
    figures = {
        "balanced_accuracy": ("balanced", line.balanced_accuracy),
        "log_loss": ("log-loss", line.log_loss),
        "brier": ("Brier", line.brier),
    }
    known = [
        f"{words} {value:.4f} ({line.intervals[name].low:.4f}-{line.intervals[name].high:.4f})"
        for name, (words, value) in figures.items()
        if name in line.intervals
    ]
    lines = [f"its 95 % intervals: {', '.join(known)}"] if known else []
    both = line.calibration and {
        "slope": line.calibration.slope, "intercept": line.calibration.intercept
    }  # fmt: skip
    known = [
        f"{name} {one.value:.2f} ({one.low:.2f} to {one.high:.2f})"
        for name, one in (both or {}).items()
        if one
    ]
    if known:
        lines.append(f"its calibration: {', '.join(known)}; 1 and 0 would be perfect")
    if run.baseline and line.chance_p is not None:
        name = run.settings.decides
        how = "labels permuted" if name == "accuracy" else f"by {one_line(name, 40)}"
        lines.append(
            f"guessing by how frequent the classes are: {run.baseline.accuracy.value:.4f}; that it "
            f"guesses: p {line.chance_p:.2g} ({how})"
        )
    return lines


def _ends(one: OfClass) -> str:
    return f"{one.interval[0]:.3f}-{one.interval[1]:.3f}, " if one.interval else ""


def _shared(run: Run) -> list[str]:
    """The errors that the first system shares with the next one of another kind."""
    if not run.comparisons:
        return []
    c = run.comparisons[0]
    gap = c.difference or c.accuracy_difference
    name = f" in {one_line(c.difference.metric, 40)}" if c.difference else ""
    both = gap.low is not None and gap.high is not None
    ends = f"{gap.low:+.4f} to {gap.high:+.4f} " if both else ""
    of = " of the first repeat" if c.repeats > 1 else ""
    return [
        f"{one_line(c.a, 80)} against {one_line(c.b, 80)}: {c.shared_errors} errors of "
        f"both ({c.same_answer} with the same wrong answer), right alone on "
        f"{c.only_a_right} and {c.only_b_right} rows{of}; McNemar p {c.mcnemar_p:.3g}, adjusted "
        f"for all pairs {c.adjusted_p:.3g}, difference{name} {gap.value or 0:+.4f} ({ends}"
        f"by {one_line(c.by, 20)}, as of two named beforehand)"
    ]


def _selection(run: Run) -> list[str]:
    chosen = run.selection
    if chosen is None:
        return []
    often = ", ".join(
        f"{one_line(name, 80)} {100 * share:.0f} %" for name, share in chosen.wins[:3]
    )
    nested, name = chosen.nested, run.settings.decides
    by = "" if name == "accuracy" else f"{one_line(name, 40)} "
    return [
        f"the best of {chosen.systems} systems, chosen on other rows than those that score it: "
        f"{by}{nested.value:.4f} ({nested.low:.4f}-{nested.high:.4f}); being chosen flatters "
        f"the first line by {chosen.optimism:+.4f}",
        f"chosen in resamples: {often}",
    ]


def pattern_words(pattern: str) -> str:
    """``image+audio`` as *image and audio*, ``image`` as *image alone*."""
    sets = pattern.split("+")
    return f"{sets[0]} alone" if len(sets) == 1 else f"{', '.join(sets[:-1])} and {sets[-1]}"


def best_by_pattern(run: Run) -> dict[str, list[tuple[Scores, Line]]]:
    """For rows of each pattern, the systems that answer them, best first."""
    out: dict[str, list[tuple[Scores, Line]]] = {}
    for line in run.leaderboard:
        for pattern, scores in line.patterns.items():
            out.setdefault(pattern, []).append((scores, line))
    for scored in out.values():
        scored.sort(key=lambda one: -one[0].accuracy.value)
    return out


def _patterns(run: Run) -> list[str]:
    """For rows of each pattern: how many, and which systems answer them best."""
    lines = []
    for pattern, scored in best_by_pattern(run).items():
        words = "; ".join(
            f"{_name(line)} {s.accuracy.value:.4f} ({s.accuracy.low:.4f}-"
            f"{s.accuracy.high:.4f}, {s.errors:g}/{s.n} wrong)"
            for s, line in scored[:3]
        )
        count = max(s.n for s, _ in scored)
        lines.append(f"rows with {pattern_words(pattern)}, {count}: {words}")
    less = [line for line in run.leaderboard if line.n < run.leaderboard[0].n]
    if less:
        lines.append(
            f"{len(less)} systems answer fewer rows than the first: theirs stand after those that "
            "answer all, and comparisons are on the rows both answer"
        )
    return lines


def search_lines(run: Run | NumberRun) -> list[str]:
    """What tuned heads chose in the folds."""
    lines = []
    for line in run.leaderboard:
        if line.chosen and not line.late:
            kinds = [", ".join(f"{k}={v}" for k, v in point.items()) for point in line.chosen]
            often = sorted(set(kinds), key=lambda kind: (-kinds.count(kind), kind))
            words = "; ".join(f"{kind} ({kinds.count(kind)})" for kind in often[:4])
            count = len(line.tried.points) if line.tried else 0
            of = f"; {count} points tried" if count else ""
            lines.append(f"{_name(line)} chose inside the folds: {one_line(words, 200)}{of}")
    return lines


def _importances(run: Run) -> list[str]:
    """The best head that weighs columns of each combination of sets."""
    lines, seen = [], set()
    for line in run.leaderboard:
        if not line.importances or line.on in seen:
            continue
        seen.add(line.on)
        parts = []
        for name, weight in line.importances.items():
            first = ", ".join(one_line(column.name, 30) for column in weight.columns[:3])
            share = f"{100 * weight.share:.0f} % " if len(line.importances) > 1 else ""
            parts.append(f"{share}{name} (columns {first})")
        lines.append(f"{_name(line)} weighs {'; '.join(parts)}")
    return lines


def _curves(run: Run) -> list[str]:
    curves: dict[str, list[Point]] = {}
    for point in run.learning_curve:
        curves.setdefault(point.system, []).append(point)
    lines = []
    for system, points in curves.items():
        words = ", ".join(f"{p.accuracy.value:.4f} with {p.n}" for p in points)
        line = f"learning curve of {one_line(system, 80)}, training rows: {words}"
        if len(points) > 1:
            gain = points[-1].accuracy.value - points[-2].accuracy.value
            line += f"; the last doubling gave {gain:+.4f}"
        lines.append(line)
    return lines


def _name(line: SystemName) -> str:
    return one_line(line.name, 80)
