"""The quick share of the torture; ``python tests/store/torture/run.py --full`` runs all of it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not (hasattr(os, "fork") and Path("/proc/self/fd").is_dir()), reason="needs fork and /proc"
)
RUN = Path(__file__).with_name("run.py")
SEED = os.environ.get("TORTURE_SEED", "0")
FULL = ["--full"] if os.environ.get("TORTURE") == "full" else []


PARTS = [
    "kills",
    "below",
    "cuts",
    "faults",
    "reads",
    "vanish",
    "oracle",
    "weave",
    "crowd",
    "machine",
    "flips",
    "folders",
    "fuzz",
    "newer",
    "images",
    "sounds",
    "absent",
    "signals",
    "mutants",
]


def test_every_mutant_still_applies():
    """A mutant is a changed line of the store's source: when that line moves on, so must it."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import mutants\n"
        "for mutant in mutants.MUTANTS:\n"
        "    with mutants.applied(mutant): pass\n"
    )
    words = [sys.executable, "-c", code, str(RUN.parent)]
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr


@pytest.mark.parametrize("part", PARTS)
def test_nothing_is_lost(part):
    """In a process of its own: it forks, which a process full of threads should not."""
    if part == "below" and not (shutil.which("cc") or shutil.which("gcc")):
        pytest.skip("no C compiler to build the preloaded shim with")
    command = [sys.executable, str(RUN), "--part", part, "--seed", SEED, *FULL]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, f"replay: {' '.join(command)}\n{told.stdout}{told.stderr}"
