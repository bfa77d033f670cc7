"""Extraction on many machines: shares of the rows for job arrays, and actors on a Ray cluster.

Either way a process commits what it has computed into the store by itself, so that whatever ends it
costs the batches in its hands and nothing else. Claims (see ``store.claims``) keep two processes
from one block of rows.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

from headstock.extract.encoder import Encoder
from headstock.extract.pipeline.account import (
    JUDGED,
    Account,
    SetAccount,
    known_failures,
    refuse_failures,
)
from headstock.extract.pipeline.admit import Admission, settle
from headstock.extract.pipeline.fill import BLOCK
from headstock.extract.pipeline.options import Options
from headstock.extract.pipeline.run import (
    admit_for,
    declare,
    extract_some,
    plan_set,
    terminable,
)
from headstock.store import FeatureStore, Items
from headstock.store.errors import HeadstockError, OptionError
from headstock.store.progress import Progress

__all__ = ["Actor", "Resources", "extract_on_ray", "resources"]

Builder = Callable[[], Encoder]
CORES = 4  # of a node for an actor that computes on the CPU


@dataclass(frozen=True)
class Resources:
    """What each of ``actors`` actors asks of the cluster; ``workers``: its decoding processes."""

    actors: int
    cpus: int
    gpus: int
    workers: int


def resources(
    nodes: Sequence[Mapping[str, float]], device: str, actors: int | None, workers: int | None
) -> Resources:
    """One actor a GPU where the cluster has any and ``device`` allows it, else one for every four
    cores, or for a node that has fewer; ``nodes``: what each has (``CPU``, ``GPU``). The cores of a
    node are divided among its actors. Raises OptionError when the cluster has no such device.
    """
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if device.startswith("cuda") and not gpus:
        raise OptionError(f"--device {device}", "the cluster has no GPU", "--device cpu")
    if device.startswith("cuda:"):
        raise OptionError(f"--device {device}", "Ray chooses the GPU of an actor", "--device cuda")
    on_gpu = gpus > 0 and device in ("auto", "cuda")
    key = "GPU" if on_gpu else "CPU"
    fit = [node for node in nodes if node.get(key, 0) >= 1 and node.get("CPU", 0) >= 1]
    if not fit:
        raise OptionError("--engine ray", "no node of the cluster has a free core", "add nodes")
    cores = [int(node["CPU"]) for node in fit]
    most = sum(int(node[key]) for node in fit)
    if on_gpu:
        usual = most
        each = max(1, min(int(node["CPU"]) // int(node["GPU"]) for node in fit))
    else:
        usual = sum(max(1, c // CORES) for c in cores)
        each = min(CORES, *cores)
    count = usual if actors is None else actors
    if not 1 <= count <= most:
        what = f"the cluster has {most} {'GPUs' if on_gpu else 'cores'}"
        raise OptionError(f"--actors {count}", what, f"1 to {most}")
    if not on_gpu:  # few actors get more cores, as many as the smallest node has; many get fewer
        each = min(min(cores), max(1, sum(cores) // count))
    return Resources(
        actors=count,
        cpus=each,
        gpus=int(on_gpu),
        workers=workers if workers is not None else max(1, each if on_gpu else each // 2),
    )


class Actor:
    """One process of the cluster: it builds the encoders once, and then extracts block after block
    into the shared store, as a local run would, and gives each block's account.

    ``table`` in: ``id`` and ``path/<modality>`` columns of a block. Out: one row with the account,
    or an error of ours, pickled; other exceptions are bugs and go to whoever asked.
    """

    def __init__(
        self, store: str, root: str, builders: Mapping[str, Builder], options: Options
    ) -> None:
        self._store, self._root = store, root
        self._builders, self._options = builders, options
        self._encoders: dict[str, Encoder] | None = None

    def __call__(self, table: Any) -> dict[str, list[bytes]]:
        try:
            if self._encoders is None:
                self._encoders = {name: build() for name, build in self._builders.items()}
            columns = {name: table[name].to_pylist() for name in table.column_names}
            ids = columns.pop("id")
            paths = {name.partition("/")[2]: cells for name, cells in columns.items()}
            items = Items.of(ids, paths=paths, root=self._root)
            with FeatureStore.open(self._store, "a") as store:
                here = Admission(items, np.zeros(len(items), dtype=bool))  # by who sent it
                told: Any = extract_some(store, items, self._encoders, self._options, here)
        except HeadstockError as error:
            told = error
        return {"told": [pickle.dumps(told)]}


def extract_on_ray(
    store: FeatureStore,
    items: Items,
    builders: Mapping[str, Builder],
    encoders: Mapping[str, Encoder],
    *,
    device: str = "auto",
    actors: int | None = None,
    admission: Admission | None = None,
    **flags: Any,
) -> Account:
    """``extract`` by actors on a Ray cluster: the one in ``RAY_ADDRESS``, or this machine.

    ``builders`` make in each actor what ``encoders`` are here, where they only tell the recipe.
    Ray Data hands out blocks of pending rows; every node must see the store and the files under the
    same paths. A block whose actor died is given to another, which finds what was committed done
    (and counts it as reused). ``flags`` are those of ``extract``; ``limit``: at most so many rows
    in all.

    Raises OptionError without Ray, what ``extract`` raises, and HeadstockError when the cluster
    gives up. Whatever is raised, what was committed stays.
    """
    options = Options(**flags)
    admitted = admission or admit_for(store, items, encoders, options)
    for name, encoder in encoders.items():
        declare(store, name, encoder, options.overwrite)
    account = Account()
    rows = _plan(store, admitted, encoders, options, account)
    if len(rows):
        items, largest = admitted.items, max(e.batch_size for e in encoders.values())
        numbers = store.rows(items.id[rows].tolist())
        tables = list(_tables(items, rows, numbers, 32 * (options.batch_size or largest)))
        given = (str(store.path), items.root, dict(builders))
        _send(tables, given, options, account, partial(resources, device=device, actors=actors))
        store.refresh()
    if admission is None:
        settle(store, admitted)
    _judge(account, options.fail_threshold)
    return account


def _send(
    tables: list[Any],
    given: tuple[Any, ...],
    options: Options,
    account: Account,
    ask: Callable[..., Resources],
) -> None:
    """Have the rows of ``tables`` done by actors that are made of ``given``, as many as ``ask`` of
    the nodes, and add what they say to ``account``."""
    rows = sum(map(len, tables))
    begin = time.perf_counter()
    with _ray() as ray, terminable():
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        asked = ask(nodes, workers=options.workers)
        theirs = replace(  # what is said of all rows is done here
            options, workers=asked.workers, limit=None, fail_threshold=None, overwrite=False,
            progress=False, data_roots=[os.path.abspath(root) for root in options.data_roots],
        )  # fmt: skip
        done = 0
        title, shown = "+".join(account.sets), options.progress
        with Progress(title, "rows", not shown, always=shown) as report:
            for part in _answers(ray, tables, asked, (*given, theirs)):
                if isinstance(part, HeadstockError):
                    raise part
                done += _merge(account, part)
                report(done, rows)
                _judge(account, options.fail_threshold, JUDGED)
    for one in account.sets.values():
        _on_the_clock(one, asked.actors, time.perf_counter() - begin)


def _plan(
    store: FeatureStore,
    admitted: Admission,
    encoders: Mapping[str, Encoder],
    options: Options,
    account: Account,
) -> np.ndarray:
    """The rows that some set still wants; the account of all others."""
    items, whole = admitted.items, replace(options, limit=None)
    todo = {n: plan_set(store, admitted, n, encoder, whole) for n, encoder in encoders.items()}
    wanted = np.zeros(len(items), dtype=bool)
    for plan in todo.values():
        wanted[plan.rows] = True
    rows = np.flatnonzero(wanted)[: options.limit]
    sent = np.zeros(len(items), dtype=bool)
    sent[rows] = True
    for name, encoder in encoders.items():
        one, plan = SetAccount(name, encoder.name), todo[name]
        one.reused = int((~sent[plan.reused]).sum())
        one.missing = int((~sent[plan.missing]).sum())
        one.left = int((~sent[plan.rows]).sum())
        failed = plan.failed[~sent[plan.failed]].tolist()
        one.failed = len(failed)
        one.failures = known_failures(plan, failed)
        account.sets[name] = one
    return rows


def _tables(items: Items, rows: np.ndarray, numbers: np.ndarray, least: int) -> Iterator[Any]:
    """A block for each block that extractors claim, so that no actor waits for another."""
    import pyarrow as pa

    blocks = numbers // max(BLOCK, least)
    for block in np.unique(blocks).tolist():
        own = rows[blocks == block]
        columns = {"id": pa.array(items.id[own].tolist(), pa.string())}
        for modality, paths in items.paths.items():
            columns[f"path/{modality}"] = pa.array(paths[own].tolist(), pa.string())
        yield pa.table(columns)


@contextmanager
def _signal_kept() -> Iterator[None]:
    """Ray answers SIGTERM by an exit that says nothing; whoever answered it before, does again."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _ray() -> Iterator[Any]:
    """Ray, connected; what was started here ends here."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise OptionError(
            "--engine ray", "Ray is not installed", "pip install 'headstock[ray]'"
        ) from error
    ours = not ray.is_initialized()
    if ours:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told of this run
        where = os.environ.get("RAY_ADDRESS") or "local"  # never the leavings of an earlier cluster
        own: dict[str, Any] = {"include_dashboard": False} if where == "local" else {}
        try:
            with _signal_kept():
                ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR, **own)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            what = f"no cluster: {error}"
            raise OptionError("--engine ray", what, "check RAY_ADDRESS") from error
    try:
        with redirect_stdout(sys.stderr):  # Ray tells of dead actors where our result will stand
            yield ray
    finally:
        if ours:
            ray.shutdown()


def _answers(
    ray: Any, tables: list[Any], asked: Resources, given: tuple[Any, ...]
) -> Iterator[Account | HeadstockError]:
    """What the actors, made of ``given``, say of each block, as it comes."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    said = ray.data.from_arrow(tables).map_batches(
        Actor,
        fn_constructor_args=given,
        batch_format="pyarrow",
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=asked.actors, max_tasks_in_flight_per_actor=1
        ),
        num_cpus=asked.cpus,
        num_gpus=asked.gpus,
    )
    try:
        for row in said.iter_rows():
            yield pickle.loads(row["told"])  # noqa: S301  our own actors' words
    except ray.exceptions.RayError as error:
        fix = "what was committed is kept; look at the node, and run it again"
        last = str(error).strip().splitlines() or [type(error).__name__]
        raise HeadstockError("--engine ray", last[-1], fix) from error


