"""The leaderboard, which of its systems differ, and which errors they share."""

from __future__ import annotations

from typing import Any

from headstock.heads.evaluation.checks import check_lines
from headstock.heads.evaluation.findings import findings
from headstock.heads.report.page.contest import LEVEL, Contest
from headstock.heads.report.page.markup import Safe, h, joined, table
from headstock.heads.report.page.runs import Run, System
from headstock.heads.report.text import held_out
from headstock.heads.rows.hygiene import hygiene_lines

__all__ = ["differences", "leaderboard", "number", "overlap", "patterns", "percent"]

MOST = 16


def number(value: object, digits: int = 3) -> str:
    """A number with fixed decimals; anything else as it is, an absent one as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:.{digits}f}"


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def _sortable(name: str, kind: str = "number") -> Safe:
    return h("th", h("button", name, type="button"), scope="col", data_sort=kind)


def _value(shown: object, value: object, **more: object) -> Safe:
    plain = value if isinstance(value, int | float) else ""
    return h("td", shown, data_value=plain, class_="number", **more)


def leaderboard(contest: Contest) -> Safe:
    """Every system of every run with interval, errors, other scores, seconds, and in words whether
    it can be told from the best."""
    runs = contest.runs
    lines = sorted((s for run in runs for s in run.systems), key=lambda s: -s.accuracy)
    held = held_out([s.row for s in lines])
    floor = min((float(s.row["accuracy"]["low"]) for s in lines), default=0.0)
    header = [
        *([_sortable("Run", "text")] if len(runs) > 1 else []),
        *(_sortable(name, "text") for name in ("Head", "On", "Fusion")),
        _sortable("Accuracy"),
        h("th", "95 % interval", scope="col"),
        *(_sortable(n) for n in ("Errors", "Balanced", "Log-loss", "Calibration", "Seconds")),
        *(_sortable(split.capitalize()) for split in held),
        h("th", "Against the best", scope="col"),
    ]
    rows = [_line(system, contest, floor, held) for system in lines]
    filtered = h("label", "Filter the leaderboard ", h("input", type="search", data_rows="board"))
    words = [(run, _in_words(run)) for run in runs]
    checked = [(run, _checks(run)) for run in runs]
    by_sets = [(run, patterns(run)) for run in runs]

    def named(parts: list[tuple[Run, Safe | None]], title: str) -> list[Safe]:
        of = len(runs) > 1
        return [
            joined(h("h3", f"{title}{f', {run.name}' if of else ''}"), part)
            for run, part in parts
            if part is not None
        ]

    return joined(
        *(h("p", line, class_="hygiene") for run in runs for line in _hygiene(run, runs)),
        h("p", filtered, h("output", data_count="board"), class_="tools"),
        table("Systems, best accuracy first", header, rows, name="board"),
        h(
            "p",
            "Accuracy is out of fold, with the exact (Clopper-Pearson) interval; by group: with "
            "the spread of whole groups; Valid and Test: accuracy on these splits, where there are "
            "any, by the refit on all training rows. A "
            "system differs from the best when the paired test on the same rows, adjusted for all "
            f"pairs of systems, is below {LEVEL:g}: any such statement of a run is wrong in 5 % of "
            "runs at most, though the best was chosen by these rows. Where rows come in groups, "
            "whole groups are tested.",
            class_="says",
        ),
        *named(checked, "Checks"),
        *named(by_sets, "Rows that lack a set"),
        *named(words, "In words"),
    )


def patterns(run: Run) -> Safe | None:
    """For rows that have these sets and no others: how many, and the systems that answer them best;
    None for a run whose rows all have every set."""
    rows: list[list[Any]] = []
    seen: dict[str, list[tuple[dict[str, Any], System]]] = {}
    for system in run.systems:
        told = system.row.get("patterns")
        for name, scores in told.items() if isinstance(told, dict) else ():
            if isinstance(scores, dict) and _is_interval(scores.get("accuracy")):
                seen.setdefault(str(name), []).append((scores, system))
    for name, scored in seen.items():
        scored.sort(key=lambda one: -one[0]["accuracy"]["value"])
        for scores, system in scored[:3]:
            accuracy = scores["accuracy"]
            n, errors = scores.get("n"), scores.get("errors")
            interval = f"{number(accuracy['low'])} to {number(accuracy['high'])}"
            rows.append([
                name.replace("+", " and "), system.name, _value(number(n, 0), n),
                _value(number(errors, 0), errors), _value(number(accuracy["value"], 4), None),
                h("td", interval, class_="number"),
            ])  # fmt: skip
    if not rows:
        return None
    header = ["Rows that have", "System", "Rows", "Errors", "Accuracy", "95 % interval"]
    title = f"Rows of {run.name} by the sets they have, and the three best systems of each"
    return table(title, header, rows)


def _is_interval(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(key), int | float) for key in ("value", "low", "high")
    )


def _in_words(run: Run) -> Safe | None:
    """What the run found out beside its table: choosing, curves, weights."""
    try:
        lines = findings(run.metrics)
    except (KeyError, TypeError, ValueError, AttributeError):  # written by another version
        return None
    return h("ul", *(h("li", line) for line in lines), class_="findings") if lines else None


def _checks(run: Run) -> Safe | None:
    """What the automatic checks found, each with its code and what to do."""
    try:
        lines = check_lines(run.metrics)
    except (KeyError, TypeError, ValueError, AttributeError):  # written by another version
        return None
    return h("ul", *(h("li", line) for line in lines), class_="findings") if lines else None


def _hygiene(run: Run, runs: list[Run]) -> list[str]:
    """What to know of a run's rows before any score."""
    try:
        lines = hygiene_lines(run.hygiene)
    except (KeyError, TypeError, AttributeError):  # written by another version
        return []
    return [f"{run.name}: {line}" if len(runs) > 1 else line for line in lines]


