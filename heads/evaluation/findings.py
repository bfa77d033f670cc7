"""What an evaluation found out beside its table, in words, from what ``metrics.json`` holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstock.store.errors import one_line

__all__ = ["findings"]

Metrics = Mapping[str, Any]


def findings(metrics: Metrics) -> list[str]:
    """Lines about the first system, what choosing it is worth, rows that lack a vector, learning
    curves and feature importances; those whose part is absent are left out."""
    lines: list[str] = []
    for part in (_failed, _first, _shared, _selection, _patterns, _searches, _importances, _curves):
        lines += part(metrics)
    return lines


def _failed(metrics: Metrics) -> list[str]:
    """Why systems have no score, each reason once."""
    by_reason: dict[str, list[str]] = {}
    for row in metrics.get("failed") or []:
        by_reason.setdefault(one_line(row["reason"], 200), []).append(_name(row))
    lines = []
    for reason, names in by_reason.items():
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        lines.append(f"no score: {', '.join(names[:2])}{more}: {reason}")
    return lines


def _first(metrics: Metrics) -> list[str]:
    """The first system's figures that the table has no room for."""
    board = metrics.get("leaderboard") or []
    if not board or "macro_f1" not in board[0]:
        return []
    row = board[0]
    lines = [
        f"{_name(row)}: macro F1 {row['macro_f1']:.4f}, Brier score {row['brier']:.4f}, "
        f"calibration error {row['calibration_error']:.4f}"
    ]
    lines += _beside(row, metrics)
    group = row["accuracy"].get("by_group")
    if group:
        lines.append(
            f"its 95 % interval with the spread of whole groups ({group['groups']}): "
            f"{group['low']:.4f}-{group['high']:.4f}"
        )
    if "error_rate_below" in row:
        lines.append(
            f"no error in {row['n']} rows: its error rate is below "
            f"{100 * row['error_rate_below']:.2g} % (exact one-sided 95 % bound)"
        )
    if row.get("repeats"):
        spread = row["repeats"]
        each = ", ".join(f"{value:.4f}" for value in spread["accuracy"][:10])
        lines.append(f"over repeats: {each}; standard deviation {spread['sd']:.4f}")
    classes = (metrics.get("settings") or {}).get("classes") or []
    own = row.get("per_class") or []
    if len(classes) == len(own):
        worst = sorted(zip(own, classes), key=lambda c: (c[0]["recall"] is None, c[0]["recall"]))
        told = [
            f"{one_line(name, 40)} {c['recall']:.3f} ({_ends(c)}{c['errors']}/{c['n']})"
            for c, name in worst[:3]
            if c["errors"]
        ]
        if told:
            lines.append(f"its lowest recall: {', '.join(told)}")
    return lines


def _beside(row: Metrics, metrics: Metrics) -> list[str]:
    """Intervals of the first system's other figures, how far its probabilities can be taken at
    their word, and what guessing would score."""
    lines, words = [], {"balanced_accuracy": "balanced", "log_loss": "log-loss", "brier": "Brier"}
    told = [
        f"{words[name]} {row[name]:.4f} ({ends['low']:.4f}-{ends['high']:.4f})"
        for name, ends in (row.get("intervals") or {}).items()
        if name in words
    ]
    if told:
        lines.append(f"its 95 % intervals: {', '.join(told)}")
    line = row.get("calibration") or {}
    told = [
        f"{name} {one['value']:.2f} ({one['low']:.2f} to {one['high']:.2f})"
        for name in ("slope", "intercept")
        if (one := line.get(name))
    ]
    if told:
        lines.append(f"its calibration: {', '.join(told)}; 1 and 0 would be perfect")
    guess = metrics.get("baseline")
    if guess and "chance_p" in row:
        name = next(iter((metrics.get("settings") or {}).get("metric") or ()), "accuracy")
        how = "labels permuted" if name == "accuracy" else f"by {name}"
        lines.append(
            f"guessing by how frequent the classes are: {guess['accuracy']['value']:.4f}; that it "
            f"guesses: p {row['chance_p']:.2g} ({how})"
        )
    return lines


def _ends(one: Metrics) -> str:
    ends = one.get("interval")
    return f"{ends[0]:.3f}-{ends[1]:.3f}, " if ends else ""


def _shared(metrics: Metrics) -> list[str]:
    """The errors that the first system shares with the next one of another kind."""
    comparisons = metrics.get("comparisons") or []
    if not comparisons:
        return []
    c = comparisons[0]
    p, gap = c["mcnemar_p"], c.get("difference") or c["accuracy_difference"]
    name = f" in {gap['metric']}" if "metric" in gap else ""
    ends = "" if gap["low"] is None else f"{gap['low']:+.4f} to {gap['high']:+.4f} "
    of = " of the first repeat" if c.get("repeats", 1) > 1 else ""
    return [
        f"{one_line(c['a'], 80)} against {one_line(c['b'], 80)}: {c['shared_errors']} errors of "
        f"both ({c['same_answer']} with the same wrong answer), right alone on "
        f"{c['only_a_right']} and {c['only_b_right']} rows{of}; McNemar p {p:.3g}, adjusted for "
        f"all pairs {c['adjusted_p']:.3g}, difference{name} {gap['value'] or 0:+.4f} ({ends}"
        f"by {c.get('by', 'rows')}, as of two named beforehand)"
    ]


