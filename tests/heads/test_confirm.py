"""A settings file from somebody's run folder runs no code, reaches nobody and writes nothing
elsewhere, until a person says so on the command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from headstock.cli import cli
from headstock.heads import fit, userfile
from headstock.store.errors import HeadstockError, UnsafeInput

HEAD = """
from pathlib import Path
Path("ran").touch()

def lda(seed):
    from headstock.heads.kinds.discriminant import lda
    return lda(seed)

def share(y_true, y_pred):
    return float((y_true == y_pred).mean())
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        done = CliRunner().invoke(cli, [str(word) for word in words])
        if isinstance(done.exception, HeadstockError):
            done.exit_code = done.exception.exit_code
            done.output_bytes += str(done.exception).encode()
        return done

    return run


@pytest.fixture
def config(tmp_path):
    """A settings file in a folder that somebody shared, with a head beside it."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "head.py").write_text(HEAD)

    def write(text: str) -> Path:
        file = tmp_path / "shared" / "run.toml"
        file.write_text(text)
        return file

    return write


@pytest.mark.parametrize("name", ["shared/head.py:lda", "./shared/../shared/head.py:lda"])
def test_a_head_that_a_file_names_is_run_once_a_person_names_it_too(run, store, config, name):
    told = f'store = "{store.path}"\nhead = ["lda", "{name}"]\nfolds = 2\n'
    for words in (["evaluate"], ["evaluate", "--head-file", "shared/run.toml"], ["fit", "-o", "m"]):
        refused = run(*words, "--config", config(told))
        assert refused.exit_code == UnsafeInput.exit_code, refused.output
        assert "--head-file shared/head.py" in refused.output.replace("./shared/../", "")
        assert not Path("ran").exists()
    file = config(told + 'on = ["audio"]\n')
    way_out = re.search(r"(--head-file \S+)", refused.output)
    assert way_out is not None
    done = run("evaluate", "--config", file, *shlex.split(way_out.group(1)))
    assert done.exit_code == 0, done.output
    assert Path("ran").exists()
    assert "lda" in done.output


@pytest.mark.parametrize(
    "text",
    [
        'metric = ["shared/head.py:share"]', 'tune = ["shared/head.py:lda:3"]',
        'set = ["stacked.meta=shared/head.py:lda"]', 'metric = ["auroc", "shared/head.py:share"]',
    ],
)  # fmt: skip
def test_so_is_whatever_else_is_code(run, store, config, text):
    words = ["evaluate", store.path, "--head", "lda", "--on", "audio", "--folds", 2]
    refused = run(*words, "--config", config(text))
    assert refused.exit_code == UnsafeInput.exit_code, refused.output
    assert "if you know the file: --head-file shared/head.py" in refused.output
    assert not Path("ran").exists()


@pytest.fixture
def forgetful(monkeypatch):
    """Files that were run are run again: a stranger's is never loaded already."""
    monkeypatch.setattr("headstock.heads.userfile._loaded", {})

    def forget() -> None:
        userfile._loaded.clear()
        Path("ran").unlink(missing_ok=True)

    return forget


def test_a_run_of_a_strangers_metric_is_looked_at_without_running_it(run, store, config, forgetful):
    config("")
    words = ["evaluate", store.path, "--on", "audio", "--folds", 2, "-o", "shared/run"]
    done = run(*words, "--head", "lda", "--head", "knn", "--metric", "shared/head.py:share")
    assert done.exit_code == 0, done.output
    for look in (["report", "shared/run", "-o", "page.html"], ["runs", "shared/run"],
                 ["runs", "shared/run", "shared/run"], ["report", "shared/run"]):  # fmt: skip
        forgetful()
        done = run(*look)
        assert done.exit_code == 0, done.output
        assert not Path("ran").exists(), look
        if look[0] == "report" and "-o" in look:
            assert "shared/head.py:share" in done.output
            assert "--head-file shared/head.py" in done.output
    forgetful()
    done = run("report", "shared/run", "-o", "page.html", "--head-file", "shared/head.py")
    assert done.exit_code == 0, done.output
    assert Path("ran").exists()


@pytest.mark.parametrize(
    "flags",
    [
        ["--head", "lda", "--head", "knn", "--metric", "shared/head.py:share"],
        ["--head", "shared/head.py:lda"],
        ["--head", "lda", "--head", "knn", "--fusion", "stacked", "--set",
         "stacked.meta=shared/head.py:lda"],
    ],
)  # fmt: skip
def test_a_run_is_fitted_with_a_strangers_code_once_a_person_names_it(
    run, store, config, forgetful, flags
):
    config("")
    done = run("evaluate", store.path, "--on", "audio", "--folds", 2, "-o", "shared/run", *flags)
    assert done.exit_code == 0, done.output
    hint = next(line for line in done.output.splitlines() if line.startswith("next: headstock fit"))
    assert "--head-file shared/head.py -o" in hint
    line = ["--system", "all@audio:stacked"] if "stacked" in flags else []
    again = ["fit", store.path, "--run", "shared/run", *line, "-o", "m.headstock"]
    forgetful()
    refused = run(*again)
    assert refused.exit_code == UnsafeInput.exit_code, refused.output
    assert not Path("ran").exists()
    way_out = re.search(r"(--head-file \S+)", refused.output)
    assert way_out is not None
    done = run(*again, *shlex.split(way_out.group(1)))
    assert Path("ran").exists()
    if flags != ["--head", "shared/head.py:lda"]:
        assert done.exit_code == 0, done.output


def test_what_a_person_says_needs_no_word_more(run, store, config):
    config("")
    done = run("evaluate", store.path, "--head", "shared/head.py:lda", "--on", "audio",
               "--folds", 2)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert Path("ran").exists()


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("evaluate", 'mlflow = "http://attacker.invalid"'),
        ("evaluate", 'output = "/headstock-elsewhere"'),
        ("evaluate", 'output = "../elsewhere"'),
        ("evaluate", 'output = "out/elsewhere"'),
        ("predict", 'head-file = ["shared/head.py"]'),
        ("predict", 'output = "/headstock-elsewhere.csv"'),
        ("predict", 'store = "../kept.h5"'),
        ("predict", "allow-outside = true"),
        ("predict", 'data-root = ["/"]'),
    ],
)
def test_what_reaches_out_stands_on_the_command_line(run, store, config, command, text):
    Path("out").symlink_to("..")
    fit(store, "lda", on="audio", folds=2).save("m.headstock")
    words = {
        "evaluate": ["evaluate", store.path, "--head", "lda", "--on", "audio", "--folds", 2],
        "predict": ["predict", "m.headstock", store.path],
    }[command]
    refused = run(*words, "--config", config(text))
    assert refused.exit_code == UnsafeInput.exit_code, refused.output
    assert text.partition(" = ")[0].replace("_", "-") in refused.output
    assert not Path("ran").exists()


def test_an_output_in_the_current_folder_is_a_setting_like_any_other(run, store, config):
    file = config('output = "runs/first"\nhead = ["lda"]\non = ["audio"]\nfolds = 2\n')
    done = run("evaluate", store.path, "--config", file)
    assert done.exit_code == 0, done.output
    assert Path("runs/first/metrics.json").is_file()


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "x = 1\n" * 2, "a.b" + ".c" * 5000 + " = 1"])
def test_settings_that_do_not_read_are_one_line(run, store, config, text):
    refused = run("evaluate", store.path, "--config", config(text))
    assert refused.exit_code == 2, refused.output
    assert len(refused.output.splitlines()) == 1
