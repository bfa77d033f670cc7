"""The quick share of the simulations; ``make honesty`` runs all of them."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
QUICK = {
    "better-10": 25,
    "better-groups-8-uneven": 25,
    "better-runs": 4,
    "gate-15-8": 25,
    "rows-0.95": 200,
    "groups-5-0.95": 200,
    "groups-20-0.95-uneven": 200,
    "gain-8": 150,
    "chosen-equal": 8,
    "chosen-interval-groups-8": 25,
    "chance-heads": 3,
    "chance-gated": 2,
    "metric-auroc-8": 60,
    "metric-macro_f1-0": 60,
    "metric-recall:c2@precision=0.5-40": 40,
    "metric-better-auroc-8": 8,
    "metric-chosen-interval-auroc-0": 4,
    "number-rmse-60 rows": 200,
    "number-spearman-300 rows in 15 groups": 150,
    "number-gain-mae-60 rows": 150,
    "number-better-rmse-0": 8,
    "number-chosen-0": 3,
    "sets-lda-150": 40,
    "sets-of-class": 40,
    "sets-groups": 30,
}
"""Seeds of each claim that is looked at here."""
CAUGHT = (
    "ties are broken", "gates are judged by rows", "normal distribution", "as certain as",
    "intervals of metrics",
)  # fmt: skip
"""Mistakes that are planted here."""
CODE = """
import sys, warnings
sys.path.insert(0, sys.argv[1])
warnings.filterwarnings("ignore")
import mutants, run
"""


def python(code: str, *words: str) -> str:
    """Run in a process of its own, for the mistakes are planted in the running modules."""
    command = [sys.executable, "-c", CODE + code, str(HERE), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_said_of_numbers_holds() -> None:
    code = """
for key, seeds in eval(sys.argv[2]).items():
    claim = next(c for c in run.CLAIMS if c.key == key)
    found = run.measured(claim, seeds)
    if not found.holds:
        print(key, found)
"""
    assert python(code, repr(QUICK)) == ""


@pytest.mark.parametrize("name", CAUGHT)
def test_a_planted_mistake_is_noticed(name: str) -> None:
    code = """
(mutant,) = [m for m in mutants.MUTANTS if sys.argv[2] in m.name]
print(run.notices(mutant))
"""
    assert python(code, name) == "True\n"


def test_every_mistake_can_still_be_planted_and_its_claim_is_there() -> None:
    code = """
keys = [c.key for c in run.CLAIMS]
assert len(keys) == len(set(keys))
for mutant in mutants.MUTANTS:
    assert mutant.key in keys, mutant.key
    with mutants.applied(mutant):
        pass
"""
    python(code)
