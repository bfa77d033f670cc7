"""The command line: parse, one library call, print. Every decision lives in the library."""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import click

from headstock import __version__
from headstock.store.errors import HeadstockError, OptionError, one_line
from headstock.store.progress import Progress, on_terminal
from headstock.store.settings import read_toml, toml_text

FILE = click.Path(dir_okay=False)
ANY = click.Path()
EXAMPLE = re.compile(r"^\s*Example:\s*(headstock .+)$", re.M)
ENDING = (signal.SIGINT, signal.SIGTERM)


class Command(click.Command):
    """Lines ``Example: headstock ...`` of the docstring become a section of their own in the help,
    one line each, never wrapped: they are for copying."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_config_option())

    @property
    def examples(self) -> list[list[str]]:
        """The words of each example after ``headstock``."""
        return [shlex.split(line)[1:] for line in EXAMPLE.findall(self.help or "")]

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        whole = self.help
        try:
            self.help = EXAMPLE.sub("", whole or "").rstrip()
            super().format_help_text(ctx, formatter)
        finally:
            self.help = whole

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        lines = EXAMPLE.findall(self.help or "")
        if lines:
            with formatter.section("Example" if len(lines) == 1 else "Examples"):
                for line in lines:
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")
        super().format_epilog(ctx, formatter)


class Commands(click.Group):
    """Lists commands in the order of a day's work, and suggests the nearest name."""

    command_class = Command
    group_class = type

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.commands, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(self.commands)}"
            raise click.UsageError(f"no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


def _config_option() -> click.Option:
    """``--config FILE``: values for the flags and arguments that the command line leaves open."""
    return click.Option(
        ["--config"],
        type=click.Path(dir_okay=False),
        is_eager=True,
        expose_value=False,
        callback=_read_config,
        help="TOML file of values for what is not given here.",
    )


def _keys(command: click.Command) -> dict[str, click.Parameter]:
    """What each parameter is called in a file: its longest flag, or an argument's own name."""
    out = {}
    for p in command.params:
        if not p.expose_value or p.name is None:
            continue
        words = [w.lstrip("-") for w in p.opts if w.startswith("--")] or [p.name]
        out[max(words, key=len).replace("_", "-")] = p
    return out


def _read_config(ctx: click.Context, _: click.Parameter, path: str | None) -> None:
    """Make the file's values the command's defaults. Raises OptionError for a file that is no TOML,
    a key that is no flag, and a value that is no value of it."""
    if not path:
        return
    values = read_toml(path)
    known = _keys(ctx.command)
    defaults: dict[str, Any] = {}
    for key, value in values.items():
        flag = key.replace("_", "-")
        if flag not in known:
            near = difflib.get_close_matches(flag, known, 1)
            fix = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(known)}"
            raise OptionError(path, f"no flag {key!r} of {ctx.info_name}", fix)
        parameter = known[flag]
        many = getattr(parameter, "multiple", False) or parameter.nargs != 1
        if isinstance(value, dict) or (isinstance(value, list) and not many):
            raise OptionError(path, f"{key} is one value", f"for example {key} = 1")
        if isinstance(value, bool) != bool(getattr(parameter, "is_flag", False)):
            what, such = ("a value", "1") if isinstance(value, bool) else ("true or false", "true")
            raise OptionError(path, f"{key} is {what}", f"for example {key} = {such}")
        assert parameter.name is not None
        defaults[parameter.name] = [value] if many and not isinstance(value, list) else value
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def effective(
    ctx: click.Context, instead: Mapping[str, Any], without: Collection[str] = ()
) -> dict[str, Any]:
    """What the command ran with, by the names a file uses: what was given, read or left at its
    default; ``instead`` says what a default turned out to be. What is unset is left out."""
    out = {}
    for key, parameter in _keys(ctx.command).items():
        value = instead.get(key, ctx.params.get(parameter.name or ""))
        if key not in without and value is not None and value != () and value != []:
            out[key] = value
    return out


def coloured(stream: TextIO) -> bool:
    """Colours are for terminals, and not where NO_COLOR (no-color.org) is set."""
    return on_terminal(stream) and not os.environ.get("NO_COLOR")


