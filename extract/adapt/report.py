"""What an adaptation is worth by its own classifier: held-out answers, counted."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.stats import beta

from headstock.extract.pipeline.account import Failure
from headstock.store.manifest.table import CsvWriter

__all__ = ["Adapted", "predictions_csv", "score"]


def score(log_proba: np.ndarray, codes: np.ndarray) -> dict[str, Any]:
    """n, errors, accuracy with its exact 95 % interval (Clopper and Pearson 1934), balanced
    accuracy and log-loss of (n, k) log-probabilities against codes (n,)."""
    n = len(codes)
    right = log_proba.argmax(axis=1) == codes
    hits = int(right.sum())
    low = float(beta.ppf(0.025, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0
    return {
        "n": n,
        "errors": n - hits,
        "accuracy": {"value": hits / n, "low": low, "high": high},
        "balanced_accuracy": float(np.mean([right[codes == c].mean() for c in np.unique(codes)])),
        "log_loss": float(-log_proba[np.arange(n), codes].mean()),
    }


def predictions_csv(ids: Sequence[str], classes: Sequence[str], log_proba: np.ndarray) -> bytes:
    """``id,prediction,confidence``, then ``p_<class>`` for each class, as ``predict`` writes."""
    out = io.StringIO(newline="")
    table = CsvWriter(out)
    table.row(["id", "prediction", "confidence", *(f"p_{c}" for c in classes)])
    for name, line in zip(ids, np.exp(log_proba)):
        best = int(line.argmax())
        cells = [str(name), str(classes[best])]
        table.row([*cells, *(f"{p:.6f}" for p in (line[best], *line))])
    return out.getvalue().encode()


@dataclass
class Adapted:
    """What ``adapt`` did. ``networks``: a line for each, folds first; ``scores``: by kind of rows
    (``out-of-fold``, ``held-out``, ``test``), what the networks' own classifiers say of rows whose
    labels they did not see; ``files`` written; ``failures``: pictures that could not be read;
    ``left_out``: labelled rows that the given fold plan does not hold."""

    output: str
    backbone: str
    classes: list[str]
    networks: list[dict[str, Any]] = field(default_factory=list)
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    recipe: dict[str, Any] = field(default_factory=dict)
    left_out: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    def text(self) -> str:
        """For a person: each network, then the scores, then what they mean."""
        lines = [f"{self.backbone}, {len(self.classes)} classes"]
        if self.left_out:
            lines.append(f"  {self.left_out:,} labelled rows are not in the fold plan: left out")
        for net in self.networks:
            name = "all rows" if net["fold"] is None else f"without fold {net['fold']}"
            lines.append(
                f"  {name}: {net['trained_on']} rows, kept epoch {net['kept']} of "
                f"{len(net['history'])}; {net['seconds']:.0f} s, "
                f"{net['pictures_a_second']:.0f} pictures a second"
            )
            if net.get("unchanged"):
                lines.append(
                    "    that is of the classifier alone: its vectors are the backbone's own"
                )
        for kind, s in self.scores.items():
            a = s["accuracy"]
            lines.append(
                f"{kind}: accuracy {a['value']:.4f} ({a['low']:.4f}-{a['high']:.4f}), "
                f"{s['errors']}/{s['n']} errors, log-loss {s['log_loss']:.4f}"
            )
        if set(self.scores) == {"held-out"}:
            lines.append(
                "  the held-out part chose the epoch, so its score flatters a little; "
                "--folds or a split test says more"
            )
        lines += [failure.text() for failure in self.failures[:10]]
        return "\n".join(lines)
