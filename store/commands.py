"""``headstock store``: look into a store, check it and look after it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from headstock.store.answer import Answer, note, progress
from headstock.store.errors import one_line
from headstock.store.terminal import ANY, FILE, SPREADSHEET, Commands, Output


@click.group(cls=Commands)
def store() -> None:
    """Look into a feature store, check it and look after it."""


@store.command()
@click.argument("path", type=FILE)
@click.option("--failed", is_flag=True, help="Only the failed rows, all of them: one a line.")
def info(path: str, failed: bool) -> Answer:
    """What a store holds: rows, labels, sets, recipes, failed rows.

    Example: headstock store info features.h5
    """
    from headstock.store import FeatureStore
    from headstock.store.care.info import describe, description

    with FeatureStore.open(path) as features:
        errors = features.errors()
        data = {"errors": [e._asdict() for e in errors]}
        if failed:
            lines = (one_line(f"{e.set} {one_line(e.id)}: {e.code}: {e.line}") for e in errors)
            return Answer(data, "\n".join(lines))
        hint = ["evaluate", path, "-o", "runs/first"]
        return Answer({**describe(features), **data}, description(features), [hint])


@store.command()
@click.argument("path", type=FILE)
@click.option("-o", "--output", type=FILE, help="Write the new store here, touch nothing else.")
def repair(path: str, output: str | None) -> Answer:
    """Save what still proves itself into a new store.

    The old one is kept whole beside it.

    Example: headstock store repair features.h5
    """
    from headstock.store.care.repair import repair as run

    with progress("repair") as report:
        repaired = run(path, output=output, progress=report)
    return Answer(repaired, repaired.text, [["store", "verify", str(repaired.path)]])


@store.command()
@click.argument("path", type=FILE)
def compact(path: str) -> Answer:
    """Gather all that is pending into the one HDF5 file.

    Example: headstock store compact features.h5
    """
    from headstock.store import FeatureStore

    FeatureStore.open(path).close()
    with FeatureStore.open(path, "a") as features, progress("compact", "rows") as report:
        number = features.compact(progress=report)
    data = {"path": path, "generation": number}
    return Answer(data, f"{path}: generation {number}", [["store", "info", path]])


@store.command()
@click.argument("path", type=FILE)
@click.argument("table", type=FILE)
@click.option("--id-col", help="Column of ids  [default: id, else the path]")
@click.option("--label-col", help="Column of labels  [default: label]")
@click.option("--group-col", help="Column of groups  [default: group]")
@click.option("--split-col", help="Column of splits  [default: split]")
@click.option("--extra", multiple=True, metavar="COL", help="Take this text column too.")
@click.option("--clear", is_flag=True, help="Let an empty cell empty the row's.")
@click.option("--strict", is_flag=True, help="Take nothing when the store lacks one of the ids.")
def label(
    path: str, table: str, extra: tuple, clear: bool, strict: bool, **names: Any
) -> Answer:  # fmt: skip
    """Take new labels, groups and splits from a table.

    Ids that the store does not have are counted and named; the rest is taken.

    Example: headstock store label features.h5 labels.csv --label-col CLASS
    """
    from headstock.store.care.label import relabel

    cols = {k.removesuffix("_col"): v for k, v in names.items() if v}
    with progress("label"):
        change = relabel(path, table, cols=cols, extra=extra, clear=clear, strict=strict, note=note)
    return Answer({"path": path, **asdict(change)}, change.text(path), [["evaluate", path]])


@store.command()
@click.argument("path", type=FILE)
@click.option("--id", "ids", multiple=True, metavar="ID", help="Drop this row.")
@click.option("--in", "inside", type=ANY, metavar="TABLE", help="Drop the rows that TABLE names.")
@click.option("--not-in", "outside", type=ANY, metavar="TABLE", help="Drop all that it does not.")
@click.option("--id-col", help="Column of ids of TABLE  [default: id, else the path]")
def drop(path: str, id_col: str | None, **which: Any) -> Answer:
    """Take rows out of a store, vectors and all.

    Example: headstock store drop features.h5 --not-in index.csv
    """
    from headstock.store.care.drop import drop as run

    cols = {"id": id_col} if id_col else {}
    with progress("drop", "rows") as report:
        dropped = run(path, cols=cols, progress=report, **which)
    return Answer(dropped, dropped.text, [["store", "info", path]])


@store.command()
@click.argument("target", type=FILE)
@click.argument("sources", type=FILE, nargs=-1, required=True)
@click.option("--set", "sets", multiple=True, metavar="NAME", help="These sets  [default: all]")
@click.option("--link", is_flag=True, help="Join them in TARGET, a .parts.json; copy nothing.")
@click.option("--ours", "keep", flag_value="ours", help="Where both differ, keep TARGET's row.")
@click.option("--theirs", "keep", flag_value="theirs", help="Where both differ, take the other's.")
def merge(target: str, sources: tuple, sets: tuple, link: bool, keep: str | None) -> Answer:
    """Add the rows and vectors of other stores to TARGET.

    Rows that two stores have with other content, or with another label, split or group, are
    refused unless --ours or --theirs says which to take.

    Example: headstock store merge all.h5 first.h5 second.h5
    """
    from headstock.store.care.link import link as join
    from headstock.store.care.merge import merge as run
    from headstock.store.disk.outputs import refuse_other

    refuse_other(target, "parts" if link else "store")
    with progress("merge", "rows") as report:
        merged = (
            join(target, sources)
            if link
            else run(target, sources, sets=sets or None, keep=keep, progress=report)
        )
    return Answer(merged, merged.text, [["store", "info", target]])


@store.command()
@click.argument("path", type=FILE)
@click.argument("output", type=Output("export"))
@click.option("--set", "sets", multiple=True, metavar="NAME", help="These sets  [default: all]")
@click.option("--all-rows", is_flag=True, help="Keep rows that lack a vector; it is NaN there.")
@SPREADSHEET
def export(path: str, output: str, sets: tuple, **flags: Any) -> Answer:
    """Write complete rows as .npz, .csv, .parquet or .h5.

    `store import` brings all of it back: rows, labels, splits, groups, paths, sets, recipes.

    Example: headstock store export features.h5 features.npz
    """
    from headstock.store.exchange.export import export as run

    with progress("export", "rows") as report:
        exported = run(path, output, sets=sets or None, progress=report, **flags)
    return Answer(exported, exported.text, [["store", "info", path]])


@store.command(name="import")
@click.argument("source", type=ANY)
@click.argument("output", type=Output("store"))
@click.option("--set", "name", help="Which set, or its new name  [default: all, by their names]")
@click.option("--modality", help="image or audio  [default: as exported, else image]")
@click.option("--pool", type=click.Choice(["mean", "max"]), help="Join an item's several vectors.")
def import_(source: str, output: str, **flags: Any) -> Answer:
    """Take features that an export or another tool wrote.

    npz, csv, parquet of ours, h5, npy with names, folders of HDF5.

    Example: headstock store import features.npz imported.h5 --set image
    """
    from headstock.store.exchange.imports import import_in_child

    with progress("import", "rows") as report:
        imported = import_in_child(source, output, progress=report, **flags)
    return Answer(
        imported,
        imported.text,
        [["store", "info", output]],
        failures=imported.failures(),
        exit_code=3 if imported.failed else 0,
    )
