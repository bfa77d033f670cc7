"""A small extraction whose right answer is known at every moment.

The vector of a row is a known function of its id and version (a changed file is a new version), so
a wrong row shows itself, and the encoder counts its calls, so work done twice shows itself too.
``Story`` is what was tried and what was acknowledged, in order; ``judge`` compares a store with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from headstock.store import OK, Batch, FeatureStore, Items, Recipe
from headstock.store.care.verify import check_file, verify
from headstock.store.errors import HeadstockError

DIM, SIZE = 6, 4
RECIPE = Recipe("image", {"weights": "known function", "dim": DIM})


def digest(identity: str, version: int) -> bytes:
    return hashlib.sha256(f"{identity}/{version}".encode()).digest()


def vector(identity: str, version: int) -> np.ndarray:
    """(6,) float32, exactly."""
    return np.frombuffer(digest(identity, version)[: 2 * DIM], "<u2").astype(np.float32)


@dataclass
class Story:
    """``tried`` and ``acked``: what was attempted and acknowledged of (kind, id), in order."""

    tried: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    acked: dict[tuple[str, str], int] = field(default_factory=dict)
    encoded: list[tuple[str, int]] = field(default_factory=list)

    def tell(self, verb: str, kind: str, identity: str, value: str) -> None:
        key = (kind, identity)
        if verb == "encode":
            self.encoded.append((identity, int(value)))
        elif verb == "try":
            self.tried.setdefault(key, []).append(value)
        else:
            self.acked[key] = len(self.tried[key]) - 1

    def allowed(self, kind: str, identity: str) -> set[str | None]:
        """What may be read now: the last acknowledged, or anything tried since."""
        tried, acked = self.tried.get((kind, identity), []), self.acked.get((kind, identity))
        if acked is None:
            return {None, *tried}
        return set(tried[acked:])

    def copy(self) -> Story:
        return Story({k: list(v) for k, v in self.tried.items()}, dict(self.acked))


Tell = Callable[[str, str, str, str], None]
Wanted = dict[str, tuple[int, str]]  # id -> (version, label)


def wanted(n: int, label: str = "a", **versions: int) -> Wanted:
    """Rows r0, r1, ... of version 0, but for those named."""
    return {f"r{i}": (versions.get(f"r{i}", 0), label) for i in range(n)}


def extract(path: Path, rows: Wanted, tell: Tell, compact: bool = True, size: int = SIZE) -> None:
    """What ``headstock extract`` does, with the known encoder."""
    with FeatureStore.open(path, "a") as store:
        changed = [i for i in rows if _holds_another(store, i, rows[i][0])]
        _label(store, {i: row for i, row in rows.items() if i not in changed}, tell)
        store.declare("image", RECIPE, DIM)
        told = store.progress("image", list(rows))
        todo = [
            identity
            for at, (identity, (version, _)) in enumerate(rows.items())
            if told.status[at] != OK or told.digest[at].tobytes() != digest(identity, version)
        ]
        for start in range(0, len(todo), size):
            batch = [(identity, rows[identity][0]) for identity in todo[start : start + size]]
            for identity, version in batch:
                tell("encode", "row", identity, str(version))
            commit(store, batch, tell)
        _label(store, {i: rows[i] for i in changed}, tell)  # its label is said of what is there now
        if compact:
            store.compact()


def _holds_another(store: FeatureStore, identity: str, version: int) -> bool:
    """Whether the row has content, and another than this version's."""
    if "image" not in store.sets:
        return False
    known = store.progress("image", [identity]).digest[0]
    return bool(known.any()) and known.tobytes() != digest(identity, version)


def _label(store: FeatureStore, rows: Wanted, tell: Tell) -> None:
    for identity, (_, label) in rows.items():
        tell("try", "label", identity, label)
    store.register(Items.of(list(rows), label=[label for _, label in rows.values()]))
    for identity, (_, label) in rows.items():
        tell("ack", "label", identity, label)


