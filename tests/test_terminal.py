"""The terminal: examples that run, settings that come back, progress, colours, completion."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
import tomllib
from pathlib import Path

import click
import numpy as np
import pytest

from headstock.cli import cli, main
from headstock.extract.demo import write_demo
from headstock.store import FeatureStore
from headstock.store.answer import plain
from headstock.store.progress import Progress, clock
from headstock.store.settings import read_toml, toml_text
from headstock.store.terminal import Command, effective

HEADSTOCK = [sys.executable, "-m", "headstock.cli"]


def walk(group: click.Group = cli, names: tuple[str, ...] = ()):
    """(words, command) of every command."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from walk(command, (*names, name))
        else:
            yield (*names, name), command


COMMANDS = dict(walk())


def call(*words: object) -> int:
    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A reader's folder: index.csv of 110 rows, and the store, runs and model made of it."""
    folder = tmp_path_factory.mktemp("reader")
    with (write_demo(folder)).open() as file:
        rows = [*csv.reader(file)]
    head, rows = rows[0], [*rows[1:101], *rows[-10:]]
    rng = np.random.default_rng(0)  # eight columns stand in for a network's vectors: no torch here
    centre = rng.normal(size=(10, 8)) * 2
    table = [[*r, *np.round(centre[int(r[3])] + rng.normal(size=8), 4)] for r in rows]
    with (folder / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[*head, *(f"v_{k}" for k in range(8))], *table])
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "CLASS"], *([r[0], r[3]] for r in rows)])
    for name, part in (("first", rows[:50]), ("second", rows[50:])):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([head, *part])
    before = Path.cwd()
    os.chdir(folder)
    try:
        for name in ("first", "second", "index"):
            store = "features.h5" if name == "index" else f"{name}.h5"
            words = ["extract", f"{name}.csv", "-o", store, "-q", "-j", 0, "--audio", "mfcc"]
            words += ["--columns", "v_*", "--as", "image"] if name == "index" else []
            assert call(*words) == 0
        assert call("evaluate", "features.h5", "--head", "lda", "-q", "-o", "runs/first") == 0
        assert call("fit", "features.h5", "--head", "lda", "-q", "-o", "model.headstock") == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


# --- help and examples

APART = {
    ("serve",): "serves until it is told to stop; its own tests start it",
    ("adapt",): "trains a network; its own tests run it",
    ("export-model",): "needs onnx; its own tests run it",
}
LONG = (("demo",), ("extract",), ("doctor",))
"""Commands whose examples take torch, and time."""


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_says_what_it_does_by_an_example(words) -> None:
    command = COMMANDS[words]
    assert isinstance(command, Command)
    assert command.examples, f"{' '.join(words)} has no example"
    for example in command.examples:
        assert tuple(example[: len(words)]) == words
        known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        assert {w for w in example if w.startswith("-")} <= known
    text = command.get_help(click.Context(command, info_name="headstock " + " ".join(words)))
    for line in re.findall(r"Example: (headstock .+)", command.help or ""):
        assert f"  {line}\n" in text + "\n"  # whole, on a line of its own
    names = {p.name for p in command.params}
    assert "config" in names or any("--config" in p.opts for p in command.params)


def run_examples(words: tuple[str, ...], capsys) -> None:
    """A backbone that is not in the package stays out: it is on a hub."""
    for example in COMMANDS[words].examples:
        if any(word.startswith("timm:") for word in example):
            continue
        code = call(*example)
        out, err = capsys.readouterr()
        assert code == 0, f"{' '.join(example)}\n{out}\n{err}"
        assert "Traceback" not in err


def test_examples_run_in_the_order_of_the_commands(here, capsys) -> None:
    for words in COMMANDS:
        if words not in APART and words not in LONG:
            run_examples(words, capsys)
    assert (here / "report.html").stat().st_size > 10_000
    assert "tabular" in (here / "leaderboard.tex").read_text()
    with FeatureStore.open(here / "imported.h5") as store:
        assert store.n == 110


