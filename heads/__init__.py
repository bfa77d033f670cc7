"""Heads: matrices of stored vectors in, class probabilities or numbers out.

Importing this package is cheap: scikit-learn, LightGBM, torch and the rest are imported by the
head that needs them, when it is fitted.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what a type checker sees; a test holds it equal to the table below
    from headstock.heads.bundle.bundle import Bundle as Bundle
    from headstock.heads.bundle.fitting import fit as fit
    from headstock.heads.bundle.of_run import fit_run as fit_run
    from headstock.heads.bundle.predictions import Predictions as Predictions
    from headstock.heads.contract import check_head as check_head
    from headstock.heads.estimator import HeadClassifier as HeadClassifier
    from headstock.heads.estimator import HeadRegressor as HeadRegressor
    from headstock.heads.evaluate_numbers import NumberEvaluation as NumberEvaluation
    from headstock.heads.evaluate_store import evaluate as evaluate
    from headstock.heads.fusion.fusions import FUSIONS as FUSIONS
    from headstock.heads.head import Head as Head
    from headstock.heads.head import load_head as load_head
    from headstock.heads.head import make_head as make_head
    from headstock.heads.result import Evaluation as Evaluation
    from headstock.heads.rows.folds import FoldPlan as FoldPlan
    from headstock.heads.rows.folds import make_folds as make_folds
    from headstock.heads.specs import HEADS as HEADS
    from headstock.heads.specs import REGRESSORS as REGRESSORS

_HOMES = {
    "Bundle": "bundle.bundle",
    "Evaluation": "result",
    "FUSIONS": "fusion.fusions",
    "FoldPlan": "rows.folds",
    "HEADS": "specs",
    "Head": "head",
    "HeadClassifier": "estimator",
    "HeadRegressor": "estimator",
    "NumberEvaluation": "evaluate_numbers",
    "Predictions": "bundle.predictions",
    "REGRESSORS": "specs",
    "check_head": "contract",
    "evaluate": "evaluate_store",
    "fit": "bundle.fitting",
    "fit_run": "bundle.of_run",
    "load_head": "head",
    "make_folds": "rows.folds",
    "make_head": "head",
}
__all__ = sorted(_HOMES)

if not TYPE_CHECKING:  # a type checker must see that a misspelt name is none

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
