"""A settings file from somebody's run folder runs no code, reaches nobody and writes nothing
elsewhere, until a person says so on the command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from headstock.cli import cli
from headstock.heads import fit
from headstock.store.errors import HeadstockError, UnsafeInput

HEAD = """
from pathlib import Path
Path("ran").touch()

def lda(seed):
    from headstock.heads.kinds.discriminant import lda
    return lda(seed)
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
