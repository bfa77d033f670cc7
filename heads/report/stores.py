"""The store that a run was made from, found by what the run says of it.

A run folder comes from anywhere, and the path in it may be any path of this machine. It is opened
when it is the very store that was evaluated, which nobody can say who has not had it, or lies in
the folder that the run lies in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from headstock.heads.run.run import Settings
from headstock.store import StoreReader, open_store
from headstock.store.errors import OptionError

__all__ = ["open_recorded"]


def open_recorded(folder: Path, settings: Settings) -> StoreReader | None:
    """The store of the run in ``folder``, open for reading; None where it is not there, or is not
    the run's. Raises what opening a store raises."""
    if settings.store is None:
        return None
    for place in _places(folder, settings.store):
        with suppress(OptionError, ValueError, OSError):  # no such file, or no name of one
            store = open_store(place)
            if store.uuid == settings.store_uuid or _beside(place, folder):
                return store
            store.close()
    return None


def _places(folder: Path, recorded: str) -> Iterator[Path]:
    yield Path(recorded)
    yield folder / recorded
    yield folder / Path(recorded).name


def _beside(place: Path, folder: Path) -> bool:
    """Whether the store lies in a folder that the run lies in too."""
    with suppress(OSError, ValueError):
        return folder.resolve().is_relative_to(place.resolve().parent)
    return False
