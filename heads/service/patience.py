"""Hanging up on who opens a connection and does not ask."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["HEAD_SECONDS", "impatient"]

HEAD_SECONDS = 10.0
"""At most, for the head of a request: a few hundred bytes."""


def impatient(seconds: float, most: int) -> type:
    """uvicorn's HTTP protocol with bounds on who is connected and does not ask.

    A connection has ``seconds`` (at most HEAD_SECONDS) to send the head of its request, for which
    uvicorn waits for ever. When ``most`` are open, the next one takes the place of the oldest that
    has not sent a whole request: idle, in its head or in its body.
    """
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    unfinished = (h11.IDLE, h11.SEND_BODY)
    lines: dict[Any, None] = {}  # the oldest first

    class Impatient(H11Protocol):
        _alarm: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            if len(lines) >= most:
                oldest = next((c for c in lines if c.conn.their_state in unfinished), None)
                if oldest is not None:
                    del lines[oldest]
                    oldest.transport.abort()
                    self.connections.discard(oldest)
            lines[self] = None
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            lines.pop(self, None)
            self._calm()
            super().connection_lost(exc)

        def _watch(self) -> None:
            """Until a head is there the alarm runs; bytes of a head do not set it back."""
            if self.conn.their_state is not h11.IDLE:
                self._calm()
            elif self._alarm is None:
                patience = min(seconds, HEAD_SECONDS)
                self._alarm = self.loop.call_later(patience, self.transport.close)

        def _calm(self) -> None:
            if self._alarm is not None:
                self._alarm.cancel()
                self._alarm = None

    return Impatient