def _selection(metrics: Metrics) -> list[str]:
    told = metrics.get("selection")
    if not told:
        return []
    nested, wins = told["nested"], told["wins"]
    name = next(iter((metrics.get("settings") or {}).get("metric") or ()), "accuracy")
    by = "" if name == "accuracy" else f"{name} "
    often = ", ".join(f"{one_line(name, 80)} {100 * share:.0f} %" for name, share in wins[:3])
    return [
        f"the best of {told['systems']} systems, chosen on other rows than those that score it: "
        f"{by}{nested['value']:.4f} ({nested['low']:.4f}-{nested['high']:.4f}); being chosen "
        f"flatters the first line by {told['optimism']:+.4f}",
        f"chosen in resamples: {often}",
    ]


def pattern_words(pattern: str) -> str:
    """``image+audio`` as *image and audio*, ``image`` as *image alone*."""
    sets = pattern.split("+")
    return f"{sets[0]} alone" if len(sets) == 1 else f"{', '.join(sets[:-1])} and {sets[-1]}"


def _patterns(metrics: Metrics) -> list[str]:
    """For rows of each pattern: how many, and which systems answer them best."""
    board = metrics.get("leaderboard") or []
    seen: dict[str, list[tuple[Mapping[str, Any], str]]] = {}
    for row in board:
        for pattern, scores in (row.get("patterns") or {}).items():
            seen.setdefault(pattern, []).append((scores, _name(row)))
    lines = []
    for pattern, scored in seen.items():
        scored.sort(key=lambda s: -s[0]["accuracy"]["value"])
        told = "; ".join(
            f"{name} {s['accuracy']['value']:.4f} ({s['accuracy']['low']:.4f}-"
            f"{s['accuracy']['high']:.4f}, {s['errors']:g}/{s['n']} wrong)"
            for s, name in scored[:3]
        )
        count = max(s["n"] for s, _ in scored)
        lines.append(f"rows with {pattern_words(pattern)}, {count}: {told}")
    less = [row for row in board if row["n"] < board[0]["n"]]
    if less:
        lines.append(
            f"{len(less)} systems answer fewer rows than the first: theirs stand after those that "
            "answer all, and comparisons are on the rows both answer"
        )
    return lines


def _searches(metrics: Metrics) -> list[str]:
    """What tuned heads chose in the folds."""
    lines = []
    for row in metrics.get("leaderboard") or []:
        chosen = row.get("chosen") or []
        if chosen and row.get("fusion") in (None, "early"):
            kinds = [", ".join(f"{k}={v}" for k, v in point.items()) for point in chosen]
            often = sorted(set(kinds), key=lambda kind: (-kinds.count(kind), kind))
            told = "; ".join(f"{kind} ({kinds.count(kind)})" for kind in often[:4])
            count = len((row.get("tried") or {}).get("points") or [])
            of = f"; {count} points tried" if count else ""
            lines.append(f"{_name(row)} chose inside the folds: {one_line(told, 200)}{of}")
    return lines


def _importances(metrics: Metrics) -> list[str]:
    """The best head that weighs columns of each combination of sets."""
    lines, seen = [], set()
    for row in metrics.get("leaderboard") or []:
        told = row.get("importances")
        if not told or row["on"] in seen:
            continue
        seen.add(row["on"])
        parts = []
        for name, own in told.items():
            first = ", ".join(one_line(str(c[0]), 30) for c in own["columns"][:3])
            share = f"{100 * own['share']:.0f} % " if len(told) > 1 else ""
            parts.append(f"{share}{name} (columns {first})")
        lines.append(f"{_name(row)} weighs {'; '.join(parts)}")
    return lines


def _curves(metrics: Metrics) -> list[str]:
    curves: dict[str, list[Mapping[str, Any]]] = {}
    for point in metrics.get("learning_curve") or []:
        curves.setdefault(str(point["system"]), []).append(point)
    lines = []
    for system, points in curves.items():
        told = ", ".join(f"{p['accuracy']['value']:.4f} with {p['n']}" for p in points)
        line = f"learning curve of {one_line(system, 80)}, training rows: {told}"
        if len(points) > 1:
            gain = points[-1]["accuracy"]["value"] - points[-2]["accuracy"]["value"]
            line += f"; the last doubling gave {gain:+.4f}"
        lines.append(line)
    return lines


def _name(row: Mapping[str, Any]) -> str:
    return one_line(str(row.get("name") or f"{row['head']}@{row['on']}"), 80)
