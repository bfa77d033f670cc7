"""What the commands of every room share: how help looks, --config, -q, --json, common options."""

from __future__ import annotations

import difflib
import re
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from headstock.store.answer import Answer, print_answer, stdout_for_results
from headstock.store.confirm import refuse_unsaid
from headstock.store.errors import HeadstockError, OptionError
from headstock.store.jsonfile import parse_json
from headstock.store.settings import read_toml

if TYPE_CHECKING:
    from headstock.store import Manifest


class Output(click.Path):
    """What a command is to write: a path that is free, or holds what the command would have
    written (see ``outputs``). Known before anything is computed."""

    def __init__(self, kind: str) -> None:
        super().__init__(dir_okay=kind == "run", readable=False)
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        if ctx is None or not ctx.resilient_parsing:
            from headstock.store.disk.outputs import refuse_other

            refuse_other(str(path), self.kind)
        return path


# who may read a file is known when it is opened: the disk's error, not a wrong word on the line
FILE = click.Path(dir_okay=False, readable=False)
ANY = click.Path(readable=False)
CONFIG = "headstock.config"
EXAMPLE = re.compile(r"^\s*Example:\s*(headstock .+)$", re.M)


class Command(click.Command):
    """A command of ours: its function gives an ``Answer``, and ``-q``, ``--json`` and ``--config``
    are the same for all of them.

    Lines ``Example: headstock ...`` of the docstring become a section of their own in the help,
    one line each, never wrapped: they are for copying."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [*_answer_options(), _config_option()]

    def invoke(self, ctx: click.Context) -> None:
        """Call the function, and print the Answer that it gives."""
        if path := ctx.meta.get(CONFIG):
            refuse_unsaid(ctx, path, _keys(self))
        given = {k: v for k, v in ctx.params.items() if k not in ("quiet", "as_json")}
        with stdout_for_results():
            answer: Answer | None = ctx.invoke(self.callback or (lambda: None), **given)
        if answer is not None:
            print_answer(answer)
            if answer.exit_code:
                sys.exit(answer.exit_code)

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


def _answer_options() -> list[click.Option]:
    return [
        click.Option(
            ["-q", "--quiet"], is_flag=True, help="Say the result and what failed, no more."
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Print the result as JSON."),
    ]


def _config_option() -> click.Option:
    """``--config FILE``: values for the flags and arguments that the command line leaves open."""
    return click.Option(
        ["--config"],
        type=FILE,
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
    ctx.meta[CONFIG] = path


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


def options(*decorators: Callable) -> Callable:
    """Several click options as one decorator, shown in the order given."""

    def apply(function: Callable) -> Callable:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


SEED = click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of all that is random.",
)
SPREADSHEET = click.option(
    "--spreadsheet", is_flag=True, help="In CSV: an apostrophe before text a spreadsheet would run."
)
MANIFEST_OPTIONS = options(
    click.option("--id-col", help="Column of ids  [default: id, else the path]"),
    click.option("--image-col", help="Column of image paths  [default: image]"),
    click.option("--audio-col", help="Column of sound paths  [default: audio]"),
    click.option("--label-col", help="Column of labels  [default: label]"),
    click.option("--group-col", help="Column of groups  [default: group]"),
    click.option("--split-col", help="Column of splits  [default: split]"),
    click.option("--image-root", type=ANY, help="Folder of the images, when not the table's."),
    click.option("--audio-root", type=ANY, help="Folder of the sounds, when not the table's."),
    click.option("--class-names", help="Names of labels 0, 1, …: comma separated, or a text file."),
    click.option("--split", help="Split of the rows that name none: train, valid or test."),
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


def read_manifest(
    source: str | Sequence[str],
    columns: Sequence[str] = (),
    categories: Sequence[str] = (),
    dates: Sequence[str] = (),
    **flags: Any,
) -> Manifest:
    """The rows that were named: a table or a folder; or, of several words or a file that is a
    picture or a sound, each file a row."""
    from headstock.store import Manifest
    from headstock.store.manifest.files import are_files

    names = [source] if isinstance(source, str) else list(source)
    if not isinstance(source, str) and are_files(names):
        if columns:
            what = f"the model reads the columns {', '.join(columns[:3])} of a table"
            raise OptionError(names[0], what, "give a table with these columns")
        return Manifest.of_files(names)
    if len(names) > 1:
        odd = next(name for name in names if not are_files([name]))
        fix = "give one MANIFEST, one STORE, or pictures and sounds"
        raise OptionError(odd, "is one of several, and no picture or sound", fix)
    cols = {k: flags[f"{k}_col"] for k in ("id", "image", "audio", "label", "group", "split")}
    roots = {k: flags[f"{k}_root"] for k in ("image", "audio")}
    return Manifest.read(
        names[0],
        cols={k: v for k, v in cols.items() if v},
        roots={k: v for k, v in roots.items() if v},
        columns=columns,
        categories=categories,
        dates=dates,
        class_names=flags["class_names"],
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
            out[key] = parse_json(text)
        except ValueError:
            out[key] = text
    return out


def complete(names: Callable[[click.Context], Sequence[str]]) -> Callable[..., list[str]]:
    """What the tab key offers for a value; ``image+a`` is completed after its last plus."""

    def offer(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        before, plus, last = incomplete.rpartition("+")
        try:
            return [before + plus + name for name in names(ctx) if name.startswith(last)]
        except (HeadstockError, OSError):
            return []

    return offer


def numbers(text: str, flag: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(
            flag, f"{text!r} is not numbers", f"for example {flag} 0.5,0.5,0.5"
        ) from None


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> Answer:
    """Print what makes SHELL complete commands and names.

    For bash put ``eval "$(headstock completion bash)"`` into ~/.bashrc; for zsh the same with zsh
    into ~/.zshrc; for fish: headstock completion fish > ~/.config/fish/completions/headstock.fish

    Example: headstock completion bash
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    root = click.get_current_context().find_root().command
    script = kind(root, {}, "headstock", "_HEADSTOCK_COMPLETE").source()
    # a shell that evals it would show the hint each time
    return Answer({"shell": shell, "script": script}, script, [["--help"]] * sys.stdout.isatty())
