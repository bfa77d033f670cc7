"""``headstock store``: look into a store, check it and look after it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from headstock.store.errors import one_line
from headstock.store.progress import Progress
from headstock.store.terminal import ANY, FILE, JSON, QUIET, Commands, hint, say


@click.group(cls=Commands)
def store() -> None:
    """Look into a feature store, check it and look after it."""


@store.command()
@click.argument("path", type=FILE)
@click.option("--failed", is_flag=True, help="Only the failed rows, all of them: one a line.")
@QUIET
@JSON
def info(path: str, failed: bool, quiet: bool, as_json: bool) -> None:
    """What a store holds: rows, labels, sets, recipes, failed rows.

    Example: headstock store info features.h5
    """
    from headstock.store import FeatureStore
    from headstock.store.care.info import describe, description

    with FeatureStore.open(path) as features:
        if failed:
            for e in features.errors():
                click.echo(f"{e.set} {one_line(e.id)}: {e.code}: {e.line}")
        elif as_json:
            errors = [e._asdict() for e in features.errors()]
            click.echo(json.dumps({**describe(features), "errors": errors}, indent=1))
        else:
            click.echo(description(features))
            hint(["evaluate", path, "-o", "runs/first"], quiet=quiet)


@store.command()
@click.argument("path", type=FILE)
@QUIET
@JSON
def repair(path: str, quiet: bool, as_json: bool) -> None:
    """Drop what is damaged, and say which rows the next extract must compute again.

    Example: headstock store repair features.h5
    """
    from headstock.store.care.repair import repair as run

    with Progress("repair", quiet=quiet) as progress:
        repaired = run(path, progress)
    say(repaired, as_json)
    hint(["store", "verify", path], quiet=quiet or as_json)


@store.command()
@click.argument("path", type=FILE)
@QUIET
@JSON
def compact(path: str, quiet: bool, as_json: bool) -> None:
    """Gather all that is pending into the one HDF5 file.

    Example: headstock store compact features.h5
    """
    from headstock.store import FeatureStore

    FeatureStore.open(path).close()
    with FeatureStore.open(path, "a") as features, Progress("compact", "rows", quiet) as progress:
        number = features.compact(progress=progress)
    told = json.dumps({"path": path, "generation": number})
    click.echo(told if as_json else f"{path}: generation {number}")
    hint(["store", "info", path], quiet=quiet or as_json)


@store.command()
@click.argument("path", type=FILE)
@click.argument("table", type=FILE)
@click.option("--id-col", help="Column of ids  [default: id]")
@click.option("--label-col", help="Column of labels  [default: label]")
@click.option("--group-col", help="Column of groups  [default: group]")
@click.option("--split-col", help="Column of splits  [default: split]")
@click.option("--extra", multiple=True, metavar="COL", help="Take this text column too.")
@click.option("--clear", is_flag=True, help="Let an empty cell empty the row's.")
@QUIET
@JSON
def label(
    path: str, table: str, extra: tuple, clear: bool, quiet: bool, as_json: bool, **names: Any
) -> None:
    """Take new labels, groups and splits from a CSV; no feature is touched.

    Example: headstock store label features.h5 labels.csv --label-col CLASS
    """
    from headstock.store.care.label import relabel

    cols = {k.removesuffix("_col"): v for k, v in names.items() if v}
    with Progress("label", quiet=quiet):
        change = relabel(path, table, cols=cols, extra=extra, clear=clear)
    if as_json:
        click.echo(json.dumps({"path": path, **asdict(change)}))
    else:
        click.echo(f"{path}: {change.changed:,} rows changed, {change.unchanged:,} as they were")
    hint(["evaluate", path], quiet=quiet or as_json)


@store.command()
@click.argument("target", type=FILE)
@click.argument("sources", type=FILE, nargs=-1, required=True)
@click.option("--set", "sets", multiple=True, metavar="NAME", help="These sets  [default: all]")
@click.option("--link", is_flag=True, help="Join them in TARGET, a .parts.json; copy nothing.")
@QUIET
@JSON
def merge(
    target: str, sources: tuple, sets: tuple, link: bool, quiet: bool, as_json: bool
) -> None:  # fmt: skip
    """Add the rows and vectors of other stores, made by the same recipes, to TARGET.

    Example: headstock store merge all.h5 first.h5 second.h5
    """
    from headstock.store.care.merge import merge as run
    from headstock.store.parts import link as join

    with Progress("merge", "rows", quiet) as progress:
        merged = (
            join(target, sources)
            if link
            else run(target, sources, sets=sets or None, progress=progress)
        )
    say(merged, as_json)
    hint(["store", "info", target], quiet=quiet or as_json)


@store.command()
@click.argument("path", type=FILE)
@click.argument("output", type=FILE)
@click.option("--set", "sets", multiple=True, metavar="NAME", help="These sets  [default: all]")
@QUIET
@JSON
def export(path: str, output: str, sets: tuple, quiet: bool, as_json: bool) -> None:
    """Write a store's complete rows as .npz, .csv, .parquet or plain .h5.

    Example: headstock store export features.h5 features.npz
    """
    from headstock.store.exchange.export import export as run

    with Progress("export", "rows", quiet) as progress:
        exported = run(path, output, sets=sets or None, progress=progress)
    say(exported, as_json)
    hint(["store", "info", path], quiet=quiet or as_json)


@store.command(name="import")
@click.argument("source", type=ANY)
@click.argument("output", type=FILE)
@click.option("--set", "name", default="image", show_default=True, help="Name of the new set.")
@click.option("--modality", default="image", show_default=True, help="image or audio.")
@click.option("--pool", type=click.Choice(["mean", "max"]), help="Join an item's several vectors.")
@QUIET
@JSON
def import_(source: str, output: str, quiet: bool, as_json: bool, **flags: Any) -> None:
    """Take features that another tool made: npz, csv, h5, npy with names, folders of HDF5.

    Example: headstock store import features.npz imported.h5 --set image
    """
    from headstock.store.exchange.imports import import_features

    with Progress("import", "rows", quiet) as progress:
        imported = import_features(source, output, progress=progress, **flags)
    say(imported, as_json)
    hint(["store", "info", output], quiet=quiet or as_json)
