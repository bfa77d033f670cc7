"""``headstock evaluate``, ``fit``, ``report`` and ``runs``: from stored vectors to scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from headstock.heads.options import (
    DEDUPE,
    FOLDS,
    HEADS,
    METRIC,
    MISSING,
    RARE,
    SETS,
    STREAM,
    TARGET,
    TRANSFORM,
    TUNE,
    fold_plan,
    fusion_names,
    head_options,
    stored_sets,
)
from headstock.store.answer import Answer, progress, strong, width
from headstock.store.confirm import HEAD_FILE, named_files
from headstock.store.errors import OptionError
from headstock.store.settings import toml_text
from headstock.store.terminal import (
    ANY,
    FILE,
    SEED,
    SPREADSHEET,
    Command,
    Output,
    complete,
    effective,
)

if TYPE_CHECKING:
    from headstock.heads.bundle.bundle import Bundle


NOT_KEPT = ("output", "mlflow", "json", "quiet")
REPEAT = "What this run was made with: headstock evaluate --config FILE makes it again."


@click.command(cls=Command)
@click.argument("store", type=FILE)
@HEADS
@HEAD_FILE
@SETS
@TUNE
@METRIC
@TARGET
@TRANSFORM
@click.option(
    "--on", multiple=True, metavar="SETS", shell_complete=complete(stored_sets),
    help="Feature sets: image, image+audio.",
)  # fmt: skip
@click.option(
    "--fusion", "fusions", multiple=True, metavar="NAME", shell_complete=complete(fusion_names),
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
@RARE
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
@click.option(
    "--test-scores", type=click.Choice(["chosen", "all", "none"]), default="chosen",
    show_default=True, help="Whose score on the test split is shown; each look is counted.",
)  # fmt: skip
@click.option("--doubts", is_flag=True, help="List the labels that the answers doubt most.")
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
@click.option("-o", "--output", type=Output("run"), help="Run folder to write, such as runs/first.")
@click.option("--mlflow", metavar="URI|FOLDER", help="Log it to MLflow (needs headstock[mlflow]).")
@SEED
def evaluate(
    store: str, heads: tuple, on: tuple, sets: tuple, fusions: tuple, folds: str | None,
    output: str | None, mlflow: str | None, stream: bool, gigabytes: float | None, **flags: Any,
) -> Answer:  # fmt: skip
    """Score heads and fusions on STORE, out of fold.

    Example: headstock evaluate features.h5 --head logistic --head lda --fusion stacked -o runs/a
    """
    from headstock.heads import evaluate as at_once
    from headstock.heads.blockwise.stream import evaluate_streamed
    from headstock.heads.report.fit_command import file_words, fit_words
    from headstock.heads.report.tracking import log_evaluation
    from headstock.heads.rows.adapted import ADAPTED
    from headstock.heads.rows.folds import USUAL_FOLDS
    from headstock.store import FeatureStore

    flags = {"heads": heads, "on": on, "fusions": fusions, **flags}
    flags = {k: v for k, v in flags.items() if v or v is False}
    flags["options"] = head_options(sets, heads)
    flags |= {"memory": 1e9 * gigabytes} if gigabytes else {}
    plan = fold_plan(folds)
    with FeatureStore.open(store) as features, progress("evaluate", "fits") as report:
        run = evaluate_streamed if stream else at_once
        result = run(features, folds=plan, progress=report, **flags)
    if output:
        made = result.run.settings
        used: dict[str, Any] = {"head": made.heads, "on": made.on, "fusion": made.fusions}
        if folds is None and result.run.folds.kind != ADAPTED:
            used["folds"] = str(USUAL_FOLDS)
        text = toml_text(effective(click.get_current_context(), used, NOT_KEPT), REPEAT)
        result.save(output, {"run.toml": text})
    notes, hints = [], []
    if mlflow:
        notes.append(f"logged: {mlflow}, run {log_evaluation(result.run, mlflow, folder=output)}")
    if output:
        notes.append(f"written: {output}")
        own = file_words(made)
        hints.append(["report", output, *own, "-o", "report.html"])
    if output and not result.run.settings.by_blocks:
        hints.append(["fit", store, "--run", output, *own, "-o", "model.headstock"])
    else:
        hints.append(fit_words(store, result.leaderboard[0], result.run, output))
    return Answer(result.to_json(), lambda: result.text(width(), strong), hints, notes)


@click.command(cls=Command)
@click.argument("store", type=FILE)
@HEADS
@HEAD_FILE
@SETS
@TUNE
@METRIC
@click.option(
    "--on", metavar="SETS", shell_complete=complete(stored_sets),
    help="Feature sets  [default: all, side by side]",
)  # fmt: skip
@click.option(
    "--fusion", metavar="NAME", shell_complete=complete(fusion_names),
    help="How to join several systems.",
)  # fmt: skip
@FOLDS
@click.option(
    "--save-plan", type=Output("plan"), metavar="FILE", help="Write the fold plan, for --folds."
)
@click.option("--group", metavar="COL", help="Keep rows of one group in one fold.")
@MISSING
@DEDUPE
@RARE
@TARGET
@TRANSFORM
@click.option(
    "--coverage", type=click.FloatRange(0, 1, min_open=True, max_open=True), metavar="SHARE",
    help="Predictions come with an interval, or a set of classes, that holds so many: 0.95.",
)  # fmt: skip
@click.option("--coverage-per-class", is_flag=True, help="So many of each class.")
@STREAM
@click.option("--run", "run", type=ANY, help="Fit what this run scored first, by its own plan.")
@click.option("--system", metavar="NAME", help="Another line of that run, such as lda@image.")
@click.option("-o", "--output", type=Output("model"), required=True, help="The model to write.")
@SEED
def fit(
    store: str, heads: tuple, sets: tuple, folds: str | None, output: str, stream: bool,
    run: str | None, system: str | None, **flags: Any,
) -> Answer:  # fmt: skip
    """Fit one system on the labelled rows of STORE and save it.

    Rows of its splits valid and test are left out.
    One head on the sets side by side; or, with --fusion, each head on each set, joined. Whatever
    must be held out (to calibrate, to stop early, to tune, to fuse) is held out by --folds. With
    --run, exactly the system that the run scored.

    Example: headstock fit features.h5 --head logistic --on image+audio -o model.headstock
    Example: headstock fit features.h5 --fusion stacked --folds runs/a/folds.json -o stack.headstock
    Example: headstock fit features.h5 --run runs/first -o first.headstock
    """
    from headstock.heads import fit as at_once
    from headstock.heads.blockwise.stream import fit_streamed
    from headstock.store import FeatureStore

    if run is not None:
        kept = {key: flags[key] for key in BESIDE_RUN}
        return _fitted(_fit_run(store, run, system, kept), output)
    if system is not None:
        raise OptionError("--system", f"{system!r} is a line of no run", "add --run runs/a")
    if len(heads) > 1 and flags["fusion"] in (None, "early"):
        raise OptionError("--head", f"{len(heads)} heads and nothing joins them", "add --fusion")
    flags |= {"options": head_options(sets, heads), "folds": fold_plan(folds)}
    with FeatureStore.open(store) as features, progress("fit", "fits") as report:
        given = {"heads": heads or None, "progress": report, **flags}
        if stream:
            bundle = fit_streamed(features, (heads or ("logistic",))[0], **given)
        else:
            bundle = at_once(features, **given)
    return _fitted(bundle, output)


BESIDE_RUN = ("coverage", "coverage_per_class")
"""Flags of fit that no run says."""


def _fit_run(store: str, run: str, system: str | None, kept: Mapping[str, Any]) -> Bundle:
    """Raises OptionError for flags beside --run that say what the run says."""
    from headstock.heads import fit_run
    from headstock.store import FeatureStore

    context = click.get_current_context()
    stated = [
        max(parameter.opts, key=len)
        for parameter in context.command.params
        if parameter.name
        not in ("store", "run", "system", "output", "quiet", "as_json", "head_file", *BESIDE_RUN)
        and context.get_parameter_source(str(parameter.name))
        is click.core.ParameterSource.COMMANDLINE
    ]
    if stated:
        raise OptionError("--run", f"says what {', '.join(stated)} would", "leave one of them away")
    with FeatureStore.open(store) as features, progress("fit", "fits") as report:
        return fit_run(features, run, system, head_files=named_files(), progress=report, **kept)


def _fitted(bundle: Bundle, output: str) -> Answer:
    from headstock.heads.bundle.bundle import PROMISE
    from headstock.heads.report.rows import account_lines, coverage_lines
    from headstock.heads.run.as_json import parse
    from headstock.heads.run.rows import Account

    bundle.save(output)
    classes = [str(c) for c in bundle.classes]
    account = parse(Account, bundle.settings["rows"])
    return Answer(
        {"path": output, "classes": classes, "settings": bundle.settings},
        next=[["predict", output, "MANIFEST", "-o", "predictions.csv"]],
        notes=[
            *account_lines(account, "learned from"),
            *coverage_lines(bundle.settings.get(PROMISE), classes),
            f"written: {output}",
        ],
    )


@click.command(cls=Command)
@click.argument("runs", metavar="RUN…", type=ANY, nargs=-1, required=True)
@click.option("-o", "--output", type=Output("page"), help="Write one HTML page about the runs.")
@click.option("--store", type=FILE, help="The store, when it moved since the run.")
@click.option("--data", type=ANY, help="The folder of pictures and sounds, when it moved.")
@HEAD_FILE
def report(runs: tuple, output: str | None, store: str | None, data: str | None) -> Answer:
    """Print the leaderboards of runs; with -o, write a page.

    Example: headstock report runs/a -o report.html
    """
    from headstock.heads.report.regression import any_text
    from headstock.heads.run.folder import body_of, read_any

    saved = {run: read_any(run) for run in runs}

    def boards() -> str:
        return "\n".join(any_text(one, width(), strong) for one in saved.values())

    if not output:
        return Answer(
            {n: body_of(run) for n, run in saved.items()},
            boards,
            [["report", *runs, "-o", "report.html"]],
        )
    from headstock.heads.report.page import write_report
    from headstock.heads.userfile import only_files, unrun

    with only_files(named_files()), progress("report", "parts") as step:
        written = write_report(runs, output, store=store, data=data, progress=step)
        notes = [line for one in saved.values() for line in unrun(one.settings.decides)]
    return Answer(written, lambda: f"{boards()}\n{written.text()}", [["runs", *runs]], notes)


@click.command(cls=Command)
@click.argument("places", metavar="[FOLDER|RUN]…", type=ANY, nargs=-1)
@click.option(
    "--format", "form", type=click.Choice(["text", "csv", "markdown", "latex"]), default="text",
    show_default=True, help="What to print the leaderboards of the runs as.",
)  # fmt: skip
@click.option("-o", "--output", type=FILE, help="Write it to this file.")
@SPREADSHEET
@HEAD_FILE
def runs(places: tuple, form: str, output: str | None, spreadsheet: bool) -> Answer:
    """List the runs of a FOLDER, or compare RUNs.

    Runs whose rows and labels are the same are held against each other by paired tests.

    \b
    a folder      its runs, oldest first, and which of their best systems really differ
    one run       its leaderboard
    several runs  all their systems on the rows they share, and what was set otherwise

    Example: headstock runs
    Example: headstock runs runs/a runs/first
    Example: headstock runs runs/a --format latex -o leaderboard.tex
    """
    from headstock.heads.files import write_text
    from headstock.heads.report.formats import leaderboard_as
    from headstock.heads.report.runs import look, the_runs
    from headstock.heads.run.folder import read_run
    from headstock.heads.userfile import only_files
    from headstock.store.disk.outputs import refuse_other

    places = places or ("runs",)
    if form != "text":
        boards = {run.name: read_run(run) for run in the_runs(places)}
        text = leaderboard_as(form, boards, spreadsheet)
        answer = Answer({"format": form, "text": text}, text)
    else:
        with only_files(named_files()), progress("runs", "runs") as report:
            found = look(places, report)
        words = ["report", the_runs(places)[0], "-o", "report.html"]
        text = found.text(None if output else width(), str if output else strong) + "\n"
        answer = Answer(found.to_json(), text, [words])
    if output:
        refuse_other(output, "board", text)
        write_text(output, text)
        return replace(answer, text="", notes=[f"written: {output}"])
    return answer
