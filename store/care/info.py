"""What a store holds, as JSON data and as text for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from headstock.store.disk.declared import ABSENT, FAILED, OK
from headstock.store.errors import one_line, visible
from headstock.store.reader import StoreReader

__all__ = ["describe", "description"]

_SHOWN = 10


def describe(store: StoreReader) -> dict[str, Any]:
    """Rows, labels, splits, and of each set: size, rows by state, recipe, where it came from, and
    why rows failed (counts by code)."""
    items = store.items
    sets = {}
    for name in store.sets:
        column = store.feature_set(name)
        status = np.asarray(column.status)
        sets[name] = {
            "dim": column.dim,
            "dtype": str(np.dtype(column.dtype)),
            "done": int((status == OK).sum()),
            "failed": int((status == FAILED).sum()),
            "absent": int((status == ABSENT).sum()),
            "modality": column.recipe.modality,
            "recipe": column.recipe.fields,
            "fingerprint": column.recipe.fingerprint,
            "provenance": dict(column.provenance),
            "failures": dict(Counter(e.code for e in store.errors(name))),
        }
    return {
        "path": str(store.path),
        "uuid": store.uuid,
        "generation": store.generation,
        "pending_files": int(store.pending),
        "parts": [str(part) for part in store.parts],
        "rows": store.n,
        "labels": dict(Counter(v for v in items.label if v)),
        "splits": dict(Counter(v for v in items.split if v)),
        "text_columns": list(items.extra),
        "sets": sets,
        "fingerprints": {n: int(store.complete([n]).sum()) for n in store.fingerprints},
    }


def description(store: StoreReader) -> str:
    """``describe`` as text."""
    facts = describe(store)
    labelled = sum(facts["labels"].values())
    parts = len(facts["parts"])
    lines = [
        f"{facts['path']}: {facts['rows']:,} rows, {labelled:,} with one of "
        f"{len(facts['labels']):,} labels, "
        + (f"in {parts:,} parts" if parts else f"generation {facts['generation']}")
        + (f", {facts['pending_files']} files not compacted yet" if facts["pending_files"] else "")
    ]
    if facts["splits"]:
        lines.append("  splits: " + ", ".join(f"{k} {v:,}" for k, v in facts["splits"].items()))
    if facts["text_columns"]:
        lines.append("  groups to choose from: " + ", ".join(facts["text_columns"]))
    for name, one in facts["sets"].items():
        state = ", ".join(f"{one[k]:,} {k}" for k in ("done", "failed", "absent") if one[k])
        lines.append(
            f"{name}: {one['dim']:,} values ({one['dtype']}) of {one['modality']}; {state}"
        )
        lines += [f"    {key} {value}" for key, value in _flat(one["recipe"])]
        lines += [f"    failed, {code}: {count:,}" for code, count in one["failures"].items()]
    if facts["fingerprints"]:
        kept = ", ".join(f"{name} {done:,}" for name, done in facts["fingerprints"].items())
        lines.append(f"to find copies by: {kept}")
    errors = store.errors()
    lines += [f"  {e.set} {one_line(e.id, 60)}: {e.code}: {e.line}" for e in errors[:_SHOWN]]
    if len(errors) > _SHOWN:
        lines.append(f"  … and {len(errors) - _SHOWN:,} more failed rows (--failed lists them)")
    return "\n".join(map(visible, lines))


def _flat(fields: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    out = []
    for key, value in fields.items():
        if isinstance(value, Mapping) and value:
            out += _flat(value, f"{prefix}{key}.")
        else:
            out.append((f"{prefix}{key}", one_line(value, 90)))
    return out
