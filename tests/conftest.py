"""What tests share: where development data lies, when it is there."""

import atexit
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # what tests share

# Tests run beside each other, a process a core: a thread pool in each of them makes all of them
# wait. Measured on two cores: 12.5 minutes with threads, 9.2 without. Whoever sets it, decides.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if "HEADSTOCK_CACHE" not in os.environ:  # the networks that a user has converted stay theirs
    os.environ["HEADSTOCK_CACHE"] = tempfile.mkdtemp(prefix="headstock-tests-")
    atexit.register(shutil.rmtree, os.environ["HEADSTOCK_CACHE"], ignore_errors=True)

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # whoever runs the tests in the background of a script: the processes that tests interrupt
    # would inherit that SIGINT is ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test first: begun last, it would run alone when all others are done."""
    items.sort(key=lambda item: item.path.name != "test_docs.py")


@pytest.fixture
def run_headstock(capsys):
    """Call the command line in this process: (exit code, stdout, stderr)."""
    from headstock.cli import main

    def call(*words: object) -> tuple[int, str, str]:
        code = 0
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data beside the checkout; tests that need it skip without it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("development data (shared/data beside the checkout) is not here")
    return folder
