"""Results as a notebook shows them: everything from data is escaped."""

from __future__ import annotations

from html import escape
from pathlib import Path

from headstock.heads.report.regression import number_cells
from headstock.heads.report.text import cells_of, undecided
from headstock.heads.run.numbers import NumberRun
from headstock.heads.run.run import Run
from headstock.store.errors import one_line

__all__ = ["leaderboard_html", "page_html"]

LARGEST = 32 << 20
"""Bytes of a page that is shown inside a notebook, which keeps a copy of it; a larger one is
linked."""


def leaderboard_html(run: Run | NumberRun) -> str:
    """A table of the leaderboard; the systems that are not distinguishable from the first are in
    bold."""
    header, rows = number_cells(run) if isinstance(run, NumberRun) else cells_of(run)
    same = undecided(run)
    guess = [run.baseline] if run.baseline else []
    lines = ["<table>", "<caption>Leaderboard, out of fold</caption>", "<thead><tr>"]
    lines += [f'<th scope="col">{escape(name)}</th>' for name in header]
    lines += ["</tr></thead>", "<tbody>"]
    names = [line.name for line in (*run.leaderboard, *guess)] + [one.name for one in run.failed]
    for name, cells in zip(names, rows, strict=True):
        tag = "b" if name in same else "span"
        inner = "".join(f"<td><{tag}>{escape(cell)}</{tag}></td>" for cell in cells)
        lines.append(f"<tr>{inner}</tr>")
    return "\n".join([*lines, "</tbody>", "</table>"])


def page_html(path: str | Path, words: str) -> str:
    """The page at ``path`` in a frame of its own, which can reach nothing of the notebook; where it
    is large or gone, ``words`` and a link."""
    file = Path(path)
    try:
        small = file.stat().st_size <= LARGEST
        page = file.read_text("utf-8") if small else ""
    except OSError:
        page = ""
    note = f"<p>{escape(one_line(words))}</p>"
    if not page:
        return f'{note}<p><a href="{escape(str(file), quote=True)}">{escape(str(file))}</a></p>'
    frame = (
        f'<iframe srcdoc="{escape(page, quote=True)}" sandbox="allow-scripts" '
        'title="headstock report" style="width:100%;height:42em;border:1px solid #8886"></iframe>'
    )
    return note + frame
