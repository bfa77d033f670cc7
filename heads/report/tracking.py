"""An evaluation logged to MLflow: one run, and a child of it for each system."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from headstock.heads.run.as_json import plain
from headstock.heads.run.numbers import NumberLine, NumberRun
from headstock.heads.run.run import Run
from headstock.heads.run.scores import Line, Scores
from headstock.store.errors import HeadError, OptionError, one_line
from headstock.store.manifest.splits import HELD_OUT

__all__ = ["log_evaluation"]

SCORES = ("balanced_accuracy", "macro_f1", "log_loss", "brier", "calibration_error", "errors")
LONGEST = 500
"""Letters of a parameter: servers refuse more, at lengths that differ."""


def log_evaluation(
    run: Run | NumberRun,
    where: str,
    *,
    folder: str | Path | None = None,
    experiment: str = "headstock",
) -> str:
    """Log ``run``; the id of the MLflow run.

    where: a tracking URI, or a folder, which is made. The run has the settings, folds and
    fingerprints of recipes as parameters and the first system's scores; each of its children has
    one system's head, sets, fusion and scores. ``folder``, the run folder, goes along as artifacts.
    Nothing is told to anybody but the tracking server: MLflow's own usage reports are off.

    Raises OptionError where MLflow is not installed, HeadError for whatever it raises.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    uri = where
    if "://" not in where:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        uri = Path(where).resolve().as_uri()
    try:
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise OptionError(
            "mlflow", f"is not installed ({error})", "pip install 'headstock[mlflow]'"
        ) from error
    board = run.leaderboard
    now = int(time.time() * 1000)

    def start(name: str, params: Mapping[str, Any], line: Line | NumberLine, parent: str) -> str:
        tags = {"mlflow.runName": name, "headstock.version": _version()}
        tags |= {"mlflow.parentRunId": parent} if parent else {}
        made: str = client.create_run(number, tags=tags, run_name=name).info.run_id
        client.log_batch(
            made,
            metrics=[Metric(key, value, now, 0) for key, value in _scores(line)],
            params=[Param(key, one_line(value, LONGEST)) for key, value in params.items()],
            tags=[RunTag("headstock.system", line.name)],
        )
        return made

    try:
        client = MlflowClient(tracking_uri=uri)
        known = client.get_experiment_by_name(experiment)
        number = client.create_experiment(experiment) if known is None else known.experiment_id
        name = "evaluation" if folder is None else Path(folder).resolve().name
        parent = start(name, dict(_params(run)), board[0], "")
        for line in board:
            params = {"head": line.head, "on": line.on, "fusion": line.fusion or "none"}
            child = start(line.name, params, line, parent)
            client.set_terminated(child)
        if folder is not None:
            client.log_artifacts(parent, str(folder))
        client.set_terminated(parent)
    except Exception as error:
        raise HeadError(
            f"mlflow {where}", f"{type(error).__name__}: {one_line(error, 300)}",
            "the evaluation itself is done; check the address and what the server asks for",
        ) from error  # fmt: skip
    return parent


def _scores(line: Line | NumberLine) -> Iterator[tuple[str, float]]:
    for lead, scores in (("", line), *((f"{split}_", line.held(split)) for split in HELD_OUT)):
        if isinstance(scores, Scores):
            for end, name in (("value", ""), ("low", "_low"), ("high", "_high")):
                yield f"{lead}accuracy{name}", float(getattr(scores.accuracy, end))
            for name in SCORES:
                yield lead + name, float(getattr(scores, name))
        for name, found in scores.metrics.items() if scores is not None else ():
            if found.value is not None:  # MLflow takes no colons, at signs and equals
                yield lead + re.sub(r"[^\w./ -]", "_", name), float(found.value)
    if line.seconds is not None:
        yield "seconds", float(line.seconds)


def _params(run: Run | NumberRun) -> Iterator[tuple[str, str]]:
    settings = {k: v for k, v in plain(run.settings).items() if k != "classes"}
    folds = {f"folds.{k}": v for k, v in plain(run.folds).items()}
    recipes = {f"recipe.{name}": recipe.fingerprint for name, recipe in run.recipes.items()}
    for key, value in {**settings, **folds, **recipes}.items():
        yield key, value if isinstance(value, str) else json.dumps(value, default=str)


def _version() -> str:
    from headstock import __version__

    return __version__
