"""Heads side by side: headstock's engine against plain scikit-learn and LightGBM, in one run.

    python bench/heads.py [--train 13802] [--heads logistic,lda,...] [--plain-folds 1] [--out FILE]

Both do the same job on the same rows and folds: out-of-fold probabilities of five folds, and the
refit's of the test rows, for each head on image, audio and both. Each way runs in a process of its
own, so that peak memory is its own. The plain way is what a careful user writes: a Pipeline with
StandardScaler and the library's estimator, calibrated by CalibratedClassifierCV where it has no
probabilities. ``--plain-folds N`` runs only N of the folds and no refit the plain way and
multiplies its seconds up (said in the output); scores are then compared on those folds' rows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from heads_workload import workload

from headstock.heads.engine import answer_all
from headstock.heads.folds import make_folds
from headstock.heads.fusion import cross_fuse
from headstock.heads.metrics import log_loss
from headstock.heads.shared import Shared

HEADS = ("logistic", "lda", "rbf-svm", "knn", "lightgbm")
ON = ("image", "audio", "image+audio")
FOLDS = 5


def plain(name: str) -> Any:
    """What a careful user writes, with the library's defaults where headstock has no other say."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    if name == "logistic":
        from sklearn.linear_model import LogisticRegression

        return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    if name == "lda":
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        return make_pipeline(
            StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        )
    if name == "linear-svm":
        from sklearn.svm import LinearSVC

        machine = LinearSVC(C=0.003, dual="auto", max_iter=2000)
        return make_pipeline(StandardScaler(), CalibratedClassifierCV(machine))
    if name == "rbf-svm":
        from sklearn.svm import SVC

        return make_pipeline(
            StandardScaler(), CalibratedClassifierCV(SVC(C=10, cache_size=1000), ensemble=False)
        )
    if name == "knn":
        from sklearn.neighbors import KNeighborsClassifier

        return make_pipeline(
            StandardScaler(), Normalizer(), KNeighborsClassifier(10, weights="distance")
        )
    if name == "lightgbm":
        from lightgbm import LGBMClassifier

        return LGBMClassifier(verbosity=-1)
    raise SystemExit(f"no plain form of {name}")


def figures(proba: np.ndarray, codes: np.ndarray) -> dict[str, float]:
    return {
        "accuracy": float((proba.argmax(axis=1) == codes).mean()),
        "log_loss": log_loss(proba, codes),
    }


def run_plain(heads: list[str], train: int, test: int, folds: int) -> dict[str, Any]:
    rows, fresh = workload(train, test)
    plan = make_folds(rows.codes, FOLDS, ids=rows.ids)
    out: dict[str, Any] = {}
    for name in heads:
        for on in ON:
            X, _ = rows.matrix(on)
            T, _ = fresh.matrix(on)
            proba = np.full((len(rows), len(rows.classes)), np.nan)
            start, cpu = time.perf_counter(), time.process_time()
            for fit_rows, held_out in plan.split()[:folds]:
                model = plain(name).fit(X[fit_rows], rows.codes[fit_rows])
                proba[held_out] = model.predict_proba(X[held_out])
            done = folds
            line: dict[str, Any] = {}
            if folds == FOLDS:
                model = plain(name).fit(X, rows.codes)
                line["test"] = figures(model.predict_proba(T), fresh.codes)
                done += 1
            up = (FOLDS + 1) / done
            line["seconds"] = (time.perf_counter() - start) * up
            line["cpu"] = (time.process_time() - cpu) * up
            line["fits_run"] = done
            ran = ~np.isnan(proba[:, 0])
            line["folds"] = figures(proba[ran], rows.codes[ran])
            out[f"{name}@{on}"] = line
            print(json.dumps({f"{name}@{on}": line}), file=sys.stderr, flush=True)
    return out