def width() -> int | None:
    """Columns that a table on stdout may take: COLUMNS where it is set, the terminal's, or no limit
    where the output goes to a file or another program."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return shutil.get_terminal_size().columns
    return None


def strong(line: str) -> str:
    """A line that stands out."""
    return click.style(line, bold=True) if coloured(sys.stdout) else line


def note(*lines: str, quiet: bool = False) -> None:
    """Tell a person, on stderr: stdout is for results."""
    if lines and not quiet:
        click.echo("\n".join(lines), err=True)


def hint(*commands: Sequence[object], quiet: bool = False) -> None:
    """Name the commands that come next, on stderr. ``commands``: words after ``headstock``."""
    for words in commands:
        said = f"next: headstock {' '.join(map(_word, words))}"
        if not quiet:
            click.echo(
                click.style(said, dim=True) if coloured(sys.stderr) else said,
                err=True,
                color=coloured(sys.stderr),
            )


def _word(word: object) -> str:
    """As a shell would take it; words in capitals stand for what the reader fills in."""
    return str(word) if str(word).isupper() else shlex.quote(str(word))


def wrapped(line: str, columns: int | None) -> str:
    """``line`` in lines of at most ``columns``, the later ones below its second column."""
    if columns is None or len(line) <= columns:
        return line
    name, gap, rest = line.partition("  ")
    indent = len(name) + len(gap) + len(rest) - len(rest.lstrip())
    return textwrap.fill(line, max(columns, indent + 20), subsequent_indent=" " * indent)


def options(*decorators: Callable) -> Callable:
    """Several click options as one decorator, shown in the order given."""

    def apply(function: Callable) -> Callable:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="No progress, no account, no hint.")
SEED = click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of all that is random.",
)
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


def say(result: Any, as_json: bool, **more: Any) -> None:
    """Print a library's answer: its text, or its fields (and ``more``) as JSON."""
    if as_json:
        click.echo(json.dumps({**asdict(result), **more}, indent=1, default=str))
    else:
        click.echo(result.text())


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="headstock")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Extract features once, try heads in seconds, believe the number at the end."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False


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
    hint(["report", os.path.join(output, "run"), "-o", "report.html"])