def _merge(account: Account, part: Account) -> int:
    """Add a block's account to the whole; the block's rows."""
    rows = 0
    for name, theirs in part.sets.items():
        ours = account.sets[name]
        for field in fields(SetAccount):
            mine, more = getattr(ours, field.name), getattr(theirs, field.name)
            if field.name == "workers":
                ours.workers = max(mine, more)
            elif field.name == "failures" or isinstance(mine, int):
                setattr(ours, field.name, mine + more)
            elif isinstance(mine, list):
                setattr(ours, field.name, list(dict.fromkeys([*mine, *more])))
            elif field.name == "memory":
                ours.memory = {k: max(mine.get(k, 0), more.get(k, 0)) for k in {**mine, **more}}
            elif isinstance(mine, dict):
                setattr(
                    ours, field.name, {k: mine.get(k, 0) + more.get(k, 0) for k in {**mine, **more}}
                )
            elif not mine:
                setattr(ours, field.name, more)
        done = theirs.done + theirs.reused + theirs.failed + theirs.missing + len(theirs.unseen)
        rows = max(rows, done)
    return rows


def _on_the_clock(one: SetAccount, actors: int, wall: float) -> None:
    """Seconds that are said on the clock are the actors' mean; the total is what passed here."""
    beside = ("read", "decode", "transform")
    one.seconds = {k: v if k in beside else v / actors for k, v in one.seconds.items()}
    one.seconds["total"] = wall
    one.workers *= actors


def _judge(account: Account, threshold: float | None, least: int = 1) -> None:
    for name, one in account.sets.items():
        refuse_failures(f"set {name}", one.failed, one.tried, threshold, least)
