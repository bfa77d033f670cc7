"""What the site's builder runs: the reference is read from the package alone.

The root of the repository is the package, and also holds environments and data: a reader of source
code that is let loose there takes minutes and a gigabyte.
"""

import shutil
import tempfile
from pathlib import Path

from mkdocs.plugins import event_priority

ROOT = Path(__file__).parents[2]
_made: list[tempfile.TemporaryDirectory] = []


@event_priority(100)  # before mkdocstrings takes its settings
def on_config(config):
    _made.append(tempfile.TemporaryDirectory(prefix="headstock-docs-"))
    package = Path(_made[-1].name, "headstock")
    for room in ("store", "extract", "heads"):
        other = shutil.ignore_patterns("__pycache__", "weights", "*.css", "*.js")
        shutil.copytree(ROOT / room, package / room, ignore=other)
    for file in ("__init__.py", "cli.py"):
        shutil.copy(ROOT / file, package)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [_made[-1].name]


def on_shutdown():
    while _made:
        _made.pop().cleanup()
