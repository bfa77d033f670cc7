"""Torture the store: ``python tests/store/torture/run.py --full --seed N`` prints what was counted.

Without ``--full`` a small share of each part runs. ``--part`` picks one part; a failing case names
its seed and numbers, and running the same part with the same seed meets it again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import below
import crowd
import cuts
import faults
import flips
import fuzz
import kills
import machine
import mutants
import weave

Part = Callable[[Path, int, bool], dict[str, Any]]
PARTS: dict[str, Part] = {
    "kills": lambda folder, seed, full: kills.run(folder, 1 if full else 40, seed),
    "below": lambda folder, seed, full: below.run(folder, 200 if full else 4, seed),
    "cuts": lambda folder, seed, full: cuts.run(
        folder, 2000 if full else 30, 500 if full else 30, seed
    ),
    "faults": lambda folder, seed, full: faults.run(folder, 1 if full else 60, seed),
    "weave": lambda folder, seed, full: weave.run(folder, 1 if full else 40, seed),
    "crowd": lambda folder, seed, full: crowd.run(folder, 600 if full else 5, seed=seed),
    "machine": lambda folder, seed, full: machine.run(folder, 2000 if full else 12, seed),
    "flips": lambda folder, seed, full: flips.run(
        folder, 20000 if full else 900, seed, 512 if full else 4096
    ),
    "fuzz": lambda folder, seed, full: fuzz.run(folder, 2000 if full else 15, seed),
    "mutants": lambda folder, seed, full: mutants.run(folder, seed, None if full else QUICK),
}
QUICK = [
    "a file gets its name before it is written",
    "row checksums are not compared",
    "the checksum of the metadata is not compared",
]


def scratch() -> Path:
    """A folder in memory where there is one: kills and simulated cuts need no disk."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="torture-", dir=memory if memory.is_dir() else None))


def torture(names: list[str], seed: int, full: bool) -> dict[str, Any]:
    """Run the parts; counts and everything that went wrong, by part."""
    report: dict[str, Any] = {}
    for name in names:
        folder, start = scratch(), time.monotonic()
        try:
            report[name] = PARTS[name](folder, seed, full)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        report[name]["seconds"] = round(time.monotonic() - start)
    return report


def table(report: dict[str, Any], seed: int, full: bool) -> str:
    """The counts as Markdown."""
    lines = ["| part | counts | wrong | seconds |", "|---|---|---|---|"]
    for name, told in report.items():
        counts = ", ".join(f"{v:,} {k}" for k, v in told.items() if isinstance(v, int))
        counts = counts.replace(f", {told['seconds']:,} seconds", "")
        lines.append(f"| {name} | {counts} | {len(told['wrong'])} | {told['seconds']} |")
    how = "full" if full else "quick share"
    for name, told in report.items():
        if "left out" in told:
            lines.append(f"\n{name} was left out: {told['left out']}.")
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return "\n".join([f"{how}, seed {seed}, {day}", "", *lines])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", action="append", choices=list(PARTS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report = torture(options.part or list(PARTS), options.seed, options.full)
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        print(table(report, options.seed, options.full))
    wrong = [f"{name}: {line}" for name, told in report.items() for line in told["wrong"]]
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