def run_engine(heads: list[str], train: int, test: int, folds: int) -> dict[str, Any]:
    rows, fresh = workload(train, test)
    plan = make_folds(rows.codes, FOLDS, ids=rows.ids)
    compared = plan.codes[0] < folds
    shared = [Shared(rows, plan, 0, fresh)]
    out: dict[str, Any] = {}
    answers = {}
    for name in heads:
        start, cpu = time.perf_counter(), time.process_time()
        found = answer_all(name, ON, rows, plan, shared, test=fresh)
        seconds, spent = time.perf_counter() - start, time.process_time() - cpu
        total = sum(a.seconds for a in found.values())
        for on, answer in found.items():
            answers[f"{name}@{on}"] = answer
            assert answer.test is not None
            out[f"{name}@{on}"] = {
                "seconds": seconds * answer.seconds / total,
                "cpu": spent * answer.seconds / total,
                "how": answer.how,
                "folds": figures(answer.proba[0], rows.codes),
                "compared": figures(answer.proba[0, compared], rows.codes[compared]),
                "test": figures(answer.test, fresh.codes),
            }
            print(json.dumps({f"{name}@{on}": out[f"{name}@{on}"]}), file=sys.stderr, flush=True)
    start, cpu = time.perf_counter(), time.process_time()
    members = [answers[f"{h}@{o}"].proba for h in heads for o in ON[:2]]
    stacked = cross_fuse("stacked", np.stack(members, axis=2), rows.codes, plan.codes)[0]
    out["stacked"] = {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "how": "from held-out probabilities",
        "folds": figures(stacked, rows.codes),
    }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--train", type=int, default=13_802)
    parser.add_argument("--heads", default=",".join(HEADS))
    parser.add_argument(
        "--plain-heads", default=None, help="heads to run the plain way; default all"
    )
    parser.add_argument("--plain-folds", type=int, default=FOLDS, choices=range(1, FOLDS + 1))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--way", choices=["engine", "plain"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    heads, test = given.heads.split(","), given.train // 4
    if given.way:
        found = (
            run_engine(heads, given.train, test, given.plain_folds)
            if given.way == "engine"
            else run_plain(heads, given.train, test, given.plain_folds)
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"systems": found, "peak_gb": peak}))
        return
    plain_heads = given.heads if given.plain_heads is None else given.plain_heads
    result: dict[str, Any] = {
        "conditions": conditions(given.train, test),
        "plain_folds": given.plain_folds,
    }
    for way, some in (("engine", given.heads), ("plain", plain_heads)):
        if not some:
            continue
        command = [
            sys.executable, __file__, "--way", way, "--train", str(given.train), "--heads", some,
            "--plain-folds", str(given.plain_folds),
        ]  # fmt: skip
        start = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        result[way] = {**json.loads(done.stdout), "wall": time.perf_counter() - start}
    print(table(result))
    if given.out:
        given.out.write_text(json.dumps(result, indent=1))


def conditions(train: int, test: int) -> dict[str, Any]:
    import lightgbm
    import sklearn

    return {
        "rows": [train, test],
        "cpus": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "lightgbm": lightgbm.__version__,
    }


def table(result: dict[str, Any]) -> str:
    """Markdown: seconds of CPU and wall, their ratio, and the scores of both ways."""
    ours, theirs = result["engine"]["systems"], result.get("plain", {}).get("systems", {})
    lines = [
        "| system | engine CPU s | wall s | plain CPU s | CPU ratio "
        "| accuracy engine / plain | log-loss |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, a in ours.items():
        b = theirs.get(name)
        cells = [name, f"{a['cpu']:.1f}", f"{a['seconds']:.1f}"]
        cells += [f"{b['cpu']:.0f}", f"{b['cpu'] / max(a['cpu'], 1e-9):.0f}x"] if b else ["", ""]
        for key, form in (("accuracy", ".4f"), ("log_loss", ".4f")):
            mine = format(a["compared" if b else "folds"][key], form)
            cells.append(f"{mine} / {format(b['folds'][key], form)}" if b else mine)
        lines.append("| " + " | ".join(cells) + " |")
    both = [n for n in ours if n in theirs]
    if both:
        mine, other = (sum(s[n]["cpu"] for n in both) for s in (ours, theirs))
        lines.append(f"| **all of these** | {mine:.0f} | | {other:.0f} | {other / mine:.0f}x | | |")
    peaks = f"peak memory: engine {result['engine']['peak_gb']:.1f} GB"
    if theirs:
        peaks += f", plain {result['plain']['peak_gb']:.1f} GB"
        if result["plain_folds"] < FOLDS:
            peaks += (
                f"; the plain way ran {result['plain_folds']} of {FOLDS + 1} fits, "
                "its seconds are multiplied up"
            )
    return "\n".join([*lines, "", peaks, json.dumps(result["conditions"])])


if __name__ == "__main__":
    main()
