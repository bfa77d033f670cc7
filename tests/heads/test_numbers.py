"""An evaluation of numbers, from a store to a run folder and back, on every kind of plan."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from headstock.heads import FoldPlan, NumberEvaluation, evaluate, fit_run
from headstock.heads.regressors.linear import ALPHAS
from headstock.heads.report.notebook import leaderboard_html
from headstock.heads.report.runs import look
from headstock.heads.rows.labelled import Rows
from headstock.heads.run.folder import read_any, read_run
from headstock.heads.run.numbers import NumberRun
from headstock.store.errors import HeadError, HeadstockError, OptionError

QUICK = ("ridge", "knn")


def numbers(rows: Rows, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    known = rows.X["image"][:, :3].sum(axis=1) + 2 * rows.X["audio"][:, 0]
    return np.round(20 + known.astype(float) + rng.normal(size=len(rows)), 3)


@pytest.fixture
def made(tmp_path: Path, rows: Rows, make_store):
    """A store of 160 rows of numbers; 20 are the test split and 20 the valid one."""
    split = ["test" if i >= 140 else "valid" if i >= 120 else "" for i in range(160)]
    extra = {
        "group": [f"g{i % 32}" for i in range(160)],
        "part": ["abc"[i % 3] for i in range(160)],
        "day": [f"2026-{1 + i % 12:02d}-{1 + i % 28:02d}" for i in range(160)],
    }
    labels = [f"{y:g}" for y in numbers(rows)]
    with make_store(tmp_path / "n.h5", rows, label=labels, split=split, group=extra) as store:
        yield store


def scored(made, *args, **settings) -> NumberEvaluation:
    given = {"heads": QUICK, "fusions": (), **settings}
    result = evaluate(made, *args, target="number", **given)
    assert isinstance(result, NumberEvaluation)
    return result


def test_scores_are_scikit_learns_on_the_same_folds(made) -> None:
    result = scored(made, on=["image", "audio"])
    X = made.feature_set("image").x()[:120]
    model = make_pipeline(StandardScaler(), RidgeCV(ALPHAS))
    theirs = cross_val_predict(model, X, result.y, cv=result.folds.split())
    np.testing.assert_allclose(result.said["ridge@image"], theirs, rtol=1e-4)
    line = next(one for one in result.leaderboard if one.name == "ridge@image")
    for name, score in (
        ("rmse", root_mean_squared_error), ("mae", mean_absolute_error), ("r2", r2_score),
    ):  # fmt: skip
        assert line.metrics[name].value == pytest.approx(score(result.y, theirs), rel=1e-3)
    values = [one.metrics["rmse"].value for one in result.leaderboard]
    assert values == sorted(values)


def test_the_target_is_found_and_said(made) -> None:
    result = evaluate(made, heads=("ridge",), on=["audio"], fusions=())
    assert isinstance(result, NumberEvaluation)
    assert "target: a number from " in result.text()
    assert result.run.settings.target == "number"
    with pytest.raises(HeadstockError):
        evaluate(made, heads=("lda",), on=["audio"], fusions=(), target="classes")


def test_guessing_is_what_the_training_rows_give(made) -> None:
    result = scored(made, on=["audio"], heads=("ridge",), metric=["mae", "pinball@quantile=0.9"])
    y, folds = result.y, result.folds.codes[0]
    base = result.run.baseline
    assert base is not None
    means, medians, tops = (np.empty(120) for _ in range(3))
    for fold in range(5):
        rest = y[folds != fold]
        means[folds == fold], medians[folds == fold] = rest.mean(), np.median(rest)
        tops[folds == fold] = np.quantile(rest, 0.9)
    assert base.metrics["rmse"].value == pytest.approx(np.sqrt(np.mean((means - y) ** 2)))
    assert base.metrics["mae"].value == pytest.approx(np.abs(medians - y).mean())
    over = np.maximum(0.9 * (y - tops), -0.1 * (y - tops))
    assert base.metrics["pinball@quantile=0.9"].value == pytest.approx(over.mean())
    assert base.metrics["spearman"].value is None
    assert base.test is not None
    assert base.test.n == 20


@pytest.mark.parametrize("folds", [3, "group-out", "given:part", "time:day", "valid"])
def test_every_kind_of_plan(made, folds) -> None:
    group = "group" if folds == "group-out" else None
    result = scored(made, on=["audio"], folds=folds, group=group, heads=QUICK)
    best = result.leaderboard[0]
    base = result.run.baseline
    assert base is not None
    assert best.metrics["rmse"].value < 0.9 * base.metrics["rmse"].value
    assert best.n == base.n == {"valid": 20, "time:day": best.n}.get(str(folds), 120)
    assert best.test is not None
    assert best.test.n == 20
    if folds == "time:day":
        assert best.n < 120
        assert "time, expanding" in result.text()
    if folds == "valid":
        assert "20 rows of the valid split" in result.text()


def test_groups_stay_whole_and_make_intervals_wider_or_not(made) -> None:
    result = scored(made, on=["audio"], group="group")
    values = dict(zip(made.items.id, made.items.column("group")))
    assert not result.folds.parted([values[i] for i in result.ids])
    known = result.leaderboard[0].metrics["rmse"]
    assert known.by == "groups"
    assert known.low < known.value < known.high
    assert "spread of whole groups" in result.text()


def test_each_fold_has_its_share_of_small_and_large_numbers(made) -> None:
    result = scored(made, on=["audio"], heads=("ridge",))
    means = [result.y[result.folds.codes[0] == f].mean() for f in range(5)]
    assert np.std(means) < 0.5 * result.y.std() / np.sqrt(24)


def test_fusions_are_nested_and_better_than_what_they_join(made) -> None:
    result = scored(made, on=["image", "audio"], fusions=("mean", "stacked"))
    lines = {line.name: line for line in result.leaderboard}
    stack, mean = lines["all@image+audio:stacked"], lines["ridge@image+audio:mean"]
    assert "never saw the scored fold" in stack.how
    single = min(lines[n].metrics["rmse"].value for n in ("ridge@image", "ridge@audio"))
    assert stack.metrics["rmse"].value < single
    expected = (result.said["ridge@image"] + result.said["ridge@audio"]) / 2
    np.testing.assert_allclose(result.said[mean.name], expected)


def test_a_stack_of_noise_is_no_better_than_the_mean(rows: Rows, make_store, tmp_path) -> None:
    """Nested: on numbers that nothing tells, R2 is below 0 but for chance."""
    got = []
    for seed in range(4):
        noise = np.random.default_rng(seed).normal(size=160)
        labels = [f"{y:.6f}" for y in noise]
        with make_store(tmp_path / f"{seed}.h5", rows, label=labels) as store:
            result = scored(store, on=["image", "audio"], fusions=("stacked",), seed=seed)
        line = next(one for one in result.leaderboard if one.fusion == "stacked")
        got.append(line.metrics["r2"].value)
    assert np.mean(got) < 0.03


def test_rows_that_lack_a_set_are_answered_by_what_they_have(rows, make_store, tmp_path) -> None:
    has = {"image": np.arange(160) % 4 != 0, "audio": np.arange(160) % 3 != 0}
    has["image"] |= ~has["audio"]
    labels = [f"{y:g}" for y in numbers(rows)]
    with make_store(tmp_path / "g.h5", replace(rows, present=has), label=labels) as store:
        result = scored(store, missing="patterns", fusions=("mean", "stacked"))
    line = next(one for one in result.leaderboard if one.fusion == "stacked")
    assert line.n == 160
    assert set(line.patterns) == {"image+audio", "image", "audio"}
    assert sum(one.n for one in line.patterns.values()) == 160
    assert np.isnan(result.said["ridge@image"]).sum() == (~has["image"]).sum()


def test_repeats_and_reuse_give_the_same_numbers(made) -> None:
    first = scored(made, on=["audio"], repeats=2, reuse=True)
    again = scored(made, on=["audio"], repeats=2, reuse=True)
    assert all(line.reused for line in again.leaderboard)
    for name, said in first.said.items():
        np.testing.assert_array_equal(again.said[name], said)
    assert first.run.comparisons[0].repeats == 2
    other = scored(made, on=["audio"], repeats=2, reuse=True, transform="rank")
    assert not any(line.reused for line in other.leaderboard)


def test_the_metric_that_decides_orders_and_compares(made) -> None:
    timid = {"knn": {"n_neighbors": 90, "weights": "uniform"}}
    result = scored(made, on=["image", "audio"], metric=["spearman", "mae"], options=timid)
    assert result.run.settings.metric[:2] == ("spearman", "mae")
    values = [line.metrics["spearman"].value for line in result.leaderboard]
    assert values == sorted(values, reverse=True)
    assert {c.difference.metric for c in result.run.comparisons} == {"spearman"}
    for one in result.run.comparisons:
        expected = result.leaderboard[0].metrics["spearman"].value
        other = next(line for line in result.leaderboard if line.name == one.b)
        assert one.difference.value == pytest.approx(expected - other.metrics["spearman"].value)
    assert any(one.verdict == "better" for one in result.run.comparisons)
    chosen = result.run.selection
    assert chosen is not None
    assert chosen.optimism > -0.05
    with pytest.raises(OptionError, match="metric accuracy: is none of numbers"):
        scored(made, on=["audio"], metric=["accuracy"])


def test_a_notebook_has_what_is_not_told_from_the_first_in_bold(made) -> None:
    run = scored(made, on=["audio"], heads=("ridge", "knn")).run
    names = [run.leaderboard[0].name, *(c.b for c in run.comparisons if not c.differs)]
    html = leaderboard_html(run)
    bold = [row for row in html.split("<tr>") if row.startswith("<td><b>")]
    assert len(bold) == len(names) < len(run.leaderboard) + 1
    assert f"<td><b>{run.leaderboard[0].head}</b></td>" in bold[0]


def test_the_worst_rows_are_those_farthest_off(made) -> None:
    result = scored(made, on=["audio"])
    off = np.abs(result.said[result.leaderboard[0].name] - result.y)
    order = np.argsort(-off)[:10]
    assert [one.id for one in result.run.worst] == [str(result.ids[i]) for i in order]
    assert result.run.worst[0].true == result.y[order[0]]


def test_a_run_is_saved_read_and_fitted(made, tmp_path: Path) -> None:
    result = scored(made, on=["image", "audio"], fusions=("stacked",), test_scores="all")
    result.save(tmp_path / "run")
    saved = read_any(tmp_path / "run")
    assert isinstance(saved, NumberRun)
    assert replace(saved, files={}) == replace(result.run, files={})
    assert FoldPlan.load(tmp_path / "run" / "folds.json").digest == result.folds.digest
    with np.load(tmp_path / "run" / "oof.npz") as held:
        np.testing.assert_array_equal(held["said/ridge@image"], result.said["ridge@image"])
        np.testing.assert_array_equal(held["y"], result.y)
    assert look([tmp_path / "run"]).text() == result.text()
    with pytest.raises(HeadError, match="is a run of numbers, and this is about classes"):
        read_run(tmp_path / "run")
    for name in ("ridge@image", "all@image+audio:stacked"):
        bundle = fit_run(made, tmp_path / "run", name)
        rows = np.flatnonzero(made.items.split == "test")
        said = bundle.predict(made, rows).numbers  # type: ignore[attr-defined]
        np.testing.assert_allclose(said, result.held["test"].said[name], rtol=1e-9)


def test_a_run_that_was_changed_is_one_line(made, tmp_path: Path) -> None:
    scored(made, on=["audio"]).save(tmp_path / "run")
    file = tmp_path / "run" / "metrics.json"
    body = json.loads(file.read_text())
    for path, value in (
        (("leaderboard",), []), (("leaderboard", 0, "metrics", "rmse", "value"), "low"),
        (("worst", 0, "true"), None), (("settings", "metric"), 3), (("settings", "target"), "x"),
    ):  # fmt: skip
        odd = json.loads(json.dumps(body))
        inner = odd
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        file.write_text(json.dumps(odd))
        with pytest.raises(HeadError) as found:
            read_any(tmp_path / "run")
        assert "\n" not in str(found.value)


def test_looks_at_the_test_split_are_counted(made) -> None:
    first = scored(made, on=["audio"])
    assert first.run.hygiene.looks is not None
    assert first.run.hygiene.looks.looks == 1
    assert [line.test is not None for line in first.leaderboard] == [True, False]
    assert list(first.held["test"].said) == [first.leaderboard[0].name]
    assert scored(made, on=["audio"]).run.hygiene.looks.looks == 2  # type: ignore[union-attr]
    assert scored(made, on=["audio"], test_scores="none").run.hygiene.looks is None


def test_what_is_of_classes_is_refused_by_name(made) -> None:
    for settings, words in (
        ({"learning_curve": True}, "learning_curve: is of classes"),
        ({"doubts": True}, "doubts: is of classes"),
        ({"fusions": ("gated",)}, "fusion gated: joins no numbers"),
        ({"fusions": ("learned",)}, "fusion learned: joins no numbers"),
        ({"fusions": ("stackd",)}, "fusion stackd: is not in the table; did you mean stacked"),
        ({"heads": ("logistic",)}, "head logistic: learns classes and no numbers"),
        ({"options": {"lda": {}}}, "lda is not among the heads"),
        ({"tune": ("logistic",)}, "tune logistic"),
    ):
        with pytest.raises(OptionError, match=words):
            scored(made, on=["image", "audio"], **settings)


def test_options_are_chosen_inside_the_folds(made) -> None:
    result = scored(made, on=["audio"], heads=("knn",), tune=("knn",))
    line = result.leaderboard[0]
    assert line.tried is not None
    assert len(line.tried.points) == 5
    assert len(line.tried.squared_error) == len(line.chosen) == 6
    assert "knn@audio chose inside the folds: n_neighbors=" in result.text()


def test_a_head_of_ones_own_may_be_scikit_learns(made, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from sklearn.linear_model import HuberRegressor\n"
        "def huber(seed, alpha=0.001):\n    return HuberRegressor(alpha=alpha, max_iter=500)\n"
        "def odd(seed):\n    class Odd(HuberRegressor):\n"
        "        def predict(self, X):\n            return super().predict(X)[:-1]\n"
        "    return Odd()\n"
    )
    result = scored(made, on=["audio"], heads=("ridge", f"{file}:huber", f"{file}:odd"))
    assert {line.name for line in result.leaderboard} == {"ridge@audio", f"{file}:huber@audio"}
    assert result.run.failed[0].name == f"{file}:odd@audio"
    assert "predict gave shape" in result.text()


def test_numbers_that_are_large_and_differ_by_little(rows: Rows, make_store, tmp_path) -> None:
    y = numbers(rows)
    for labels in ([f"{v:.6f}" for v in 1e9 + y], [f"{v:.12g}" for v in 1e-6 * y]):
        with make_store(tmp_path / f"{labels[0]}.h5", rows, label=labels) as store:
            result = scored(store, on=["image", "audio"], fusions=("stacked",))
        assert result.leaderboard[0].metrics["r2"].value > 0.5


def test_the_page_shows_what_the_run_holds(made, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="an extra: pip install 'headstock[report]'")
    from headstock.heads.report.page import write_report

    result = scored(made, on=["image", "audio"], fusions=("stacked",))
    result.save(tmp_path / "run")
    written = write_report([tmp_path / "run"], tmp_path / "r.html")
    page = written.path.read_text("utf-8")
    for line in result.leaderboard:
        assert f'data-value="{line.metrics["rmse"].value}"' in page
    for title in ("Predicted against true", "Residuals", "How far answers are off"):
        assert f"<figcaption>{title}</figcaption>" in page
    for row in result.run.worst:
        assert f'<th scope="row">{row.id}</th>' in page
    assert page.count("<svg") == 3
    assert "http://" not in page.replace("http://www.w3.org", "")
    other = evaluate(
        made, ["lda"], ["audio"], (), target="classes", rare="keep", folds="given:part"
    )
    other.save(tmp_path / "classes")
    with pytest.raises(OptionError, match="some of these runs are of numbers"):
        write_report([tmp_path / "run", tmp_path / "classes"], tmp_path / "r2.html")


def test_a_page_of_hostile_arrays_is_refused(made, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="an extra: pip install 'headstock[report]'")
    import hashlib

    from headstock.heads.report.page import write_report

    result = scored(made, on=["audio"])
    result.save(tmp_path / "run")
    file, metrics = tmp_path / "run" / "oof.npz", tmp_path / "run" / "metrics.json"
    name = result.leaderboard[0].name
    good = {"ids": result.ids.astype(str), "y": result.y, f"said/{name}": result.said[name]}
    for change in ({"y": result.y[:-1]}, {"y": result.y * np.nan}, {"ids": result.y},
                   {f"said/{name}": result.said[name].astype(str)}):  # fmt: skip
        np.savez(file, **{**good, **change})
        body = json.loads(metrics.read_text())
        body["files"]["oof.npz"] = hashlib.sha256(file.read_bytes()).hexdigest()
        metrics.write_text(json.dumps(body))
        with pytest.raises(HeadError, match=r"oof\.npz"):
            write_report([tmp_path / "run"], tmp_path / "r.html")


def test_networks_are_not_adapted_on_numbers(tmp_path: Path, capsys) -> None:
    from headstock.cli import main

    lines = ["image,label", *(f"{i}.png,{i / 7:.3f}" for i in range(30))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(SystemExit) as ended:
        main(["adapt", str(tmp_path / "t.csv"), "--backbone", "cnn4", "-o", str(tmp_path / "w")])
    assert ended.value.code == 2
    assert "adapt: these labels are numbers, and networks are adapted on" in capsys.readouterr().err


def test_the_command_line_says_what_was_found_and_how_to_fit_it(
    made, tmp_path: Path, capsys
) -> None:
    from headstock.cli import main

    store, run = str(made.path), str(tmp_path / "run")
    made.close()
    main(["evaluate", store, "--head", "ridge", "--head", "knn", "--fusion", "mean", "-o", run])
    out, err = capsys.readouterr()
    assert "target: a number from " in out
    assert "ordered by rmse" in out
    assert f"headstock fit {store} --run {run}" in err
    main(["evaluate", store, "--head", "ridge", "--on", "audio", "--target", "number", "--json"])
    body = json.loads(capsys.readouterr().out)
    assert body["settings"]["target"] == "number"
    for wrong in (["--stream"], ["--fusion", "gated"]):
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", store, "--head", "ridge", *wrong])
        assert ended.value.code == 2
        assert capsys.readouterr().err.count("\n") <= 2
