"""Each metric of the table is scikit-learn's where that has it, and its pseudo-values are what
leaving rows out says."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from headstock.heads.metrics.grammar import GRAMMAR
from headstock.heads.metrics.table import Metric, metric_named
from headstock.store.errors import HeadError, OptionError

Said = tuple[np.ndarray, np.ndarray]


def drawn(seed: int, k: int, n: int = 60, digits: int | None = 1, strength: float = 1.0) -> Said:
    """Probabilities (n, k), most of them tied where ``digits`` are few, and codes (n,) in which
    every class occurs."""
    rng = np.random.default_rng(seed)
    codes = np.r_[np.arange(k), rng.choice(k, n - k, p=rng.dirichlet(np.full(k, 2.0)))]
    z = rng.normal(size=(n, k))
    z[np.arange(n), codes] += strength
    proba = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    if digits is not None:
        proba = np.round(proba, digits) + 1e-3
        proba /= proba.sum(axis=1, keepdims=True)
    return proba, codes


def _binary(
    score: Callable[..., float], **more: object
) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda p, y: score(y == 1, p[:, 1], **more)


def _labels(
    score: Callable[..., float], **more: object
) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda p, y: score(y, p.argmax(axis=1), **more)


def _mean_ap(p: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean([sk.average_precision_score(y == c, p[:, c]) for c in np.unique(y)]))


def _specificity(p: np.ndarray, y: np.ndarray) -> float:
    return sk.recall_score(y != 1, p.argmax(axis=1) != 1)


def _recall_at(p: np.ndarray, y: np.ndarray) -> float:
    precision, recall, _ = sk.precision_recall_curve(y == 1, p[:, 1])
    return float(recall[precision >= 0.6].max())


ANY: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": _labels(sk.accuracy_score),
    "balanced_accuracy": _labels(sk.balanced_accuracy_score),
    "macro_f1": _labels(sk.f1_score, average="macro"),
    "micro_f1": _labels(sk.f1_score, average="micro"),
    "weighted_f1": _labels(sk.f1_score, average="weighted"),
    "macro_f2": _labels(sk.fbeta_score, beta=2, average="macro"),
    "macro_precision": _labels(sk.precision_score, average="macro"),
    "weighted_precision": _labels(sk.precision_score, average="weighted"),
    "macro_recall": _labels(sk.recall_score, average="macro"),
    "f1:b": _labels(sk.f1_score, labels=[1], average="macro"),
    "f0.5:b": _labels(sk.fbeta_score, beta=0.5, labels=[1], average="macro"),
    "precision:b": _labels(sk.precision_score, labels=[1], average="macro"),
    "recall:b": _labels(sk.recall_score, labels=[1], average="macro"),
    "sensitivity:b": _labels(sk.recall_score, labels=[1], average="macro"),
    "specificity:b": _specificity,
    "mcc": _labels(sk.matthews_corrcoef),
    "kappa": _labels(sk.cohen_kappa_score),
    "quadratic_kappa": _labels(sk.cohen_kappa_score, weights="quadratic"),
    "auroc:b": _binary(sk.roc_auc_score),
    "auroc:b@fpr=0.3": _binary(sk.roc_auc_score, max_fpr=0.3),
    "average_precision:b": _binary(sk.average_precision_score),
    "recall:b@precision=0.6": _recall_at,
    "log_loss": lambda p, y: sk.log_loss(y, p, labels=np.arange(p.shape[1])),
    "brier": lambda p, y: (
        sk.brier_score_loss(y, p[:, 1]) if p.shape[1] == 2
        else sk.brier_score_loss(y, p, labels=np.arange(p.shape[1]))
    ),
}  # fmt: skip
TWO = {
    "auroc": _binary(sk.roc_auc_score),
    "average_precision": _binary(sk.average_precision_score),
    "auroc@fpr=0.1": _binary(sk.roc_auc_score, max_fpr=0.1),
    "f1": _labels(sk.f1_score),
    "recall": _labels(sk.recall_score),
}
MANY = {
    "auroc": lambda p, y: sk.roc_auc_score(y, p, multi_class="ovr"),
    "auroc_ovo": lambda p, y: sk.roc_auc_score(y, p, multi_class="ovo"),
    "average_precision": _mean_ap,
    "top2": lambda p, y: sk.top_k_accuracy_score(y, p, k=2, labels=np.arange(p.shape[1])),
}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 3, 5]), st.sampled_from([1, None]))
def test_every_metric_is_scikit_learns_under_ties_too(seed: int, k: int, digits: int) -> None:
    proba, codes = drawn(seed, k, digits=digits)
    for name, reference in {**ANY, **(TWO if k == 2 else MANY)}.items():
        metric = metric_named(name, list("abcde")[:k])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = reference(proba, codes)
        assert metric.score(proba, codes) == pytest.approx(wanted, abs=1e-9), (name, seed, k)


def test_the_table_has_no_metric_that_is_not_compared() -> None:
    compared = {metric_named(name, "abc").name.split(":")[0].split("@")[0] for name in ANY}
    compared |= {name.split("@")[0] for name in (*TWO, *MANY)} | {"top3", "calibration_error"}
    words = {name.replace("CLASS", "b") for name in GRAMMAR if "FILE" not in name}
    asked = {metric_named(w, "ab" if "@" in w else "abc").name for w in words}
    assert {name.split(":")[0].split("@")[0] for name in asked} <= compared


SMOOTH = [
    name for name in {**ANY, "auroc": 0, "auroc_ovo": 0, "average_precision": 0} if "@p" not in name
]


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("k", [2, 4])
def test_pseudo_values_are_the_first_order_of_leaving_rows_out(name: str, k: int) -> None:
    """Their mean is the value, and that of the rows left, with weights of count, is close to the
    value without a row: the error is of second order."""
    proba, codes = drawn(3, k, n=400)
    metric = metric_named(name, list("abcd")[:k])
    if metric.pseudo is None:
        assert metric.share is not None
        return
    value, pseudo = metric.pseudo(proba, codes)
    assert value == pytest.approx(metric.score(proba, codes), abs=1e-12)
    assert pseudo.mean() == pytest.approx(value, abs=1e-6)
    n, left_out = len(codes), np.arange(0, 400, 7)
    without = np.array(
        [metric.score(np.delete(proba, i, 0), np.delete(codes, i)) for i in left_out]
    )
    linear = value - (pseudo[left_out] - value) / n
    moved = np.abs(without - value).max()
    assert np.abs(without - linear).max() < 0.08 * moved + 1e-9


def test_names_are_read_as_people_write_them() -> None:
    for said, name in {
        "roc_auc": "auroc", "Macro-F1": "macro_f1", "f1_macro": "macro_f1",
        "QWK": "quadratic_kappa", "top-3": "top3", "top_3_accuracy": "top3",
        "ap:a": "average_precision:a",
        "sensitivity": "recall:b", "auroc@fpr=.10": "auroc:b@fpr=0.1", "ap": "average_precision:b",
    }.items():  # fmt: skip
        assert metric_named(said, "ab").name == name
    assert metric_named("recall:a:b@x=1", ["a:b@x=1", "c"]).of_class == "a:b@x=1"
    assert metric_named("log_loss", "ab").sign == -1
    assert metric_named("mcc", "ab").low == -1


@pytest.mark.parametrize(
    ("name", "classes", "words"),
    [
        ("acuracy", "ab", "did you mean accuracy"),
        ("recall", "abc", "is of one class, and there are 3"),
        ("recall:dog", "abc", "'dog' is no class"),
        ("accuracy:a", "ab", "is of all classes"),
        ("auroc@fpr=2", "ab", "is no share"),
        ("mcc@fpr=0.1", "ab", "mcc has no fpr"),
        ("f0", "ab", "is not in the table"),
        ("./none.py:f", "ab", "there is no file"),
    ],
)
def test_a_wrong_name_says_what_would_be_right(name: str, classes: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        metric_named(name, list(classes))


def test_ordered_classes_are_numbers_where_all_are() -> None:
    """As text 10 comes before 2."""
    classes = ["1", "10", "2"]
    proba = np.eye(3)[[0, 2, 1, 1]]
    codes = np.array([0, 2, 1, 2])
    numbers = np.array([1, 10, 2])
    places = np.array([0, 2, 1])
    found = metric_named("quadratic_kappa", classes).score(proba, codes)
    wanted = sk.cohen_kappa_score(places[codes], places[proba.argmax(axis=1)], weights="quadratic")
    assert numbers[codes].tolist() == [1, 2, 10, 2]
    assert found == pytest.approx(wanted)


def test_what_is_not_defined_is_not_a_number() -> None:
    proba, codes = np.full((4, 2), 0.5), np.zeros(4, dtype=int)
    for name in ("auroc", "average_precision", "auroc_ovo", "recall:b", "recall:b@precision=0.9"):
        assert np.isnan(metric_named(name, "ab").score(proba, codes)), name
    assert metric_named("precision:b", "ab").score(proba, codes) == 0
    assert metric_named("mcc", "ab").score(proba, codes) == 0


def test_a_metric_from_a_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "import numpy as np\n"
        "def cost(y_true, y_pred):\n    return float(np.mean((y_true == 'b') & (y_pred == 'a')))\n"
        "cost.greater_is_better = False\n"
        "def gini(y_true, y_score, classes):\n"
        "    from sklearn.metrics import roc_auc_score\n"
        "    return 2 * roc_auc_score(y_true == classes[1], y_score) - 1\n"
        "def odd(y_true, weight):\n    return 0\n"
        "def broken(y_true):\n    return y_true + 1\n"
    )
    proba, codes = drawn(0, 2)
    cost = metric_named("./mine.py:cost", np.array(["a", "b"], dtype=object))
    assert isinstance(cost, Metric)
    assert (cost.sign, cost.interval) == (-1, "resamples")
    missed = (codes == 1) & (proba.argmax(axis=1) == 0)
    assert cost.score(proba, codes) == pytest.approx(missed.mean())
    gini = metric_named("./mine.py:gini", ["a", "b"])
    auroc = metric_named("auroc", "ab").score(proba, codes)
    assert gini.score(proba, codes) == pytest.approx(2 * auroc - 1)
    with pytest.raises(OptionError, match="parameter weight is unknown"):
        metric_named("./mine.py:odd", "ab")
    with pytest.raises(OptionError, match="y_score is for two classes"):
        metric_named("./mine.py:gini", "abc")
    with pytest.raises(HeadError, match="it raised"):
        metric_named("./mine.py:broken", "ab").score(proba, codes)


def test_hand_and_till_count_every_pair_once() -> None:
    proba, codes = drawn(5, 4)
    pairs = []
    for a, b in combinations(range(4), 2):
        here = np.isin(codes, (a, b))
        pairs += [sk.roc_auc_score(codes[here] == c, proba[here, c]) for c in (a, b)]
    assert metric_named("auroc_ovo", "abcd").score(proba, codes) == pytest.approx(np.mean(pairs))