@pytest.mark.slow
@pytest.mark.parametrize("words", LONG, ids=" ".join)
def test_long_examples_run(words, place, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    os.link(place / "index.csv", tmp_path / "index.csv")
    for name in ("images", "audio"):  # hard links: files behind soft ones lie outside the data root
        shutil.copytree(place / name, tmp_path / name, copy_function=os.link)
    run_examples(words, capsys)


# --- settings


def test_toml_reads_back_equal() -> None:
    values = {
        "text": 'quotes " and \\ and\nlines, \x7f, \x01, ü, 😀',
        "yes": True,
        "whole": -3,
        "number": 1e-9,
        "list": ["a", "b=c", ""],
        "numbers": [1, 2.5],
        "dashed-name": "x",
    }
    assert tomllib.loads(toml_text(values, "about\nit")) == values


def test_a_run_is_made_again_from_what_it_wrote(here, capsys) -> None:
    words = ("evaluate", "features.h5", "--head", "knn", "--head", "lda", "--fusion", "weighted")
    words += ("--set", "knn.n_neighbors=3", "--folds", 4, "--seed", 5, "--dedupe", "keep", "-q")
    assert call(*words, "-o", "runs/again") == 0
    kept = read_toml("runs/again/run.toml")
    assert kept["head"] == ["knn", "lda"]
    assert kept["set"] == ["knn.n_neighbors=3"]
    assert kept["on"] == ["image", "audio", "image+audio"]
    assert (kept["folds"], kept["seed"], kept["store"]) == ("4", 5, "features.h5")
    assert not {"output", "json", "quiet"} & kept.keys()
    assert call("evaluate", "--config", "runs/again/run.toml", "-o", "runs/twice", "-q") == 0
    first, second = (Path(f"runs/{n}/run.toml").read_text() for n in ("again", "twice"))
    assert first == second
    boards = []
    for name in ("again", "twice"):
        board = json.loads(Path(f"runs/{name}/metrics.json").read_text())["leaderboard"]
        boards.append(
            [{k: v for k, v in r.items() if k not in ("seconds", "reused")} for r in board]
        )
    assert boards[0] == boards[1]
    assert call("evaluate", "--config", "runs/again/run.toml", "--seed", 6, "-o", "runs/six") == 0
    assert read_toml("runs/six/run.toml")["seed"] == 6
    capsys.readouterr()


def test_defaults_are_written_as_what_they_were(here) -> None:
    kept = read_toml("runs/first/run.toml")
    assert kept["head"] == ["lda"]
    assert kept["fusion"] == ["mean", "weighted", "stacked"]
    assert kept["missing"] == "refuse"
    assert kept["reuse"] is True


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_flag_can_stand_in_a_file(words) -> None:
    command = COMMANDS[words]
    ctx = click.Context(command, info_name=words[-1])
    ctx.params = {p.name: ["1"] if getattr(p, "multiple", False) else "1" for p in command.params}
    names = set(effective(ctx, {}))
    for parameter in command.params:
        if parameter.expose_value:
            said = [o.lstrip("-") for o in parameter.opts if o.startswith("--")]
            assert names & {*said, parameter.name}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("haed = ['lda']", "did you mean 'head'"),
        ("head = [", "give a TOML file"),
        ("seed = [1, 2]", "seed is one value"),
        ("nested = 3", "nested is true or false"),
        ("seed = true", "seed is a value"),
        ("[head]\nname = 'lda'", "head is one value"),
        ("seed = 'x'", "not a valid integer"),
    ],
)
def test_a_file_that_says_nonsense_is_refused(here, tmp_path, capsys, text, says) -> None:
    config = tmp_path / "run.toml"
    config.write_text(text)
    assert call("evaluate", "features.h5", "--config", config) == 2
    err = capsys.readouterr().err
    assert says in err
    assert "Traceback" not in err


def test_other_commands_take_files_too(here, tmp_path, capsys) -> None:
    config = tmp_path / "any.toml"
    config.write_text('path = "features.h5"\nfailed = true\n')
    assert call("store", "info", "--config", config) == 0
    config.write_text('what = "heads"\npattern = "svm"\nquiet = true\n')
    assert call("list", "--config", config) == 0
    assert [x.split()[0] for x in capsys.readouterr().out.splitlines()] == [
        *("linear-svm", "rbf-svm", "poly-svm")
    ]


# --- near misses


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["evalute"], "did you mean 'evaluate'"),
        (["store", "verfy"], "did you mean 'verify'"),
        (["evaluate", "features.h5", "--haed", "lda"], "--head"),
        (["evaluate", "features.h5", "--head", "logistc"], "did you mean logistic?"),
        (["evaluate", "features.h5", "--on", "imgae"], "did you mean image?"),
        (["evaluate", "features.h5", "--fusion", "wieghted"], "did you mean weighted?"),
        (["evaluate", "features.h5", "--group", "lable"], "did you mean label?"),
        (["extract", "index.csv", "-o", "x.h5", "--label-col", "lable"], "did you mean label?"),
        (
            ["extract", "index.csv", "-o", "x.h5", "--image", "headstock:resnext_nan"],
            "resnext_nano",
        ),
    ],
)
def test_near_misses_are_named(here, capsys, words, says) -> None:
    assert call(*words) in (1, 2)
    err = capsys.readouterr().err
    assert says in err
    assert "Traceback" not in err


