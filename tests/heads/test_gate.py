from __future__ import annotations

import numpy as np
import pytest

from headstock.heads import evaluate
from headstock.heads.fusion.fusions import cross_fuse
from headstock.heads.fusion.gate import Gated, gate_report, gate_verdicts


def judged(P: np.ndarray, nested: np.ndarray, codes: np.ndarray, members: list[str]) -> dict:
    """The report of one gate, with its verdict. P (n, s, k), nested (n, k)."""
    report = gate_report(P[None], nested[None], codes, members)
    best = P[:, members.index(report["best"])]
    right = np.stack([p.argmax(axis=1) == codes for p in (nested, best)], axis=1).astype(float)
    gate_verdicts([report], right)
    return report


def two(n: int, expert: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A first system that knows when it does not know, and a second that either is right exactly
    there (``expert``) or guesses."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, n)
    hard = rng.random(n) < 0.15
    first = np.full((n, 3), 0.05)
    first[np.arange(n), codes] = 0.9
    first[hard] = rng.dirichlet([20, 20, 20], hard.sum())
    second = rng.dirichlet([3, 3, 3], n)
    if expert:
        second[np.arange(n), codes] += 0.5
    return np.stack([first, second / second.sum(axis=1, keepdims=True)], axis=1), codes


def test_where_the_gate_helps() -> None:
    P, codes = two(600, expert=True)
    folds = (np.arange(600) % 5)[None]
    nested = cross_fuse("gated", P[None], codes, folds)[0]
    report = judged(P, nested, codes, ["image", "audio"])
    assert (report["first"], report["second"]) == ("image", "audio")
    assert report["verdict"] == "the gate helps"
    assert 60 < report["k"] < 120
    assert report["nested_accuracy"] > report["first_accuracy"] + 0.04
    curve = dict(map(tuple, report["curve"]))
    assert curve[0] == pytest.approx(report["first_accuracy"])
    assert curve[report["k"]] == max(curve.values()) == pytest.approx(report["apparent_accuracy"])
    assert curve[600] == pytest.approx((P[:, 1].argmax(axis=1) == codes).mean())


def test_where_only_the_choice_of_k_gained() -> None:
    apparent, honest, misled = [], [], 0
    for seed in range(12):
        P, codes = two(150, expert=False, seed=seed)
        nested = cross_fuse("gated", P[None], codes, (np.arange(150) % 5)[None])[0]
        report = judged(P, nested, codes, ["image", "audio"])
        apparent.append(report["apparent_accuracy"] - report["first_accuracy"])
        honest.append(report["nested_accuracy"] - report["first_accuracy"])
        misled += report["verdict"] == "the gate helps"
    assert misled <= 1  # 5 % of the time chance looks like help
    assert np.mean(apparent) > 0.005  # k chosen by hand on the scored rows wins, as it must
    assert np.mean(honest) < 0.005  # and the honest estimate says that there is nothing


def test_a_gate_must_beat_the_best_system_not_its_first() -> None:
    """Handing a weak system's rows to a strong one beats the weak one, and helps nobody who could
    ask the strong one."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 400)
    strong = 0.1 + 0.7 * np.eye(3)[np.where(rng.random(400) < 0.95, codes, (codes + 1) % 3)]
    weak = rng.dirichlet([2, 2, 2], 400) + 0.35 * np.eye(3)[codes]
    weak /= weak.sum(axis=1, keepdims=True)
    P = np.stack([weak, strong], axis=1)
    nested = strong.copy()
    nested[:5] = weak[:5]
    report = judged(P, nested, codes, ["weak", "strong"])
    assert report["best"] == "strong"
    assert report["nested_accuracy"] > (weak.argmax(axis=1) == codes).mean() + 0.1
    assert report["verdict"] != "the gate helps"


def test_a_gate_is_judged_by_groups_and_beside_the_other_gates() -> None:
    """Rows that speak for the gate in two of six groups are two votes, not sixty; and what would
    convince of one gate does not convince of the luckiest of fifteen."""
    n, codes = 300, np.zeros(300, dtype=int)
    groups = np.repeat(np.arange(6), 50).astype(str)
    alone, gated = np.ones(n), np.ones(n)
    alone[:30] = alone[50:80] = 0

    def proba(right: np.ndarray) -> np.ndarray:
        return np.stack([right, 1 - right], axis=1) * 0.8 + 0.1

    P = np.stack([proba(alone), proba(1 - gated)], axis=1)[None]
    for some, words in ((None, "helps"), (groups, "may help")):
        report = gate_report(P, proba(gated)[None], codes, ["a", "b"], some)
        gate_verdicts([report], np.stack([gated, alone], axis=1), some)
        assert words in report["verdict"]
    lucky = np.ones(n)
    lucky[:7] = 0  # seven rows to none: exact p .016
    reports, columns = [], []
    rng = np.random.default_rng(0)
    for number in range(15):
        base = lucky if number == 0 else (rng.random(n) < 0.9).astype(float)
        better = np.ones(n) if number == 0 else (rng.random(n) < 0.9).astype(float)
        P = np.stack([proba(base), proba(1 - base)], axis=1)[None]
        reports.append(gate_report(P, proba(better)[None], codes, ["a", "b"]))
        columns += [better, base]
    gate_verdicts(reports[:1], np.stack(columns[:2], axis=1))
    assert reports[0]["verdict"] == "the gate helps"
    gate_verdicts(reports, np.stack(columns, axis=1))
    assert "not distinguishable from a alone" in reports[0]["verdict"]


def test_never_and_always_are_choices() -> None:
    P, codes = two(200, expert=True)
    never = Gated().fit(np.stack([P[:, 0], 1 - P[:, 0] / 1], axis=1), codes, codes)
    assert never.handed_ == 0
    np.testing.assert_array_equal(never.predict(P), P[:, never.first_])
    perfect = np.eye(3)[codes] * 0.9 + 0.1 / 3
    always = Gated().fit(np.stack([P[:, 0] * 0 + 1 / 3, perfect], axis=1), codes, codes)
    np.testing.assert_array_equal(always.predict(np.stack([P[:, 0], perfect], axis=1)), perfect)


def test_on_the_leaderboard(store) -> None:
    result = evaluate(store, ("logistic", "knn"), fusions=("gated",))
    rows = [r for r in result.leaderboard if r.fusion == "gated"]
    assert {r.name for r in rows} == {f"{h}@image+audio:gated" for h in ("logistic", "knn", "all")}
    assert all(r.gate.nested_accuracy == r.accuracy.value for r in rows)
    assert "least sure rows to" in result.text()
