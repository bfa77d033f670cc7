"""HTML in which text is text: whatever is not ``Safe`` is escaped.

Names, labels, ids and error texts come from outside. They reach the page through ``h`` or
``text``, which make markup characters harmless and control characters visible.
"""

from __future__ import annotations

import html
import json
from typing import Any

from headstock.store.errors import one_line

__all__ = ["Safe", "h", "json_block", "joined", "table", "text"]

VOID = frozenset({"br", "col", "hr", "img", "input", "link", "meta"})
LONGEST = 400


class Safe(str):
    """Markup that ``h`` takes as it is."""

    __slots__ = ()


def text(value: object, limit: int = LONGEST) -> Safe:
    """``value`` as escaped text on one line, control characters visible; spaces at its ends stay.

    Text longer than ``limit`` characters ends in an ellipsis.
    """
    if isinstance(value, Safe):
        return value
    raw = str(value)
    core = html.escape(one_line(raw, limit), quote=True)
    return Safe(" " * (raw[:1] == " ") + core + " " * (raw[-1:] == " " and core != ""))


def h(tag: str, *children: object, **attributes: object) -> Safe:
    """An element. ``None`` children and ``None`` or ``False`` attributes are left out, ``True``
    is a bare attribute; ``class_`` is ``class`` and ``data_item`` is ``data-item``."""
    parts = []
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        shown = name.rstrip("_").replace("_", "-")
        parts.append(f" {shown}" if value is True else f' {shown}="{text(value, 4000)}"')
    head = f"<{tag}{''.join(parts)}>"
    return Safe(head) if tag in VOID else Safe(f"{head}{joined(*children)}</{tag}>")


def joined(*children: object) -> Safe:
    """Children one after the other."""
    return Safe("".join(text(c) for c in children if c is not None))


def table(
    caption: str, header: list[Any], rows: list[list[Any]], *, name: str = "", class_: str = ""
) -> Safe:
    """A table whose first cell in each row is the row's header; it scrolls when it is too wide."""
    head = h("tr", *(c if _is_cell(c) else h("th", c, scope="col") for c in header))
    body = [
        h("tr", *(c if _is_cell(c) else _cell(c, first=i == 0) for i, c in enumerate(row)))
        for row in rows
    ]
    inner = h(
        "table",
        h("caption", caption),
        h("thead", head),
        h("tbody", *body),
        class_=class_ or None,
        id=name or None,
    )
    return h("div", inner, class_="wide", tabindex="0", role="region", aria_label=caption)


def _is_cell(content: object) -> bool:
    return isinstance(content, Safe) and content.startswith(("<th", "<td"))


def _cell(content: object, *, first: bool) -> Safe:
    return h("th", content, scope="row") if first else h("td", content)


def json_block(name: str, data: object) -> Safe:
    """Data for the script, in a block that nothing in the data can end."""
    plain = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for char in "<>&":
        plain = plain.replace(char, f"\\u{ord(char):04x}")
    return Safe(f'<script type="application/json" id="{text(name)}">{plain}</script>')
