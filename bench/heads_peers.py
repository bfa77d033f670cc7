"""What a careful user of other libraries writes for the same heads, and how it is run here."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from heads_workload import workload

from headstock.heads.metrics.probabilities import log_loss
from headstock.heads.rows.folds import make_folds

ON = ("image", "audio", "image+audio")
FOLDS = 5
STRENGTHS = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 10.0]
"""The values of C among which tuned logistic regression chooses, theirs and ours."""


def figures(proba: np.ndarray, codes: np.ndarray) -> dict[str, float]:
    return {
        "accuracy": float((proba.argmax(axis=1) == codes).mean()),
        "log_loss": log_loss(np.clip(proba, 1e-7, 1.0), codes),
    }


class Clock:
    """Seconds of wall and of processor since it was made."""

    def __init__(self) -> None:
        self._start, self._cpu = time.perf_counter(), time.process_time()

    def read(self, times: float = 1.0) -> dict[str, float]:
        return {
            "seconds": (time.perf_counter() - self._start) * times,
            "cpu": (time.process_time() - self._cpu) * times,
        }


def plain(name: str) -> Any:
    """The library's estimator after StandardScaler, calibrated where it has no probabilities; its
    defaults where headstock has no other say."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler
    from sklearn.svm import SVC, LinearSVC

    if name == "lightgbm":
        from lightgbm import LGBMClassifier

        return LGBMClassifier(verbosity=-1)
    if name in ("forest", "extra-trees"):
        return (RandomForestClassifier if name == "forest" else ExtraTreesClassifier)(n_jobs=-1)
    if name == "knn":
        neighbours = KNeighborsClassifier(10, weights="distance")
        return make_pipeline(StandardScaler(), Normalizer(), neighbours)
    heads = {
        "logistic": lambda: LogisticRegression(C=0.1, max_iter=1000),
        "lda": lambda: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        "linear-svm": lambda: CalibratedClassifierCV(
            LinearSVC(C=0.003, dual="auto", max_iter=2000)
        ),
        "rbf-svm": lambda: CalibratedClassifierCV(SVC(C=10, cache_size=1000), ensemble=False),
    }
    if name not in heads:
        raise SystemExit(f"no plain form of {name}")
    return make_pipeline(StandardScaler(), heads[name]())


def run_plain(name: str, train: int, folds: int, intelex: bool) -> dict[str, Any]:
    """cross_val_predict's loop, and the refit where all folds run; ``intelex`` with
    scikit-learn-intelex in place."""
    if intelex:
        from sklearnex import patch_sklearn

        patch_sklearn(verbose=False)
    rows, fresh = workload(train, train // 4)
    plan = make_folds(rows.codes, FOLDS, ids=rows.ids)
    out: dict[str, Any] = {}
    plain(name)  # imports are not what is measured
    for on in ON:
        X, T = rows.matrix(on)[0], fresh.matrix(on)[0]
        proba = np.full((len(rows), len(rows.classes)), np.nan)
        clock, line = Clock(), {}
        for fit_rows, held_out in plan.split()[:folds]:
            model = plain(name).fit(X[fit_rows], rows.codes[fit_rows])
            proba[held_out] = model.predict_proba(X[held_out])
        if folds == FOLDS:
            model = plain(name).fit(X, rows.codes)
            line["test"] = figures(model.predict_proba(T), fresh.codes)
        done = folds + (folds == FOLDS)
        line |= clock.read((FOLDS + 1) / done) | {"fits_run": done}
        ran = ~np.isnan(proba[:, 0])
        line["folds"] = figures(proba[ran], rows.codes[ran])
        out[f"{name}@{on}"] = line
    return out


def run_stacking(heads: list[str], train: int) -> dict[str, Any]:
    """scikit-learn's StackingClassifier of the heads on the concatenation, scored on test rows. It
    takes one matrix, so that its members cannot be told which columns are whose."""
    from sklearn.ensemble import StackingClassifier
    from sklearn.linear_model import LogisticRegression

    rows, fresh = workload(train, train // 4)
    X, T = rows.matrix(ON[2])[0], fresh.matrix(ON[2])[0]
    members = [(name, plain(name)) for name in heads]
    clock = Clock()
    stack = StackingClassifier(members, LogisticRegression(max_iter=1000), cv=FOLDS)
    proba = stack.fit(X, rows.codes).predict_proba(T)
    return {"StackingClassifier": {**clock.read(), "test": figures(proba, fresh.codes)}}


def run_tuned(train: int, ours: bool) -> dict[str, Any]:
    """One logistic regression on the wide set whose C is chosen over five folds, and for headstock
    also the whole nested evaluation: the same folds, values and scoring."""
    rows, fresh = workload(train, train // 4)
    plan = make_folds(rows.codes, FOLDS, ids=rows.ids)
    X, T = rows.X["image"], fresh.X["image"]
    if not ours:
        from sklearn.linear_model import LogisticRegressionCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        model = LogisticRegressionCV(
            Cs=STRENGTHS, cv=plan.split(), scoring="neg_log_loss", max_iter=1000
        )
        clock = Clock()
        proba = make_pipeline(StandardScaler(), model).fit(X, rows.codes).predict_proba(T)
        return {"tuned logistic": {**clock.read(), "test": figures(proba, fresh.codes)}}
    from headstock.heads.engine.shared import Shared
    from headstock.heads.head import make_head
    from headstock.heads.outoffold.together import answer_all

    options = {"C": STRENGTHS}
    make_head("logistic").fit(X[:200], rows.codes[:200])  # loads the compiled loops
    clock = Clock()
    head = make_head("logistic", 0, options)
    head.fit(X, rows.codes, inner=plan.codes[0])  # type: ignore[call-arg]
    out = {"tuned logistic": {**clock.read(), "test": figures(head.predict_proba(T), fresh.codes)}}
    clock = Clock()
    shared = [Shared(rows, plan, 0, fresh)]
    answer = answer_all(
        "logistic", ("image",), shared, options=options
    )["image"]  # fmt: skip
    assert answer.test is not None
    out["tuned logistic, nested"] = {**clock.read(), "test": figures(answer.test, fresh.codes)}
    return out