# --- quiet, JSON, hints

ANSWERS = {
    ("demo",): ["demo", "-o", "."],
    ("extract",): ["extract", "first.csv", "-o", "first.h5", "--audio", "mfcc", "-j", 0],
    ("adapt",): [
        *("adapt", "few.csv", "--backbone", "cnn4", "--from-scratch", "--epochs", 1, "-j", 0),
        *("--input-size", 16, "--overwrite", "-o", "few.safetensors"),
    ],
    ("evaluate",): ["evaluate", "features.h5", "--head", "lda"],
    ("fit",): ["fit", "features.h5", "--head", "lda", "-o", "other.headstock"],
    ("predict",): ["predict", "model.headstock", "features.h5"],
    ("report",): ["report", "runs/first"],
    ("runs",): ["runs"],
    ("store", "info"): ["store", "info", "features.h5"],
    ("store", "verify"): ["store", "verify", "features.h5"],
    ("store", "repair"): ["store", "repair", "features.h5"],
    ("store", "compact"): ["store", "compact", "features.h5"],
    ("store", "label"): ["store", "label", "features.h5", "labels.csv", "--label-col", "CLASS"],
    ("store", "drop"): ["store", "drop", "features.h5", "--not-in", "index.csv"],
    ("store", "merge"): ["store", "merge", "joined.h5", "first.h5", "second.h5"],
    ("store", "export"): ["store", "export", "features.h5", "out.npz"],
    ("store", "import"): ["store", "import", "features.npz", "in.h5"],
    ("doctor",): ["doctor", "--image", "headstock:resnext_nano", "--seconds", 0.1],
    ("list",): ["list", "heads"],
    ("export-model",): ["export-model", "model.headstock", "-o", "model.onnx"],
    ("serve",): ["serve", "sounds.headstock", "--port", 0],
    ("completion",): ["completion", "bash"],
}
"""A call of every command. A command that is not here fails the test below."""
OTHER_WAYS = (
    ["store", "info", "features.h5", "--failed"],
    ["store", "verify", "features.h5", "--recompute", 2],
    ["predict", "model.headstock", "features.h5", "-o", "out.csv"],
    ["report", "runs/first", "runs/first"],
    ["runs", "runs/first"],
    ["runs", "runs/first", "--format", "csv"],
    ["runs", "-o", "runs.txt"],
    ["evaluate", "features.h5", "--head", "lda", "--on", "audio", "-o", "runs/again"],
)
WORDLESS = {("serve",), ("completion",), ("demo",)}  # no hint where nothing or the shell comes next


@pytest.fixture
def answering(here, monkeypatch):
    """What the calls above need: a model of sounds, twelve rows, a demo of two quick commands, and
    a service that ends when it is ready."""
    if not Path("few.csv").exists():
        assert call("store", "export", "features.h5", "features.npz", "-q") == 0
        words = ["fit", "features.h5", "--head", "lda", "--on", "audio", "-q"]
        assert call(*words, "-o", "sounds.headstock") == 0
        lines = Path("first.csv").read_text().splitlines()
        Path("few.csv").write_text("\n".join(lines[:25]) + "\n")
    from headstock.extract.doctor import Checkup

    quick = [["list", "fusions"], ["store", "info", "features.h5"]]
    monkeypatch.setattr("headstock.extract.demo.commands", lambda folder: quick)
    monkeypatch.setattr("headstock.extract.demo.write_demo", lambda folder: None)
    sizes = {"500x375": 80.0, "4000x3000": 9.0}
    checkup = Checkup({}, 2, "cpu", "resnet", 9, sizes, sizes, {"torch fp32": 9.0}, 90.0, 900.0)
    monkeypatch.setattr("headstock.extract.doctor.measure", lambda *a, **k: checkup)
    monkeypatch.setattr(
        "headstock.heads.service.serve", lambda *args, ready, **more: ready("http://127.0.0.1:1")
    )


