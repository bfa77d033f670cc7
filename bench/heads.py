"""Heads side by side: headstock's engine against other libraries, each in a process of its own.

    python bench/heads.py [--sizes 3000,13802] [--heads logistic,lda,...] [--peers ...]
                          [--on image+audio] [--plain-folds 1] [--limit 600] [--out FILE]

Everybody does the same job on the same rows and folds: out-of-fold probabilities of five folds and
the refit's of the test rows, for each head on image, audio and both. Peers: ``scikit-learn`` (a
Pipeline, looped as cross_val_predict does), ``intelex`` (the same after patch_sklearn),
``stacking`` (StackingClassifier on the concatenation, no folds outside), ``tuned``
(LogisticRegressionCV, one fit), ``autogluon`` (with --autogluon-python, time limit --limit).

``--plain-folds N`` runs only N of the folds and no refit the plain way and multiplies its seconds
up (said in the output); scores are then compared on those folds' rows. A process that does not end
within ``--limit`` seconds is stopped, and its row says so. ``--out FILE`` keeps what was measured;
a later run with the same file adds to it, so that the whole can be run in slices.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the headstock command sets it
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from heads_peers import FOLDS, ON, Clock, figures, run_plain, run_stacking, run_tuned
from heads_workload import workload

from headstock.heads.engine.shared import Shared
from headstock.heads.fusion.fusions import cross_fuse
from headstock.heads.outoffold.together import answer_all
from headstock.heads.rows.folds import make_folds

HEADS = "logistic,lda,rbf-svm,knn,lightgbm"
PEERS = "scikit-learn,intelex,stacking,tuned"


def run_engine(heads: list[str], train: int, ons: list[str]) -> dict[str, Any]:
    """Headstock: all heads on the sets of ``ons`` from shared work, then the stack of them."""
    rows, fresh = workload(train, train // 4)
    plan = make_folds(rows.codes, FOLDS, ids=rows.ids)
    for library in ("lightgbm", "numba", "scipy.linalg", "sklearn.decomposition"):
        with suppress(ImportError):  # imports are not what is measured, of the peers' neither
            import_module(library)
    first = [plan.codes[0] < folds for folds in range(1, FOLDS + 1)]
    whole = Clock()
    shared = [Shared(rows, plan, 0, fresh)]
    out: dict[str, Any] = {}
    answers = {}
    for name in heads:
        clock = Clock()
        found = answer_all(name, ons, shared)
        spent = clock.read()
        total = sum(a.seconds for a in found.values())
        for on, answer in found.items():
            answers[f"{name}@{on}"] = answer
            assert answer.test is not None
            out[f"{name}@{on}"] = {
                **{key: value * answer.seconds / total for key, value in spent.items()},
                "how": answer.how,
                "folds": figures(answer.proba[0], rows.codes),
                "first_folds": [figures(answer.proba[0, m], rows.codes[m]) for m in first],
                "test": figures(answer.test, fresh.codes),
            }
            print(json.dumps({f"{name}@{on}": out[f"{name}@{on}"]}), file=sys.stderr, flush=True)
    if set(ON[:2]) <= set(ons):
        members = [answers[f"{h}@{o}"].proba for h in heads for o in ON[:2]]
        clock = Clock()
        stacked = cross_fuse("stacked", np.stack(members, axis=2), rows.codes, plan.codes)[0]
        out["stacked"] = {**clock.read(), "folds": figures(stacked, rows.codes)}
    out["all of it"] = whole.read()
    return out


def child(given: argparse.Namespace) -> None:
    """One contender in this process; a line of JSON."""
    who, _, head = given.child.partition(":")
    heads, train = given.heads.split(","), int(given.sizes)
    if who == "headstock":
        found = run_engine(heads, train, given.on.split(","))
    elif who == "stacking":
        found = run_stacking(heads, train)
    elif who in ("tuned", "headstock-tuned"):
        found = run_tuned(train, who != "tuned")
    else:
        found = run_plain(head, train, given.plain_folds, who == "intelex")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"systems": found, "peak_gb": peak}))


def autogluon(python: str, train: int, limit: float) -> dict[str, Any]:
    rows, fresh = workload(train, train // 4)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.npz"
        np.savez(
            file, X=rows.matrix(ON[2])[0], T=fresh.matrix(ON[2])[0], y=rows.codes, t=fresh.codes
        )
        command = [python, str(Path(__file__).with_name("heads_autogluon.py")), str(file)]
        done = subprocess.run(
            [*command, str(limit)], stdout=subprocess.PIPE, text=True, timeout=3 * limit, check=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def contender(who: str, given: argparse.Namespace, size: int) -> dict[str, Any]:
    """Run one in its own process; what it said, or why it said nothing."""
    start = time.perf_counter()
    command = [
        sys.executable, __file__, "--child", who, "--sizes", str(size), "--heads", given.heads,
        "--plain-folds", str(given.plain_folds), "--on", given.on,
    ]  # fmt: skip
    try:
        if who == "autogluon":
            found = autogluon(given.autogluon_python, size, given.limit)
        else:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, check=True, text=True, timeout=given.limit
            )
            found = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return {"failed": f"did not end within {given.limit:.0f} s"}
    except subprocess.CalledProcessError as error:
        return {"failed": f"ended with {error.returncode}"}
    return {**found, "wall": time.perf_counter() - start, "load": os.getloadavg()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sizes", default="3000,13802")
    parser.add_argument("--heads", default=HEADS)
    parser.add_argument("--peers", default=PEERS)
    parser.add_argument("--plain-folds", type=int, default=FOLDS, choices=range(1, FOLDS + 1))
    parser.add_argument("--on", default=",".join(ON), help="where headstock is measured")
    parser.add_argument("--limit", type=float, default=600)
    parser.add_argument("--autogluon-python")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given)
        return
    result: dict[str, Any] = {}
    if given.out and given.out.exists():
        result = json.loads(given.out.read_text())
    for size in map(int, given.sizes.split(",")):
        told = result.setdefault(str(size), {})
        contenders = ["headstock"]
        for peer in filter(None, given.peers.split(",")):
            if peer in ("scikit-learn", "intelex"):
                contenders += [f"{peer}:{head}" for head in given.heads.split(",")]
            else:
                contenders += (["headstock-tuned"] if peer == "tuned" else []) + [peer]
        for who in contenders:
            if "systems" in told.get(who, {}):
                continue
            told[who] = contender(who, given, size)
            print(size, who, told[who].get("failed", "done"), file=sys.stderr, flush=True)
            result["conditions"] = conditions()
            if given.out:
                given.out.write_text(json.dumps(result, indent=1))
    print(report(result))


def conditions() -> dict[str, Any]:
    import lightgbm
    import sklearn

    return {
        "cpus": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "lightgbm": lightgbm.__version__,
    }


def report(result: dict[str, Any]) -> str:
    """Markdown, a table a size: seconds of CPU, their ratio, and the scores of both."""
    lines = []
    for size, told in result.items():
        if size == "conditions":
            continue
        ours = told["headstock"].get("systems", {})
        peers = {w: t for w, t in told.items() if w != "headstock"}
        lines += [
            f"\n### {int(size):,} + {int(size) // 4:,} rows\n",
            "| system | who | CPU s | wall s | CPU ratio | accuracy, headstock / who | log-loss |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, a in ours.items():
            scores = a.get("folds")
            cells = [name, "headstock", f"{a['cpu']:.1f}", f"{a['seconds']:.1f}", ""]
            cells += (
                [f"{scores['accuracy']:.4f}", f"{scores['log_loss']:.4f}"] if scores else [""] * 2
            )
            lines.append("| " + " | ".join(cells) + " |")
        ours = {**ours, **told.get("headstock-tuned", {}).get("systems", {})}
        ours.setdefault("StackingClassifier", ours.get("all of it", {}))
        for who, one in peers.items():
            for name, b in one.get("systems", {}).items():
                lines.append("| " + " | ".join(compared(name, who, b, ours.get(name))) + " |")
        lines += [f"| | {w} | {t['failed']} | | | | |" for w, t in told.items() if "failed" in t]
        for who in ("scikit-learn", "intelex"):
            lines += sums(who, told)
        peaks = [f"{w} {t['peak_gb']:.1f}" for w, t in told.items() if "peak_gb" in t]
        lines += ["", f"Peak memory, GB: {', '.join(peaks)}."]
    return "\n".join([*lines, "", json.dumps(result.get("conditions", {}))])


def compared(name: str, who: str, b: dict[str, Any], a: dict[str, Any] | None) -> list[str]:
    ran = f" ({b['fits_run']} of {FOLDS + 1} fits)" if b.get("fits_run", 99) <= FOLDS else ""
    cells = [name, who + ran, f"{b['cpu']:.1f}", f"{b['seconds']:.1f}"]
    cells.append(f"{b['cpu'] / a['cpu']:.1f}x" if a else "")
    key = "folds" if "folds" in b else "test"
    mine = (a or {}).get("test")
    if a and key == "folds":  # the folds that the other ran
        mine = a["first_folds"][min(b["fits_run"], FOLDS) - 1]
    for score in ("accuracy", "log_loss"):
        own = f"{mine[score]:.4f} / " if mine else ""
        cells.append(f"{own}{b[key][score]:.4f}")
    return cells


def sums(who: str, told: dict[str, Any]) -> list[str]:
    """The ratio over all heads that ``who`` ended with."""
    ours = told["headstock"].get("systems", {})
    theirs = {n: s for w, t in told.items() if w.startswith(f"{who}:")
              for n, s in t.get("systems", {}).items() if n in ours}  # fmt: skip
    if not theirs:
        return []
    mine, other = (sum(s[n]["cpu"] for n in theirs) for s in (ours, theirs))
    heads = ", ".join(dict.fromkeys(n.split("@")[0] for n in theirs))
    return [f"| **{heads}** | {who} | {other:.0f} | | {other / mine:.0f}x | | |"]


if __name__ == "__main__":
    main()
