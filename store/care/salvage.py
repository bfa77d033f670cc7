"""One state out of what many files prove: every row that proves itself, each by its newest word."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from headstock.store.care.evidence import Evidence, Piece
from headstock.store.care.remains import Remains
from headstock.store.disk.checksum import row_crcs
from headstock.store.disk.column import Column
from headstock.store.disk.declared import ABSENT, OK, Declared
from headstock.store.disk.hdf5 import CANNOT
from headstock.store.disk.layout import text_bytes
from headstock.store.disk.patch import Patch
from headstock.store.disk.state import OPEN_SHARDS
from headstock.store.errors import StorageError
from headstock.store.items import text_column
from headstock.store.recipe import Recipe

__all__ = ["Salvage"]

TYPES = {"<f4": "float32", "<f2": "float16"}


@dataclass
class _Chance:
    """A way in which a set may have been declared, and the rows that were made in that way."""

    epoch: int = 0
    worth: tuple[bool, bool, int] = (False, False, -1)  # proven, whole, epoch of ``declared``
    declared: Declared | None = None
    pieces: list[Piece] = field(default_factory=list)


class Salvage:
    """What ``write_generation`` writes, out of all ``evidence``. ``number`` and ``absorbed`` are
    the highest of a generation and of a patch that anything says.

    ``taken``: rows by set, by file; ``emptied``: columns of text that nothing proves; ``older``:
    columns taken from an earlier generation, and its file; ``rows``: ids by set that were there
    and nothing proves any more; ``nameless``: how many rows lost their id.
    """

    def __init__(self, evidence: Sequence[Evidence], uuid: str) -> None:
        self.uuid = uuid
        self.taken: dict[str, dict[str, int]] = {}
        self.emptied: list[str] = []
        self.older: dict[str, str] = {}
        self.rows: dict[str, list[str]] = {}
        self._open: OrderedDict[Path, Remains] = OrderedDict()
        self._crcs: dict[str, np.ndarray] = {}
        self._pieces: dict[str, list[Piece]] = {}
        generations = sorted(
            (e for e in evidence if e.kind == "generation"),
            key=lambda e: (e.number, e.whole, e.proven), reverse=True,
        )  # fmt: skip
        patches = sorted((e for e in evidence if e.kind == "patch"), key=lambda e: e.number)
        self.number = max((e.number for e in generations), default=0)
        marks = [e.number_of("patches") for e in generations if e.proven]
        self.absorbed = max((*marks, *(e.number for e in patches)), default=0)
        pieces = [piece for e in evidence for piece in e.pieces]
        clocks = [e.number_of("clock") for e in generations if e.proven]
        self.clock = max(
            (*clocks, self.absorbed, *(int(p.seq.max(initial=0)) for p in pieces)), default=0
        )
        self.drops = max((e.number_of("drops") for e in generations), default=0)
        self.dropped: set[str] = set()
        self._gone = {i for e in generations for i in e.dropped}
        self._name_rows(generations, patches, pieces)
        self.declared: dict[str, Declared] = {}
        self._loaded: dict[str, Column] = {}
        for name, chance in self._choose(evidence).items():
            self.declared[name] = self._declare(name, chance)
            self._loaded[name] = self._lay(name, chance.pieces, generations)

    # --- rows and text

    def _name_rows(
        self, generations: list[Evidence], patches: list[Evidence], pieces: list[Piece]
    ) -> None:
        """Ids in the order of the newest generation, its patches, and whatever else knows one."""
        self.ids: list[str] = []
        self._index: dict[str, int] = {}
        self.columns: dict[str, np.ndarray] = {}
        self.root, mark, nameless = "", 0, 0
        if generations:
            newest = generations[0]
            root = newest.meta.get("root")
            self.root = root if isinstance(root, str) else ""
            mark = newest.number_of("patches") if newest.proven else 0
            nameless = newest.nameless
            self._gone -= set(newest.ids)
            self._more(newest)
            for name in newest.failed:
                self._older(name, generations[1:])
        for proof in patches:
            if proof.number > mark:
                self._patch(proof)
        count = len(self.ids)
        for other in [*generations[1:], *reversed(patches)]:
            self._more(other)
        self.nameless = max(0, nameless - (len(self.ids) - count))
        for piece in pieces:
            fresh = [i for i in piece.ids if i not in self._index and i not in self._gone]
            self._apply(Patch(ids=fresh))

    def _more(self, proof: Evidence) -> None:
        """Rows that nothing newer knows, or has dropped."""
        known = self._index.keys() | self._gone
        fresh = [at for at, i in enumerate(proof.ids) if i not in known]
        cells = {c: v[fresh] for c, v in proof.columns.items()}
        self._apply(Patch(ids=[proof.ids[at] for at in fresh], columns=cells))

    def _older(self, name: str, generations: list[Evidence]) -> None:
        """A column that the newest generation does not prove, as the last that does has it."""
        cells = text_column([""] * len(self.ids))
        for other in generations:
            if name in other.columns:
                known = dict(zip(other.ids, other.columns[name].tolist(), strict=True))
                cells = text_column([known.get(identity, "") for identity in self.ids])
                self.older[name] = other.path.name
                break
        else:
            self.emptied.append(name)
        if name.partition("/")[0] in ("label", "split", "group", "path", "extra"):
            self.columns[name] = cells

    def _patch(self, proof: Evidence) -> None:
        root, clear = proof.meta.get("root"), proof.meta.get("clear")
        if isinstance(root, str) and proof.proven:
            self.root = root
        kept = [c for c in clear if c in proof.columns] if isinstance(clear, list) else []
        self.dropped = (self.dropped - set(proof.ids)) | set(proof.dropped)
        self._gone -= set(proof.ids)
        drop = bool(proof.dropped)
        self._apply(Patch(ids=proof.ids, columns=proof.columns, clear=kept, drop=drop))
        self.emptied += [f"{name} (of {proof.path.name})" for name in proof.failed]

    def _apply(self, patch: Patch) -> None:
        if patch.ids:
            self.columns = patch.apply(self.ids, self._index, self.columns)

    # --- sets

    def _choose(self, evidence: Sequence[Evidence]) -> dict[str, _Chance]:
        """The newest way in which each set was declared. A declaration that nothing proves counts
        only where rows carry its recipe's sha256, or where there is no other."""
        chances: dict[tuple[str, str], _Chance] = {}
        for proof in evidence:
            for made in proof.declared:
                chance = chances.setdefault((made.name, made.recipe.fingerprint), _Chance())
                worth = (proof.proven, proof.kind != "shard", made.epoch)
                if worth > chance.worth:
                    chance.declared, chance.worth = made, worth
                chance.epoch = max(chance.epoch, made.epoch)
            for piece in proof.pieces:
                chance = chances.setdefault((piece.set, piece.fingerprint), _Chance())
                chance.pieces.append(piece)
                chance.epoch = max(chance.epoch, piece.epoch)
        best: dict[str, _Chance] = {}
        for (name, _), chance in chances.items():
            now = best.get(name)
            if now is None or _rank(chance) > _rank(now):
                best[name] = chance
        for (name, fingerprint), chance in chances.items():
            if best[name] is chance and chance.declared is None:
                best[name].declared = self._unknown(name, fingerprint, chance)
        return {n: best[n] for n in sorted(best, key=lambda n: best[n].epoch)}

    def _unknown(self, name: str, fingerprint: str, chance: _Chance) -> Declared:
        """A set whose declaration is lost and was carried by no shard: its vectors are kept."""
        paths = [c.partition("/")[2] for c in self.columns if c.startswith("path/")]
        modality = name if name in paths or not paths else paths[0]
        recipe = Recipe(modality, {"unknown": f"its declaration was lost; sha256 {fingerprint}"})
        dim, dtype = chance.pieces[0].shape
        return Declared.of(name, recipe, dim, TYPES.get(dtype, "float32"))

    def _declare(self, name: str, chance: _Chance) -> Declared:
        made = chance.declared
        assert made is not None
        return Declared(
            made.name, made.recipe, made.dim, made.dtype, made.feature_names, made.provenance,
            chance.epoch,
        )  # fmt: skip

    def _lay(self, name: str, pieces: list[Piece], generations: list[Evidence]) -> Column:
        """The column of a set: generations from the newest on, then shards by their numbers."""
        declared, n = self.declared[name], len(self.ids)
        column = Column.empty(declared, n)
        self._crcs[name] = np.zeros(n, "<u4")
        order = {e.path: at for at, e in enumerate(generations)}
        fitting = [p for p in pieces if p.shape == (declared.dim, declared.stored.str)]
        last = len(order)
        fitting.sort(key=lambda p: (order.get(p.path, last), int(p.seq.max(initial=0)), p.path))
        self._pieces[name] = fitting
        for at, piece in enumerate(fitting):
            rows = np.array([self._index.get(i, -1) for i in piece.ids], dtype=np.int64)
            if not (rows >= 0).any():
                continue
            now, seq = column.status[rows], column.seq[rows]
            better = (piece.seq > seq) | ((now != OK) & (piece.status == OK) & (piece.seq >= seq))
            # a generation before the newest has nothing newer to say
            new = (now == ABSENT) | (better & (piece.path not in order))
            wins = np.flatnonzero(new & (rows >= 0))
            won = rows[wins]
            column.source[won], column.position[won] = at, piece.position[wins]
            column.status[won], column.digest[won] = piece.status[wins], piece.digest[wins]
            column.stat[won], column.seq[won] = piece.stat[wins], piece.seq[wins]
            self._crcs[name][won] = piece.crc[wins]
            for place, row in zip(wins.tolist(), won.tolist(), strict=True):
                column.errors.pop(row, None)
                if place in piece.errors:
                    column.errors[row] = piece.errors[place]
        self._count(name, column)
        return column

    def _count(self, name: str, column: Column) -> None:
        pieces = self._pieces[name]
        there = np.flatnonzero(column.status != ABSENT)
        for at, count in zip(*np.unique(column.source[there], return_counts=True), strict=True):
            by_set = self.taken.setdefault(pieces[int(at)].path.name, {})
            by_set[name] = by_set.get(name, 0) + int(count)
        ids = dict.fromkeys(i for piece in pieces for i in piece.lost)
        lost = [
            i for i in ids
            if i not in self._gone
            and (i not in self._index or column.status[self._index[i]] == ABSENT)
        ]  # fmt: skip
        if lost:
            self.rows[name] = sorted(lost)

    # --- what a generation is written from

    @property
    def n(self) -> int:
        return len(self.ids)

    @property
    def kept(self) -> np.ndarray:
        return np.array([row for row, i in enumerate(self.ids) if i not in self.dropped], np.int64)

    @property
    def gone(self) -> set[str]:
        return (self._gone | self.dropped) - (self._index.keys() - self.dropped)

    @property
    def id_bytes(self) -> np.ndarray:
        return text_bytes(self.ids)

    def column(self, name: str) -> Column:
        return self._loaded[name]

    def vectors(self, column: Column, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Read the vectors of OK rows into ``out`` (m, d), each checked once more; their CRCs."""
        name = column.declared.name
        crcs = self._crcs[name][rows]
        for source in np.unique(column.source[rows]).tolist():
            here, piece = np.flatnonzero(column.source[rows] == source), self._pieces[name][source]
            out[here] = self._file(piece.path).rows(f"{piece.base}/x", column.position[rows[here]])
        ids = text_bytes([self.ids[row] for row in rows.tolist()])
        if not (row_crcs(ids, column.digest[rows], out) == crcs).all():
            raise StorageError(column.declared.name, "its vectors read differently twice", CANNOT)
        return crcs

    def _file(self, path: Path) -> Remains:
        if path not in self._open:
            self._open[path] = Remains(path)
            while len(self._open) > OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(path)
        return self._open[path]

    def close(self) -> None:
        for file in self._open.values():
            file.close()


def _rank(chance: _Chance) -> tuple[bool, int, bool]:
    believed = chance.worth[0] or bool(chance.pieces)
    return believed, chance.epoch, bool(chance.pieces)
