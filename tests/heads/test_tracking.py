"""Logging to MLflow, against a store of its own files on disk."""

from __future__ import annotations

import sys

import pytest

from headstock.heads import evaluate
from headstock.heads.report.tracking import log_evaluation
from headstock.store.errors import HeadError, OptionError

pytest.importorskip("mlflow")


def test_a_run_and_a_child_for_each_system(tmp_path, rows, make_store, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    split = ["test" if i % 4 == 0 else "train" for i in range(len(rows))]
    with make_store(tmp_path / "s.h5", rows, split=split) as store:
        result = evaluate(store, ("lda", "knn"), fusions=("mean",), folds=3, test_scores="all")
    result.save(tmp_path / "first")
    evaluated = result.run
    place = tmp_path / "tracked"
    number = log_evaluation(evaluated, str(place), folder=tmp_path / "first")

    client = MlflowClient(tracking_uri=place.as_uri())
    (experiment,) = client.search_experiments(filter_string="name = 'headstock'")
    runs = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    parent = runs.pop(number)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["mlflow.runName"] == "first"
    assert parent.data.params["seed"] == "0"
    assert parent.data.params["folds.folds"] == "3"
    assert parent.data.params["recipe.image"] == evaluated.recipes["image"].fingerprint
    assert {f.path for f in client.list_artifacts(number)} >= {"metrics.json", "folds.json"}
    assert len(runs) == len(evaluated.leaderboard)
    by_name = {run.data.tags["headstock.system"]: run for run in runs.values()}
    for row in evaluated.leaderboard:
        run = by_name[row.name]
        assert run.data.tags["mlflow.parentRunId"] == number
        assert run.data.params["head"] == row.head
        assert run.data.metrics["accuracy"] == row.accuracy.value
        assert run.data.metrics["log_loss"] == row.log_loss
        assert run.data.metrics["test_accuracy"] == row.test.accuracy.value
    best = evaluated.leaderboard[0].accuracy.value
    assert parent.data.metrics["accuracy"] == best

    log_evaluation(evaluated, str(place))  # the experiment is there already
    assert len(client.search_experiments(filter_string="name = 'headstock'")) == 1


def test_a_run_of_numbers_has_its_metrics(tmp_path, rows, make_store, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    split = ["test" if i % 4 == 0 else "train" for i in range(len(rows))]
    label = [f"{i * i / 7:.3f}" for i in range(len(rows))]
    with make_store(tmp_path / "s.h5", rows, split=split, label=label) as store:
        run = evaluate(store, ("ridge",), ("image",), (), folds=3, metric="mae").run
    number = log_evaluation(run, str(tmp_path / "tracked"))
    logged = MlflowClient(tracking_uri=(tmp_path / "tracked").as_uri()).get_run(number).data
    line = run.leaderboard[0]
    assert logged.params["target"] == "number"
    assert logged.metrics.pop("seconds") == line.seconds
    expected = {name: one.value for name, one in line.metrics.items()}
    expected |= {f"test_{name}": one.value for name, one in line.test.metrics.items()}
    assert logged.metrics == expected


def test_errors_are_ours(store, tmp_path, monkeypatch) -> None:
    evaluated = evaluate(store, ("lda",), on=("audio",), fusions=(), folds=2).run
    with pytest.raises(HeadError, match="the evaluation itself is done"):
        log_evaluation(evaluated, "nonsense://nowhere")
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(OptionError, match=r"headstock\[mlflow\]"):
        log_evaluation(evaluated, str(tmp_path / "tracked"))
