"""Serving the application until a signal ends it."""

from __future__ import annotations

import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from headstock.heads.bundle.bundle import Bundle
from headstock.heads.service.limits import Limits, require
from headstock.heads.service.patience import impatient
from headstock.store.errors import OptionError, one_line

__all__ = ["serve"]

LOCAL = ("127.0.0.1", "localhost")


def serve(
    bundle: Bundle,
    encode: Callable,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    *,
    title: str = "model",
    hosts: Sequence[str] = (),
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve until SIGINT or SIGTERM, then finish the requests under way and return.

    ``port`` 0 takes a free one. ``hosts``: names that requests may be addressed to; by default the
    local ones for a local address, else any. ``ready`` is told the address once it is served.
    Raises OptionError for an address that cannot be had, or when the extra is not installed.
    """
    require()
    import uvicorn

    from headstock.heads.service.app import make_app

    limits = limits or Limits()
    lines = 4 * (limits.at_once + limits.waiting) + 16
    allowed = list(hosts) or (list(LOCAL) if _is_local(host) else ["*"])
    with _bound(host, port) as (listener, address):
        app = make_app(
            bundle, encode, limits, title=title, hosts=allowed, started=lambda: ready(address)
        )
        config = uvicorn.Config(
            app,
            http=impatient(limits.upload, lines),
            ws="none",
            lifespan="on",
            log_level="error",
            access_log=False,
            server_header=False,
            limit_concurrency=lines + 16,  # of which those that are answered are far fewer
            timeout_keep_alive=5,
            timeout_graceful_shutdown=int(limits.upload + limits.seconds) + 1,
        )
        with _quiet_signals():
            uvicorn.Server(config).run(sockets=[listener])


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host) == ipaddress.ip_address("127.0.0.1")
    except ValueError:
        return host == "localhost"


@contextmanager
def _bound(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """A socket on the address, and the address as a browser takes it."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
    except (OSError, OverflowError, UnicodeError) as error:
        what = one_line(getattr(error, "strerror", None) or error)
        raise OptionError(f"{host}:{port}", what, "choose another --host or --port") from error
    try:
        shown = f"[{host}]" if ":" in host else host
        yield listener, f"http://{shown}:{listener.getsockname()[1]}/"
    finally:
        listener.close()


@contextmanager
def _quiet_signals() -> Iterator[None]:
    """uvicorn raises a signal again once it has shut down; that would turn an ordinary end into a
    failure. Signals reach the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {one: signal.signal(one, lambda *_: None) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in kept.items():
            signal.signal(one, handler)