def commit(store: FeatureStore, batch: list[tuple[str, int]], tell: Tell) -> None:
    """Commit rows of these versions; a row of another content loses its label."""
    others = [identity for identity, version in batch if _holds_another(store, identity, version)]
    said = [("row", identity, str(version)) for identity, version in batch]
    said += [("label", identity, "") for identity in others]
    for one in said:
        tell("try", *one)
    store.commit("image", batch_of(batch))
    for one in said:
        tell("ack", *one)


def batch_of(rows: list[tuple[str, int]]) -> Batch:
    return Batch(
        ids=[identity for identity, _ in rows],
        digest=np.stack([np.frombuffer(digest(*row), np.uint8) for row in rows]),
        stat=np.full((len(rows), 2), -1, dtype=np.int64),
        x=np.stack([vector(*row) for row in rows]),
        status=np.full(len(rows), OK, dtype=np.uint8),
    )


def judge(path: Path, story: Story, whole: bool = True) -> list[str]:
    """Everything wrong with the store at ``path``, given its story; empty when it kept its word.

    ``whole`` also demands that ``verify`` has no findings.
    """
    try:
        wrong = [f"verify: {line}" for line in verify(path).findings] if whole else []
        if story.acked:  # whatever was acknowledged, features.h5 itself is whole from then on
            check_file(path, "generation")
        with FeatureStore.open(path) as store:
            return wrong + _compare(store, story)
    except FileNotFoundError:
        return ["features.h5 is not there"]
    except HeadstockError as error:
        if "no store here" in str(error) and not story.acked:
            return []
        return [f"{type(error).__name__}: {error}"]


def _compare(store: FeatureStore, story: Story) -> list[str]:
    wrong, ids = [], store.items.id.tolist()
    labels = dict(zip(ids, store.items.label.tolist(), strict=True))
    for kind, identity in story.tried:
        if kind == "label" and (said := labels.get(identity)) not in story.allowed(kind, identity):
            wrong.append(f"label of {identity} is {said}")
    served: dict[str, str | None] = {}
    if "image" in store.sets:
        status, digests = (getattr(store.feature_set("image"), k) for k in ("status", "digest"))
        rows = np.flatnonzero(status == OK)
        x = store.feature_set("image").x(rows)
        for at, row in enumerate(rows.tolist()):
            versions = [v for v in range(9) if digest(ids[row], v) == digests[row].tobytes()]
            if not versions or not np.array_equal(x[at], vector(ids[row], versions[0])):
                wrong.append(f"vector of {ids[row]} is wrong")
            served[ids[row]] = str(versions[0]) if versions else None
    for kind, identity in story.tried:
        if kind == "row" and (said := served.get(identity)) not in story.allowed(kind, identity):
            wrong.append(f"row {identity} is {said}, not {story.allowed(kind, identity)}")
    return wrong


def finish(path: Path, rows: Wanted, story: Story) -> list[str]:
    """Run the extraction again to its end: it must compute nothing acknowledged, and be right."""
    before = {k for k, at in story.acked.items() if k[0] == "row" and at == len(story.tried[k]) - 1}
    acked = {(i, int(story.tried["row", i][-1])) for _, i in before}
    again = story.copy()
    try:
        extract(path, rows, again.tell)
        wrong = [f"{row} computed again" for row in again.encoded if row in acked]
        wrong += judge(path, again)
        with FeatureStore.open(path) as store:
            index = {identity: row for row, identity in enumerate(store.items.id.tolist())}
            x = store.feature_set("image").x(np.array([index[i] for i in rows]))
            pending = store.pending
    except (HeadstockError, LookupError) as error:
        return [f"resume: {type(error).__name__}: {error}"]
    good = np.stack([vector(i, version) for i, (version, _) in rows.items()])
    if not np.array_equal(x, good) or pending:
        wrong.append("the resumed run did not end complete and compacted")
    return wrong
