"""Training parts, named by the folds that they leave out."""

from __future__ import annotations

__all__ = ["Part", "parts_left_out"]

Part = tuple[int, ...]


def parts_left_out(folds: int, calibrate: bool, full: bool) -> list[Part]:
    """The training parts that answering all folds takes: one a fold; with ``calibrate`` one a pair
    of folds besides (of two folds a pair leaves nothing); with ``full`` the refit on all rows."""
    out: list[Part] = [(f,) for f in range(folds)]
    if calibrate and folds > 2:
        out += [(f, g) for f in range(folds) for g in range(f + 1, folds)]
    return [*out, ()] if full else out
