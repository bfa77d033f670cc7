"""Uploads under way: how many there may be, and who makes room when others come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

__all__ = ["Arrival", "Arrivals", "Crowded"]

YOUNG = 0.5
"""Seconds that an upload may take before another may have its place."""


class Crowded(Exception):
    """There is no room, and nobody here for long enough to make it."""


@dataclass(eq=False)
class Arrival:
    """One upload: since when it is under way and how many bytes it has sent."""

    since: float
    timeout: asyncio.Timeout
    bytes: int = 0


class Arrivals:
    """At most ``most`` uploads that hold at most ``budget`` bytes together. Whoever has been at it
    for longest makes room: a sender that says nothing keeps nobody out, and holds nothing for long.
    """

    def __init__(self, most: int, budget: int) -> None:
        self._most, self._budget = most, budget
        self._here: dict[Arrival, None] = {}  # the oldest first

    @asynccontextmanager
    async def one(self, seconds: float) -> AsyncIterator[Arrival]:
        """For one upload of at most ``seconds``. Raises TimeoutError when that is over or its place
        was given away, Crowded when there is none."""
        now = asyncio.get_running_loop().time()
        if len(self._here) >= self._most:
            self._displace(now, None)
        async with asyncio.timeout(seconds) as timeout:
            arrival = Arrival(now, timeout)
            self._here[arrival] = None
            try:
                yield arrival
            finally:
                self._here.pop(arrival, None)

    def took(self, arrival: Arrival, size: int) -> None:
        """``size`` bytes more have come. Raises Crowded."""
        arrival.bytes += size
        while sum(one.bytes for one in self._here) > self._budget:
            self._displace(asyncio.get_running_loop().time(), arrival)

    def _displace(self, now: float, by: Arrival | None) -> None:
        oldest = next((one for one in self._here if one is not by), None)
        if oldest is None or now - oldest.since < YOUNG:
            raise Crowded
        del self._here[oldest]
        oldest.timeout.reschedule(now)