def strict(text: str):
    """JSON as the standard has it: one value, and no NaN."""
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_json_is_one_value_and_quiet_is_quiet(answering, capfd, words) -> None:
    if words == ("export-model",):
        pytest.importorskip("onnxruntime", reason="onnx is an extra")
    given = ANSWERS[words]
    capfd.readouterr()
    assert call(*given, "--json") == 0
    out, err = capfd.readouterr()
    assert strict(out) is not None
    assert "next:" not in err
    assert call(*given, "-q") == 0
    _, err = capfd.readouterr()
    assert err == ""
    to_file = ["-o", "out.csv"] if words == ("predict",) else []  # else stdout is all it says
    assert call(*given, *to_file) == 0
    out, err = capfd.readouterr()
    hints = re.findall(r"next: headstock (.+)", err)
    assert "next:" not in out
    assert hints or words in WORDLESS
    for line in hints:
        assert line.split()[0] in cli.commands


@pytest.mark.parametrize("given", OTHER_WAYS, ids=lambda given: " ".join(map(str, given)))
def test_json_and_quiet_hold_for_every_way_to_call(answering, capfd, given) -> None:
    capfd.readouterr()
    assert call(*given, "--json") == 0
    assert strict(capfd.readouterr().out) is not None
    assert call(*given, "-q") == 0
    assert capfd.readouterr().err == ""


def test_what_a_library_prints_does_not_come_between(answering, capfd, monkeypatch) -> None:
    def listing(pattern: str, target: str) -> list[str]:
        print("LightGBM warns")
        return ["lda  one line"]

    monkeypatch.setattr("headstock.heads.head.listing", listing)
    assert call("list", "heads", "--json") == 0
    out, err = capfd.readouterr()
    assert strict(out) == ["lda"]
    assert "LightGBM warns" in err


def test_a_number_that_is_none_is_null() -> None:
    told = plain({"a": float("nan"), "b": np.float32(1.5), "c": [np.inf, np.int64(3)], "d": (1,)})
    assert told == {"a": None, "b": 1.5, "c": [None, 3], "d": [1]}


def test_predictions_as_json(here, capsys) -> None:
    assert call("predict", "model.headstock", "features.h5", "--only", "test", "--json") == 0
    body = json.loads(capsys.readouterr().out)
    assert len(body["predictions"]) == 10
    row = body["predictions"][0]
    assert row["confidence"] == max(row["p"].values())
    assert row["p"][row["prediction"]] == row["confidence"]


# --- a terminal


def on_a_terminal(words, columns: int = 80, env: dict[str, str] | None = None) -> str:
    """What a terminal of so many columns gets to see of a command, escapes and all."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    clean = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        words, stdin=child, stdout=child, stderr=child, close_fds=True,
        env={**clean, "TERM": "xterm", **(env or {})},
    )  # fmt: skip
    os.close(child)
    seen = b""
    while True:
        ready, _, _ = select.select([parent], [], [], 60)
        try:
            part = os.read(parent, 65536) if ready else b""
        except OSError:
            part = b""
        if not part:
            break
        seen += part
    process.wait(timeout=60)
    os.close(parent)
    return seen.decode()


@pytest.mark.parametrize("columns", [60, 100])
def test_a_table_fits_the_terminal_and_stands_out(here, columns: int) -> None:
    text = on_a_terminal([*HEADSTOCK, "report", "runs/first"], columns)
    assert "\x1b[1m" in text
    plain = re.sub(r"\x1b\[[0-9;]*[mK]", "", text).replace("\r", "")
    lines = plain.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("----"))
    assert max(len(line) for line in lines[: at + 3]) <= columns


def test_no_colour_where_it_is_not_wanted(here) -> None:
    words = [*HEADSTOCK, "report", "runs/first"]
    assert "\x1b[" not in on_a_terminal(words, env={"NO_COLOR": "1"})
    env = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
    piped = subprocess.run(words, capture_output=True, text=True, check=True, env=env)
    assert "\x1b" not in piped.stdout + piped.stderr
    assert "test errors" in piped.stdout  # the whole table: nobody said how wide it may be


SLOW_CALL = """
import time
from headstock.store import progress
progress.PATIENCE = 0.2
with progress.Progress("verify", "rows", quiet={quiet}) as step:
    for done in range(21):
        step(done, 20, "checking a file with \\x1b[31m in its name")
        time.sleep(0.1)
