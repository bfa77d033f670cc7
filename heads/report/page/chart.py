"""Charts by matplotlib, as inline SVG that takes its colours from the page's theme.

No text from data is drawn: series are named in an HTML legend, so that labels are escaped in one
place, need no font here, and are never read as mathematics.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

from headstock.heads.report.page.markup import Safe, h, joined, table
from headstock.store.errors import OptionError

__all__ = ["COLOURS", "INK", "axes_percent", "colour", "figure", "legend", "require", "svg"]

COLOURS = 8
# Stand-ins that no chart uses for anything else; ``svg`` puts the page's variables in their place.
INK, FAINT = "#010101", "#020202"
STYLES = ("-", "--", ":", "-.")


def colour(series: int) -> str:
    """The stand-in for a series' colour."""
    return f"#03030{series % COLOURS}"


def require() -> None:
    """Raises OptionError with the way to install matplotlib when it is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise OptionError(
            "report", "the HTML report needs matplotlib", "pip install 'headstock[report]'"
        ) from error


def svg(draw: Callable[[Any], None], name: str, size: tuple[float, float] = (5.2, 3.6)) -> Safe:
    """What ``draw(axes)`` draws, as an SVG element; ids in it begin with ``name``."""
    import matplotlib
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False, "font.size": 9,
        "axes.edgecolor": FAINT, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK,
        "ytick.color": INK, "axes.facecolor": "none", "figure.facecolor": "none",
        "savefig.facecolor": "none", "axes.spines.top": False, "axes.spines.right": False,
        "grid.color": FAINT, "grid.alpha": 0.5, "grid.linewidth": 0.5, "axes.axisbelow": True,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        chart = Figure(figsize=size, layout="constrained")
        draw(chart.add_subplot())
        out = io.StringIO()
        chart.savefig(
            out,
            format="svg",
            metadata={"Creator": None, "Date": None, "Format": None, "Type": None},
        )
    return _themed(out.getvalue(), name)


def _themed(raw: str, name: str) -> Safe:
    body = raw[raw.index("<svg") :]
    body = re.sub(
        r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", body, flags=re.S
    )
    body = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', body
    )
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'xlink:href="#', f'href="#{name}-', body).replace("url(#", f"url(#{name}-")
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", body)
    body = body.replace(INK, "var(--ink)").replace(FAINT, "var(--line)")
    body = re.sub(r"#03030(\d)", r"var(--c\1)", body)
    return Safe(re.sub(r"\n\s*", "\n", body))


def axes_percent(axes: Any, x: str, y: str) -> None:
    """Name the axes; both show shares as percent."""
    from matplotlib.ticker import PercentFormatter

    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(True)


def legend(names: Sequence[str]) -> Safe | None:
    """Which colour and line is which series; None for a single one."""
    if len(names) < 2:
        return None
    swatch = [
        h("li", h("i", style=f"--c:var(--c{i % COLOURS})", class_=f"line{i % len(STYLES)}"), name)
        for i, name in enumerate(names)
    ]
    return h("ul", *swatch, class_="legend")


def figure(
    title: str,
    picture: Safe,
    says: str,
    header: list[Any],
    rows: list[list[Any]],
    series: Sequence[str] = (),
) -> Safe:
    """A chart with its legend, what it says in a sentence, and its numbers as a table."""
    return h(
        "figure",
        h("figcaption", title),
        h("div", picture, role="img", aria_label=f"{title}. {says}", class_="chart"),
        legend(series),
        h("p", says, class_="says"),
        h("details", h("summary", "Numbers of this chart"), joined(table(title, header, rows))),
    )