def _line(system: System, contest: Contest, floor: float, held: list[str]) -> list[Any]:
    row, accuracy = system.row, system.row["accuracy"]
    names = [row["head"], row["on"], row["fusion"] or "–"]
    if len(contest.runs) > 1:
        names.insert(0, system.run.name)
    interval = f"{number(accuracy['low'])} to {number(accuracy['high'])}"
    group = accuracy.get("by_group")
    by_group = None
    if isinstance(group, dict) and {"low", "high"} <= group.keys():
        by_group = h("small", f"by group {number(group['low'])} to {number(group['high'])}")
    span = max(1 - floor, 1e-9)
    bar = h(
        "span",
        class_="interval",
        aria_hidden="true",
        style="".join(
            f"--{key}:{(float(accuracy[name]) - floor) / span:.4f};"
            for key, name in (("l", "low"), ("v", "value"), ("h", "high"))
        ),
    )
    apart = [row[split] if isinstance(row.get(split), dict) else {} for split in held]
    reached = [(scores.get("accuracy") or {}).get("value") for scores in apart]
    errors, n = row.get("errors"), row.get("n")
    return [
        h("th", names[0], scope="row"),
        *names[1:],
        _value(number(accuracy["value"], 4), accuracy["value"]),
        h("td", interval, bar, by_group, class_="number"),
        _value(f"{number(errors, 0)} / {number(n, 0)}", errors),
        _value(number(row.get("balanced_accuracy"), 4), row.get("balanced_accuracy")),
        _value(number(row.get("log_loss")), row.get("log_loss")),
        _value(number(row.get("calibration_error")), row.get("calibration_error")),
        _value(number(row.get("seconds"), 2), row.get("seconds")),
        *(_value(number(value, 4), value) for value in reached),
        h("td", *_against(system, contest)),
    ]  # fmt: skip


def _against(system: System, contest: Contest) -> list[object]:
    if contest.systems and system.row is contest.systems[0].row:
        return [h("strong", "best")]
    told = contest.against_best.get((system.run.name, system.name))
    if told is None:
        return ["–"]
    words = "differs" if told.differs else "not distinguishable"
    gap = ""
    if told.gap:
        value, low, high = (round(100 * g, 1) + 0.0 for g in told.gap)
        gap = f", {value:+.1f} % ({low:+.1f} to {high:+.1f})".replace("-", "−")
    alone = f"right alone: the best on {told.test.only_a} rows, this on {told.test.only_b}; "
    title = f"{alone}unadjusted p {_p(told.test.p)}"
    return [words, " ", h("small", f"p {_p(told.p)}{gap}", title=title)]


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _short(p: float) -> str:
    """A p-value for a narrow cell, as papers write it."""
    return "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0")


