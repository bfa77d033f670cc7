"""Heads from a file of the user's own, from the command line to a saved model and back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from headstock.heads import Bundle, check_head, evaluate, fit, make_head
from headstock.store.errors import BundleError, HeadError, OptionError

NEAREST = '''
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

print("mine.py was run")


@dataclass
class NearestMean:
    """The class whose mean is nearest."""

    sharpness: float = 1.0
    kind: str = field(default="linear", repr=False)

    def fit(self, X, y):
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.means = np.stack([X[codes == c].mean(axis=0) for c in range(len(self.classes_))])
        return self

    def predict_proba(self, X):
        z = -self.sharpness * ((X[:, None] - self.means) ** 2).mean(axis=2)
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def importances(self):
        return self.means.std(axis=0)

    def state(self):
        return {"sharpness": self.sharpness}, {"means": self.means}

    @classmethod
    def from_state(cls, meta, arrays, k):
        head = cls(meta["sharpness"])
        head.means = arrays["means"]
        return head


def nearest(seed, sharpness=1.0):
    return NearestMean(sharpness)
'''


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(NEAREST)
    return file


def headstock(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "headstock.cli", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ})


def test_it_keeps_the_contract(mine: Path) -> None:
    kept = check_head(f"{mine}:nearest", {"sharpness": 2})
    assert kept[-1] == "state() and from_state() give the same head"


def test_from_the_command_line_to_a_model_and_back(store, mine: Path, tmp_path: Path) -> None:
    store.close()
    name, features = "./mine.py:nearest", Path(store.path).name
    run = headstock(
        "evaluate", features, "--head", name, "--head", "knn", "--set", f"{name}.sharpness=[1,4]",
        "--fusion", "stacked", "-o", "run", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert name in run.stdout
    board = json.loads((tmp_path / "run/metrics.json").read_text())["leaderboard"]
    assert {r["head"] for r in board} == {name, "knn", "all"}
    assert any(r.get("importances") and r["head"] == name for r in board)

    made = headstock(
        "fit", features, "--head", name, "--set", "sharpness=[1,4]", "--on", "image+audio",
        "-o", "m.headstock", cwd=tmp_path,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    with safe_open(tmp_path / "m.headstock", framework="numpy") as file:
        held = file.metadata()["headstock"]
    assert "exp(" not in held  # its numbers and its digest, not its code
    assert json.loads(held)["version"] == 2

    asked = headstock("predict", "m.headstock", features, cwd=tmp_path)
    assert asked.returncode == 1
    assert "was run" not in asked.stdout
    assert "its head comes from mine.py (sha256 " in asked.stderr
    assert len(asked.stderr.strip().splitlines()) == 1
    given = headstock("predict", "m.headstock", features, "--head-file", "mine.py", cwd=tmp_path)
    assert given.returncode == 0, given.stderr
    assert given.stdout.count("\n") == 162
    mine.write_text(NEAREST.replace("-self", "+self"))
    other = headstock("predict", "m.headstock", features, "--head-file", "mine.py", cwd=tmp_path)
    assert other.returncode == 1
    assert "mine.py is another version of it" in other.stderr
    assert "was run" not in other.stdout


def test_the_loaded_model_answers_as_the_fitted_one(store, mine: Path, tmp_path: Path) -> None:
    bundle = fit(store, f"{mine}:nearest", fusion="weighted", heads=[f"{mine}:nearest", "knn"])
    bundle.save(tmp_path / "m")
    with pytest.raises(BundleError, match="it will be run"):
        Bundle.load(tmp_path / "m")
    back = Bundle.load(tmp_path / "m", [mine])
    np.testing.assert_array_equal(back.predict(store).proba, bundle.predict(store).proba)


def test_a_file_is_run_once_for_each_content(mine: Path, capsys) -> None:
    for _ in range(3):
        make_head(f"{mine}:nearest")
    assert capsys.readouterr().out.count("was run") == 1
    mine.write_text(NEAREST + "\n\ndef other(seed):\n    return NearestMean(3.0)\n")
    assert make_head(f"{mine}:other").sharpness == 3.0  # type: ignore[attr-defined]


def test_a_broken_from_state_is_one_line(store, mine: Path, tmp_path: Path) -> None:
    mine.write_text(NEAREST.replace('arrays["means"]', 'arrays["average"]'))
    bundle = fit(store, f"{mine}:nearest")
    bundle.save(tmp_path / "m")
    with pytest.raises(HeadError, match=r"from_state raised KeyError: .average"):
        Bundle.load(tmp_path / "m", [mine])
    with pytest.raises(OptionError, match=r"no function other there; it has nearest"):
        make_head(f"{mine}:other")


BROKEN = {
    "classes_ are the labels": (
        "np.unique(y, return_inverse=True)",
        "np.arange(len(np.unique(y))), np.unique(y, return_inverse=True)[1]",
    ),
    "gives probabilities": ("return e / e.sum(axis=1, keepdims=True)", "return e"),
    "it learns": ("z = -self", "z = +self"),
    "the same seed": ("self.means = np.stack", "self.means = np.random.normal() + np.stack"),
    "know nothing of each other": ("self.means = np", "NearestMean.means = np"),
    "stay as they are": ("self.classes_, codes", "X -= 1; self.classes_, codes"),
    "answered by itself": ("z = -self.sharpness", "X = X - X.mean(axis=0); z = -self.sharpness"),
    "may be constant": ("self.means = np", "X = X / X.std(axis=0); self.means = np"),
    "it takes what it wants": ('"""The class whose', 'wants = ("future",)\n    """The class whose'),
    "one a column": ("self.means.std(axis=0)", "self.means.std(axis=1)"),
    "give the same head": ('cls(meta["sharpness"])', "cls(7.0)"),
}


@pytest.mark.parametrize("clause", list(BROKEN))
def test_each_clause_can_be_broken_and_is_named(clause: str, mine: Path) -> None:
    old, new = BROKEN[clause]
    assert old in NEAREST
    mine.write_text(NEAREST.replace(old, new))
    with pytest.raises(HeadError, match=clause):
        check_head(f"{mine}:nearest")


def test_scikit_learns_classifiers_keep_it_but_cannot_be_saved(store, tmp_path: Path) -> None:
    file = tmp_path / "bayes.py"
    file.write_text(
        "from sklearn.naive_bayes import GaussianNB\ndef bayes(seed):\n    return GaussianNB()\n"
    )
    assert "no model file" in check_head(f"{file}:bayes")[-1]
    bundle = fit(store, f"{file}:bayes")
    with pytest.raises(BundleError, match=r"without pickle; .* from_state"):
        bundle.save(tmp_path / "m")
    with pytest.raises(BundleError, match="its head is a file's own"):
        fit(store, "knn", fusion="stacked", options={"stacked": {"meta": f"{file}:bayes"}}).save(
            tmp_path / "m"
        )
    assert evaluate(store, (f"{file}:bayes",), on=("image",), fusions=()).leaderboard
