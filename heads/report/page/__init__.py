"""The HTML report: one file that opens from disk, with scores, charts, pictures and sounds.

``markup`` escapes, ``runs`` reads run folders, ``figures`` computes what charts show, ``chart``
draws them, ``media`` makes thumbnails and clips, and the other files are one part of the page each.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Written", "write_report"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from headstock.heads.report.page import write

    return getattr(write, name)
