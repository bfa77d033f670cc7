"""The leaderboard, which of its systems differ, and which errors they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headstock.heads.report.contest import LEVEL, Contest
from headstock.heads.report.findings import best_by_pattern, check_lines, findings
from headstock.heads.report.page.markup import Safe, h, joined, table
from headstock.heads.report.rows import hygiene_lines
from headstock.heads.report.saved import Saved
from headstock.heads.report.text import held_out
from headstock.heads.run.run import Run
from headstock.heads.run.scores import Ends, Line

__all__ = ["differences", "leaderboard", "number", "overlap", "percent"]

MOST = 16


def number(value: float | None, digits: int = 3) -> str:
    """A number with fixed decimals; an absent one as a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def _sortable(name: str, kind: str = "number") -> Safe:
    return h("th", h("button", name, type="button"), scope="col", data_sort=kind)


def _value(shown: object, value: float | None) -> Safe:
    return h("td", shown, data_value="" if value is None else value, class_="number")


def leaderboard(contest: Contest) -> Safe:
    """Every system of every run with interval, errors, other scores, seconds, and in words whether
    it can be told from the best."""
    runs = contest.runs
    lines = [(saved, line) for saved in runs for line in saved.run.leaderboard]
    names = list(dict.fromkeys(name for saved in runs for name in saved.run.settings.metric))
    names = [name for name in names if name != "accuracy"]
    if contest.metric is None:
        lines.sort(key=lambda one: -one[1].accuracy.value)
    else:
        sign, decides = contest.metric.sign, contest.decides
        lines.sort(key=lambda one: -sign * _or(one[1].figure(decides), -sign * float("inf")))
    held = held_out(line for _, line in lines)
    floor = min(line.accuracy.low for _, line in lines)
    header = [
        *([_sortable("Run", "text")] if len(runs) > 1 else []),
        *(_sortable(name, "text") for name in ("Head", "On", "Fusion")),
        *(_sortable(name) for name in names),
        _sortable("Accuracy"),
        h("th", "95 % interval", scope="col"),
        *(_sortable(n) for n in ("Errors", "Balanced", "Log-loss", "Calibration", "Seconds")),
        *(_sortable(split.capitalize()) for split in held),
        h("th", "Against the best", scope="col"),
    ]
    rows = [_line(saved, line, contest, floor, held, names) for saved, line in lines]
    rows += [_guess(saved, contest, held, names) for saved in runs if saved.run.baseline]
    filtered = h("label", "Filter the leaderboard ", h("input", type="search", data_rows="board"))
    several = len(runs) > 1

    def named(title: str, part: Callable[[Run], Safe | None]) -> list[Safe]:
        made = [(saved.name, part(saved.run)) for saved in runs]
        return [
            joined(h("h3", f"{title}, {name}" if several else title), inner)
            for name, inner in made
            if inner is not None
        ]

    return joined(
        *(
            h("p", f"{saved.name}: {line}" if several else line, class_="hygiene")
            for saved in runs
            for line in hygiene_lines(saved.run.hygiene)
        ),
        h("p", filtered, h("output", data_count="board"), class_="tools"),
        table(f"Systems, best {contest.decides} first", header, rows, name="board"),
        h(
            "p",
            "Accuracy is out of fold, with the exact (Clopper-Pearson) interval; by group: with "
            "the spread of whole groups; Valid and Test: accuracy on these splits, where there are "
            "any, by the refit on all training rows. A "
            "system differs from the best when the paired test on the same rows, adjusted for all "
            f"pairs of systems, is below {LEVEL:g}: any such statement of a run is wrong in 5 % of "
            "runs at most, though the best was chosen by these rows.",
            " Where rows come in groups, whole groups are tested.",
            class_="says",
        ),
        *named("Checks", lambda run: _listed(check_lines(run))),
        *named("Rows that lack a set", _patterns),
        *named("In words", lambda run: _listed(findings(run))),
    )


def _patterns(run: Run) -> Safe | None:
    """For rows that have these sets and no others: how many, and the systems that answer them best;
    None for a run whose rows all have every set."""
    rows: list[list[Any]] = []
    for pattern, scored in best_by_pattern(run).items():
        for scores, line in scored[:3]:
            accuracy = scores.accuracy
            rows.append([
                pattern.replace("+", " and "), line.name, _value(number(scores.n, 0), scores.n),
                _value(number(scores.errors, 0), scores.errors),
                _value(number(accuracy.value, 4), None), h("td", _ends(accuracy), class_="number"),
            ])  # fmt: skip
    header = ["Rows that have", "System", "Rows", "Errors", "Accuracy", "95 % interval"]
    title = "Rows by the sets they have, and the three best systems of each"
    return table(title, header, rows) if rows else None


