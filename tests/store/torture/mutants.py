"""Protocol mutants: the store with one step broken. A harness that lets one pass is broken itself.

A mutant swaps the code of the functions that a changed line of a module's source touches, in the
running process, and puts it back.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import cuts
import flips
import kills
import machine
import oracle
import reads
import vanish
import weave
import world

from headstock.store import features
from headstock.store.care import evidence
from headstock.store.disk import column, commit, compact, file, state, trace


@dataclass(frozen=True)
class Mutant:
    """``changes`` are (old, new) lines of ``module``; ``caught`` runs the part that must notice."""

    name: str
    module: ModuleType
    changes: tuple[tuple[str, str], ...]
    caught: Callable[[Path, int], dict[str, Any]]


def _kills(folder: Path, seed: int) -> dict[str, Any]:
    return kills.run(folder, 1, seed, stop=True)


def _cuts(folder: Path, seed: int) -> dict[str, Any]:
    return cuts.run(folder, 300, 300, seed, stop=True)


def _weave(folder: Path, seed: int) -> dict[str, Any]:
    return weave.run(folder, 1, seed, stop=True)


def _flips(folder: Path, seed: int) -> dict[str, Any]:
    return flips.run(folder, 2000, seed, step=1 << 20, stop=True)


def _machine(folder: Path, seed: int) -> dict[str, Any]:
    return machine.run(folder, 200, seed, shrink=False)


def _vanish(folder: Path, seed: int) -> dict[str, Any]:
    return vanish.run(folder, 2, seed, stop=True)


def _oracle(folder: Path, seed: int) -> dict[str, Any]:
    return oracle.run(folder, 100, seed, stop=True)


def _reads(folder: Path, seed: int) -> dict[str, Any]:
    return reads.run(folder, 4, seed, stop=True)


LINK = "                link_new(temp, target)\n"
WRITE = "                    write(fd)\n"
MUTANTS = [
    Mutant(
        "a file is not fsynced before it gets its name",
        commit,
        (("os.fsync(fd)  # never tried twice", "pass  # never tried twice"),),
        _cuts,
    ),
    Mutant(
        "the directory is not fsynced before acknowledging",
        commit,
        (
            (
                "            sync_directory(target.parent)\n            return made",
                "            return made",
            ),
        ),
        _cuts,
    ),
    Mutant(
        "a row is acknowledged before it is committed",
        world,
        (
            ('    store.commit("image", batch_of(batch))\n', ""),
            (
                '        tell("ack", *one)\n',
                '        tell("ack", *one)\n    store.commit("image", batch_of(batch))\n',
            ),
        ),
        _kills,
    ),
    Mutant(
        "a file gets its name before it is written",
        commit,
        ((WRITE, LINK.replace("    link", "        link") + WRITE), ("\n" + LINK, "\n")),
        _kills,
    ),
    Mutant(
        "features.h5 is removed before it is replaced",
        commit,
        (
            (
                "            os.replace(temp, target)\n",
                "            target.unlink(missing_ok=True)\n"
                "            os.replace(temp, target)\n",
            ),
        ),
        _kills,
    ),
    Mutant(
        "shards are deleted before their generation exists",
        compact,
        (
            (
                "commit.publish(target, write, check)",
                "commit.publish(\n                target, write, "
                "lambda path: (check(path), depot.clear(state.listing, 0)))",
            ),
        ),
        _kills,
    ),
    Mutant(
        "shards are deleted that were not listed at the start",
        compact,
        (
            (
                "            if made:\n                depot.roll_forward()\n"
                "                depot.clear(state.listing, number)",
                "            if made:\n                depot.roll_forward()\n"
                "                depot.clear(depot.listing(), number)",
            ),
        ),
        _weave,
    ),
    Mutant(
        "a taken name is overwritten instead of refused",
        commit,
        ((LINK, "                os.replace(temp, target)\n"),),
        _weave,
    ),
    Mutant(
        "the generation is looked up before the shards are listed",
        state,
        (
            ("        self.listing = depot.listing()\n", ""),
            (
                "        self.file = depot.newest()\n",
                "        self.file = depot.newest()\n        self.listing = depot.listing()\n",
            ),
        ),
        _weave,
    ),
    Mutant(
        "a vanished shard is taken for absorbed, whatever came meanwhile",
        state,
        (
            (
                "return max(self.depot.generations(), default=0) > self.file.generation",
                "return False",
            ),
        ),
        _weave,
    ),
    Mutant(
        "an old shard overrules a newer row",
        column,
        (("(self.seq[rows] < seq)", "(self.seq[rows] >= 0)"),),
        _kills,
    ),
    Mutant(
        "a patch under a number that came free is believed",
        features,
        (("if self._state.watermark < number:", "if number:"),),
        _weave,
    ),
    Mutant(
        "row checksums are not compared",
        compact,
        (("rows[fresh != crcs[rows]]", "rows[:0]"),),
        _flips,
    ),
    Mutant(
        "the checksum of the metadata is not compared",
        file,
        (("check=False)[0]) != crc:", "check=False)[0]) == -1:"),),
        _flips,
    ),
    Mutant(
        "a label outlives the content that it was said of",
        features,
        (("        self.forget(changed)\n        self._still_ours", "        self._still_ours"),),
        _machine,
    ),
    Mutant(
        "what was acknowledged leaves no trace",
        trace,
        (
            (
                'os.rename(trace, trace.with_name("have" + trace.name.removeprefix("want")))',
                "os.unlink(trace)",
            ),
        ),
        _vanish,
    ),
    Mutant(
        "repair believes rows that fail their checksum",
        evidence,
        (
            (
                "match[rows] = row_crcs(ids[rows], digests[rows], block) == crcs[rows]",
                "match[rows] = True",
            ),
        ),
        _oracle,
    ),
    Mutant(
        "a read that is refused counts as damage",
        file,
        (
            (
                'raise StorageError(self.path, "gives no bytes',
                'raise StoreDamaged(self.path, "gives no bytes',
            ),
        ),
        _reads,
    ),
]


def _functions(space: dict[str, Any], module: str) -> Iterator[tuple[str, FunctionType]]:
    for name, thing in space.items():
        if getattr(thing, "__module__", None) != module:
            continue
        if isinstance(thing, FunctionType):
            yield name, thing
        elif inspect.isclass(thing):
            for inner, part in vars(thing).items():
                plain = getattr(part, "__func__", getattr(part, "fget", part))
                if isinstance(plain, FunctionType):
                    yield f"{name}.{inner}", plain


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """Run with the mutant in place."""
    source = inspect.getsource(mutant.module)
    for old, new in mutant.changes:
        if source.count(old) != 1:
            raise AssertionError(f"{mutant.name}: the line to change is not there once: {old!r}")
        source = source.replace(old, new)
    space = {"__name__": mutant.module.__name__}
    exec(compile(source, str(mutant.module.__file__), "exec"), space)  # our own source
    fresh = dict(_functions(space, mutant.module.__name__))
    kept = {}
    for name, function in _functions(vars(mutant.module), mutant.module.__name__):
        kept[name] = (function, function.__code__)
        if len(fresh[name].__code__.co_freevars) == len(function.__code__.co_freevars):
            function.__code__ = fresh[name].__code__
    try:
        yield
    finally:
        for function, code in kept.values():
            function.__code__ = code


def run(folder: Path, seed: int = 0, names: list[str] | None = None) -> dict[str, Any]:
    """Each mutant against the part that must catch it; ``wrong`` are those that got away."""
    wrong, caught = [], {}
    for mutant in MUTANTS:
        if names is not None and mutant.name not in names:
            continue
        with applied(mutant):
            found = mutant.caught(folder, seed)["wrong"]
        if found:
            caught[mutant.name] = found[0]
        else:
            wrong.append(f"not caught: {mutant.name}")
    return {"mutants": len(caught) + len(wrong), "caught": caught, "wrong": wrong}
