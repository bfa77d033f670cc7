"""The command that fits what a line of a leaderboard scored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["fit_words"]


def fit_words(
    store: str,
    row: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
    folder: str | None = None,
) -> list[str]:
    """The words after ``headstock`` that fit what a line of the leaderboard scored, with the
    settings of the run's ``metrics`` (metrics.json) and by the plan in its ``folder``."""
    heads = dict.fromkeys(str(m).partition("@")[0] for m in row.get("members") or [row["head"]])
    words = ["fit", store, *(w for head in heads for w in ("--head", head)), "--on", row["on"]]
    late = row.get("fusion") not in (None, "early")
    if late:
        words += ["--fusion", str(row["fusion"])]
    settings = (metrics or {}).get("settings") or {}
    for name in [*heads, *([row["fusion"]] if late else [])]:
        for key, value in (settings.get("options") or {}).get(name, {}).items():
            told = value if isinstance(value, str) else json.dumps(value)
            words += ["--set", f"{name}.{key}={told}"]
    if settings.get("by_blocks"):
        words.append("--stream")
    usual = {"seed": 0, "missing": "refuse", "dedupe": "group", "rare": "drop"}
    own = {key: settings[key] for key in usual if settings.get(key, usual[key]) != usual[key]}
    words += [w for key, value in own.items() for w in (f"--{key}", str(value))]
    return [*words, *_fold_words(row, metrics or {}, folder), "-o", "model.headstock"]


def _fold_words(
    row: Mapping[str, Any], metrics: Mapping[str, Any], folder: str | None
) -> list[str]:
    """What makes ``fit`` hold out as the run did: its saved plan, where it is of the same rows and
    of one repeat, else how it was made."""
    plan, settings = metrics.get("folds") or {}, metrics.get("settings") or {}
    sets = {part for on in settings.get("on") or () for part in on.split("+")}
    same = sets <= set(row["on"].split("+")) or (
        settings.get("missing", "refuse") == "refuse" and settings.get("dedupe") != "drop"
    )
    if folder and same and plan.get("repeats") == 1 and not settings.get("by_blocks"):
        return ["--folds", f"{folder}/folds.json"]
    kind, group = plan.get("kind", ""), plan.get("group")
    if kind == "given":
        return ["--folds", f"given:{group}"]
    if kind.startswith("time, "):
        return ["--folds", f"time:{group}:{kind.removeprefix('time, ').replace(' ', '=')}"]
    words = ["--folds", kind] if kind == "group-out" else []
    if not words and plan.get("folds", 5) != 5:
        words = ["--folds", str(plan["folds"])]
    return [*words, "--group", group] if group and group != "duplicates" else words
