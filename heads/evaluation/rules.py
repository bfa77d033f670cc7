"""The rules of the checks: code, title, what it means, what to do, and the look at metrics.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headstock.store.errors import one_line

__all__ = ["RULES"]

Metrics = Mapping[str, Any]
Look = Callable[[Metrics], str | None]
HIDDEN = 0.1
"""Accuracy less balanced accuracy from which the rare classes are worse than it seems."""
FEW_GROUPS = 10
FEW_ROWS = 10
TOO_STEEP = 0.1
"""How far a calibration slope must be from 1 to matter."""
LOOKS = 3
TRIED = 10
UNEVEN = 2.0


def _first(metrics: Metrics) -> Metrics:
    board = metrics.get("leaderboard") or [{}]
    return dict(board[0])


def _hygiene(metrics: Metrics) -> Metrics:
    return metrics.get("hygiene") or {}


def _names(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(one_line(name, 40) for name in names[:most]) + more


def _classes(metrics: Metrics, keep: Callable[[Metrics], bool]) -> list[str]:
    """The classes whose figures of the first system are to ``keep``."""
    names = (metrics.get("settings") or {}).get("classes") or []
    own = _first(metrics).get("per_class") or []
    if len(names) != len(own):
        return []
    return [str(name) for name, one in zip(names, own) if one["n"] and keep(one)]


def _imbalance(metrics: Metrics) -> str | None:
    row = _first(metrics)
    if "balanced_accuracy" not in row:
        return None
    accuracy, balanced = row["accuracy"]["value"], row["balanced_accuracy"]
    if accuracy - balanced < HIDDEN:
        return None
    return f"accuracy {accuracy:.4f}, and {balanced:.4f} when each class counts alike"


def _guessing(metrics: Metrics) -> str | None:
    row, count = _first(metrics), len(metrics.get("leaderboard") or [])
    p = min(1.0, row.get("chance_p", 0.0) * max(count, 1))
    return f"p {p:.2g} that the first of {count} systems only guesses" if p > 0.05 else None


def _unanswered(metrics: Metrics) -> str | None:
    never = _classes(metrics, lambda one: one["recall"] == 0 and one["n"] >= 5)
    return f"the first system has no row right of {_names(never)}" if never else None


def _rare(metrics: Metrics) -> str | None:
    few = _classes(metrics, lambda one: one["n"] < FEW_ROWS)
    return f"fewer than {FEW_ROWS} rows of {_names(few)}" if few else None


def _leak(metrics: Metrics) -> str | None:
    found = _hygiene(metrics).get("leaks") or []
    return f"told by {_names([str(one['feature']) for one in found])} alone" if found else None


def _copies(key: str, words: str) -> Look:
    def look(metrics: Metrics) -> str | None:
        counts = {
            f"{name} ({kind})": one[key]
            for kind in ("exact", "copies", "near")
            for name, one in (_hygiene(metrics).get(kind) or {}).items()
            if one.get(key)
        }
        told = ", ".join(f"{count} clusters in {name}" for name, count in counts.items())
        return f"{told} {words}" if counts else None

    return look


def _too_many(metrics: Metrics) -> str | None:
    large = _hygiene(metrics).get("large") or {}
    told = [f"{sizes[0]} rows in {name}" for name, sizes in large.items()]
    return _names(told) if told else None


def _groups(key: str, words: str) -> Look:
    def look(metrics: Metrics) -> str | None:
        told = _hygiene(metrics).get("groups") or {}
        if not told.get(key):
            return None
        return f"{told[key]} of {told['groups']} groups in column {told['column']} {words}"

    return look


def _few_groups(metrics: Metrics) -> str | None:
    column = (metrics.get("folds") or {}).get("group")
    units = _first(metrics).get("accuracy", {}).get("by_group", {}).get("groups", FEW_GROUPS)
    if column in (None, "duplicates") or units >= FEW_GROUPS:
        return None
    none = "; no difference between systems can be shown" if units < 6 else ""
    return f"{units} groups in column {column}{none}"


def _tie(metrics: Metrics) -> str | None:
    others = metrics.get("comparisons") or []
    same = [str(one["b"]) for one in others if one["verdict"] == "not distinguishable"]
    return f"{len(same)} of {len(others)} others are not distinguishable" if same else None


def _slope(over: bool) -> Look:
    def look(metrics: Metrics) -> str | None:
        slope = (_first(metrics).get("calibration") or {}).get("slope")
        if not slope:
            return None
        off = slope["high"] < 1 if over else slope["low"] > 1
        if not off or abs(slope["value"] - 1) < TOO_STEEP:
            return None
        return f"calibration slope {slope['value']:.2f} ({slope['low']:.2f} to {slope['high']:.2f})"

    return look


def _looks(metrics: Metrics) -> str | None:
    told = _hygiene(metrics).get("looks") or {}
    if told.get("looks", 0) < LOOKS and told.get("systems", 0) <= TRIED:
        return None
    return f"{told['looks']} looks, {told['systems']} systems"


def _below(metrics: Metrics) -> str | None:
    row = _first(metrics)
    test = row.get("test")
    if not test:
        return None
    low, high = (
        (one["accuracy"].get("by_group") or one["accuracy"])[end]
        for one, end in ((row, "low"), (test, "high"))
    )
    if high >= low:
        return None
    folds, split = (one["accuracy"]["value"] for one in (row, test))
    return f"{folds:.4f} by folds, {split:.4f} on the test split"


def _saw(metrics: Metrics) -> str | None:
    saw = _hygiene(metrics).get("seen") or {}
    told = [f"{name} ({count} rows)" for name, count in saw.items() if count]
    return _names(told) if told else None


def _left_out(metrics: Metrics) -> str | None:
    account = (metrics.get("settings") or {}).get("rows") or {}
    count = account.get("excluded_incomplete", 0) if not account.get("missing") else 0
    return f"{count} labelled rows lack a vector" if count else None


def _no_class(metrics: Metrics) -> str | None:
    parts = [part for repeat in metrics.get("fold_table") or [] for part in repeat]
    bare = [part for part in parts if 0 in part["classes"]]
    return f"{len(bare)} of {len(parts)} folds hold out no row of some class" if bare else None


def _uneven(metrics: Metrics) -> str | None:
    sizes = [part["n"] for repeat in metrics.get("fold_table") or [] for part in repeat]
    if not sizes or max(sizes) <= UNEVEN * min(sizes):
        return None
    return f"folds hold out {min(sizes)} to {max(sizes)} rows"


def _dates(metrics: Metrics) -> str | None:
    names = (metrics.get("settings") or {}).get("dates") or []
    kind = str((metrics.get("folds") or {}).get("kind", ""))
    return f"column {_names(names)}" if names and not kind.startswith("time") else None


def _flatters(metrics: Metrics) -> str | None:
    told = metrics.get("selection")
    row = _first(metrics)
    if not told or told["optimism"] < (row["accuracy"]["value"] - row["accuracy"]["low"]) / 2:
        return None
    other = told["nested"]["value"]
    return f"{told['apparent']:.4f} as the best of {told['systems']}, {other:.4f} by other rows"


def _failed(metrics: Metrics) -> str | None:
    failed = metrics.get("failed") or []
    return _names([str(one["name"]) for one in failed]) if failed else None


def _approximate(metrics: Metrics) -> str | None:
    names = [
        str(row["name"])
        for row in metrics.get("leaderboard") or []
        if any(str(note).startswith("approximate") for note in row.get("notes") or [])
    ]
    return _names(names) if names else None


def _edge(metrics: Metrics) -> str | None:
    """Options that in every fold were chosen at an end of what was tried."""
    out = []
    for row in metrics.get("leaderboard") or []:
        chosen, points = row.get("chosen") or [], (row.get("tried") or {}).get("points") or []
        for name in chosen[0] if chosen and points else ():
            tried = {p.get(name) for p in points if isinstance(p.get(name), int | float)}
            ends = {min(tried), max(tried)} if len(tried) > 2 else set()
            taken = {one.get(name) for one in chosen}
            if len(taken) == 1 and taken <= ends:
                out.append(f"{row['name']} {name}={taken.pop():g}")
    return _names(out) if out else None


RULES: tuple[tuple[str, str, str, str, Look], ...] = (
    ("HS01", "accuracy hides a rare class",
     "Frequent classes make most of the accuracy. Rare ones are answered much worse.",
     "judge by the balanced accuracy and the recalls", _imbalance),
    ("HS02", "no better than guessing",
     "Exchanging the labels within folds makes systems that are right as often.",
     "expect nothing of this model; look at labels and features", _guessing),
    ("HS03", "a class that is never right",
     "No row of this class gets its right answer, though there are five or more.",
     "label more rows of it, or join it with another", _unanswered),
    ("HS04", "a class of few rows",
     "Of so few rows the recall can be nearly anything; its interval says so.",
     "label more rows of it", _rare),
    ("HS05", "a column that tells the label",
     "One column alone nearly always gives the label away. Mostly it was made from it.",
     "leave the column out unless it is known when you predict", _leak),
    ("HS06", "copies in different folds",
     "The same file, or nearly, is learned from in one fold and scored in another.",
     "use --dedupe group or drop", _copies("across_folds", "lie across folds")),
    ("HS07", "copies on both sides of a held-out split",
     "The test or valid split holds rows that training rows are copies of.",
     "use --dedupe drop, or mend the split", _copies("across_splits", "lie on both sides")),
    ("HS08", "copies with different labels",
     "Rows that are alike have different labels: at least one of them is wrong.",
     "look at them in the report and mend the labels", _copies("other_label", "disagree in label")),
    ("HS09", "groups in several folds",
     "Rows of one person, place or day are learned from and scored.",
     "use --group with this column", _groups("across_folds", "have rows in several folds")),
    ("HS10", "groups on both sides of a held-out split",
     "The test or valid split does not say what a new group would score.",
     "split by group", _groups("across_splits", "have rows on both sides")),
    ("HS11", "few groups",
     "What varies from group to group is known from few of them: intervals are wide, and with "
     "fewer than six groups no difference between systems can be shown.",
     "collect more groups before more rows", _few_groups),
    ("HS12", "a tie at the top",
     "Other systems are as good on these rows, as far as can be told. Their order is chance.",
     "take the simplest of them", _tie),
    ("HS13", "overconfident probabilities",
     "The probabilities lie too far apart: the calibration slope is clearly below 1.",
     "do not act on a probability alone; calibrate, or take another head", _slope(True)),
    ("HS14", "underconfident probabilities",
     "The probabilities lie too close together: the calibration slope is clearly above 1.",
     "calibrate, or take another head, where thresholds matter", _slope(False)),
    ("HS15", "a test split looked at often",
     "Whoever looks at a test split, changes something and looks again chooses by it.",
     "keep new rows for the last word, and use --test-scores none until then", _looks),
    ("HS16", "folds far above the test split",
     "The intervals of both do not meet: the test rows are of another kind, or the folds leak.",
     "look for groups, times and copies that tie rows together", _below),
    ("HS17", "a network that saw the labels",
     "A set's network was adapted on rows that are scored here.",
     "adapt with --folds", _saw),
    ("HS18", "rows left out for lack of a vector",
     "Scores are of the other rows, which may be the easier ones.",
     "extract again, or answer them by what they have with --missing patterns", _left_out),
    ("HS19", "a fold without a class",
     "Some fold holds out no row of a class. Its recall is of the other folds.",
     "use fewer folds, or more rows or groups of the class", _no_class),
    ("HS20", "uneven folds",
     "The largest fold is more than twice the smallest: large groups or many copies.",
     "look at the groups; use fewer folds", _uneven),
    ("HS21", "a date that is not used",
     "The manifest has dates, and folds mix past and future.",
     "if you predict what comes later, use --folds time:COLUMN", _dates),
    ("HS22", "the choice flatters",
     "Much of the lead of the first system comes from having been chosen by these rows.",
     "believe the figure chosen on other rows", _flatters),
    ("HS23", "systems that failed",
     "These lines of the leaderboard have no score.",
     "see the reasons below the table", _failed),
    ("HS24", "fusions that are approximate",
     "What such a fusion learned from had seen the fold that is scored.",
     "use three folds or more, and leave --no-nested away", _approximate),
    ("HS25", "a search that ends at its edge",
     "In every fold the best value was the first or the last that was tried.",
     "try values beyond it", _edge),
    ("HS26", "more alike rows than a fold holds",
     "So many rows have nearly the same vector that no fold could hold them: they lie in several.",
     "look at these rows; leave the set out, or name groups with --group", _too_many),
)  # fmt: skip
