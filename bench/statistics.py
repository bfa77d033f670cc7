"""What the statistics of a large board cost: 101 systems of 13,802 rows and 9 classes.

``python bench/statistics.py`` prints Markdown. Answers are synthetic (one signal under noise of
each system's own), for only their number matters here. Beside it SciPy's bootstrap of one interval
for the difference of two systems, in as many resamples.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import softmax
from scipy.stats import bootstrap

from headstock.heads.statistics.chance import chance_p
from headstock.heads.statistics.compare import against_best, rights
from headstock.heads.statistics.figures import calibration_line, figures
from headstock.heads.statistics.intervals import RESAMPLES
from headstock.heads.statistics.metrics import ByRow
from headstock.heads.statistics.selection import selection


def answers(systems: int, n: int, k: int, seed: int = 0) -> tuple[dict[str, Any], np.ndarray]:
    """Probabilities (1, n, k) by system, the best first, and the codes (n,)."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, k, n)
    signal = rng.normal(size=(n, k)) + 4 * np.eye(k)[codes]
    proba = {}
    for system in range(systems):
        proba[f"s{system}"] = softmax(signal + 0.8 * rng.normal(size=(n, k)), axis=1)[None]
    return dict(sorted(proba.items(), key=lambda one: -rights(one[1], codes).mean())), codes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--systems", type=int, default=101)
    parser.add_argument("--rows", type=int, default=13_802)
    parser.add_argument("--classes", type=int, default=9)
    given = parser.parse_args()
    proba, codes = answers(given.systems, given.rows, given.classes)
    names, folds = list(proba), np.arange(given.rows) % 5
    predicted = np.stack([p[0].argmax(axis=1) for p in proba.values()], axis=1)
    gain = rights(proba[names[0]], codes) - rights(proba[names[1]], codes)

    def all_figures() -> None:
        for one in proba.values():
            figures([ByRow.of(one[0], codes)], codes, given.classes, None)

    parts: dict[str, Callable[[], Any]] = {
        "metrics and their intervals": all_figures,
        "lines of calibration": lambda: [calibration_line(p, codes) for p in proba.values()],
        "p-values against guessing": lambda: chance_p(predicted, codes, folds, None, 0),
        "comparisons, adjusted for all pairs": lambda: against_best(names, proba, codes),
        "the choice, scored on other rows": lambda: selection(names, proba, codes),
        "SciPy: one interval of one difference": lambda: bootstrap(
            (gain,), np.mean, n_resamples=RESAMPLES, batch=100, method="BCa", rng=0
        ),
    }
    print(f"{given.systems} systems, {given.rows:,} rows, {given.classes} classes\n")
    print("| | seconds | of the processor |\n|---|---|---|")
    for name, part in parts.items():
        begin, cpu = time.perf_counter(), time.process_time()
        part()
        print(f"| {name} | {time.perf_counter() - begin:.2f} | {time.process_time() - cpu:.2f} |")


if __name__ == "__main__":
    main()
