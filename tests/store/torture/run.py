"""Torture the store: ``python tests/store/torture/run.py --full --seed N`` prints what was counted.

Without ``--full`` a quick share of each part runs, with ``--share 0.3`` about so much of a full
run. ``--part`` picks one part; a failing case names its seed and numbers, and running the same part
with the same seed meets it again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import absent
import below
import calls
import crowd
import cuts
import decoders
import extracts
import faults
import flips
import folders
import fuzz
import kills
import machine
import mutants
import newer
import oracle
import reads
import signals
import vanish
import weave

Part = Callable[[Path, int, float], dict[str, Any]]


def some(full: int, share: float, least: int) -> int:
    """That share of a full run's cases, but some."""
    return max(least, round(full * share))


def every(share: float, least: int) -> int:
    """One case in so many."""
    return min(least, round(1 / max(share, 1e-9)))


def unlinked(folder: Path, one_in: int, seed: int) -> dict[str, Any]:
    """The kills again, where names cannot be linked."""
    with calls.no_links():
        return kills.run(folder, one_in, seed)


PARTS: dict[str, Part] = {
    "kills": lambda folder, seed, share: kills.run(folder, every(share, 40), seed),
    "no-links": lambda folder, seed, share: unlinked(folder, every(share, 80), seed),
    "below": lambda folder, seed, share: below.run(folder, some(200, share, 6), seed),
    "cuts": lambda folder, seed, share: cuts.run(
        folder, some(2000, share, 30), some(500, share, 30), seed
    ),
    "faults": lambda folder, seed, share: faults.run(folder, every(share, 60), seed),
    "reads": lambda folder, seed, share: reads.run(folder, every(share, 900), seed),
    "vanish": lambda folder, seed, share: vanish.run(folder, every(share, 40), seed),
    "oracle": lambda folder, seed, share: oracle.run(folder, some(2000, share, 12), seed),
    "weave": lambda folder, seed, share: weave.run(folder, every(share, 40), seed),
    "crowd": lambda folder, seed, share: crowd.run(folder, some(600, share, 5), seed=seed),
    "machine": lambda folder, seed, share: machine.run(folder, some(2000, share, 12), seed),
    "flips": lambda folder, seed, share: flips.run(
        folder, some(20000, share, 900), seed, 512 if share else 4096
    ),
    "folders": lambda folder, seed, share: folders.run(folder, every(share, 30), seed),
    "fuzz": lambda folder, seed, share: fuzz.run(folder, some(2000, share, 15), seed),
    "newer": lambda folder, seed, share: newer.run(folder, some(500, share, 10), seed),
    "images": lambda folder, seed, share: decoders.run(
        folder, "images", some(10000, share, 100), seed
    ),
    "sounds": lambda folder, seed, share: decoders.run(
        folder, "sounds", some(10000, share, 60), seed
    ),
    "extracts": lambda folder, seed, share: extracts.run(folder, some(12, share, 2), seed),
    "absent": lambda folder, seed, share: absent.run(folder, some(400, share, 2), seed),
    "signals": lambda folder, seed, share: signals.run(folder, some(480, share, 3), seed),
    "mutants": lambda folder, seed, share: mutants.run(folder, seed, None if share else QUICK),
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


def one(name: str, seed: int, share: float) -> dict[str, Any]:
    """Run a part; its counts and everything that went wrong."""
    folder, start = scratch(), time.monotonic()
    try:
        told = PARTS[name](folder, seed, share)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {**told, "seconds": round(time.monotonic() - start)}


def apart(name: str, seed: int, share: float) -> dict[str, Any]:
    """The same in a process of its own."""
    how = ["--part", name, "--seed", str(seed), "--share", str(share), "--json", "--jobs", "1"]
    told = subprocess.run(
        [sys.executable, __file__, *how], capture_output=True, text=True, check=False
    )
    try:
        report: dict[str, Any] = json.loads(told.stdout)[name]
    except ValueError:
        report = {"seconds": 0, "wrong": [f"the part died: {told.stderr[-2000:]}"]}
    print(f"{name}: {report['seconds']} s, {len(report['wrong'])} wrong", file=sys.stderr)
    return report


def torture(names: list[str], seed: int, share: float, jobs: int) -> dict[str, Any]:
    """Run the parts, so many at a time; their reports by name."""
    if jobs == 1 or len(names) == 1:
        return {name: one(name, seed, share) for name in names}
    with ThreadPoolExecutor(jobs) as pool:
        reports = pool.map(lambda name: apart(name, seed, share), names)
        return dict(zip(names, reports, strict=True))


def table(report: dict[str, Any], seed: int, share: float) -> str:
    """The counts as Markdown."""
    lines = ["| part | counts | wrong | seconds |", "|---|---|---|---|"]
    for name, told in report.items():
        counts = ", ".join(
            f"{v:,} {k}" if isinstance(v, int) else f"{k} {v}"
            for k, v in told.items()
            if isinstance(v, int | str) and k != "left out"
        )
        counts = counts.replace(f", {told['seconds']:,} seconds", "")
        lines.append(f"| {name} | {counts} | {len(told['wrong'])} | {told['seconds']} |")
    how = "full" if share == 1 else f"{share:.0%} of a full run" if share else "quick share"
    for name, told in report.items():
        if "left out" in told:
            lines.append(f"\n{name} was left out: {told['left out']}.")
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return "\n".join([f"{how}, seed {seed}, {day}", "", *lines])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_const", const=1.0, dest="share", default=0.0)
    parser.add_argument("--share", type=float, help="of the cases of a full run, 0 to 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", action="append", choices=list(PARTS))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--jobs", type=int, default=2, help="parts at a time")
    options = parser.parse_args()
    report = torture(options.part or list(PARTS), options.seed, options.share, options.jobs)
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        print(table(report, options.seed, options.share))
    wrong = [f"{name}: {line}" for name, told in report.items() for line in told["wrong"]]
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
