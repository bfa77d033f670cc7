"""Answers of earlier evaluations, taken again where nothing that makes them has changed.

An answer is kept under a fingerprint of everything it was computed from: the rows' ids, labels and
vectors, the folds, the test rows' vectors, the recipes, the head with its options and seed, the
source of this package and of the reader's own head, the versions of the libraries that compute, and
the arithmetic of this machine (kernels and threads of the linear algebra, on which the last bits
depend). So a reused number is the very number that computing it again would give.

The files lie beside the store, in ``features.h5.oof``; the folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstock.heads.engine.shared import Shared
from headstock.heads.evaluation.cache_keys import (
    arithmetic,
    array_digest,
    code_of,
    package_digest,
    text_digest,
)
from headstock.heads.evaluation.systems import System
from headstock.heads.files import write_bytes
from headstock.heads.outoffold.answer import Answer
from headstock.heads.outoffold.together import answer_all, goes_slow
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows, parts_of
from headstock.store.errors import HeadstockError
from headstock.store.jsonfile import parse_json
from headstock.store.textfile import plain_bytes

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = ["LIMIT", "Reuse", "Scope"]

SCHEMA = 1
LIMIT = 2 << 30
"""Bytes that kept answers may take; beyond, those that were not asked for longest go."""
LARGEST = LIMIT // 8
"""An answer larger than this is not kept."""


class Reuse:
    """The answers kept at ``folder``. recipes: {set: fingerprint} of the sets that are read.

    Nothing here ever fails an evaluation: a folder that cannot be written keeps nothing, a file
    that is damaged or cut short counts as absent.
    """

    def __init__(self, folder: str | Path, recipes: Mapping[str, str] | None = None) -> None:
        self.folder, self._recipes = Path(folder), dict(recipes or {})
        self.counts = {"found": 0, "kept": 0}

    @classmethod
    def beside(cls, store: StoreReader) -> Reuse:
        """For the sets of an open store."""
        names = {name: store.feature_set(name).recipe.fingerprint for name in store.sets}
        return cls(f"{store.path}.oof", names)

    def scope(self, rows: Rows, plan: FoldPlan, test: Rows | None) -> Scope:
        """The answers on these rows under this plan."""
        return Scope(self, rows, plan, test)

    def get(self, key: str) -> Answer | None:
        """The answer kept under ``key``, if it is there and whole."""
        path = self.folder / f"{key}.oof"
        try:
            raw = plain_bytes(path, "", 2 * LARGEST)
            if hashlib.sha256(raw[32:]).digest() != raw[:32]:
                return None
            with zipfile.ZipFile(io.BytesIO(raw[32:])) as packed:
                if sum(entry.file_size for entry in packed.infolist()) > len(raw):
                    return None  # what is kept here is never packed
            with np.load(io.BytesIO(raw[32:]), allow_pickle=False) as held:
                told = parse_json(str(held["told"]))
                answer = Answer(
                    held["proba"], held.get("test"), told["seconds"],
                    told["how"], told["notes"], told["chosen"], tried=told["tried"],
                )  # fmt: skip
                if told["importances"]:
                    answer.importances = [held[f"w{i}"] for i in range(told["importances"])]
            os.utime(path)
        except (
            HeadstockError, OSError, ValueError, KeyError, TypeError, EOFError, MemoryError,
            zipfile.BadZipFile,
        ):  # fmt: skip
            return None
        self.counts["found"] += 1
        return replace(answer, reused=True)

    def put(self, key: str, answer: Answer) -> None:
        """Keep ``answer``: whole or not at all."""
        try:
            told = json.dumps(
                {
                    "seconds": answer.seconds,
                    "how": answer.how,
                    "notes": answer.notes,
                    "chosen": answer.chosen,
                    "tried": answer.tried,
                    "importances": len(answer.importances),
                }
            )
        except (TypeError, ValueError):
            return  # a head of the reader's own chose what JSON cannot say
        arrays: dict[str, Any] = {"proba": answer.proba, "told": np.array(told)}
        if answer.test is not None:
            arrays["test"] = answer.test
        arrays |= {f"w{i}": weight for i, weight in enumerate(answer.importances)}
        if sum(a.nbytes for a in arrays.values()) > LARGEST:
            return
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        raw = buffer.getvalue()
        with suppress(HeadstockError, OSError):
            self.folder.mkdir(exist_ok=True)
            write_bytes(self.folder / f"{key}.oof", hashlib.sha256(raw).digest() + raw)
            self.counts["kept"] += 1
            self._make_room()

    def _make_room(self) -> None:
        files = []
        for entry in os.scandir(self.folder):
            about = entry.stat()
            files.append((about.st_mtime_ns, about.st_size, entry.path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= LIMIT:
                return
            with suppress(FileNotFoundError):  # another evaluation makes room too
                os.unlink(path)
            total -= size


class Scope:
    """Fingerprints of answers on the same rows, each matrix hashed once."""

    def __init__(self, reuse: Reuse, rows: Rows, plan: FoldPlan, test: Rows | None) -> None:
        self._reuse, self._rows, self._plan, self._test = reuse, rows, plan, test
        self._matrices: dict[str, list[str]] = {}

    def of_head(
        self,
        function: str,
        on: str,
        options: Mapping[str, Any] | None,
        seed: int,
        *how: Any,
    ) -> str | None:
        """The fingerprint of one head on the sets of ``on``; None for an answer that nothing can
        vouch for. ``how`` it is computed: whether fold by fold, the bytes that kernels may take
        (which decide on how many rows they stand), on what device, whether nested."""
        code = code_of(function)
        if code is None:
            return None
        sets = {part: self._set(part) for part in parts_of(on)}
        return self._name("head", code, on, sets, dict(options or {}), seed, *how)

    def answer_all(
        self,
        name: str,
        on: Sequence[str],
        shared: Sequence[Shared],
        *,
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
        step: Callable[[str, int], None] = lambda on, fits: None,
    ) -> dict[str, Answer]:
        """``together.answer_all`` for the rows of this scope, but for what is known."""
        if not on:
            return {}
        one = shared[0]
        how = goes_slow(name, options, seed, one, on), one.memory, one.device, one.nested
        keys = {o: self.of_head(name, o, options, seed, *how) for o in on}
        out: dict[str, Answer] = {}
        for o, key in keys.items():
            known = None if key is None else self._reuse.get(key)
            if known is not None:
                out[o] = known
                step(o, sum(len(one.asked) for one in shared))
        left = [o for o in on if o not in out]
        if left:
            found = answer_all(name, left, shared, options=options, seed=seed, step=step, among=on)
            for o, answer in found.items():
                key = keys[o]
                if key is not None:
                    self._reuse.put(key, answer)
            out |= found
        return {o: out[o] for o in on}

    def fused(
        self,
        system: System,
        members: Sequence[Answer],
        seed: int,
        nested: bool | None,
        heads: Sequence[str | None],
        fuse: Callable[[], Answer],
    ) -> Answer:
        """The answer of a fusion without options: known, or what ``fuse`` makes. ``heads``: the
        fingerprints (``of_head``) of what is fitted again for it where it is nested; it is made
        anew where nothing can vouch for one."""
        if None in heads:
            return fuse()
        rows, test = self._rows, self._test
        answers = [
            [None if a is None else array_digest(a) for a in (m.proba, m.test)] for m in members
        ]
        have = [
            None if r is None or r.present is None else text_digest(r.patterns())
            for r in (rows, test)
        ]
        names = system.fusion, list(system.members)
        key = self._name("fusion", *names, answers, have, seed, nested, list(heads))
        answer = self._reuse.get(key)
        if answer is None:
            answer = fuse()
            self._reuse.put(key, answer)
        return answer

    def _name(self, *parts: Any) -> str:
        text = json.dumps([*self._common, *parts], sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def _common(self) -> list[Any]:
        rows, test = self._rows, self._test
        return [
            SCHEMA,
            package_digest(),
            arithmetic(),
            text_digest(rows.ids),
            array_digest(rows.y),
            text_digest(rows.classes),
            array_digest(self._plan.codes),
            None if test is None else text_digest(test.ids),
        ]

    def _set(self, name: str) -> list[str]:
        if name not in self._matrices:
            matrices = [r.X[name] for r in (self._rows, self._test) if r is not None]
            recipe = self._reuse._recipes.get(name, "")
            self._matrices[name] = [recipe, *map(array_digest, matrices)]
        return self._matrices[name]
