"""``extract``: pending rows -> read -> decode -> encode -> commit, and an account of it.

Rows are done in their order, in batches of ``batch_size`` new items, and batches are committed in
order: a run that was interrupted leaves exactly the first batches behind, and the next run goes on
with the very batches that the first one would have made.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from headstock.extract.encoder import Encoder, refuse_unlike
from headstock.extract.pipeline.account import Account
from headstock.extract.pipeline.admit import Admission, admit, settle
from headstock.extract.pipeline.fill import Pass
from headstock.extract.pipeline.lane import Lane
from headstock.extract.pipeline.options import Options
from headstock.extract.pipeline.pending import Pending, pending, refuse_absent
from headstock.store import FeatureStore, Items
from headstock.store.errors import OptionError, RecipeMismatch

__all__ = [
    "Terminated",
    "admit_for",
    "declare",
    "extract",
    "extract_some",
    "plan_set",
    "sharing",
    "terminable",
]


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: like ctrl-C, everything committed stays and nothing is half-written."""


def extract(
    store: FeatureStore,
    items: Items,
    encoders: Mapping[str, Encoder],
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    limit: int | None = None,
    fail_threshold: float | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    progress: bool = False,
    data_roots: Sequence[str | Path] = (),
    allow_outside: bool = False,
    item_seconds: float = 120.0,
) -> Account:
    """Fill each set of ``encoders`` (set name -> Encoder) for ``items``; do only what is missing.

    Sets of one modality are filled in one pass: each file is read and hashed once, decoded once for
    all that decode alike, and sets that are views of one network share its passes.

    A row whose path, and whose file's size and times, are those of last time is not opened; the
    same bytes are encoded once, under however many ids and paths; a row that failed is recorded and
    not tried again until its file changes or ``retry_failed``. ``limit``: at most so many rows a
    set now. ``fail_threshold`` (0..1): stop when a larger share of the rows tried has failed,
    judged from 20 rows on and at the end. ``overwrite``: a set that was made another way is
    replaced; one that was made this way goes on. ``workers``: processes that read and decode, 0 for
    none.
    ``item_seconds``: what reading and decoding one file may take.

    With ``items.root`` set, files must lie (links followed) inside it or inside ``data_roots``,
    unless ``allow_outside``. Without a root, paths are the caller's own and taken as they are.

    A file that is absent or cannot be read never takes a vector away: the row keeps it and is
    marked as not seen. When not one of the files is there, nothing is changed and StorageError is
    raised.

    A row is its id. Where its file changed, what the store said of it (label, split, group) is
    emptied, and ``items`` speaks of the new content. Raises ManifestError when known ids come with
    files of another place and other bytes: they are other rows.

    Raises OptionError, RecipeMismatch, TooManyFailures, StorageError; KeyboardInterrupt on SIGINT
    and Terminated on SIGTERM. Whatever is raised, what was committed stays.
    """
    options = Options(
        batch_size=batch_size, workers=workers, limit=limit, fail_threshold=fail_threshold,
        overwrite=overwrite, retry_failed=retry_failed, progress=progress, data_roots=data_roots,
        allow_outside=allow_outside, item_seconds=item_seconds,
    )  # fmt: skip
    return extract_some(store, items, encoders, options)


def extract_some(
    store: FeatureStore,
    items: Items,
    encoders: Mapping[str, Encoder],
    options: Options,
    admission: Admission | None = None,
) -> Account:
    """``extract``. ``admission``: what ``admit`` said of the rows, by whoever registered them and
    settles them; they may be a part of a table, whose files are all absent."""
    admitted = admission or admit_for(store, items, encoders, options)
    items, account = admitted.items, Account()
    with terminable():
        for name, encoder in encoders.items():
            declare(store, name, encoder, options.overwrite)
        for modality in dict.fromkeys(encoder.modality for encoder in encoders.values()):
            mine = {n: e for n, e in encoders.items() if e.modality == modality}
            todo = {
                name: plan_set(store, admitted, name, encoder, options)
                for name, encoder in mine.items()
            }
            shared = sharing(mine, {name: plan.rows.tobytes() for name, plan in todo.items()})
            lanes = [
                Lane(store, items, name, encoder, todo[name], options)
                for name, encoder in shared.items()
            ]
            account.sets.update({lane.name: lane.tally for lane in lanes})
            Pass(store, items, lanes, options).go()
    if admission is None:
        settle(store, admitted)
    return account


def admit_for(
    store: FeatureStore, items: Items, encoders: Mapping[str, Encoder], options: Options
) -> Admission:
    """Register the rows that ``encoders`` are about to read. Raises OptionError when one of them
    reads what the rows do not have, StorageError when not one of the files is there."""
    reader = options.reader(items.root)
    for name, encoder in encoders.items():
        refuse_unlike(f"set {name}", encoder)
        if encoder.modality not in items.paths:
            here = ", ".join(items.paths) or "none"
            raise OptionError(f"set {name}", f"rows have no {encoder.modality} column", here)
    modalities = [encoder.modality for encoder in encoders.values()]
    for modality in dict.fromkeys(modalities):
        refuse_absent(items, modality, reader)
    return admit(store, items, reader, modalities)


def plan_set(
    store: FeatureStore, admitted: Admission, name: str, encoder: Encoder, options: Options
) -> Pending:
    """What is left to do for the set ``name`` of the rows that were admitted."""
    items, modality = admitted.items, encoder.modality
    errors = {error.id: error for error in store.errors(name)}
    known = store.progress(name, items.id)
    return pending(items, modality, known, errors, options, admitted.marks.get(modality))


def declare(store: FeatureStore, name: str, encoder: Encoder, overwrite: bool) -> None:
    """Make the set that ``encoder`` fills, or check that it is. Raises RecipeMismatch."""
    made = partial(
        store.declare, name, encoder.recipe(), encoder.dim, encoder.dtype,
        feature_names=encoder.feature_names,
        provenance={"name": encoder.name, **encoder.provenance()},
    )  # fmt: skip
    try:
        made()
    except RecipeMismatch:
        if not overwrite:
            raise
        made(overwrite=True)


def sharing(encoders: Mapping[str, Encoder], todo: Mapping[str, bytes]) -> dict[str, Encoder]:
    """``encoders`` by set name; those of one trunk that have the same in ``todo`` to do are made to
    share its passes."""
    alike: dict[Hashable, list[str]] = {}
    for name, encoder in encoders.items():
        if todo[name] and encoder.trunk is not None:
            alike.setdefault((encoder.trunk, todo[name]), []).append(name)
    out = dict(encoders)
    for names in alike.values():
        if len(names) > 1:
            some = [encoders[name] for name in names]
            out.update(zip(names, some[0].shared(some), strict=True))
    return out


@contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM into Terminated while it lasts; only the main thread may, and only where nobody
    else answers it. One that comes while the first unwinds is not heard."""
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: object) -> None:
        signal.signal(number, lambda *_: None)
        raise Terminated(number)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