def _ends(ends: Ends) -> str:
    return f"{number(ends.low)} to {number(ends.high)}"


def _listed(lines: list[str]) -> Safe | None:
    return h("ul", *(h("li", line) for line in lines), class_="findings") if lines else None


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


def _line(
    saved: Saved, line: Line, contest: Contest, floor: float, held: list[str], names: list[str]
) -> list[Any]:
    group = line.accuracy.by_group
    by_group = h("small", f"by group {_ends(group)}") if group else None
    span = max(1 - floor, 1e-9)
    bar = h(
        "span",
        class_="interval",
        aria_hidden="true",
        style="".join(
            f"--{key}:{(value - floor) / span:.4f};"
            for key, value in (
                ("l", line.accuracy.low), ("v", line.accuracy.value), ("h", line.accuracy.high)
            )
        ),
    )  # fmt: skip
    interval = h("td", _ends(line.accuracy), bar, by_group, class_="number")
    return [
        *_figures(saved, line, interval, contest, held, names),
        h("td", *_against(saved, line, contest)),
    ]


def _guess(saved: Saved, contest: Contest, held: list[str], names: list[str]) -> list[Any]:
    """What guessing by how frequent the classes are scores."""
    line = saved.run.baseline
    assert line is not None
    interval = h("td", _ends(line.accuracy), class_="number")
    figures = _figures(saved, line, interval, contest, held, names)
    return [*figures, h("td", "the most frequent class")]


def _figures(
    saved: Saved, line: Line, interval: Safe, contest: Contest, held: list[str],
    metrics: list[str],
) -> list[Any]:  # fmt: skip
    names = [line.head, line.on, line.fusion or "–"]
    if len(contest.runs) > 1:
        names.insert(0, saved.name)
    apart = [s.accuracy.value if (s := line.held(split)) else None for split in held]
    return [
        h("th", names[0], scope="row"),
        *names[1:],
        *(_metric(line, name) for name in metrics),
        _value(number(line.accuracy.value, 4), line.accuracy.value),
        interval,
        _value(f"{number(line.errors, 0)} / {number(line.n, 0)}", line.errors),
        _value(number(line.balanced_accuracy, 4), line.balanced_accuracy),
        _value(number(line.log_loss), line.log_loss),
        _value(number(line.calibration_error), line.calibration_error),
        _value(number(line.seconds, 2), line.seconds),
        *(_value(number(value, 4), value) for value in apart),
    ]


def _metric(line: Line, name: str) -> Safe:
    """A metric with its interval below."""
    found = line.metrics.get(name)
    if found is None or found.value is None:
        return _value("–", None)
    ends = (
        None if found.low is None else h("small", f" {number(found.low)} to {number(found.high)}")
    )
    return h("td", number(found.value, 4), ends, data_value=found.value, class_="number")


def _against(saved: Saved, line: Line, contest: Contest) -> list[object]:
    if contest.systems and line is contest.systems[0].line:
        return [h("strong", "best")]
    known = contest.against_best.get((saved.name, line.name))
    if known is None:
        return ["–"]
    words = "differs" if known.differs else "not distinguishable"
    gap = ""
    if known.gap:
        if contest.metric is None:
            value, low, high = (round(100 * g, 1) + 0.0 for g in known.gap)
            gap = f", {value:+.1f} % ({low:+.1f} to {high:+.1f})".replace("-", "−")
        else:
            gap = ", {:+.4f} ({:+.4f} to {:+.4f})".format(*known.gap).replace("-", "−")
    alone = f"right alone: the best on {known.test.only_a} rows, this on {known.test.only_b}; "
    title = f"{alone}unadjusted p {_p(known.test.p)}"
    return [words, " ", h("small", f"p {_p(known.p)}{gap}", title=title)]


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
            ahead = mine > theirs if contest.metric is None else against.ahead == (a > b)
            better = "better" if ahead else "worse"
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
                    f" {_short(test.p if contest.metric is None else against.p)}",
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
    exact = contest.metric is None
    of = "of exact McNemar tests" if exact else f"of differences in {contest.decides}, adjusted,"
    return joined(
        table("Is the row's system better than the column's?", header, rows, class_="matrix"),
        h(
            "p",
            f"p {of} on {len(contest.ids):,} shared rows. ▲ better, ▼ worse when "
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
