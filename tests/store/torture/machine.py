"""A state machine against a plain dict: add, relabel, change, extract, compact, crash, reopen.

Two handles stay open and take turns, so each sees the other's work late. A crash fails one call
and every call after it, as for a process that is gone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from calls import watched
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from world import DIM, RECIPE, Story, commit, judge

from headstock.store import FeatureStore, Items
from headstock.store.errors import HeadstockError

HANDLES = st.sampled_from(["one", "two"])
ROWS = st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True)
CRASH = st.one_of(st.none(), st.integers(0, 40))


class Crash(BaseException):
    """Not an Exception: nothing may catch a kill."""


class Store(RuleBasedStateMachine):
    folder: ClassVar[Path]
    steps: ClassVar[dict[str, int]] = {"runs": 0, "steps": 0, "crashes": 0}

    @initialize()
    def begin(self) -> None:
        self.steps["runs"] += 1
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.path, self.story = self.folder / "f.h5", Story()
        self.versions: dict[str, int] = {}
        self.known: set[str] = set()
        self.handles: dict[str, FeatureStore] = {}

    def handle(self, which: str) -> FeatureStore:
        if which not in self.handles:
            self.handles[which] = FeatureStore.open(self.path, "a")
            self.handles[which].declare("image", RECIPE, DIM)
        return self.handles[which]

    def act(self, which: str, crash: int | None, do: Callable[[FeatureStore], None]) -> None:
        count = 0

        def hook(name: str, real: Callable[..., Any], args: tuple) -> Any:
            nonlocal count
            count += 1
            if crash is not None and count > crash:
                raise Crash
            return real(*args)

        self.steps["steps"] += 1
        store = self.handle(which)
        try:
            with watched(hook, str(self.folder)):
                do(store)
        except Crash:
            self.steps["crashes"] += 1
            self.handles.pop(which).close()

    @rule(which=HANDLES, rows=ROWS, label=st.sampled_from("abc"), crash=CRASH)
    def register(self, which: str, rows: list[int], label: str, crash: int | None) -> None:
        ids = [f"r{i}" for i in rows]

        def do(store: FeatureStore) -> None:
            for identity in ids:
                self.story.tell("try", "label", identity, label)
            store.register(Items.of(ids, label=[label] * len(ids)))
            for identity in ids:
                self.story.tell("ack", "label", identity, label)
            self.known.update(ids)

        self.act(which, crash, do)

    @rule(row=st.integers(0, 4))
    def change_a_file(self, row: int) -> None:
        identity = f"r{row}"
        self.versions[identity] = min(8, self.versions.get(identity, 0) + 1)

    @rule(which=HANDLES, rows=ROWS, crash=CRASH)
    def extract(self, which: str, rows: list[int], crash: int | None) -> None:
        batch = [(f"r{i}", self.versions.get(f"r{i}", 0)) for i in rows if f"r{i}" in self.known]
        if not batch:
            return

        def do(store: FeatureStore) -> None:
            store.refresh()  # an extractor opens the store, and looks, before it works
            commit(store, batch, self.story.tell)

        self.act(which, crash, do)

    @rule(which=HANDLES, crash=CRASH)
    def compact(self, which: str, crash: int | None) -> None:
        self.act(which, crash, lambda store: (store.compact(), None)[1])

    @rule(which=HANDLES)
    def close(self, which: str) -> None:
        if which in self.handles:
            self.handles.pop(which).close()

    @rule()
    def forget_the_directory(self) -> None:
        """A compacted store may be copied alone; its directory is made anew."""
        if not self.handles and self.path.exists():
            with FeatureStore.open(self.path, "a") as store:
                store.compact()
            shutil.rmtree(self.folder / "f.h5.d")

    @invariant()
    def everything_acknowledged_is_there(self) -> None:
        if hasattr(self, "path") and self.path.exists():
            wrong = judge(self.path, self.story)
            assert not wrong, wrong

    def teardown(self) -> None:
        for store in getattr(self, "handles", {}).values():
            store.close()


def run(folder: Path, runs: int, number: int = 0, shrink: bool = True) -> dict[str, Any]:
    """So many runs of the machine; a failing one is told, and shrunk before."""
    Store.folder, Store.steps = folder / "machine", {"runs": 0, "steps": 0, "crashes": 0}
    how = settings(
        max_examples=runs, stateful_step_count=15, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
    )  # fmt: skip
    wrong = []
    try:
        run_machine(seed(number)(Store), settings=how)
    except (AssertionError, HeadstockError) as error:
        wrong.append(f"{error} {getattr(error, '__notes__', '')}")
    return {**Store.steps, "wrong": wrong}
