"""Several extractors on one store divide the rows of a set between them."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Mapping, Sequence

import numpy as np

from headstock.store.disk.claims import STALE, Claims
from headstock.store.single import SingleStore

__all__ = ["share"]

LOOK = 0.5  # seconds between two looks at blocks that others hold
WARN = 60.0  # seconds between two lines to whoever waits

log = logging.getLogger("headstock")


def share(
    store: SingleStore, name: str, ids: Sequence[str], size: int = 1024
) -> Generator[list[str], None, None]:
    """Lists of ``ids`` to compute and commit now, until all of them are done by somebody.

    Rows that another process commits meanwhile are left out; blocks that it holds are waited for,
    and taken over when it dies. Blocks are ``size`` rows in the store's order, so processes with
    different plans still agree on them.
    """
    epoch = store.declared(name).epoch
    before = {i: int(s) for i, s in zip(ids, store.sequence(name, ids).tolist(), strict=True)}
    rows = store.rows(ids)
    blocks: dict[int, list[str]] = {}
    for identity, row in zip(ids, rows.tolist(), strict=True):
        blocks.setdefault(row // size, []).append(identity)
    with Claims(store.path.with_name(store.path.name + ".d"), f"{name}-{epoch}-{size}") as claims:
        waiting = warned = 0.0
        while blocks:
            took = False
            for block in sorted(blocks):
                if not claims.take(block):
                    continue
                took = True
                todo = _undone(store, name, blocks.pop(block), before)
                if todo:
                    yield todo
                claims.release(block)
            for block in list(blocks):
                blocks[block] = _undone(store, name, blocks[block], before)
                if not blocks[block]:
                    del blocks[block]
            if took or not blocks:
                waiting = 0.0
                continue
            now = time.monotonic()
            waiting = waiting or now
            if now - waiting >= LOOK and now - warned >= WARN:
                warned = now
                log.warning(_waited_for(claims, name, blocks))
            time.sleep(LOOK)


def _waited_for(claims: Claims, name: str, blocks: Mapping[int, Sequence[str]]) -> str:
    """A line for whoever waits: for what, for whom, and for how long at most."""
    rows = sum(map(len, blocks.values()))
    owners = sorted({claims.owner(block) for block in blocks} - {""})
    return (
        f"set {name}: waiting for {rows:,} rows that {', '.join(owners) or 'another process'} "
        f"computes; they are taken over {STALE:.0f} s after its last sign of life"
    )


def _undone(store: SingleStore, name: str, ids: Sequence[str], before: dict[str, int]) -> list[str]:
    """Those of ``ids`` about which nobody has committed anything since."""
    if store.behind():
        store.refresh()
    now = store.sequence(name, ids)
    same = now == np.array([before[i] for i in ids], dtype=np.int64)
    return [identity for identity, still in zip(ids, same.tolist(), strict=True) if still]
