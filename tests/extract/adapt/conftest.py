"""What the tests of adaptation share."""

import sys
from pathlib import Path

import pytest

from headstock.extract.adapt import Settings
from headstock.store import Items

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def items(tmp_path) -> Items:
    folder = tmp_path / "pictures"
    folder.mkdir()
    from tiny import draw

    return draw(folder, 40)


@pytest.fixture
def quick() -> Settings:
    """Settings under which forty pictures take a second. No mirroring: it swaps the classes."""
    return Settings(
        epochs=6, lr=0.02, batch_size=8, from_scratch=True, flip=False, crop=0.9, held_out=0.25
    )
