"""The words of the table of metrics."""

from __future__ import annotations

import re

__all__ = ["ALIASES", "GRAMMAR", "listing", "metric_names"]

GRAMMAR: dict[str, str] = {
    "accuracy": "share of rows whose most likely class is right",
    "balanced_accuracy": "mean recall of the classes",
    "macro_f1": "mean F1 of the classes; also macro_f2, macro_precision, macro_recall",
    "micro_f1": "F1 of all counts together, which is the accuracy of one label a row",
    "weighted_f1": "mean F1, classes by how frequent they are",
    "f1:CLASS": "F1 of a class; also f2:CLASS, f0.5:CLASS",
    "precision:CLASS": "share of the answers of a class that are right",
    "recall:CLASS": "share of a class's rows that are found; sensitivity:CLASS is the same",
    "specificity:CLASS": "share of all other rows that are not taken for the class",
    "mcc": "Matthews' correlation",
    "kappa": "Cohen's kappa",
    "quadratic_kappa": "the same with squared distances, of ordered classes",
    "top3": "share of rows whose class is among the three most likely; any number",
    "auroc": "area under the ROC curve; of more than two classes the mean of one against the rest",
    "auroc:CLASS": "of one class against the rest",
    "auroc_ovo": "mean over pairs of classes, each on its own rows",
    "auroc@fpr=0.1": "area up to a false positive rate, scaled so that chance is .5",
    "average_precision": "precision by steps of recall; of more classes the mean",
    "recall@precision=0.9": "largest recall at a precision of so much or more",
    "log_loss": "mean of -log p(true class)",
    "brier": "mean squared distance of probabilities from labels; of two classes half of it",
    "cost:FILE.csv": "mean cost of the cheapest answers; lines true,answer,cost, else 0 or 1",
    "calibration_error": "mean distance of confidence from accuracy, in 15 bins of equal count",
}
"""What may be asked for, as ``headstock list metrics`` prints it."""

ALIASES = {
    "f1_macro": "macro_f1", "f1_micro": "micro_f1", "f1_weighted": "weighted_f1",
    "roc_auc": "auroc", "auc": "auroc", "roc_auc_ovr": "auroc", "roc_auc_ovo": "auroc_ovo",
    "auroc_ovr": "auroc", "ap": "average_precision", "map": "average_precision",
    "pr_auc": "average_precision", "neg_log_loss": "log_loss", "logloss": "log_loss",
    "neg_brier_score": "brier", "brier_score": "brier", "matthews_corrcoef": "mcc",
    "cohen_kappa": "kappa", "qwk": "quadratic_kappa", "ece": "calibration_error",
    "sensitivity": "recall", "balanced": "balanced_accuracy",
}  # fmt: skip
"""Other words for the same, scikit-learn's scoring names among them."""


def listing(match: str = "") -> list[str]:
    """A line for each metric of the table whose name holds ``match``: the name and what it is."""
    width = max(map(len, GRAMMAR))
    return [f"{name:{width}}  {text}" for name, text in GRAMMAR.items() if match in name]


def metric_names() -> list[str]:
    """The words of the table, without classes and parameters."""
    return list(dict.fromkeys(re.split(r"[:@]", name)[0] for name in GRAMMAR))
