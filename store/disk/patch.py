"""Patches: numbered changes of rows and declarations of sets, without touching a vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstock.store.disk.declared import Declared
from headstock.store.disk.file import StoreFile
from headstock.store.disk.forms import patch_form
from headstock.store.disk.layout import Plan, text_bytes
from headstock.store.disk.rows import dataset
from headstock.store.items import text_column

__all__ = ["Patch"]


@dataclass(frozen=True)
class Patch:
    """Rows to add or change, and sets to declare.

    ``columns`` holds m cells for the m ``ids``; ``""`` leaves a cell as it is, except in the
    columns named by ``clear``, where it empties the cell. ``root`` replaces the root of paths.
    ``drop``: the rows are to go; they are blank until a compaction leaves them out.
    """

    ids: Sequence[str] = ()
    columns: dict[str, np.ndarray] | None = None
    declare: Sequence[Declared] = ()
    clear: Sequence[str] = ()
    root: str | None = None
    drop: bool = False

    def pack(self, number: int, uuid: str) -> bytearray:
        columns = self.columns or {}
        arrays = {"/items/id": text_bytes(self.ids)}
        arrays |= {dataset(name): text_bytes(cells.tolist()) for name, cells in columns.items()}
        plan = Plan(
            kind="patch",
            uuid=uuid,
            generation=number,
            n=len(self.ids),
            meta={
                "columns": list(columns),
                "clear": list(self.clear),
                "declare": [d.to_meta() for d in self.declare],
                "root": self.root,
                **({"drop": True} if self.drop else {}),
            },
            specs={path: (a.dtype, a.shape) for path, a in arrays.items()},
        )
        return plan.pack(arrays)

    @classmethod
    def read(cls, file: StoreFile) -> Patch:
        """Raises StoreDamaged."""
        columns, declare = patch_form(file)
        return cls(
            ids=file.texts("/items/id"),
            columns={c: text_column(file.texts(dataset(c))) for c in columns},
            declare=declare,
            clear=list(file.meta["clear"]),
            root=file.meta["root"],
            drop=bool(file.meta.get("drop", False)),
        )

    def apply(
        self, ids: list[str], index: dict[str, int], columns: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Append new ids to ``ids`` and ``index``; the columns with the patch applied."""
        for identity in () if self.drop else self.ids:
            if identity not in index:
                index[identity] = len(ids)
                ids.append(identity)
        n = len(ids)
        out = {}
        for name in [*columns, *(c for c in self.columns or {} if c not in columns)]:
            old = columns.get(name, np.empty(0, dtype=object))
            out[name] = np.full(n, "", dtype=object)
            out[name][: len(old)] = old
        rows = np.array([index[i] for i in self.ids if i in index], dtype=np.int64)
        if self.drop:
            for cells in out.values():
                cells[rows] = ""
            return out
        for name, cells in (self.columns or {}).items():
            says = np.ones(len(rows), dtype=bool) if name in self.clear else cells != ""
            out[name][rows[says]] = cells[says]
        return out
