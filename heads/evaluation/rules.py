"""The rules of the checks: code, title, what it means, what to do, and the look at a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headstock.heads.rows.agreement import EXCESS, LEVEL
from headstock.heads.run.run import Run
from headstock.heads.run.scores import OfClass
from headstock.heads.statistics.chance import LEAST
from headstock.store.errors import one_line

__all__ = ["RULES"]

Look = Callable[[Run], str | None]
HIDDEN = 0.1
"""Accuracy less balanced accuracy from which the rare classes are worse than it seems."""
FEW_GROUPS = 10
FEW_ROWS = 10
TOO_STEEP = 0.1
"""How far a calibration slope must be from 1 to matter."""
LOOKS = 3
TRIED = 10
UNEVEN = 2.0
MOSTLY = 0.95
"""Share of one class from which its rows decide nearly all of the accuracy."""
BY_ROWS = ("accuracy", "micro_f1")
"""Metrics in which each class counts as it is frequent."""


def _names(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(one_line(name, 40) for name in names[:most]) + more


def _classes(run: Run, keep: Callable[[OfClass], bool]) -> list[str]:
    """The classes whose figures of the first system are to ``keep``."""
    pairs = zip(run.settings.classes, run.leaderboard[0].per_class)
    return [name for name, one in pairs if one.n and keep(one)]


def _imbalance(run: Run) -> str | None:
    accuracy, balanced = run.leaderboard[0].accuracy.value, run.leaderboard[0].balanced_accuracy
    if accuracy - balanced < HIDDEN or run.settings.decides not in BY_ROWS:
        return None
    return f"accuracy {accuracy:.4f}, and {balanced:.4f} when each class counts alike"


def _mostly_one(run: Run) -> str | None:
    counts = [one.n for one in run.leaderboard[0].per_class]
    if run.settings.decides not in BY_ROWS or max(counts, default=-1) < MOSTLY * sum(counts):
        return None
    name, rarest = (run.settings.classes[counts.index(edge(counts))] for edge in (max, min))
    better = "macro_f1" if len(counts) > 2 else f"average_precision:{one_line(rarest, 40)}"
    share = max(counts) / sum(counts)
    return f"{100 * share:.1f} % of the rows are {one_line(name, 40)}: try --metric {better}"


def _guessing(run: Run) -> str | None:
    count, alone = len(run.leaderboard), run.leaderboard[0].chance_p or 0.0
    if alone <= LEAST:  # of many systems the product would say no more than how many they are
        return None
    p = min(1.0, alone * count)
    return f"p {p:.2g} that the first of {count} systems only guesses" if p > 0.05 else None


def _unanswered(run: Run) -> str | None:
    never = _classes(run, lambda one: one.recall == 0 and one.n >= 5)
    return f"the first system has no row right of {_names(never)}" if never else None


def _rare(run: Run) -> str | None:
    few = _classes(run, lambda one: one.n < FEW_ROWS)
    return f"fewer than {FEW_ROWS} rows of {_names(few)}" if few else None


def _leak(run: Run) -> str | None:
    leaks = run.hygiene.leaks
    return f"told by {_names([one.feature for one in leaks])} alone" if leaks else None


def _copies(count: str, words: str) -> Look:
    def look(run: Run) -> str | None:
        kinds = {"exact": run.hygiene.exact, "copies": run.hygiene.copies, "near": run.hygiene.near}
        counts = [
            f"{number} clusters in {name} ({kind})"
            for kind, by in kinds.items()
            for name, one in (by or {}).items()
            if (number := getattr(one, count))
        ]
        return f"{', '.join(counts)} {words}" if counts else None

    return look


def _too_many(run: Run) -> str | None:
    large = [f"{max(sizes)} rows in {name}" for name, sizes in run.hygiene.large.items() if sizes]
    return _names(large) if large else None


def _neighbours(run: Run) -> str | None:
    found = [
        f"{one.nearest:.2f} of the nearest rows of other folds have the label in {name}, and "
        f"{one.second:.2f} of the second nearest"
        for name, one in run.hygiene.neighbours.items()
        if one.nearest - one.second >= EXCESS and one.p <= LEVEL
    ]
    return "; ".join(found) if found else None


def _groups(count: str, words: str) -> Look:
    def look(run: Run) -> str | None:
        groups = run.hygiene.groups
        number = getattr(groups, count) if groups else 0
        if groups is None or not number:
            return None
        return f"{number} of {groups.groups} groups in column {groups.column} {words}"

    return look


def _few_groups(run: Run) -> str | None:
    by_group = run.leaderboard[0].accuracy.by_group
    if not run.folds.grouped or by_group is None or by_group.groups >= FEW_GROUPS:
        return None
    none = "; no difference between systems can be shown" if by_group.groups < 6 else ""
    return f"{by_group.groups} groups in column {run.folds.group}{none}"


def _tie(run: Run) -> str | None:
    same, others = [one for one in run.comparisons if not one.differs], run.comparisons
    return f"{len(same)} of {len(others)} others are not distinguishable" if same else None


def _slope(over: bool) -> Look:
    def look(run: Run) -> str | None:
        line = run.leaderboard[0].calibration
        slope = line and line.slope
        if not slope or not (slope.high < 1 if over else slope.low > 1):
            return None
        if abs(slope.value - 1) < TOO_STEEP:
            return None
        return f"calibration slope {slope.value:.2f} ({slope.low:.2f} to {slope.high:.2f})"

    return look


def _looks(run: Run) -> str | None:
    looks = run.hygiene.looks
    if looks is None or (looks.looks < LOOKS and looks.systems <= TRIED):
        return None
    return f"{looks.looks} looks, {looks.systems} systems"


def _below(run: Run) -> str | None:
    line = run.leaderboard[0]
    if line.test is None or line.test.accuracy.ends(True).high >= line.accuracy.ends(True).low:
        return None
    by_folds, on_split = line.accuracy.value, line.test.accuracy.value
    return f"{by_folds:.4f} by folds, {on_split:.4f} on the test split"


def _saw(run: Run) -> str | None:
    saw = [f"{name} ({count} rows)" for name, count in run.hygiene.seen.items() if count]
    return _names(saw) if saw else None


def _left_out(run: Run) -> str | None:
    account = run.settings.rows
    if account is None or account.missing or not account.excluded_incomplete:
        return None
    return f"{account.excluded_incomplete} labelled rows lack a vector"


def _no_class(run: Run) -> str | None:
    folds = [fold for repeat in run.fold_table for fold in repeat]
    bare = [fold for fold in folds if 0 in fold.classes]
    return f"{len(bare)} of {len(folds)} folds hold out no row of some class" if bare else None


def _uneven(run: Run) -> str | None:
    sizes = [fold.n for repeat in run.fold_table for fold in repeat]
    if not sizes or max(sizes) <= UNEVEN * min(sizes):
        return None
    return f"folds hold out {min(sizes)} to {max(sizes)} rows"


def _dates(run: Run) -> str | None:
    names = run.settings.dates
    return f"column {_names(names)}" if names and not run.folds.kind.startswith("time") else None


def _flatters(run: Run) -> str | None:
    chosen, accuracy = run.selection, run.leaderboard[0].accuracy
    if chosen is None or chosen.optimism < (accuracy.value - accuracy.low) / 2:
        return None
    other = chosen.nested.value
    return f"{chosen.apparent:.4f} as the best of {chosen.systems}, {other:.4f} by other rows"


def _failed(run: Run) -> str | None:
    return _names([one.name for one in run.failed]) if run.failed else None


def _approximate(run: Run) -> str | None:
    names = [
        line.name
        for line in run.leaderboard
        if any(note.startswith("approximate") for note in line.notes)
    ]
    return _names(names) if names else None


def _edge(run: Run) -> str | None:
    """Options that in every fold were chosen at an end of what was tried."""
    out = []
    for line in run.leaderboard:
        points = line.tried.points if line.tried else ()
        for name in line.chosen[0] if line.chosen and points else ():
            tried = {p[name] for p in points if isinstance(p.get(name), int | float)}
            ends = (min(tried), max(tried)) if len(tried) > 2 else ()
            values = [one.get(name) for one in line.chosen]
            if values[0] in ends and all(value == values[0] for value in values):
                out.append(f"{line.name} {name}={values[0]:g}")
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
    ("HS27", "neighbours that agree as copies do",
     "The nearest row of another fold has the same label much more often than the second nearest. "
     "Where features tell the label both do; one alone does where rows have copies.",
     "look for rows of one source, and name it with --group", _neighbours),
    ("HS28", "the accuracy is nearly all of one class",
     "Whoever always answers the frequent class is nearly always right: the accuracy hardly tells "
     "systems apart that find the other rows from those that do not.",
     "let another metric decide: auroc or average_precision of the rare class, macro_f1, mcc",
     _mostly_one),
)  # fmt: skip