def differences(contest: Contest) -> Safe:
    """A matrix of paired tests between the best systems."""
    shown = contest.systems[:MOST]
    if len(shown) < 2 or not len(contest.ids):
        return h("p", "There are no two systems on the same rows to compare.")
    tests = contest.between(MOST)
    rows: list[list[Any]] = []
    for a, system in enumerate(shown):
        cells: list[Any] = [h("th", f"{a + 1}. {contest.title(system)}", scope="row")]
        for b in range(len(shown)):
            if a == b:
                cells.append(h("td", "", class_="none"))
                continue
            against = tests[min(a, b), max(a, b)]
            test = against.test
            mine, theirs = (test.only_a, test.only_b) if a < b else (test.only_b, test.only_a)
            better = "better" if mine > theirs else "worse"
            words = better if against.differs else "not distinguishable"
            told = (
                f"{contest.title(system)} is right alone on {mine} rows, "
                f"{contest.title(shown[b])} on {theirs}: p {_p(test.p)}, adjusted {_p(against.p)}"
            )
            cells.append(
                h(
                    "td",
                    h("b", {"better": "▲", "worse": "▼"}.get(words, "≈"), aria_hidden="true"),
                    h("span", f"{words}: ", class_="hidden"),
                    f" {_short(test.p)}",
                    title=told,
                    class_=words.split(maxsplit=1)[0],
                )
            )
        rows.append(cells)
    header = [
        h("th", "System", scope="col"),
        *(h("th", b + 1, scope="col") for b in range(len(shown))),
    ]
    left = len(contest.systems) - len(shown)
    by_group = "" if contest.groups is None else ", whole groups tested"
    return joined(
        table("Is the row's system better than the column's?", header, rows, class_="matrix"),
        h(
            "p",
            f"p of exact McNemar tests on {len(contest.ids):,} shared rows. ▲ better, ▼ worse when "
            f"p adjusted for all pairs of the {len(contest.systems)} systems is below "
            f"{LEVEL:g}{by_group}; ≈ not distinguishable.",
            f" The {left} systems below the first {MOST} are not in the matrix." if left else None,
            class_="says",
        ),
    )


def overlap(contest: Contest) -> Safe:
    """How far the best systems are wrong on the same rows."""
    shown = contest.systems[:MOST]
    if len(shown) < 2 or not len(contest.ids):
        return h("p", "There are no two systems on the same rows to compare.")
    wrong = (~contest.right[: len(shown)]).sum(axis=1)
    rows = []
    for a, system in enumerate(shown):
        cells: list[Any] = [h("th", f"{a + 1}. {contest.title(system)}", scope="row")]
        for b in range(len(shown)):
            both, share = contest.overlap(a, b)
            style = f"--v:{share if a != b else 0:.3f}"
            shared = both if a == b else [both, h("small", f" {100 * share:.0f} %")]
            cells.append(h("td", *(shared if isinstance(shared, list) else [shared]), style=style))
        rows.append(cells)
    header = [
        h("th", "System", scope="col"),
        *(h("th", b + 1, scope="col") for b in range(len(shown))),
    ]
    every = int((~contest.right[: len(shown)]).all(axis=0).sum())
    some = int((~contest.right[: len(shown)]).any(axis=0).sum())
    return joined(
        table("Rows that two systems both have wrong", header, rows, class_="matrix heat"),
        h(
            "p",
            f"Of {len(contest.ids):,} shared rows, {some} are wrong for at least one of these "
            f"{len(shown)} systems and {every} for all of them. The diagonal counts each one's own "
            f"errors ({wrong.min()} to {wrong.max()}); percent are of the rows that either has "
            "wrong: the lower, the more a fusion can gain.",
            class_="says",
        ),
    )
