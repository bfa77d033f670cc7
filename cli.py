"""The command line: parse, one library call, print. Every decision lives in the library."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from headstock import __version__
from headstock.extract.commands import demo, doctor, extract, verify
from headstock.heads.commands import evaluate, fit, report, runs
from headstock.heads.options import fold_plan
from headstock.store.answer import Answer, note, print_answer, progress, quiet, width, wrapped
from headstock.store.commands import store
from headstock.store.errors import HeadstockError, OptionError, explained
from headstock.store.interrupts import interruptible, leave
from headstock.store.progress import on_terminal
from headstock.store.terminal import (
    ANY,
    FILE,
    MANIFEST_OPTIONS,
    RUN_OPTIONS,
    SEED,
    SPREADSHEET,
    Command,
    Commands,
    Output,
    completion,
    pairs,
    read_manifest,
)

EXPLAINED = (HeadstockError, OSError, MemoryError, ImportError, RuntimeError, SystemError)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="headstock")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Extract features once, try heads in seconds, believe the number at the end."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False


@click.command(cls=Command)
@click.argument("manifest", type=ANY)
@click.option("--backbone", required=True, metavar="NAME", help="As extract's --image; or cnn4.")
@click.option(
    "-o", "--output", type=Output("weights"), required=True, help="Weights, NAME.safetensors."
)
@click.option("--from-scratch", is_flag=True, help="Begin with random weights.")
@click.option("--folds", help="A network a fold too: a number, group-out or a folds.json.")
@click.option("--group", metavar="COL", help="Keep rows of one group together.")
@click.option("--epochs", type=int, help="At most so many of the whole network.")
@click.option("--head-epochs", type=int, help="Before that, of the classifier alone.")
@click.option("--lr", type=float, help="Peak learning rate of the classifier.")
@click.option("--backbone-lr", type=float, help="The backbone's, as a share of that.")
@click.option("--patience", type=int, help="Epochs without progress before it stops.")
@click.option("--held-out", type=float, help="Share of the rows that chooses the epoch.")
@click.option("--flip/--no-flip", default=None, help="Mirror half of the pictures.")
@click.option("--set", "sets", multiple=True, metavar="K=V", help="Any other setting: crop=0.5.")
@click.option("--weights", type=FILE, help="Weights file to begin with.")
@click.option("--model-arg", multiple=True, metavar="K=V", help="Argument of the architecture.")
@click.option("--input-size", type=int, help="Side of the network's input, pixels.")
@click.option("--precision", help="fp32, bf16 or fp16 (scaled).")
@click.option("--target", type=click.Choice(["classes"]), help="Take each number for a class.")
@click.option("--overwrite", is_flag=True, help="Replace what other settings made.")
@MANIFEST_OPTIONS
@RUN_OPTIONS
@SEED
def adapt(
    manifest: str, output: str, backbone: str, folds: str | None, **flags: Any
) -> Answer:  # fmt: skip
    """Fine-tune a backbone on your labels, or train a small one.

    Writes weights for extract --weights. With --folds, a network a fold, each of which did not see
    that fold, so that evaluate stays honest. Run again after a kill, it goes on where it was.

    Example: headstock adapt index.csv --backbone cnn4 --from-scratch --epochs 2 -o cnn4.safetensors
    """
    from headstock.extract.adapt import Settings
    from headstock.extract.adapt import adapt as run
    from headstock.heads import make_folds
    from headstock.store.manifest.target import found_target

    names = {k: flags.pop(k) for k in list(flags) if k.endswith(("_col", "_root"))}
    names |= {k: flags.pop(k) for k in ("class_names", "split")}
    flags["model_args"] = pairs(flags.pop("model_arg"), "--model-arg")
    stated = pairs(flags.pop("sets"), "--set")
    stated |= {k: flags.pop(k) for k in list(flags) if k in Settings.__dataclass_fields__}
    table = read_manifest(manifest, **names)
    note(*table.account())
    labels = [label for label in table.items.label if label]
    if flags.pop("target") != "classes" and found_target(labels).numbers is not None:
        what = "these labels are numbers, and networks are adapted on classes"
        raise OptionError("adapt", what, "--target classes takes each number for a class")
    with progress("adapt", "pictures") as report:
        adapted = run(
            table.items, output, backbone, divide=make_folds, folds=fold_plan(folds),
            settings=Settings.of(stated), progress=report, **flags,
        )  # fmt: skip
    return Answer(
        json.loads(adapted.to_json()),
        adapted.text,
        [["extract", manifest, "-o", "adapted.h5", "--weights", output]],
        exit_code=3 if adapted.failures else 0,
    )


@click.command(cls=Command)
@click.argument("model", type=FILE)
@click.argument("rows", metavar="MANIFEST|STORE|FILE…", type=ANY, nargs=-1, required=True)
@click.option("-o", "--output", type=FILE, help="CSV: id,prediction,confidence,p_<class>…")
@click.option(
    "--submission", metavar="SAMPLE.csv|Id,CLASS",
    help="Write what a competition takes: ids, order and columns of its sample, or this header.",
)  # fmt: skip
@click.option("--fill", metavar="ANSWER|mean", help="Answer rows that cannot be read by this.")
@click.option(
    "--prior", type=FILE, metavar="FILE",
    help="How frequent the classes are here: a CSV with the columns class,share.",
)  # fmt: skip
@click.option("--only", metavar="SPLIT", help="Predict the rows of this split only.")
@click.option("--weights", type=FILE, help="Weights file, when not where extraction found it.")
@click.option(
    "--store", "keep", type=Output("store"), help="Keep the extracted features in this store."
)
@click.option("--head-file", "own", multiple=True, type=FILE, help="Your file of its head; is run.")
@SPREADSHEET
@MANIFEST_OPTIONS
@RUN_OPTIONS
def predict(
    model: str, rows: tuple[str, ...], output: str | None, submission: str | None,
    fill: str | None, keep: str | None, only: str | None, prior: str | None, **flags: Any,
) -> Answer:  # fmt: skip
    """Predict the rows of a MANIFEST or STORE, or single FILEs.

    Example: headstock predict model.headstock index.csv -o predictions.csv
    Example: headstock predict model.headstock features.h5 --only test --json
    """
    from headstock.heads import Bundle, Predictions
    from headstock.heads.bundle.prior import read_prior, with_prior
    from headstock.heads.bundle.submission import Submission
    from headstock.heads.fusion.complete import predict_complete
    from headstock.store import FeatureStore, is_store
    from headstock.store.disk.outputs import refuse_other

    bundle = Bundle.load(model, flags.pop("own"))
    form = Submission.of(submission, bundle.classes.tolist()) if submission else None
    if output:  # before anything is computed
        refuse_other(output, *(form.kind if form else ("predictions",)))
    shares = read_prior(prior, bundle.classes.tolist()) if prior else None
    told: dict[str, Any] = {"split": only, "fill": fill}
    spreadsheet = flags.pop("spreadsheet")
    repeated: tuple[str, ...] = ()
    if len(rows) == 1 and is_store(rows[0]):
        with FeatureStore.open(rows[0]) as features, progress("predict", "rows") as report:
            predictions, left_out = predict_complete(bundle, features, progress=report, **told)
    else:
        from headstock.extract.job import columns_of, extract_like

        names = {k: flags.pop(k) for k in list(flags) if k.endswith(("_col", "_root"))}
        names |= {k: flags.pop(k) for k in ("class_names", "split")}
        watched = on_terminal(sys.stderr) and not quiet()
        table = read_manifest(rows, **columns_of(bundle.recipes), **names)
        note(*table.account())
        repeated = table.repeated
        flags |= {"keep": keep, "provenance": bundle.provenance, "progress": watched}
        flags |= {"some": bool(bundle.patterns)}
        with extract_like(table, bundle.recipes, **flags) as (features, account):
            note(*(line for one in account.sets.values() for line in one.notes))
            told |= {"ids": account.ids, "where": table.source}
            predictions, left_out = predict_complete(bundle, features, **told)
        predictions = predictions.named(dict(zip(account.ids, table.items.id, strict=True)))
    if shares is not None and isinstance(predictions, Predictions):
        if predictions.least is not None:
            note("sets of classes are left out: their promise is of classes as frequent as before")
        predictions = with_prior(predictions, shares, bundle.settings)
    if form:
        text, notes = form.write(predictions, output), form.notes(predictions)
    else:
        text, notes = predictions.to_csv(output, spreadsheet), []
    code = 3 if left_out and fill is None else 0
    data: dict[str, Any] = {"left_out": left_out, "repeated": repeated, "notes": notes}
    if not output:
        data = {"predictions": predictions.to_json(), **data}
        return Answer(data, text, notes=notes, failures=left_out, exit_code=code)
    written = len(predictions if form is None or form.ids is None else form.ids)
    words = ["predict", model, *rows, "--submission", "Id,CLASS", "-o", "submission.csv"]
    return Answer(
        {"path": output, "rows": written, **data},
        next=[["runs"] if form else words],
        notes=[*notes, f"written: {output}, {written:,} rows"],
        failures=left_out,
        exit_code=code,
    )


@click.command(cls=Command, name="list")
@click.argument("what", type=click.Choice(["heads", "fusions", "metrics", "backbones"]))
@click.argument("pattern", default="")
@click.option(
    "--target", type=click.Choice(["classes", "number"]), default="classes", show_default=True,
    help="Heads and metrics of classes, or of numbers.",
)  # fmt: skip
def list_(what: str, pattern: str, target: str) -> Answer:
    """List what can be named: all, or what holds PATTERN.

    Example: headstock list heads
    Example: headstock list heads --target number
    Example: headstock list metrics
    Example: headstock list backbones resnext
    """
    metrics = "regression" if target == "number" else "grammar"
    places = {
        "backbones": "extract.encoders.backbones", "heads": "heads.head",
        "metrics": f"heads.metrics.{metrics}", "fusions": "heads.fusion.fusions",
    }  # fmt: skip
    with progress("list"):
        listing = import_module(f"headstock.{places[what]}").listing
        found = listing(pattern, **({"target": target} if what == "heads" else {}))
    words = {
        "heads": ["evaluate", "STORE", "--head", "NAME"],
        "fusions": ["evaluate", "STORE", "--fusion", "NAME"],
        "metrics": ["evaluate", "STORE", "--metric", "NAME"],
        "backbones": ["extract", "MANIFEST", "-o", "features.h5", "--image", "NAME"],
    }
    return Answer(
        [line.partition("  ")[0] for line in found],
        "\n".join(wrapped(line, width()) for line in found),
        [words[what]],
    )


@click.command(cls=Command, name="export-model")
@click.argument("model", type=FILE)
@click.option("-o", "--output", type=Output("graph"), required=True, help="The ONNX file to write.")
@click.option("--backbone", is_flag=True, help="Put the image network before the heads.")
@click.option("--on", metavar="SETS", help="Sets that its rows have  [default: all]")
@click.option("--head-file", "own", multiple=True, type=FILE, help="Your file of its head; is run.")
@click.option("--store", "rows", type=FILE, help="Compare on the rows of this store too.")
@click.option("--data", type=ANY, help="The store's pictures, when not in the store's folder.")
@click.option("--weights", type=FILE, help="Weights file, when not where extraction found it.")
@click.option("--offline", is_flag=True, help="Never ask a model hub.")
def export_model(
    model: str, output: str, backbone: bool, on: str | None, own: tuple, rows: str | None,
    **flags: Any,
) -> Answer:  # fmt: skip
    """Write MODEL as ONNX.

    Vectors go in, or pixels with --backbone; probabilities and labels come out. The file is run
    beside the model on random rows, and on those of --store, and is written only when both give the
    same.

    Example: headstock export-model model.headstock -o model.onnx --store features.h5
    """
    from headstock.extract.encoders.graphs import backbones
    from headstock.heads import Bundle
    from headstock.heads.onnx import export_model as run
    from headstock.store import FeatureStore

    bundle = Bundle.load(model, own)
    opened = FeatureStore.open(rows) if rows else nullcontext()
    with opened as features, progress("export-model"):
        flags |= {"provenance": bundle.provenance, "store": features}
        fronts = backbones(bundle.recipes, **flags) if backbone else {}
        told = run(bundle, output, on=on, store=features, fronts=fronts)
    return Answer(told.to_json(), told.text, [["serve", model]])


@click.command(cls=Command)
@click.argument("model", type=FILE)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port to listen on; 0: a free one.")
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="Answer to this name.")
@click.option("--megabytes", default=32.0, show_default=True, help="A request may have so many.")
@click.option("--upload", default=30.0, show_default=True, help="Seconds for it to arrive.")
@click.option("--seconds", default=30.0, show_default=True, help="Seconds for its answer.")
@click.option("--at-once", default=2, show_default=True, help="Requests computed side by side.")
@click.option("--waiting", default=8, show_default=True, help="Further ones that may wait.")
@click.option("--head-file", "own", multiple=True, type=FILE, help="Your file of its head; is run.")
@click.option("--weights", type=FILE, help="Weights file, when not where extraction found it.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--offline", is_flag=True, help="Never ask a model hub.")
def serve(model: str, host: str, port: int, hosts: tuple, own: tuple, **flags: Any) -> None:
    """Answer HTTP requests with MODEL.

    A picture and a sound go in, probabilities come out; a page tries it.

    Example: headstock serve model.headstock --port 8000
    """
    from headstock.extract.live import Live
    from headstock.heads import Bundle
    from headstock.heads.service import Limits
    from headstock.heads.service import serve as run

    names = ("megabytes", "upload", "seconds", "at_once", "waiting")
    limits = Limits(**{name: flags.pop(name) for name in names})
    bundle = Bundle.load(model, own)
    told = {"provenance": bundle.provenance, "seconds": limits.seconds / 2, "lanes": limits.at_once}
    with Live(bundle.recipes, max_bytes=limits.bytes, **told, **flags) as encode:
        encode.start()

        def ready(address: str) -> None:
            text = f"serving {model} at {address} until ctrl-C"
            print_answer(Answer({"model": model, "address": address}, notes=[text]))

        run(bundle, encode, host, port, limits, title=Path(model).stem, hosts=hosts, ready=ready)


for command in (
    demo, extract, adapt, evaluate, fit, predict, report, runs, store, doctor, list_, export_model,
    serve, completion,
):  # fmt: skip
    cli.add_command(command)  # in the order of a day's work
store.add_command(verify)


def main(argv: Sequence[str] | None = None) -> None:
    """The ``headstock`` command: one line and a fixed exit code for every error."""
    # Cores are shared more often than not: threads that spin at a barrier beside a busy core make
    # extraction many times slower than threads that sleep. Read when OpenMP is first loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with interruptible():
        try:
            cli.main(argv, prog_name="headstock", standalone_mode=False)
        except (KeyboardInterrupt, click.Abort):
            with suppress(OSError):
                sys.stdout.flush()
            leave()
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(0)
        except click.ClickException as err:
            err.show()
            sys.exit(2)
        except EXPLAINED as err:
            line, code = explained(err)
            click.echo(f"headstock: {line}", err=True)
            sys.exit(code)


if __name__ == "__main__":
    main()
