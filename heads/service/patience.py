"""Hanging up on who opens a connection and does not ask."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["impatient"]


def impatient(seconds: float) -> type:
    """uvicorn's HTTP protocol with an end to waiting for the head of a request, which uvicorn does
    for ever: a few idle connections would else take all the room there is."""
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        _alarm: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._calm()
            super().connection_lost(exc)

        def _watch(self) -> None:
            """Until a head is there the alarm runs; bytes of a head do not set it back."""
            if self.conn.their_state is not h11.IDLE:
                self._calm()
            elif self._alarm is None:
                self._alarm = self.loop.call_later(seconds, self.transport.close)

        def _calm(self) -> None:
            if self._alarm is not None:
                self._alarm.cancel()
                self._alarm = None

    return Impatient
