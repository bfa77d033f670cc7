"""What one request, and all of them together, may cost."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from headstock.store.errors import OptionError

__all__ = ["Limits", "require"]


@dataclass(frozen=True)
class Limits:
    """megabytes: of a whole request. upload: seconds for its body to arrive. seconds: for its
    answer, from when the body is there. at_once: requests computed beside each other. waiting:
    further ones let in; whoever comes then is sent away. Uploads held in memory are at most
    (at_once + waiting) times megabytes; those that are still arriving, as much again, on disk where
    they are large."""

    megabytes: float = 32.0
    upload: float = 30.0
    seconds: float = 30.0
    at_once: int = 2
    waiting: int = 8

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not 0 < value < 1e6 and not (one.name == "waiting" and value == 0):
                flag = f"--{one.name.replace('_', '-')}"
                raise OptionError(flag, f"{value} is no limit", "give a number above 0")

    @property
    def bytes(self) -> int:
        return int(self.megabytes * 1e6)

    def to_json(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self)}


def require() -> None:
    """Raises OptionError with the way to install what the service needs when it is missing."""
    try:
        import python_multipart  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise OptionError(
            "serve", f"needs {error.name}", "pip install 'headstock[serve]'"
        ) from error
