"""Simulate every statement that the product makes of numbers: ``python tests/honesty/run.py``.

``--seeds N``: simulated runs of each claim (some take a part, or a multiple). ``--only WORD``:
claims whose key has it. ``--mutants``: also plant each mistake and see that its claim fails.
``--write FILE``: the table as Markdown. The exit code is 1 when a claim does not hold.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from claims import CLAIMS, Claim
from mutants import MUTANTS, Mutant, applied


class Measured(NamedTuple):
    """The mean over seeds, its standard error, how many seeds, and whether the claim holds."""

    value: float
    error: float
    seeds: int
    holds: bool


def measured(claim: Claim, seeds: int) -> Measured:
    """A rate's standard error is not taken for smaller than that of one miss more."""
    values = np.array([claim.measure(seed) for seed in range(seeds)], dtype=float)
    error = float(values.std(ddof=1) / np.sqrt(seeds)) if seeds > 1 else float("inf")
    if set(np.unique(values)) <= {0.0, 1.0}:
        share = (values.sum() + 1) / (seeds + 2)
        error = float(np.sqrt(share * (1 - share) / seeds))
    value = float(values.mean())
    holds = claim.low - 3 * error <= value <= claim.high + 3 * error
    return Measured(value, error, seeds, holds)


def notices(mutant: Mutant) -> bool:
    """Whether its claim fails with the mistake in place, and holds without it."""
    claim = next(claim for claim in CLAIMS if claim.key == mutant.key)
    with applied(mutant):
        broken = measured(claim, mutant.seeds)
    return not broken.holds and measured(claim, mutant.seeds).holds


def row(claim: Claim, found: Measured) -> list[str]:
    digits = 4 if claim.nominal.startswith("0") else 3
    value = f"{found.value:.{digits}f} ± {found.error:.{digits}f}"
    return [claim.says, claim.simulation, claim.nominal, value, str(found.seeds)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=400)
    parser.add_argument("--only", default="")
    parser.add_argument("--mutants", action="store_true")
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    lines = ["| says | simulation | nominal | measured | seeds |", "|---|---|---|---|---|"]
    wrong = 0
    for claim in [c for c in CLAIMS if given.only in c.key]:
        start = time.perf_counter()
        found = measured(claim, max(4, round(given.seeds * claim.weight)))
        wrong += not found.holds
        cells = row(claim, found)
        lines.append("| " + " | ".join(cells) + " |")
        word = "" if found.holds else "  DOES NOT HOLD"
        spent = time.perf_counter() - start
        print(
            f"{claim.key}: {cells[3]} ({cells[2]}), {cells[4]} seeds, {spent:.0f} s{word}",
            flush=True,
        )
        if given.write:  # after each claim: a long run that is ended leaves what it measured
            given.write.write_text("\n".join(lines) + "\n", "utf-8")
    for mutant in MUTANTS if given.mutants else []:
        caught = notices(mutant)
        wrong += not caught
        print(f"mutant: {mutant.name}: {'caught' if caught else 'GOT AWAY'}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