@cli.command()
@click.argument("manifest", type=ANY)
@click.option("-o", "--output", type=FILE, required=True, help="The store, made or extended.")
@click.option(
    "--image",
    multiple=True,
    metavar="[NAME=]BACKBONE[,K=V]",
    help="Backbone for images; layer=, pool=, flip= and flags of its own.",
)
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
@click.option("--overwrite", is_flag=True, help="Replace sets made by another recipe.")
@click.option("--retry-failed", is_flag=True, help="Try rows again that failed before.")
@MANIFEST_OPTIONS
@RUN_OPTIONS
@QUIET
@JSON
def extract(manifest: str, output: str, as_json: bool, quiet: bool, **flags: Any) -> None:
    """Turn the files of MANIFEST (a CSV, or a folder of class folders) into feature sets.

    Running it again does only what is missing. Without --image, --audio or --columns, every
    modality of the manifest is encoded: ResNeXt-50 for images, MFCCs for sounds.

    Example: headstock extract index.csv -o features.h5 --image headstock:resnext_nano --audio mfcc
    Example: headstock extract index.csv -o resnext.h5 --image timm:resnext50_32x4d.a1h_in1k
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
    watched = on_terminal(sys.stderr) and not quiet
    account = extract_manifest(table, output, progress=watched, **flags)
    click.echo(account.to_json() if as_json else account.text(short=quiet))
    if account.failed:
        hint(["store", "info", output, "--failed"], quiet=quiet or as_json)
        sys.exit(3)
    hint(["evaluate", output, "-o", "runs/first"], quiet=quiet or as_json)


@cli.command()
@click.argument("manifest", type=ANY)
@click.option("--backbone", required=True, metavar="NAME", help="As extract's --image; or cnn4.")
@click.option("-o", "--output", type=FILE, required=True, help="Weights, NAME.safetensors.")
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
@click.option("--overwrite", is_flag=True, help="Replace what other settings made.")
@MANIFEST_OPTIONS
@RUN_OPTIONS
@SEED
@QUIET
@JSON
def adapt(
    manifest: str, output: str, backbone: str, folds: str | None, as_json: bool, quiet: bool,
    **flags: Any,
) -> None:  # fmt: skip
    """Fine-tune a backbone on the labelled rows of MANIFEST, or train a small one from scratch.

    Writes weights for extract --weights. With --folds, a network a fold, each of which did not see
    that fold, so that evaluate stays honest. Run again after a kill, it goes on where it was.

    Example: headstock adapt index.csv --backbone cnn4 --from-scratch --epochs 2 -o cnn4.safetensors
    """
    from headstock.extract.adapt import Settings
    from headstock.extract.adapt import adapt as run
    from headstock.heads import make_folds

    names = {k: flags.pop(k) for k in list(flags) if k.endswith(("_col", "_root"))}
    names |= {k: flags.pop(k) for k in ("class_names", "split")}
    flags["model_args"] = pairs(flags.pop("model_arg"), "--model-arg")
    stated = pairs(flags.pop("sets"), "--set")
    stated |= {k: flags.pop(k) for k in list(flags) if k in Settings.__dataclass_fields__}
    table = read_manifest(manifest, **names)
    note(*table.account(), quiet=quiet)
    with Progress("adapt", "pictures", quiet) as progress:
        adapted = run(
            table.items, output, backbone, divide=make_folds, folds=_plan(folds),
            settings=Settings.of(stated), progress=progress, **flags,
        )  # fmt: skip
    click.echo(adapted.to_json() if as_json else adapted.text())
    hint(["extract", manifest, "-o", "adapted.h5", "--weights", output], quiet=quiet or as_json)
    if adapted.failures:
        sys.exit(3)


def _plan(folds: str | None) -> Any:
    """What --folds says: a number, a saved plan, or a word."""
    if folds is None or not Path(folds).is_file():
        return int(folds) if folds and folds.isdigit() else folds
    from headstock.heads import FoldPlan

    return FoldPlan.load(folds)


def _complete(names: Callable[[click.Context], Sequence[str]]) -> Callable[..., list[str]]:
    """What the tab key offers for a value; ``image+a`` is completed after its last plus."""

    def offer(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        before, plus, last = incomplete.rpartition("+")
        try:
            return [before + plus + name for name in names(ctx) if name.startswith(last)]
        except (HeadstockError, OSError):
            return []

    return offer


def _heads(_: click.Context) -> Sequence[str]:
    from headstock.heads.head import HEADS

    return list(HEADS)


def _fusions(_: click.Context) -> Sequence[str]:
    from headstock.heads.fusion.fusions import FUSIONS

    return list(FUSIONS)


def _sets(ctx: click.Context) -> Sequence[str]:
    from headstock.store import FeatureStore, is_store

    # an option that still lacks its value hides the arguments from click
    words = [ctx.params.get("store"), *os.environ.get("COMP_WORDS", "").split()]
    for word in words:
        if word and is_store(word):
            with FeatureStore.open(word) as features:
                return features.sets
    return []


HEADS = click.option(
    "--head", "heads", multiple=True, metavar="NAME", shell_complete=_complete(_heads),
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
FOLDS = click.option(
    "--folds", default="5", show_default=True,
    help="A number, group-out, given:COLUMN, or a saved folds.json.",
)  # fmt: skip
MISSING = click.option(
    "--missing", type=click.Choice(["refuse", "exclude", "patterns"]), default="refuse",
    show_default=True, help="What to do with labelled rows that lack a vector.",
)  # fmt: skip
DEDUPE = click.option(
    "--dedupe", type=click.Choice(["group", "drop", "keep"]), default="group", show_default=True,
    help="Rows with the same bytes or nearly the same vector: into one fold, once, or as they are.",
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


NOT_KEPT = ("output", "json", "quiet")
REPEAT = "What this run was made with: headstock evaluate --config FILE makes it again."


@cli.command()
@click.argument("store", type=FILE)
@HEADS
@SETS
@TUNE
@click.option(
    "--on", multiple=True, metavar="SETS", shell_complete=_complete(_sets),
    help="Feature sets: image, image+audio.",
)  # fmt: skip
@click.option(
    "--fusion", "fusions", multiple=True, metavar="NAME", shell_complete=_complete(_fusions),
    help="mean, weighted, stacked.",
)  # fmt: skip
@FOLDS
@click.option(
    "--repeats",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Repeat with other folds.",
)
@click.option("--group", metavar="COL", help="Keep rows of one group in one fold.")
@MISSING
@DEDUPE
@STREAM
@click.option(
    "--seen",
    type=click.Choice(["refuse", "mark"]),
    default="refuse",
    show_default=True,
    help="What to do with rows whose labels a set's network saw when it was adapted.",
)
@click.option(
    "--reuse/--no-reuse", default=True, show_default=True,
    help="Take again what earlier evaluations of this store computed from the same things.",
)  # fmt: skip
@click.option("--doubts", is_flag=True, help="Rank doubtful labels (needs headstock[labels]).")
@click.option(
    "--nested/--no-nested", default=None,
    help="Fit a fusion's members again without the scored fold  [default: where it can be]",
)  # fmt: skip
@click.option(
    "--memory", "gigabytes", type=click.FloatRange(min=0, min_open=True), metavar="GB",
    help="What heads may share; beyond, kernels stand on landmarks  [default: 8]",
)  # fmt: skip
@click.option("--device", help="Where the largest products run: cuda  [default: cpu]")
@click.option("--learning-curve", is_flag=True, help="Score heads on parts of the training rows.")
@click.option("-o", "--output", type=ANY, help="Run folder to write, such as runs/first.")
@click.option("--mlflow", metavar="URI|FOLDER", help="Log it to MLflow (needs headstock[mlflow]).")
@SEED
@QUIET
@JSON
def evaluate(
    store: str, heads: tuple, on: tuple, sets: tuple, fusions: tuple, folds: str,
    output: str | None, mlflow: str | None, stream: bool, as_json: bool, quiet: bool,
    gigabytes: float | None, **flags: Any,
) -> None:  # fmt: skip
    """Score heads and fusions on STORE, out of fold, and print the leaderboard.

    Example: headstock evaluate features.h5 --head logistic --head lda --fusion stacked -o runs/a
    """
    from headstock.heads import evaluate as at_once
    from headstock.heads.blockwise.stream import evaluate_streamed
    from headstock.heads.report.tables import write_text
    from headstock.heads.report.text import fit_words
    from headstock.heads.report.tracking import log_evaluation
    from headstock.store import FeatureStore

    flags = {"heads": heads, "on": on, "fusions": fusions, **flags}
    flags = {k: v for k, v in flags.items() if v or v is False}
    flags["options"] = head_options(sets, heads)
    flags |= {"memory": 1e9 * gigabytes} if gigabytes else {}
    plan = _plan(folds)
    with FeatureStore.open(store) as features, Progress("evaluate", "fits", quiet) as progress:
        run = evaluate_streamed if stream else at_once
        result = run(features, folds=plan, progress=progress, **flags)
    if output:
        result.save(output)
        told = result.settings
        used = {"head": told["heads"], "on": told["on"], "fusion": told["fusions"]}
        text = toml_text(effective(click.get_current_context(), used, NOT_KEPT), REPEAT)
        write_text(Path(output, "run.toml"), text)
    click.echo(json.dumps(result.to_json(), indent=1) if as_json else result.text(width(), strong))
    if mlflow:
        run_id = log_evaluation(result.to_json(), mlflow, folder=output)
        note(f"logged: {mlflow}, run {run_id}", quiet=quiet)
    if output:
        note(f"written: {output}", quiet=quiet)
        hint(["report", output, "-o", "report.html"], quiet=quiet or as_json)
    words = fit_words(store, result.leaderboard[0], result.to_json(), output)
    hint(words, quiet=quiet or as_json)


@cli.command()
@click.argument("store", type=FILE)
@HEADS
@SETS
@TUNE
@click.option(
    "--on", metavar="SETS", shell_complete=_complete(_sets),
    help="Feature sets  [default: all, side by side]",
)  # fmt: skip
@click.option(
    "--fusion", metavar="NAME", shell_complete=_complete(_fusions),
    help="How to join several systems.",
)  # fmt: skip
@FOLDS
@click.option("--save-plan", type=FILE, metavar="FILE", help="Write the fold plan, for --folds.")
@click.option("--group", metavar="COL", help="Keep rows of one group in one fold.")
@MISSING
@DEDUPE
@STREAM
@click.option("-o", "--output", type=FILE, required=True, help="The model to write.")
@SEED
@QUIET
@JSON
def fit(
    store: str, heads: tuple, sets: tuple, folds: str, output: str, stream: bool, quiet: bool,
    as_json: bool, **flags: Any,
) -> None:  # fmt: skip
    """Fit one system on the labelled rows of STORE (its test split left out) and save it.

    One head on the sets side by side; or, with --fusion, each head on each set, joined. Whatever
    must be held out (to calibrate, to stop early, to tune, to fuse) is held out by --folds.

    Example: headstock fit features.h5 --head logistic --on image+audio -o model.headstock
    Example: headstock fit features.h5 --fusion stacked --folds runs/a/folds.json -o stack.headstock
    """
    from headstock.heads import fit as at_once
    from headstock.heads.blockwise.stream import fit_streamed
    from headstock.store import FeatureStore

    heads = heads or ("logistic",)
    if len(heads) > 1 and flags["fusion"] in (None, "early"):
        raise OptionError("--head", f"{len(heads)} heads and nothing joins them", "add --fusion")
    flags |= {"options": head_options(sets, heads), "folds": _plan(folds)}
    with FeatureStore.open(store) as features, Progress("fit", "fits", quiet) as progress:
        run = fit_streamed if stream else at_once
        bundle = run(features, heads[0], heads=heads, progress=progress, **flags)
    bundle.save(output)
    if as_json:
        classes = [str(c) for c in bundle.classes]
        click.echo(json.dumps({"path": output, "classes": classes, "settings": bundle.settings}))
    note(f"written: {output}", quiet=quiet or as_json)
    hint(["predict", output, "MANIFEST", "-o", "predictions.csv"], quiet=quiet or as_json)


@cli.command()
@click.argument("model", type=FILE)
@click.argument("rows", metavar="MANIFEST|STORE", type=ANY)
@click.option("-o", "--output", type=FILE, help="CSV: id,prediction,confidence,p_<class>…")
@click.option("--submission", "header", metavar="Id,CLASS", help="Write these two columns only.")
@click.option("--only", metavar="SPLIT", help="Predict the rows of this split only.")
@click.option("--weights", type=FILE, help="Weights file, when not where extraction found it.")
@click.option("--store", "keep", type=FILE, help="Keep the extracted features in this store.")
@click.option("--head-file", "own", multiple=True, type=FILE, help="Your file of its head; is run.")
@MANIFEST_OPTIONS
@RUN_OPTIONS
@QUIET
@JSON
def predict(
    model: str, rows: str, output: str | None, header: str | None, keep: str | None,
    only: str | None, own: tuple, quiet: bool, as_json: bool, **flags: Any,
) -> None:  # fmt: skip
    """Predict the rows of a MANIFEST of raw files, or of a STORE, with a saved MODEL.

    Example: headstock predict model.headstock index.csv -o predictions.csv
    Example: headstock predict model.headstock features.h5 --only test --json
    """
    from headstock.heads import Bundle
    from headstock.heads.fusion.complete import predict_complete
    from headstock.store import FeatureStore, is_store

    bundle = Bundle.load(model, own)
    if is_store(rows):
        with FeatureStore.open(rows) as features, Progress("predict", "rows", quiet) as progress:
            predictions, left_out = predict_complete(
                bundle, features, split=only, progress=progress
            )
    else:
        from headstock.extract.job import columns_of, extract_like

        names = {k: flags.pop(k) for k in list(flags) if k.endswith(("_col", "_root"))}
        names |= {k: flags.pop(k) for k in ("class_names", "split")}
        watched = on_terminal(sys.stderr) and not quiet
        wanted = sorted({c for columns in columns_of(bundle.recipes).values() for c in columns})
        table = read_manifest(rows, wanted, **names)
        note(*table.account(), quiet=quiet)
        flags |= {"keep": keep, "provenance": bundle.provenance, "progress": watched}
        flags |= {"some": bool(bundle.patterns)}
        with extract_like(table, bundle.recipes, **flags) as (features, _):
            predictions, left_out = predict_complete(bundle, features, table.items.id, only)
    if as_json and not output:
        click.echo(json.dumps({"predictions": predictions.to_json(), "left_out": left_out}))
    else:
        text = predictions.submission(output, header) if header else predictions.to_csv(output)
        click.echo(text, nl=False)
    if as_json and output:
        told = {"path": output, "rows": len(predictions), "left_out": left_out}
        click.echo(json.dumps(told))
    note(*left_out)
    if output:
        note(f"written: {output}, {len(predictions):,} rows", quiet=quiet or as_json)
        words = ["predict", model, rows, "--submission", "Id,CLASS", "-o", "submission.csv"]
        hint(["runs"] if header else words, quiet=quiet or as_json)
    if left_out:
        sys.exit(3)


@cli.command()
@click.argument("runs", metavar="RUN…", type=ANY, nargs=-1, required=True)
@click.option("-o", "--output", type=FILE, help="Write one HTML page about the runs.")
@click.option("--store", type=FILE, help="The store, when it moved since the run.")
@click.option("--data", type=ANY, help="The folder of pictures and sounds, when it moved.")
@QUIET
@JSON
def report(
    runs: tuple, output: str | None, store: str | None, data: str | None, quiet: bool, as_json: bool
) -> None:
    """Print the leaderboards of run folders; with -o, write a page with charts and pictures.

    Example: headstock report runs/a -o report.html
    """
    from headstock.heads.report.text import leaderboard_text, saved_metrics

    saved = {run: saved_metrics(run) for run in runs}
    for metrics in [] if as_json else saved.values():
        click.echo(leaderboard_text(metrics, width(), strong))
    if not output:
        if as_json:
            click.echo(json.dumps(saved, indent=1))
        hint(["report", *runs, "-o", "report.html"], quiet=quiet or as_json)
        return
    from headstock.heads.report.page import write_report

    with Progress("report", "parts", quiet) as progress:
        written = write_report(runs, output, store=store, data=data, progress=progress)
    say(written, as_json)
    hint(["runs", *runs], quiet=quiet or as_json)


@cli.command()
@click.argument("places", metavar="[FOLDER|RUN]…", type=ANY, nargs=-1)
@click.option(
    "--format", "form", type=click.Choice(["text", "csv", "markdown", "latex"]), default="text",
    show_default=True, help="What to print the leaderboards of the runs as.",
)  # fmt: skip
@click.option("-o", "--output", type=FILE, help="Write it to this file.")
@QUIET
@JSON
def runs(places: tuple, form: str, output: str | None, quiet: bool, as_json: bool) -> None:
    """List the runs of a FOLDER (runs, by default) or compare RUNs with each other.

    Runs whose rows and labels are the same are held against each other by paired tests.

    \b
    a folder      its runs, oldest first, and which of their best systems really differ
    one run       its leaderboard
    several runs  all their systems on the rows they share, and what was set otherwise

    Example: headstock runs
    Example: headstock runs runs/a runs/first
    Example: headstock runs runs/a --format latex -o leaderboard.tex
    """
    from headstock.heads.report.formats import leaderboard_as
    from headstock.heads.report.runs import look, the_runs
    from headstock.heads.report.tables import write_text
    from headstock.heads.report.text import saved_metrics

    places = places or ("runs",)
    if form != "text":
        text = leaderboard_as(form, {run.name: saved_metrics(run) for run in the_runs(places)})
    else:
        with Progress("runs", "runs", quiet) as progress:
            found = look(places, progress)
        columns = None if output else width()
        text = found.text(columns, str if output else strong) + "\n"
        text = json.dumps(found.to_json(), indent=1) + "\n" if as_json else text
    if output:
        write_text(output, text)
    else:
        click.echo(text, nl=False)
    words = ["report", the_runs(places)[0], "-o", "report.html"]
    hint(words, quiet=quiet or as_json or form != "text")


@cli.group(cls=Commands)
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
@click.option("--files", is_flag=True, help="Hash each input file again too.")
@click.option("--recompute", type=int, metavar="N", help="Extract N rows of each set again.")
@SEED
@QUIET
@JSON
def verify(
    path: str, files: bool, recompute: int | None, seed: int, quiet: bool, as_json: bool
) -> None:
    """Check structure, every checksum and every recipe; one line for each finding.

    Example: headstock store verify features.h5 --files
    """
    from headstock.store import FeatureStore
    from headstock.store.care.apart import verify_apart

    with Progress("verify", "rows", quiet) as progress:
        verdict = verify_apart(path, files=files, progress=progress)
    if not as_json or verdict.exit_code or not recompute:
        say(verdict, as_json)
    if verdict.exit_code:
        hint(["store", "repair", path], quiet=quiet or as_json or not verdict.findings)
        sys.exit(verdict.exit_code)
    if not recompute:
        hint(["store", "info", path], quiet=quiet or as_json)
        return
    from headstock.extract.recompute import recompute as again

    with FeatureStore.open(path) as features, Progress("recompute", "rows", quiet) as progress:
        deviations = again(features, recompute, seed=seed, progress=progress)
    if as_json:
        say(verdict, True, recomputed=[asdict(one) for one in deviations])
    for one in [] if as_json else deviations:
        click.echo(one.text())
    if not all(one.good for one in deviations):
        sys.exit(1)


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


@cli.command()
@click.option("--image", metavar="BACKBONE", help="Backbone to measure  [default: ResNeXt-50]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--seconds", default=15.0, show_default=True, help="How long to measure.")
@click.option("--items", default=1_000_000, show_default=True, help="Say the time for so many.")
@QUIET
@JSON
def doctor(
    image: str | None, device: str, seconds: float, items: int, quiet: bool, as_json: bool
) -> None:
    """Measure decoding, the model and the disk here, and say which settings to use.

    Example: headstock doctor --image headstock:resnext_nano --seconds 3 --items 100000
    """
    from headstock.extract.doctor import measure
    from headstock.extract.encoders.backbones import DEFAULT_IMAGE

    with Progress("doctor", "measurements", quiet) as progress:
        checkup = measure(".", image or DEFAULT_IMAGE, device, seconds, progress=progress)
    click.echo(checkup.to_json() if as_json else checkup.text(items))
    hint(["extract", "MANIFEST", "-o", "features.h5"], quiet=quiet or as_json)


@cli.command(name="list")
@click.argument("what", type=click.Choice(["heads", "fusions", "backbones"]))
@click.argument("pattern", default="")
@QUIET
@JSON
def list_(what: str, pattern: str, quiet: bool, as_json: bool) -> None:
    """List what can be named on the command line, those that hold PATTERN.

    Example: headstock list heads
    Example: headstock list backbones resnext
    """
    if what == "backbones":
        from headstock.extract.encoders.backbones import listing
    elif what == "heads":
        from headstock.heads.head import listing
    else:
        from headstock.heads.fusion.fusions import listing
    with Progress("list", quiet=quiet):
        found = listing(pattern)
    if as_json:
        click.echo(json.dumps([line.partition("  ")[0] for line in found]))
    for line in [] if as_json else found:
        click.echo(wrapped(line, width()))
    use = {"heads": "--head", "fusions": "--fusion"}
    if what in use:
        hint(["evaluate", "STORE", use[what], "NAME"], quiet=quiet or as_json)
    else:
        words = ["extract", "MANIFEST", "-o", "features.h5", "--image", "NAME"]
        hint(words, quiet=quiet or as_json)


@cli.command(name="export-model")
@click.argument("model", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="The ONNX file to write.")
@click.option("--backbone", is_flag=True, help="Put the image network before the heads.")
@click.option("--on", metavar="SETS", help="Sets that its rows have  [default: all]")
@click.option("--head-file", "own", multiple=True, type=FILE, help="Your file of its head; is run.")
@click.option("--store", "rows", type=FILE, help="Compare on the rows of this store too.")
@click.option("--weights", type=FILE, help="Weights file, when not where extraction found it.")
@click.option("--offline", is_flag=True, help="Never ask a model hub.")
@QUIET
@JSON
def export_model(
    model: str, output: str, backbone: bool, on: str | None, own: tuple, rows: str | None,
    quiet: bool, as_json: bool, **flags: Any,
) -> None:  # fmt: skip
    """Write MODEL as ONNX: vectors in, or pixels with --backbone; probabilities and labels out.

    The file is run beside the model on random rows, and on those of --store, and is written only
    when both give the same.

    Example: headstock export-model model.headstock -o model.onnx --store features.h5
    """
    from headstock.extract.encoders.graphs import backbones
    from headstock.heads import Bundle
    from headstock.heads.onnx import export_model as run
    from headstock.store import FeatureStore

    bundle = Bundle.load(model, own)
    opened = FeatureStore.open(rows) if rows else nullcontext()
    with opened as features, Progress("export-model", quiet=quiet):
        flags |= {"provenance": bundle.provenance, "store": features}
        fronts = backbones(bundle.recipes, **flags) if backbone else {}
        told = run(bundle, output, on=on, store=features, fronts=fronts)
    click.echo(json.dumps(told.to_json(), indent=1) if as_json else told.text())
    hint(["serve", model], quiet=quiet or as_json)


@cli.command()
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
@QUIET
def serve(
    model: str, host: str, port: int, hosts: tuple, own: tuple, quiet: bool, **flags: Any
) -> None:  # fmt: skip
    """Answer HTTP requests with MODEL: a picture and a sound in, probabilities out, and a page.

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
            note(f"serving {model} at {address} until ctrl-C", quiet=quiet)

        run(bundle, encode, host, port, limits, title=Path(model).stem, hosts=hosts, ready=ready)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands, flags and names with the tab key.

    For bash put ``eval "$(headstock completion bash)"`` into ~/.bashrc; for zsh the same with zsh
    into ~/.zshrc; for fish: headstock completion fish > ~/.config/fish/completions/headstock.fish

    Example: headstock completion bash
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "headstock", "_HEADSTOCK_COMPLETE").source())
    hint(["--help"], quiet=not sys.stdout.isatty())  # a shell that evals it would say so each time


