"""What extraction tests share: the counting encoder, importable in workers too, and files."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A data root with twelve files whose bytes differ: ``00`` to ``11``."""
    root = tmp_path / "data"
    root.mkdir()
    for i in range(12):
        (root / f"{i:02d}").write_bytes(b"file %d" % i)
    return root