print("done")
"""


def test_progress_shows_share_rate_and_time_left_and_goes_away() -> None:
    seen = on_a_terminal([sys.executable, "-c", SLOW_CALL.format(quiet=False)], 90)
    drawn = [part for part in seen.split("\r\x1b[K") if part.startswith("verify")]
    assert len(drawn) > 3
    found = re.search(r"verify  (\d+)/20 rows  (\d+)%  ([\d.]+)/s  0:0\d left  checking", drawn[-1])
    assert found
    assert int(found[2]) == round(int(found[1]) * 5)
    assert 5 < float(found[3]) < 11
    assert "\x1b[31m" not in seen
    assert max(len(part) for part in drawn) < 90
    assert seen.rstrip().endswith("done")
    assert seen.rstrip()[: -len("done")].endswith("\r\x1b[K")


def test_progress_is_for_people_alone() -> None:
    assert on_a_terminal([sys.executable, "-c", SLOW_CALL.format(quiet=True)]).strip() == "done"
    piped = subprocess.run(
        [sys.executable, "-c", SLOW_CALL.format(quiet=False)], capture_output=True, text=True
    )
    assert piped.stderr == ""


def test_the_line_of_progress() -> None:
    step = Progress("fit", "fits")
    step._begin = time.monotonic() - 10
    assert step.line(80) == "fit  0:10"
    step(0, 4, "lda@image")
    step._seen[0] = (time.monotonic() - 10, 0)
    step(1, 4, "lda@image")
    assert re.fullmatch(r"fit  1/4 fits  25%  0.1/s  0:(29|30) left  lda@image", step.line(80))
    assert len(step.line(20)) <= 19
    assert (clock(7), clock(754), clock(3723)) == ("0:07", "12:34", "1:02:03")


# --- completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(shell, capsys) -> None:
    assert call("completion", shell) == 0
    out, err = capsys.readouterr()
    assert "_HEADSTOCK_COMPLETE" in out
    assert f"{shell}_complete" in out
    assert err == ""


def offered(words: list[str], place: Path) -> list[str]:
    env = {
        **os.environ,
        "COMP_WORDS": " ".join(["headstock", *words]),
        "COMP_CWORD": str(len(words)),
        "_HEADSTOCK_COMPLETE": "bash_complete",
    }
    done = subprocess.run(
        HEADSTOCK, capture_output=True, text=True, check=False, cwd=place, env=env
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.split()]


def test_the_tab_key_knows_commands_flags_and_names(here) -> None:
    assert offered(["ev"], here) == ["evaluate"]
    assert offered(["store", "ver"], here) == ["verify"]
    assert "--learning-curve" in offered(["evaluate", "features.h5", "--le"], here)
    assert offered(["evaluate", "features.h5", "--head", "rb"], here) == ["rbf-svm"]
    assert offered(["fit", "features.h5", "--fusion", "st"], here) == ["stacked"]
    assert offered(["evaluate", "features.h5", "--on", "image+a"], here) == ["image+audio"]
    assert offered(["evaluate", "nowhere.h5", "--on", "i"], here) == []


def test_bash_itself_completes(here) -> None:
    script = subprocess.run([*HEADSTOCK, "completion", "bash"], capture_output=True, text=True)
    bin_ = Path(sys.executable).parent
    said = subprocess.run(
        ["bash", "-c", f"{script.stdout}\nCOMP_WORDS=(headstock store exp)\nCOMP_CWORD=2\n"
         "_headstock_completion headstock exp store\necho ${COMPREPLY[@]}"],
        capture_output=True, text=True, env={**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert said.stdout.split() == ["export"], said.stderr


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish_itself_completes(here) -> None:
    bin_ = Path(sys.executable).parent
    said = subprocess.run(
        ["fish", "-c", 'headstock completion fish | source; complete -C "headstock store exp"'],
        capture_output=True, text=True, env={**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert said.stdout.split()[:1] == ["export"], said.stderr
    assert said.stderr == ""


def test_help_stays_fast() -> None:
    """No test is timed; what costs time is what is imported."""
    code = "import sys, headstock.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "h5py", "scipy", "torch", "sklearn"} & set(done.stdout.split())


def test_a_quiet_extraction_says_what_was_done_and_not_where_time_went(here, capsys) -> None:
    words = ["extract", "index.csv", "-o", "quiet.h5", "--audio", "mfcc", "-j", "0"]
    assert call(*words, "-q") == 0
    out, err = capsys.readouterr()
    assert err == ""
    done, held = out.splitlines()
    assert re.fullmatch(r"audio: \d+ done, 0 reused, 0 failed, \d+ without a file  \[mfcc\]", done)
    assert re.match(r"quiet.h5: \d+ rows; evaluate uses \d+ in 10 classes", held)


def test_the_list_of_commands_is_whole_sentences(run_headstock):
    for words in ((), ("store",)):
        listed = run_headstock(*words, "--help")[1].split("Commands:\n")[1].splitlines()
        assert len(listed) > 8
        assert [line for line in listed if not line.endswith(".")] == []
        assert [line for line in listed if "..." in line] == []
