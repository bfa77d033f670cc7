"""Answers for rows among which the classes are of another frequency."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import log_loss

from headstock.cli import cli
from headstock.heads import Bundle, Predictions, fit
from headstock.heads.bundle.prior import read_prior, with_prior
from headstock.store.errors import BundleError, ManifestError, OptionError


def gaussians(seed: int, n: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < share).astype(int)
    return rng.normal(size=n) + 1.5 * y, y


def true_p(x: np.ndarray, share: float) -> np.ndarray:
    odds = share / (1 - share) * np.exp(1.5 * x - 1.5**2 / 2)
    p = odds / (1 + odds)
    return np.stack([1 - p, p], axis=1)


def test_it_is_bayes_rule() -> None:
    """Learned where half are positive, used where 2 % are: what would have been learned there."""
    x, y = gaussians(0, 20_000, 0.02)
    ids, classes = np.arange(len(x)).astype(str), np.array(["a", "b"], dtype=object)
    told = Predictions(ids, classes, true_p(x, 0.5))
    moved = with_prior(told, np.array([0.98, 0.02]), {"shares": [0.5, 0.5]})
    np.testing.assert_allclose(moved.proba, true_p(x, 0.02), rtol=1e-9)
    assert log_loss(y, moved.proba) < 0.3 * log_loss(y, told.proba)
    same = with_prior(told, np.array([0.5, 0.5]), {"shares": [0.5, 0.5]})
    np.testing.assert_allclose(same.proba, told.proba)
    for odd in ({}, {"shares": [1.0]}, {"shares": [0.0, 1.0]}, {"shares": ["a", "b"]}):
        with pytest.raises(BundleError, match="how frequent its classes were"):
            with_prior(told, np.array([0.98, 0.02]), odd)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("class,share\nant,1\n", OptionError, "says nothing of bee"),
        ("class,share\nant,1\nbeee,2\n", OptionError, "did you mean bee"),
        ("class,share\nant,1\nbee,-2\n", OptionError, "3: '-2' is no share above 0"),
        ("class,share\nant,1\nbee,x\n", OptionError, "'x' is no share"),
        ("class,share\nant,1\nant,2\n", OptionError, "ant stands twice"),
        ("class,part\nant,1\nbee,2\n", ManifestError, "no column 'share'"),
    ],
)
def test_a_wrong_table_says_what_would_be_right(tmp_path, text, error, words) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(error, match=words):
        read_prior(tmp_path / "p.csv", ["ant", "bee"])


def test_a_model_knows_its_shares_and_predict_moves_them(tmp_path, store) -> None:
    bundle = fit(store, "lda", "image")
    bundle.save(tmp_path / "m.headstock")
    shares = Bundle.load(tmp_path / "m.headstock").settings["shares"]
    assert shares == pytest.approx([0.25] * 4)
    (tmp_path / "p.csv").write_text("class,share\nant,97\nbee,1\ncat,1\ndog,1\n")
    words = ["predict", str(tmp_path / "m.headstock"), str(store.path), "--json"]
    answers, ants = [], []
    for more in ([], ["--prior", str(tmp_path / "p.csv")]):
        done = CliRunner().invoke(cli, [*words, *more])
        assert done.exit_code == 0, done.output
        lines = json.loads(done.stdout)["predictions"]
        answers.append(np.array([list(line["p"].values()) for line in lines]))
        ants.append(np.mean([line["prediction"] == "ant" for line in lines]))
    plain, moved = answers
    expected = plain * np.array([0.97, 0.01, 0.01, 0.01])
    np.testing.assert_allclose(moved, expected / expected.sum(axis=1, keepdims=True), atol=1e-9)
    assert ants[1] > ants[0]


def test_the_file_has_it_too(tmp_path, store) -> None:
    fit(store, "lda", "image").save(tmp_path / "m.headstock")
    (tmp_path / "p.csv").write_text("class,share\nant,97\nbee,1\ncat,1\ndog,1\n")
    words = ["predict", str(tmp_path / "m.headstock"), str(store.path)]
    words += ["--prior", str(tmp_path / "p.csv"), "-o", str(tmp_path / "out.csv")]
    assert CliRunner().invoke(cli, words).exit_code == 0
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    for row in rows:
        p = {name: float(row[f"p_{name}"]) for name in ("ant", "bee", "cat", "dog")}
        assert row["prediction"] == max(p, key=lambda name: p[name])
