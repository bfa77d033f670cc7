"""The command line: parse, one library call, print. Every decision lives in the library."""

from __future__ import annotations

import difflib
import json
import os
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from headstock import __version__
from headstock.store.errors import HeadstockError, OptionError, one_line

FILE = click.Path(dir_okay=False)
ANY = click.Path()


class Commands(click.Group):
    """Lists commands in the order of a day's work, and suggests the nearest name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.commands, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(self.commands)}"
            raise click.UsageError(f"no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


def options(*decorators: Callable) -> Callable:
    """Several click options as one decorator, shown in the order given."""

    def apply(function: Callable) -> Callable:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def _read_config(ctx: click.Context, _: click.Parameter, path: str | None) -> None:
    if not path:
        return
    try:
        values = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        raise OptionError(path, err, "give a TOML file of flag defaults") from err
    known = {
        word.lstrip("-").replace("-", "_"): p.name
        for p in ctx.command.params
        for word in p.opts
        if word.startswith("--")
    }
    defaults = {}
    for key, value in values.items():
        flag = key.replace("-", "_")
        if flag not in known:
            near = difflib.get_close_matches(flag, known, 1)
            raise OptionError(
                path, f"no flag {key!r}", f"did you mean {near[0]!r}?" if near else ""
            )
        defaults[known[flag]] = value
    ctx.default_map = defaults


CONFIG = click.option(
    "--config", type=FILE, is_eager=True, expose_value=False, callback=_read_config,
    help="TOML file of defaults for these flags.",
)  # fmt: skip
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="No progress, no account.")
SEED = click.option("--seed", default=0, show_default=True, help="Seed of everything random.")
MANIFEST_OPTIONS = options(
    click.option("--id-col", help="Column of ids  [default: id, else the file name]"),
    click.option("--image-col", help="Column of image paths  [default: image]"),
    click.option("--audio-col", help="Column of sound paths  [default: audio]"),
    click.option("--label-col", help="Column of labels  [default: label]"),
    click.option("--group-col", help="Column of groups  [default: group]"),
    click.option("--split-col", help="Column of splits  [default: split]"),
    click.option("--image-root", type=ANY, help="Folder of the images, when not the CSV's."),
    click.option("--audio-root", type=ANY, help="Folder of the sounds, when not the CSV's."),
    click.option("--class-names", help="Names of labels 0, 1, …: comma separated, or a text file."),
    click.option("--split", help="Split of the rows that name none, such as test."),
)
RUN_OPTIONS = options(
    click.option("-b", "--batch-size", type=int, help="Items a batch  [default: the encoder's]"),
    click.option("-j", "--workers", type=int, help="Decoding processes  [default: by cores]"),
    click.option(
        "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps."
    ),
    click.option("--offline", is_flag=True, help="Never ask a model hub."),
    click.option(
        "--data-root", "data_roots", type=ANY, multiple=True, help="Files may lie here too."
    ),
    click.option("--allow-outside", is_flag=True, help="Files may lie anywhere."),
    click.option(
        "--item-seconds", default=120.0, show_default=True, help="Time one file may take."
    ),
    click.option(
        "--fail-threshold", type=click.FloatRange(0, 1), help="Stop above this share of failures."
    ),
)


def read_manifest(source: str, columns: Sequence[str] = (), **flags: Any) -> Any:
    from headstock.store import Manifest

    names = flags.pop("class_names")
    if names and Path(names).is_file():
        names = Path(names).read_text("utf-8").splitlines()
    elif names:
        names = [name.strip() for name in names.split(",")]
    cols = {k: flags[f"{k}_col"] for k in ("id", "image", "audio", "label", "group", "split")}
    roots = {k: flags[f"{k}_root"] for k in ("image", "audio")}
    return Manifest.read(
        source,
        cols={k: v for k, v in cols.items() if v},
        roots={k: v for k, v in roots.items() if v},
        columns=columns,
        class_names=names,
        split=flags["split"],
    )


def pairs(values: Sequence[str], flag: str) -> dict[str, Any]:
    """``key=value`` words as a dict; a value is JSON where it parses, text where it does not."""
    out: dict[str, Any] = {}
    for word in values:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise OptionError(flag, f"{word!r} is not key=value", f"for example {flag} C=10")
        try:
            out[key] = json.loads(text)
        except ValueError:
            out[key] = text
    return out


def note(*lines: str, quiet: bool = False) -> None:
    """Tell a person, on stderr: stdout is for results."""
    if not quiet:
        click.echo("\n".join(lines), err=True)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="headstock")
def cli() -> None:
    """Extract features once, try heads in seconds, believe the number at the end."""


@cli.command()
@click.option("-o", "--output", type=ANY, default="demo", show_default=True, help="Folder to use.")
def demo(output: str) -> None:
    """The whole job on embedded data, offline, in about a minute.

    Example: headstock demo -o demo
    """
    from headstock.extract.demo import ABOUT, commands, write_demo

    click.echo(ABOUT)
    write_demo(output)
    for words in commands(output):
        click.secho(f"\n$ headstock {' '.join(words)}", bold=True)
        sys.stdout.flush()
        cli.main(words, prog_name="headstock", standalone_mode=False)


@cli.command()
@click.argument("manifest", type=ANY)
@click.option("-o", "--output", type=FILE, required=True, help="The store, made or extended.")
@click.option("--image", multiple=True, metavar="[NAME=]BACKBONE", help="Backbone for images.")
@click.option("--audio", multiple=True, metavar="[NAME=]mfcc", help="Encoder for sounds.")
@click.option("--columns", multiple=True, metavar="PATTERN", help="Numeric columns to take …")
@click.option("--as", "column_sets", multiple=True, metavar="NAME", help="… as this feature set.")
@click.option("--weights", type=FILE, help="Weights file for the backbone.")
@click.option("--model-arg", multiple=True, metavar="K=V", help="Argument of the architecture.")
@click.option("--audio-arg", multiple=True, metavar="K=V", help="Argument of the sound encoder.")
@click.option("--input-size", type=int, help="Side of the network's input, pixels.")
@click.option("--crop-pct", type=float, help="Share of the resized side that the crop keeps.")
@click.option("--mean", metavar="R,G,B", help="Normalisation mean, in 0 to 1.")
@click.option("--std", metavar="R,G,B", help="Normalisation deviation, in 0 to 1.")
@click.option("--interpolation", help="bilinear, bicubic, nearest, lanczos.")
@click.option("--untrained", "untrained_seed", type=int, metavar="SEED", help="Random weights.")
@click.option("--precision", default="fp32", show_default=True, help="fp32, bf16 or fp16.")
@click.option(
    "--decode",
    default="full",
    show_default=True,
    help="fast: JPEGs at reduced scale, other recipe.",
)
@click.option("--compile", is_flag=True, help="Compile the network (pays on a GPU).")
@click.option("--limit", type=int, help="Encode at most so many new rows.")
@click.option("--overwrite", is_flag=True, help="Replace sets made by another recipe.")
@click.option("--retry-failed", is_flag=True, help="Try rows again that failed before.")
@MANIFEST_OPTIONS
@RUN_OPTIONS
@CONFIG
@QUIET
@JSON
def extract(manifest: str, output: str, as_json: bool, quiet: bool, **flags: Any) -> None:
    """Turn the files of MANIFEST (a CSV, or a folder of class folders) into feature sets.

    Running it again does only what is missing. Without --image, --audio or --columns, every
    modality of the manifest is encoded: ResNeXt-50 for images, MFCCs for sounds.

    Example: headstock extract index.csv -o features.h5 --image timm:resnext50_32x4d.a1h_in1k
    """
    from headstock.extract.job import extract_manifest

    if len(flags["columns"]) != len(flags["column_sets"]):
        raise OptionError("--columns", "needs one --as NAME each", "--columns 'mfcc_*' --as audio")
    for key in ("mean", "std"):
        flags[key] = flags[key] and _numbers(flags[key], f"--{key}")
    for key in ("model_arg", "audio_arg"):
        flags[f"{key}s"] = pairs(flags.pop(key), "--" + key.replace("_", "-"))
    names = {k: flags.pop(k) for k in list(flags) if k.endswith(("_col", "_root"))}
    names |= {k: flags.pop(k) for k in ("class_names", "split")}
    table = read_manifest(manifest, flags["columns"], **names)
    note(*table.account(), quiet=quiet)
    account = extract_manifest(table, output, progress=not quiet, **flags)
    click.echo(account.to_json() if as_json else account.text())
    if not as_json and not account.failed:
        note(f"next: headstock evaluate {output}", quiet=quiet)
    if account.failed:
        sys.exit(3)


HEADS = click.option(
    "--head", "heads", multiple=True, metavar="NAME", help="A head of the table, or ./file.py:name."
)
SETS = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="[HEAD.]K=V",
    help="Option of a head: C=10; a list, C=[1,10], is chosen from inside the folds.",
)
TUNE = click.option(
    "--tune", multiple=True, metavar="HEAD", help="Choose this head's options inside the folds."
)
MISSING = click.option(
    "--missing", type=click.Choice(["refuse", "exclude"]), default="refuse", show_default=True,
    help="What to do with labelled rows that lack a vector.",
)  # fmt: skip
DEDUPE = click.option(
    "--dedupe", type=click.Choice(["group", "drop", "keep"]), default="group", show_default=True,
    help="Rows with the same bytes or nearly the same vector: into one fold, once, or as they are.",
)  # fmt: skip


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


@cli.command()
@click.argument("store", type=FILE)
@HEADS
@SETS
@TUNE
@click.option("--on", multiple=True, metavar="SETS", help="Feature sets: image, image+audio.")
@click.option("--fusion", "fusions", multiple=True, metavar="NAME", help="mean, weighted, stacked.")
@click.option(
    "--folds", default="5", show_default=True,
    help="A number, group-out, given:COLUMN, or a saved folds.json.",
)  # fmt: skip
@click.option("--repeats", default=1, show_default=True, help="Repeat with other folds.")
@click.option("--group", metavar="COL", help="Keep rows of one group in one fold.")
@MISSING
@DEDUPE
@click.option("--doubts", is_flag=True, help="Rank doubtful labels (needs headstock[labels]).")
@click.option("-o", "--output", type=ANY, help="Run folder to write, such as runs/first.")
@SEED
@CONFIG
@QUIET
@JSON
def evaluate(
    store: str, heads: tuple, on: tuple, sets: tuple, fusions: tuple, folds: str,
    output: str | None, as_json: bool, quiet: bool, **flags: Any,
) -> None:  # fmt: skip
    """Score heads and fusions on STORE, out of fold, and print the leaderboard.

    Example: headstock evaluate features.h5 --head logistic --head rbf-svm --fusion stacked
    """
    from headstock.heads import FoldPlan
    from headstock.heads import evaluate as run
    from headstock.store import FeatureStore

    flags = {k: v for k, v in {"heads": heads, "on": on, "fusions": fusions, **flags}.items() if v}
    flags["options"] = head_options(sets, heads)
    plan = (
        int(folds) if folds.isdigit() else FoldPlan.load(folds) if Path(folds).is_file() else folds
    )
    with FeatureStore.open(store) as features:
        result = run(features, folds=plan, progress=_steps(quiet), **flags)
    if output:
        result.save(output)
    click.echo(json.dumps(result.to_json(), indent=1) if as_json else result.text())
    if output:
        note(f"written: {output}", quiet=quiet)


@cli.command()
@click.argument("store", type=FILE)
@HEADS
@SETS
@TUNE
@click.option("--on", metavar="SETS", help="Feature sets  [default: all, side by side]")
@click.option("--fusion", metavar="NAME", help="How to join several systems.")
@click.option("--group", metavar="COL", help="Keep rows of one group in one fold.")
@MISSING
@DEDUPE
@click.option("-o", "--output", type=FILE, required=True, help="The model to write.")
@SEED
@CONFIG
@QUIET
def fit(
    store: str, heads: tuple, sets: tuple, output: str, quiet: bool, **flags: Any
) -> None:  # fmt: skip
    """Fit one system on the labelled rows of STORE (its test split left out) and save it.

    One head on the sets side by side; or, with --fusion, each head on each set, joined.

    Example: headstock fit features.h5 --head logistic --on image+audio -o model.headstock
    """
    from headstock.heads import fit as run
    from headstock.store import FeatureStore

    heads = heads or ("logistic",)
    if len(heads) > 1 and flags["fusion"] in (None, "early"):
        raise OptionError("--head", f"{len(heads)} heads and nothing joins them", "add --fusion")
    with FeatureStore.open(store) as features:
        bundle = run(
            features, heads[0], heads=heads, options=head_options(sets, heads), **flags
        )  # fmt: skip
    bundle.save(output)
    note(f"written: {output}", f"next: headstock predict {output} MANIFEST", quiet=quiet)


@cli.command()
@click.argument("model", type=FILE)
@click.argument("rows", metavar="MANIFEST|STORE", type=ANY)
@click.option("-o", "--output", type=FILE, help="CSV: id,prediction,confidence,p_<class>…")
@click.option("--submission", "header", metavar="Id,CLASS", help="Write these two columns only.")
@click.option("--only", metavar="SPLIT", help="Predict the rows of this split only.")
@click.option("--weights", type=FILE, help="Weights file, when not where extraction found it.")
@click.option("--store", "keep", type=FILE, help="Keep the extracted features in this store.")
@MANIFEST_OPTIONS
@RUN_OPTIONS
@CONFIG
@QUIET
def predict(
    model: str, rows: str, output: str | None, header: str | None, keep: str | None,
    only: str | None, quiet: bool, **flags: Any,
) -> None:  # fmt: skip
    """Predict the rows of a MANIFEST of raw files, or of a STORE, with a saved MODEL.

    Example: headstock predict model.headstock test.csv -o predictions.csv
    """
    from headstock.heads import Bundle
    from headstock.heads.complete import predict_complete
    from headstock.store import FeatureStore, is_store

    bundle = Bundle.load(model)
    if is_store(rows):
        with FeatureStore.open(rows) as features:
            predictions, left_out = predict_complete(bundle, features, split=only)
    else:
        from headstock.extract.job import columns_of, extract_like

        names = {k: flags.pop(k) for k in list(flags) if k.endswith(("_col", "_root"))}
        names |= {k: flags.pop(k) for k in ("class_names", "split")}
        wanted = sorted({c for columns in columns_of(bundle.recipes).values() for c in columns})
        table = read_manifest(rows, wanted, **names)
        note(*table.account(), quiet=quiet)
        flags |= {"keep": keep, "provenance": bundle.provenance, "progress": not quiet}
        with extract_like(table, bundle.recipes, **flags) as (features, _):
            predictions, left_out = predict_complete(bundle, features, table.items.id, only)
    if header:
        click.echo(predictions.submission(output, header), nl=False)
    else:
        click.echo(predictions.to_csv(output), nl=False)
    note(*left_out)
    if left_out:
        sys.exit(3)


@cli.command()
@click.argument("runs", metavar="RUN…", type=ANY, nargs=-1, required=True)
@click.option("-o", "--output", type=FILE, help="Write one HTML page about the runs.")
@click.option("--store", type=FILE, help="The store, when it moved since the run.")
@click.option("--data", type=ANY, help="The folder of pictures and sounds, when it moved.")
def report(runs: tuple, output: str | None, store: str | None, data: str | None) -> None:
    """Print the leaderboards of run folders; with -o, write a page with charts and pictures.

    Example: headstock report runs/first -o report.html
    """
    from headstock.heads.report import saved_leaderboard

    for run in runs:
        click.echo(saved_leaderboard(run))
    if output:
        from headstock.heads.page import write_report

        click.echo(write_report(runs, output, store=store, data=data).text())


@cli.group(cls=Commands)
def store() -> None:
    """Look into a feature store, check it and look after it."""


@store.command()
@click.argument("path", type=FILE)
@click.option("--failed", is_flag=True, help="Only the failed rows, all of them: one a line.")
@JSON
def info(path: str, failed: bool, as_json: bool) -> None:
    """What a store holds: rows, labels, sets, recipes, failed rows.

    Example: headstock store info features.h5
    """
    from headstock.store import FeatureStore
    from headstock.store.info import describe, description

    with FeatureStore.open(path) as features:
        if failed:
            for e in features.errors():
                click.echo(f"{e.set} {one_line(e.id)}: {e.code}: {e.line}")
        elif as_json:
            errors = [e._asdict() for e in features.errors()]
            click.echo(json.dumps({**describe(features), "errors": errors}, indent=1))
        else:
            click.echo(description(features))


@store.command()
@click.argument("path", type=FILE)
@click.option("--files", is_flag=True, help="Hash each input file again too.")
@click.option("--recompute", type=int, metavar="N", help="Extract N rows of each set again.")
@SEED
def verify(path: str, files: bool, recompute: int | None, seed: int) -> None:
    """Check structure, every checksum and every recipe; one line for each finding.

    Example: headstock store verify features.h5 --files
    """
    from headstock.store import FeatureStore
    from headstock.store.apart import verify_apart

    verdict = verify_apart(path, files=files)
    click.echo(verdict.text())
    if verdict.exit_code:
        sys.exit(verdict.exit_code)
    if recompute:
        from headstock.extract.recompute import recompute as again

        with FeatureStore.open(path) as features:
            deviations = again(features, recompute, seed=seed)
        for one in deviations:
            click.echo(one.text())
        if not all(one.good for one in deviations):
            sys.exit(1)


@store.command()
@click.argument("path", type=FILE)
def repair(path: str) -> None:
    """Drop what is damaged, and say which rows the next extract must compute again.

    Example: headstock store repair features.h5
    """
    from headstock.store.repair import repair as run

    click.echo(run(path).text())


@store.command()
@click.argument("path", type=FILE)
def compact(path: str) -> None:
    """Gather all that is pending into the one HDF5 file.

    Example: headstock store compact features.h5
    """
    from headstock.store import FeatureStore

    FeatureStore.open(path).close()
    with FeatureStore.open(path, "a") as features:
        click.echo(f"{path}: generation {features.compact()}")


@store.command()
@click.argument("path", type=FILE)
@click.argument("table", type=FILE)
@click.option("--id-col", help="Column of ids  [default: id]")
@click.option("--label-col", help="Column of labels  [default: label]")
@click.option("--group-col", help="Column of groups  [default: group]")
@click.option("--split-col", help="Column of splits  [default: split]")
@click.option("--extra", multiple=True, metavar="COL", help="Take this text column too.")
@click.option("--clear", is_flag=True, help="Let an empty cell empty the row's.")
def label(path: str, table: str, extra: tuple, clear: bool, **names: Any) -> None:
    """Take new labels, groups and splits from a CSV; no feature is touched.

    Example: headstock store label features.h5 labels.csv --label-col CLASS
    """
    from headstock.store.label import relabel

    cols = {k.removesuffix("_col"): v for k, v in names.items() if v}
    change = relabel(path, table, cols=cols, extra=extra, clear=clear)
    click.echo(f"{path}: {change.changed:,} rows changed, {change.unchanged:,} as they were")


@store.command()
@click.argument("target", type=FILE)
@click.argument("sources", type=FILE, nargs=-1, required=True)
@click.option("--set", "sets", multiple=True, metavar="NAME", help="These sets  [default: all]")
def merge(target: str, sources: tuple, sets: tuple) -> None:
    """Add the rows and vectors of other stores, made by the same recipes, to TARGET.

    Example: headstock store merge all.h5 first.h5 second.h5
    """
    from headstock.store.merge import merge as run

    click.echo(run(target, sources, sets=sets or None).text())


@store.command()
@click.argument("path", type=FILE)
@click.argument("output", type=FILE)
@click.option("--set", "sets", multiple=True, metavar="NAME", help="These sets  [default: all]")
def export(path: str, output: str, sets: tuple) -> None:
    """Write a store's complete rows as .npz, .csv, .parquet or plain .h5.

    Example: headstock store export features.h5 features.npz
    """
    from headstock.store.export import export as run

    click.echo(run(path, output, sets=sets or None).text())


@store.command(name="import")
@click.argument("source", type=ANY)
@click.argument("output", type=FILE)
@click.option("--set", "name", default="image", show_default=True, help="Name of the new set.")
@click.option("--modality", default="image", show_default=True, help="image or audio.")
@click.option("--pool", type=click.Choice(["mean", "max"]), help="Join an item's several vectors.")
def import_(source: str, output: str, **flags: Any) -> None:
    """Take features that another tool made: npz, csv, h5, npy with names, folders of HDF5.

    Example: headstock store import features.npz features.h5 --set image
    """
    from headstock.store.imports import import_features

    click.echo(import_features(source, output, **flags).text())


@cli.command()
@click.option("--image", metavar="BACKBONE", help="Backbone to measure  [default: ResNeXt-50]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--seconds", default=20.0, show_default=True, help="How long to measure.")
@click.option("--items", default=1_000_000, show_default=True, help="Say the hours for so many.")
@JSON
def doctor(image: str | None, device: str, seconds: float, items: int, as_json: bool) -> None:
    """Measure decoding, the model and the disk here, and say which settings to use.

    Example: headstock doctor --items 100000
    """
    from headstock.extract.backbones import DEFAULT_IMAGE
    from headstock.extract.doctor import measure

    checkup = measure(".", image or DEFAULT_IMAGE, device, seconds)
    click.echo(checkup.to_json() if as_json else checkup.text(items))


@cli.command(name="list")
@click.argument("what", type=click.Choice(["heads", "fusions", "backbones"]))
@click.argument("pattern", default="")
def list_(what: str, pattern: str) -> None:
    """List what can be named on the command line, those that hold PATTERN.

    Example: headstock list backbones resnext
    """
    if what == "backbones":
        from headstock.extract.backbones import listing
    elif what == "heads":
        from headstock.heads.head import listing
    else:
        from headstock.heads.fusion import listing
    for line in listing(pattern):
        click.echo(line)


def _numbers(text: str, flag: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(
            flag, f"{text!r} is not numbers", f"for example {flag} 0.5,0.5,0.5"
        ) from None


def _steps(quiet: bool) -> Callable[[int, int, str], None] | None:
    """Progress as one line that overwrites itself, on a terminal only."""
    if quiet or not sys.stderr.isatty():
        return None

    def show(done: int, total: int, name: str) -> None:
        line = f"{done}/{total} {one_line(name, 60)}" if done < total else ""
        click.echo(f"\r\x1b[K{line}", nl=False, err=True)

    return show


def main(argv: Sequence[str] | None = None) -> None:
    """The ``headstock`` command: one line and a fixed exit code for every error."""
    # Cores are shared more often than not: threads that spin at a barrier beside a busy core make
    # extraction many times slower than threads that sleep. Read when OpenMP is first loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        cli.main(argv, prog_name="headstock", standalone_mode=False)
    except HeadstockError as err:
        click.echo(f"headstock: {err}", err=True)
        sys.exit(err.exit_code)
    except click.ClickException as err:
        err.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("headstock: interrupted; what was committed is kept, run it again", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as err:
        place = err.filename or "system"
        click.echo(f"headstock: {one_line(place)}: {one_line(err.strerror or err)}", err=True)
        sys.exit(5)


if __name__ == "__main__":
    main()
