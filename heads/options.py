"""Options that several commands of heads have, and what their words mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from headstock.store.errors import OptionError
from headstock.store.terminal import complete, pairs

__all__ = [
    "DEDUPE",
    "FOLDS",
    "HEADS",
    "METRIC",
    "MISSING",
    "RARE",
    "SETS",
    "STREAM",
    "TARGET",
    "TRANSFORM",
    "TUNE",
    "fold_plan",
    "fusion_names",
    "head_options",
    "stored_sets",
]


def fold_plan(folds: str | None) -> Any:
    """What --folds says: a number, a saved plan, or a word."""
    if folds is None or not Path(folds).is_file():
        return int(folds) if folds and folds.isdigit() else folds
    from headstock.heads import FoldPlan

    return FoldPlan.load(folds)


def head_names(_: click.Context) -> Sequence[str]:
    from headstock.heads.specs import HEADS

    return list(HEADS)


def fusion_names(_: click.Context) -> Sequence[str]:
    from headstock.heads.fusion.fusions import FUSIONS

    return list(FUSIONS)


def stored_sets(ctx: click.Context) -> Sequence[str]:
    from headstock.store import FeatureStore, is_store

    # an option that still lacks its value hides the arguments from click
    words = [ctx.params.get("store"), *os.environ.get("COMP_WORDS", "").split()]
    for word in words:
        if word and is_store(word):
            with FeatureStore.open(word) as features:
                return features.sets
    return []


def metric_completions(ctx: click.Context) -> Sequence[str]:
    from headstock.heads.metrics.grammar import metric_names

    return metric_names()


HEADS = click.option(
    "--head", "heads", multiple=True, metavar="NAME", shell_complete=complete(head_names),
    help="A head of the table, or ./file.py:name.",
)  # fmt: skip
SETS = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="[HEAD.]K=V",
    help="Option of a head: C=10; a list, C=[1,10], is chosen from inside the folds, as is a "
    "range, C=0.01..100, with --tune HEAD:N.",
)
TUNE = click.option(
    "--tune", multiple=True, metavar="HEAD[:N]",
    help="Choose this head's options inside the folds: its grid, or N random points of its ranges.",
)  # fmt: skip
METRIC = click.option(
    "--metric", multiple=True, metavar="NAME", shell_complete=complete(metric_completions),
    help="What decides, such as macro_f1 or auroc; further ones are shown  [default: accuracy]",
)  # fmt: skip
FOLDS = click.option(
    "--folds",
    help="A number, group-out, given:COLUMN, time:COLUMN, valid, or a saved plan  [default: 5]",
)  # fmt: skip
MISSING = click.option(
    "--missing", type=click.Choice(["refuse", "exclude", "patterns"]), default="refuse",
    show_default=True, help="What to do with labelled rows that lack a vector.",
)  # fmt: skip
DEDUPE = click.option(
    "--dedupe", type=click.Choice(["group", "drop", "keep"]), default="group", show_default=True,
    help="Rows with the same bytes or nearly the same vector: into one fold, once, or as they are.",
)  # fmt: skip
RARE = click.option(
    "--rare", type=click.Choice(["drop", "keep", "refuse"]), default="drop", show_default=True,
    help="Classes with fewer rows than folds: left out and named, kept as far as they go, refused.",
)  # fmt: skip
TARGET = click.option(
    "--target", type=click.Choice(["classes", "number"]),
    help="What the labels are  [default: found from the labels]",
)  # fmt: skip
TRANSFORM = click.option(
    "--transform", type=click.Choice(["log", "rank"]),
    help="Learn numbers by log(1 + number), or by rank.",
)  # fmt: skip
STREAM = click.option(
    "--stream", is_flag=True, help="Read by blocks, never all rows at once: lda, ridge, logistic."
)


def head_options(sets: Sequence[str], heads: Sequence[str]) -> dict[str, dict[str, Any]]:
    """``C=10`` for every head named, ``rbf-svm.C=10`` for one."""
    out: dict[str, dict[str, Any]] = {}
    for key, value in pairs(sets, "--set").items():
        head, dot, name = key.rpartition(".")
        if not dot and not heads:
            raise OptionError(
                "--set", f"{key!r} names no head", f"write HEAD.{key}=… or add --head"
            )
        for target in [head] if dot else heads:
            out.setdefault(target, {})[name] = value
    return out
