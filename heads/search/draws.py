"""Random search: points drawn among the values that options may take.

Where few of the options matter, n random points try n values of each of those that do, a grid only
its side's (Bergstra and Bengio 2012). Points are drawn by the seed alone, before any row is read;
which of them is taken is found inside the training rows (see ``search.tuning``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from headstock.store.errors import OptionError

__all__ = ["DRAWS", "Range", "draw_points"]

DRAWS = "draws"
"""The option, beside a head's own, that says how many points are drawn."""
WIDE = 10.0
"""Ends of a range from which the higher is so many times the lower are logarithms apart."""
DIGITS = 3
"""Significant digits of a drawn number: more would not be told apart, and are hard to copy."""

NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
SPAN = re.compile(rf"\s*\[?\s*({NUMBER})\s*\.\.\s*({NUMBER})\s*\]?\s*")


class Range(NamedTuple):
    """Numbers from ``low`` to ``high``; ``whole`` ones where both ends are written as such."""

    low: float
    high: float
    whole: bool

    @classmethod
    def of(cls, value: Any, where: str) -> Range | None:
        """``0.001..1000`` or ``[0.001..1000]`` as a range, None for what is none. Raises
        OptionError for one from high to low."""
        found = SPAN.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            return None
        low, high = (float(end) for end in found.groups())
        if not (low < high and math.isfinite(high)):
            raise OptionError(where, f"{value} holds nothing", "the lower end first, as 0.01..100")
        return cls(low, high, not re.search(r"[.eE]", "".join(found.groups())))

    @property
    def by_ratio(self) -> bool:
        """Whether the logarithm is uniform rather than the number."""
        return self.low > 0 and self.high >= WIDE * self.low

    def draw(self, rng: np.random.Generator) -> float | int:
        """A number of the range."""
        high = self.high + self.whole  # a whole number owns what lies up to the next
        if self.by_ratio:
            value = math.exp(rng.uniform(math.log(self.low), math.log(high)))
        else:
            value = rng.uniform(self.low, high)
        value = math.floor(value) if self.whole else float(f"{value:.{DIGITS}g}")
        return min(max(value, self._end(self.low)), self._end(self.high))

    def _end(self, end: float) -> float | int:
        return int(end) if self.whole else end


def draw_points(
    options: Mapping[str, Any], count: Any, seed: int, where: str
) -> list[dict[str, Any]]:
    """``count`` different points, or all there are: a number of each range, one value of each list,
    what is neither as it stands. Raises OptionError where nothing can be drawn."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 2:
        raise OptionError(where, f"{DRAWS}={count} is no search", "2 or more, for example 30")
    spans = {name: Range.of(value, f"{where}, {name}") for name, value in options.items()}
    if not any(spans[name] or isinstance(value, list) for name, value in options.items()):
        raise OptionError(
            where, "nothing to draw from", "state a range or a list, for example C=0.01..100"
        )
    rng = np.random.default_rng(seed)
    points: dict[str, dict[str, Any]] = {}
    for _ in range(20 * count):  # a small space runs out of new points
        if len(points) == count:
            break
        point = {}
        for name, value in options.items():
            span = spans[name]
            if span is not None:
                point[name] = span.draw(rng)
            else:
                point[name] = value[rng.integers(len(value))] if isinstance(value, list) else value
        points.setdefault(repr(point), point)
    return list(points.values())
