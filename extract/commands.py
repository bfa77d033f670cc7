"""``headstock demo``, ``extract`` and ``doctor``, and ``store verify``, which can compute again."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict
from typing import Any

import click

from headstock.store.answer import Answer, as_json, note, progress, quiet
from headstock.store.errors import OptionError
from headstock.store.progress import on_terminal
from headstock.store.terminal import (
    ANY,
    FILE,
    MANIFEST_OPTIONS,
    RUN_OPTIONS,
    SEED,
    Command,
    Output,
    numbers,
    pairs,
    read_manifest,
)


@click.command(cls=Command)
@click.option("-o", "--output", type=ANY, default="demo", show_default=True, help="Folder to use.")
def demo(output: str) -> Answer:
    """The whole job on embedded data, offline, in about a minute.

    Example: headstock demo -o demo
    """
    from headstock.extract.demo import ABOUT, commands, write_demo

    root = click.get_current_context().find_root().command
    if not quiet():
        click.echo(ABOUT)
    write_demo(output)
    data = []
    for words in commands(output):
        if not quiet():
            click.secho(f"\n$ headstock {' '.join(words)}", bold=True)
        sys.stdout.flush()
        with redirect_stdout(io.StringIO()) if as_json() else nullcontext() as result:
            more = ["--json"] * as_json() + ["--quiet"] * quiet()
            root.main([*words, *more], prog_name="headstock", standalone_mode=False)
        if isinstance(result, io.StringIO):
            data.append({"command": words, "result": json.loads(result.getvalue())})
    return Answer(data, next=[["report", os.path.join(output, "run"), "-o", "report.html"]])


@click.command(cls=Command)
@click.argument("manifest", type=ANY)
@click.option(
    "-o", "--output", type=Output("store"), required=True, help="The store, made or extended."
)
@click.option(
    "--image",
    multiple=True,
    metavar="[NAME=]BACKBONE[,K=V]",
    help="Backbone for images; layer=, pool=, flip= and flags of its own.",
)
@click.option(
    "--audio",
    multiple=True,
    metavar="[NAME=]ENCODER[,K=V]",
    help="For sounds: mfcc, headstock:speech_embedding, net:FILE, hf:FOLDER.",
)
@click.option("--columns", multiple=True, metavar="PATTERN", help="Columns of numbers to take …")
@click.option("--as", "column_sets", multiple=True, metavar="NAME", help="… as this feature set.")
@click.option("--categories", multiple=True, metavar="PATTERN", help="Of them, those of words.")
@click.option("--dates", multiple=True, metavar="PATTERN", help="Of them, those of dates: days.")
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
    help="fast: JPEGs at reduced scale; device: by the GPU. Each is a recipe.",
)
@click.option("--runtime", default="auto", show_default=True, help="auto, torch or openvino (CPU).")
@click.option("--compile", is_flag=True, help="Compile the network (pays on a GPU).")
@click.option("--limit", type=int, help="Encode at most so many new rows.")
@click.option("--shard", metavar="I/M", help="Encode this share of the rows: jobs on one store.")
@click.option("--part", metavar="I/M", help="Take this share of MANIFEST: one store of several.")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where to encode: here, or by actors on a Ray cluster (RAY_ADDRESS).",
)
@click.option("--actors", type=int, help="Actors of the cluster  [default: one a GPU, or 4 cores]")
@click.option(
    "--fingerprints/--no-fingerprints",
    default=True,
    show_default=True,
    help="Keep what finds copies that were saved again.",
)
@click.option("--overwrite", is_flag=True, help="Replace sets made by another recipe.")
@click.option("--retry-failed", is_flag=True, help="Try rows again that failed before.")
@MANIFEST_OPTIONS
@RUN_OPTIONS
def extract(manifest: str, output: str, **flags: Any) -> Answer:
    """Turn files into vectors, once, and keep them in a store.

    MANIFEST is a table, or a folder with a folder for each class.
    Running it again does only what is missing. Without --image, --audio or --columns, every
    modality of the manifest is encoded: ResNeXt-50 for images, MFCCs for sounds.

    Example: headstock extract index.csv -o features.h5 --image headstock:resnext_nano --audio mfcc
    Example: headstock extract index.csv -o resnext.h5 --image timm:resnext50_32x4d.a1h_in1k
    """
    from headstock.extract.job import extract_manifest

    if len(flags["columns"]) != len(flags["column_sets"]):
        raise OptionError("--columns", "needs one --as NAME each", "--columns 'mfcc_*' --as audio")
    for key in ("mean", "std"):
        flags[key] = flags[key] and numbers(flags[key], f"--{key}")
    for key in ("model_arg", "audio_arg"):
        flags[f"{key}s"] = pairs(flags.pop(key), "--" + key.replace("_", "-"))
    names = {k: flags.pop(k) for k in list(flags) if k.endswith(("_col", "_root"))}
    names |= {k: flags.pop(k) for k in ("class_names", "split")}
    names |= {k: flags.pop(k) for k in ("categories", "dates")}
    table = read_manifest(manifest, flags["columns"], **names)
    note(*table.account())
    watched = on_terminal(sys.stderr) and not quiet()
    account = extract_manifest(table, output, progress=watched, **flags)
    failed = ["store", "info", output, "--failed"]
    return Answer(
        json.loads(account.to_json()),
        account.text(short=quiet()),
        [failed if account.failed else ["evaluate", output, "-o", "runs/first"]],
        exit_code=3 if account.failed else 0,
    )


@click.command(cls=Command)
@click.argument("path", type=FILE)
@click.option("--files", is_flag=True, help="Hash each input file again too.")
@click.option("--recompute", type=int, metavar="N", help="Extract N rows of each set again.")
@click.option("--data", type=ANY, help="The files' folder, when it is not the store's.")
@click.option("--offline", is_flag=True, help="Never ask a model hub.")
@SEED
def verify(
    path: str, files: bool, recompute: int | None, data: str | None, offline: bool, seed: int
) -> Answer:  # fmt: skip
    """Check structure, checksums and recipes, a line a finding.

    Example: headstock store verify features.h5 --files
    """
    from headstock.store import FeatureStore
    from headstock.store.care.verify_child import verify_in_child

    with progress("verify", "rows") as report:
        verdict = verify_in_child(path, files=files, progress=report, data=data)
    if verdict.exit_code:
        hints = [["store", "repair", path]] if verdict.findings and not verdict.unread else []
        return Answer(verdict, verdict.text, hints, exit_code=verdict.exit_code)
    if not recompute:
        return Answer(verdict, verdict.text, [["store", "info", path]])
    from headstock.extract.recompute import recompute as again

    with FeatureStore.open(path) as features, progress("recompute", "rows") as report:
        deviations = again(
            features, recompute, seed=seed, offline=offline, data=data, progress=report
        )
    return Answer(
        {**asdict(verdict), "recomputed": deviations},
        "\n".join([verdict.text(), *(one.text() for one in deviations)]),
        exit_code=0 if all(one.good for one in deviations) else 1,
    )


@click.command(cls=Command)
@click.option("--image", metavar="BACKBONE", help="Backbone to measure  [default: ResNeXt-50]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--seconds", default=15.0, show_default=True, help="How long to measure.")
@click.option("--items", default=1_000_000, show_default=True, help="Say the time for so many.")
def doctor(image: str | None, device: str, seconds: float, items: int) -> Answer:
    """Measure this machine and say which settings to use.

    Example: headstock doctor --image headstock:resnext_nano --seconds 3 --items 100000
    """
    from headstock.extract.doctor import measure
    from headstock.extract.encoders.backbones import DEFAULT_IMAGE

    with progress("doctor", "measurements") as report:
        checkup = measure(".", image or DEFAULT_IMAGE, device, seconds, progress=report)
    hint = ["extract", "MANIFEST", "-o", "features.h5"]
    return Answer(json.loads(checkup.to_json()), checkup.text(items), [hint])