def _numbers(text: str, flag: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(
            flag, f"{text!r} is not numbers", f"for example {flag} 0.5,0.5,0.5"
        ) from None


def main(argv: Sequence[str] | None = None) -> None:
    """The ``headstock`` command: one line and a fixed exit code for every error."""
    # Cores are shared more often than not: threads that spin at a barrier beside a busy core make
    # extraction many times slower than threads that sleep. Read when OpenMP is first loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    before = [signal.getsignal(number) for number in ENDING]
    _answer(_interrupt, _interrupt)
    try:
        cli.main(argv, prog_name="headstock", standalone_mode=False)
    except HeadstockError as err:
        click.echo(f"headstock: {err}", err=True)
        sys.exit(err.exit_code)
    except click.ClickException as err:
        err.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        with suppress(OSError):
            sys.stdout.flush()
        _leave()
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except MemoryError:
        what = "not enough for this; give it more, or do it in parts"
        click.echo(f"headstock: memory: {what}", err=True)
        sys.exit(5)
    except OSError as err:
        place = err.filename or "system"
        click.echo(f"headstock: {one_line(place)}: {one_line(err.strerror or err)}", err=True)
        sys.exit(5)
    finally:
        _answer(*before)


def _answer(*how: Any) -> None:
    """Set what answers ctrl-C and what answers SIGTERM. What whoever started us wants ignored stays
    ignored; only the main thread may set it."""
    if threading.current_thread() is threading.main_thread():
        for number, one in zip(ENDING, how):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, one)


def _interrupt(*_: object) -> None:
    """The first signal unwinds: threads and processes beside are ended in order. Another one that
    comes meanwhile must not unwind the unwinding."""
    _answer(_leave, _leave)
    raise KeyboardInterrupt


def _leave(*_: object) -> None:
    """End without what Python does at exit: a thread that is cut off while it holds HDF5's lock
    would make it wait for ever. A store bears the end of its process anywhere."""
    _answer(*[lambda *_: None] * 2)
    with suppress(OSError):
        os.write(2, b"headstock: interrupted; what was committed is kept, run it again\n")
    os._exit(130)


if __name__ == "__main__":
    main()
