"""The leaderboard of the reference workload with every head and every fusion.

``python bench/leaderboard.py`` prints Markdown: heads by feature sets and fusions, then what the
run says in words. All 13,802 rows take half an hour on two quiet cores, most of it networks and
trees, which look at each of 2,048 columns. With ``--reuse FOLDER`` answers are kept there, so that
the whole can be run in slices: a head a run, then all of them. Fusions learn from members that
answered each other's folds; with ``--nested`` members are fitted anew without the fold that is
scored, as ``evaluate`` does by itself: five times the fits.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the headstock command sets it
from heads_workload import TEST, TRAIN, workload

from headstock.heads import HEADS, make_folds
from headstock.heads.evaluate_classes import evaluate_rows
from headstock.heads.evaluation.reuse import Reuse
from headstock.heads.fusion.fusions import FUSIONS
from headstock.heads.report.findings import findings
from headstock.heads.run.run import Run
from headstock.heads.run.scores import Line

ON = ("image", "audio")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=TRAIN, help="training rows")
    parser.add_argument("--test", type=int, default=TEST, help="test rows, scored once")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--head", dest="heads", action="append", help="a head; all by default")
    parser.add_argument("--nested", action="store_true", help="members anew for each fold")
    parser.add_argument("--reuse", type=Path, help="keep answers here, and take them again")
    parser.add_argument("-o", "--output", type=Path, help="run folder to write")
    given = parser.parse_args()
    rows, test = workload(given.train, given.test)
    plan = make_folds(rows.codes, given.folds, ids=rows.ids)
    kept = Reuse(given.reuse) if given.reuse else None
    begin, cpu = time.perf_counter(), time.process_time()
    result = evaluate_rows(
        rows, given.heads or list(HEADS), [*ON, "+".join(ON)], list(FUSIONS), plan,
        test=test, nested=given.nested, reuse=kept,
    )  # fmt: skip
    if given.output:
        result.save(given.output)
    board = result.leaderboard
    taken = f", {kept.counts['found']} answers taken again" if kept else ""
    print(
        f"{given.train:,} + {given.test:,} rows, {given.folds} folds, "
        f"{len(board)} systems: {time.perf_counter() - begin:.0f} s, "
        f"{time.process_time() - cpu:.0f} s of CPU, {len(os.sched_getaffinity(0))} cores, "
        f"load {os.getloadavg()[0]:.1f}, peak {peak():.1f} GB{taken}\n"
    )
    print(table(board), "\n", *(f"- {line}" for line in others(result.run)), sep="\n")


def peak() -> float:
    """GB that this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def table(board: Sequence[Line]) -> str:
    """Accuracy out of fold, and that of the test rows, of each head on each set and fusion."""
    places = {(r.head, r.fusion or r.on): r for r in board}
    names = [*ON, *(f for f in FUSIONS if f != "stacked" and f != "learned")]
    heads = [r.head for r in board if r.head != "all" and r.fusion != "learned"]
    heads = list(dict.fromkeys(heads))
    lines = [f"| head | {' | '.join(names)} | seconds |", "|---" * (len(names) + 2) + "|"]
    for head in [h for h in HEADS if h in heads] + [h for h in heads if h not in HEADS]:
        cells = []
        for name in names:
            row = places.get((head, name))
            cells.append(_two(row) if row else "")
        spent = sum(places[head, on].seconds or 0 for on in (*ON, "early") if (head, on) in places)
        lines.append(f"| {head} | {' | '.join(cells)} | {spent:.1f} |")
    return "\n".join(lines)


def _two(line: Line) -> str:
    assert line.test
    return f"{line.accuracy.value:.4f}, {line.test.accuracy.value:.4f}"


def others(run: Run) -> list[str]:
    """The systems that are of no one head, then the words."""
    lines = []
    for row in run.leaderboard:
        if row.fusion in ("stacked", "learned") or row.head == "all":
            low, high = row.accuracy.low, row.accuracy.high
            lines.append(
                f"{row.name}: {_two(row)} (95 % {low:.4f} to {high:.4f}, "
                f"{row.errors:g} errors, log-loss {row.log_loss:.4f}, {row.seconds:.1f} s)"
            )
        if row.gate:
            gate = row.gate
            lines.append(
                f"{row.name}: {gate.first} hands {gate.k} rows to {gate.second}, "
                f"{gate.apparent_accuracy:.4f} apparent, {gate.nested_accuracy:.4f} nested, "
                f"best alone {gate.best} {gate.best_accuracy:.4f}: {gate.verdict}"
            )
    return lines + findings(run)


if __name__ == "__main__":
    main()
