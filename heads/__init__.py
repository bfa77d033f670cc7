"""Heads: matrices of stored vectors in, class probabilities out.

Importing this package is cheap: scikit-learn, LightGBM, torch and the rest are imported by the
head that needs them, when it is fitted.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Bundle": "bundle.bundle",
    "Evaluation": "evaluation.result",
    "FUSIONS": "fusion.fusions",
    "FoldPlan": "rows.folds",
    "HEADS": "head",
    "Head": "head",
    "HeadClassifier": "estimator",
    "Predictions": "bundle.predictions",
    "check_head": "contract",
    "evaluate": "evaluation.leaderboard",
    "fit": "bundle.fitting",
    "load_head": "head",
    "make_folds": "rows.folds",
    "make_head": "head",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
