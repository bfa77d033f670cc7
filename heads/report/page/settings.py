"""How the numbers came about: settings, recipes, versions and times."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any

from headstock import __version__
from headstock.heads.report.page.board import number
from headstock.heads.report.page.markup import Safe, h, joined, table
from headstock.heads.report.page.source import Source
from headstock.heads.run.as_json import plain
from headstock.heads.run.numbers import NumberRun
from headstock.heads.run.run import Run

__all__ = ["provenance", "recorded"]


def recorded(run: Run | NumberRun) -> Safe:
    """``provenance`` without a store."""
    return provenance(run, None)


def provenance(run: Run | NumberRun, source: Source | None) -> Safe:
    """Tables of everything the run recorded about itself."""
    parts = [
        _pairs("Settings", plain(run.settings), opened=True),
        _pairs("Folds", plain(run.folds)),
    ]
    parts += [_pairs(f"Recipe of {name}", plain(recipe)) for name, recipe in run.recipes.items()]
    if source is not None:
        for name in source.store.sets:
            provenance = source.store.feature_set(name).provenance
            parts.append(_pairs(f"Provenance of {name}", provenance))
    parts.append(_pairs("Versions at the time of this report", _versions()))
    return joined(_times(run), *parts)


def _pairs(title: str, data: object, *, opened: bool = False) -> Safe | None:
    rows: list[list[Any]] = [[key, value] for key, value in _flat(data)]
    if not rows:
        return None
    inner = table(title, ["Name", "Value"], rows, class_="pairs")
    return h("details", h("summary", title), inner, open=opened)


def _flat(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and not any(isinstance(v, dict | list) for v in value):
        yield path, ", ".join(map(str, value)) or "none"
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _flat(inner, f"{path}[{i}]")
    elif path and value != {}:
        yield path, str(value)


def _times(run: Run | NumberRun) -> Safe:
    rows: list[list[Any]] = [
        [line.name, h("td", number(line.seconds, 2), class_="number"), line.how or "–"]
        for line in run.leaderboard
    ]
    total = sum(line.seconds or 0 for line in run.leaderboard)
    return h(
        "details",
        h("summary", f"Times: {total:.1f} s for {len(rows)} systems"),
        table("Seconds for each system", ["System", "Seconds", "How"], rows),
    )


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    out = {"headstock": __version__, "python": platform.python_version()}
    for name in ("numpy", "scipy", "scikit-learn", "matplotlib", "pillow", "soundfile"):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out
