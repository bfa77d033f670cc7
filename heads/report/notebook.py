"""Results as a notebook shows them: everything from data is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from headstock.heads.report.text import cells_of, undecided
from headstock.store.errors import one_line

__all__ = ["leaderboard_html", "page_html"]

LARGEST = 32 << 20
"""Bytes of a page that is shown inside a notebook, which keeps a copy of it; a larger one is
linked."""


def leaderboard_html(metrics: Mapping[str, Any]) -> str:
    """A table of the content of metrics.json; the systems that are not distinguishable from the
    first are in bold."""
    board = metrics["leaderboard"]
    header, rows = cells_of(metrics)
    same = {*undecided(metrics), *(str(r["name"]) for r in board[:1])}
    guess = [metrics["baseline"]] if metrics.get("baseline") else []
    lines = ["<table>", "<caption>Leaderboard, out of fold</caption>", "<thead><tr>"]
    lines += [f'<th scope="col">{escape(name)}</th>' for name in header]
    lines += ["</tr></thead>", "<tbody>"]
    for row, cells in zip([*board, *guess, *(metrics.get("failed") or [])], rows, strict=True):
        tag = "b" if row["name"] in same else "span"
        inner = "".join(f"<td><{tag}>{escape(cell)}</{tag}></td>" for cell in cells)
        lines.append(f"<tr>{inner}</tr>")
    return "\n".join([*lines, "</tbody>", "</table>"])


def page_html(path: str | Path, told: str) -> str:
    """The page at ``path`` in a frame of its own, which can reach nothing of the notebook; where it
    is large or gone, ``told`` and a link."""
    file = Path(path)
    try:
        small = file.stat().st_size <= LARGEST
        page = file.read_text("utf-8") if small else ""
    except OSError:
        page = ""
    note = f"<p>{escape(one_line(told))}</p>"
    if not page:
        return f'{note}<p><a href="{escape(str(file), quote=True)}">{escape(str(file))}</a></p>'
    frame = (
        f'<iframe srcdoc="{escape(page, quote=True)}" sandbox="allow-scripts" '
        'title="headstock report" style="width:100%;height:42em;border:1px solid #8886"></iframe>'
    )
    return note + frame
