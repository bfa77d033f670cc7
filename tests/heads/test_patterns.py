"""Rows that lack a vector are answered by heads of what they have."""

from __future__ import annotations

import csv
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstock.cli import cli
from headstock.heads import Bundle, evaluate, fit, make_folds
from headstock.heads.evaluate_classes import evaluate_rows
from headstock.heads.fusion.complete import predict_complete
from headstock.heads.fusion.fusions import cross_fuse
from headstock.heads.outoffold.fold_by_fold import cross_fit
from headstock.heads.rows.labelled import Rows
from headstock.store import FAILED, OK, Batch, FeatureStore, Items, Recipe, RowError
from headstock.store.errors import HeadError, IncompleteSet, OptionError

NO_AUDIO = np.arange(0, 160, 5)
NO_IMAGE = np.arange(3, 160, 8)
NEITHER = np.intersect1d(NO_AUDIO, NO_IMAGE)


def absent(rows: Rows) -> Rows:
    """``rows`` without the vectors named above, as ``read_rows`` would give them."""
    present = {name: np.ones(len(rows), dtype=bool) for name in rows.X}
    present["audio"][NO_AUDIO], present["image"][NO_IMAGE] = False, False
    X = {name: np.where(present[name][:, None], x, np.nan) for name, x in rows.X.items()}
    with_any = np.flatnonzero(present["audio"] | present["image"])
    return replace(rows, X=X, present=present).take(with_any)


@pytest.fixture
def lacking_store(tmp_path: Path, rows: Rows):
    """Sounds that nobody has, pictures that failed to decode, and rows with neither."""
    items = Items.of(list(rows.ids), label=[str(c) for c in rows.classes[rows.codes]])
    with FeatureStore.open(tmp_path / "lacking.h5", "a") as store:
        store.register(items)
        for name, X in rows.X.items():
            store.declare(name, Recipe(name, {"width": X.shape[1]}), X.shape[1])
            there = np.setdiff1d(np.arange(160), NO_AUDIO) if name == "audio" else np.arange(160)
            status = np.full(len(there), OK, dtype=np.uint8)
            failed = np.isin(there, NO_IMAGE) if name == "image" else np.zeros(len(there), bool)
            status[failed] = FAILED
            digest = np.zeros((len(there), 32), dtype=np.uint8)
            digest[:, :4] = there.astype("<u4").view(np.uint8).reshape(-1, 4)
            ids = [str(i) for i in rows.ids[there]]
            errors = [
                RowError(name, i, "decode", "cannot be read") for i, f in zip(ids, failed) if f
            ]
            told = [(e.id, e.code, e.line) for e in errors]
            stat = np.full((len(there), 2), -1, dtype=np.int64)
            store.commit(name, Batch(ids, digest, stat, X[there], status, told))
        yield store


def test_a_base_head_learns_from_all_rows_that_have_its_sets(rows: Rows) -> None:
    lacking = absent(rows)
    plan = make_folds(lacking.codes, 4, ids=lacking.ids)
    result = evaluate_rows(lacking, ["logistic"], ["image", "audio", "image+audio"], [], plan)
    for name in ("image", "audio", "image+audio"):
        has = np.flatnonzero(lacking.having(name.split("+")))
        only = lacking.only(name.split("+"))
        X, spans = only.matrix(name)
        slow = cross_fit("logistic", X, spans, only.codes, 4, plan.take(has)).proba[0]
        whole = result.proba[f"logistic@{name}"]
        np.testing.assert_allclose(whole[has], slow, atol=1e-5)
        if name != "image+audio":
            assert np.isnan(whole[~lacking.having([name])]).all()
    early = result.proba["logistic@image+audio"]
    assert np.isfinite(early).all()
    for one in ("image", "audio"):
        alone = lacking.patterns() == one
        np.testing.assert_array_equal(early[alone], result.proba[f"logistic@{one}"][alone])


def test_fusions_by_pattern_use_what_is_there(rows: Rows) -> None:
    lacking = absent(rows)
    plan = make_folds(lacking.codes, 4, ids=lacking.ids, strata=lacking.patterns())
    fusions = ["mean", "weighted", "stacked", "gated"]
    result = evaluate_rows(
        lacking, ["logistic", "knn"], ["image", "audio"], fusions, plan, nested=False
    )
    own = lacking.patterns()
    both = np.flatnonzero(own == "image+audio")
    for fusion in ("mean", "weighted", "gated"):
        name = f"logistic@image+audio:{fusion}"
        for one in ("image", "audio"):
            alone = own == one
            np.testing.assert_array_equal(
                result.proba[name][alone], result.proba[f"logistic@{one}"][alone]
            )
        P = np.stack([result.proba[f"logistic@{o}"][both] for o in ("image", "audio")], axis=1)
        fused = cross_fuse(fusion, P[None], lacking.codes[both], plan.codes[:, both])[0]
        np.testing.assert_allclose(result.proba[name][both], fused, atol=1e-9)
    # a stack of two heads has two members left where a set is absent, and learns from all its rows
    has = np.flatnonzero(lacking.having(["image"]))
    P = np.stack([result.proba[f"{h}@image"][has] for h in ("logistic", "knn")], axis=1)
    fused = cross_fuse("stacked", P[None], lacking.codes[has], plan.codes[:, has])[0]
    alone = own[has] == "image"
    said = result.proba["all@image+audio:stacked"][has][alone]
    np.testing.assert_allclose(said, fused[alone], atol=1e-9)


def test_an_absent_vector_is_never_read(rows: Rows) -> None:
    """Whatever stands where nothing is: no answer changes."""
    lacking = absent(rows)
    junk = {name: np.where(np.isnan(x), 1e6, x).astype(np.float32) for name, x in lacking.X.items()}
    plan = make_folds(lacking.codes, 4, ids=lacking.ids)
    fusions = ["mean", "stacked", "gated"]
    said = [
        evaluate_rows(one, ["logistic", "lda"], ["image", "audio", "image+audio"], fusions, plan)
        for one in (lacking, replace(lacking, X=junk))
    ]
    for name, proba in said[0].proba.items():
        np.testing.assert_array_equal(proba, said[1].proba[name])


def test_scores_by_pattern_from_a_store(lacking_store) -> None:
    result = evaluate(
        lacking_store, ("logistic", "knn"), fusions=("mean", "stacked", "gated"),
        missing="patterns", folds=4,
    )  # fmt: skip
    n = 160 - len(NEITHER)
    assert len(result.ids) == n
    whole = [r for r in result.leaderboard if r.n == n]
    less = [r for r in result.leaderboard if r.n < n]
    assert list(result.leaderboard[: len(whole)]) == whole
    assert {r.on for r in less} == {"image", "audio"}
    counts = {
        "image+audio": 160 - len(np.union1d(NO_AUDIO, NO_IMAGE)),
        "image": len(NO_AUDIO) - len(NEITHER),
        "audio": len(NO_IMAGE) - len(NEITHER),
    }
    for row in whole:
        assert {p: s.n for p, s in row.patterns.items()} == counts
        assert sum(s.errors for s in row.patterns.values()) == row.errors
    for row in less:
        assert set(row.patterns) == {"image+audio", row.on}
    assert result.run.settings.rows.excluded_incomplete == len(NEITHER)
    assert result.run.settings.rows.missing == {"image": len(NO_IMAGE), "audio": len(NO_AUDIO)}
    compared = {c.b: c.n for c in result.run.comparisons}
    assert compared["knn@image"] == 160 - len(NO_IMAGE)
    text = result.text()
    assert "rows with image alone" in text
    assert "rows with image and audio" in text
    with pytest.raises(IncompleteSet, match="--missing patterns"):
        evaluate(lacking_store, ("knn",))
    with pytest.raises(OptionError, match="refuse, exclude, patterns"):
        evaluate(lacking_store, ("knn",), missing="zeros")


@pytest.mark.parametrize("fusion", [None, "mean", "weighted", "stacked", "gated", "learned"])
def test_a_model_answers_each_row_by_what_it_has(
    fusion: str | None, lacking_store, tmp_path: Path
) -> None:
    options = {"learned": {"max_iter": 3, "hidden_layer_sizes": 8}} if fusion == "learned" else None
    heads = ["logistic", "knn"] if fusion in ("stacked", "gated") else None
    bundle = fit(
        lacking_store, "logistic", "image+audio", fusion, heads,
        missing="patterns", options=options,
    )  # fmt: skip
    assert list(bundle.patterns) == ["image+audio", "image", "audio"]
    bundle.save(tmp_path / "m")
    back = Bundle.load(tmp_path / "m")
    said, lines = predict_complete(back, lacking_store)
    assert len(said) == 160 - len(NEITHER)
    assert said.answered_by is not None
    by = dict(zip(said.ids, said.answered_by))
    assert by["r0005"] == "image"
    assert by["r0003"] == "audio"
    assert by["r0001"] == "image+audio"
    here, _ = predict_complete(bundle, lacking_store)
    np.testing.assert_array_equal(said.proba, here.proba)
    np.testing.assert_allclose(said.proba.sum(axis=1), 1)
    assert any("no image vector (decode: cannot be read)" in line for line in lines)
    header, first, *_ = said.to_csv().splitlines()
    assert header.endswith(",answered_by")
    assert first.endswith(",image+audio") or first.endswith(",image")
    image = lacking_store.feature_set("image").x(np.array([1, 5]))
    np.testing.assert_array_equal(
        back.predict_arrays({"image": image})[1], said.proba[list(said.ids).index("r0005")]
    )


def test_a_store_without_one_of_the_sets(lacking_store, tmp_path: Path, make_store, rows) -> None:
    bundle = fit(lacking_store, "logistic", missing="patterns")
    only = replace(rows, X={"image": rows.X["image"]})
    with make_store(tmp_path / "image.h5", only) as store:
        said, lines = predict_complete(bundle, store)
        assert set(said.answered_by) == {"image"}
        assert lines == []
        store.register(Items.of(["late"]))
        _, lines = predict_complete(bundle, store)
        assert lines == [
            "not predicted: late: no image vector (no file is named for it)",
            "no row has a vector in audio: the store has no such set",
        ]
        whole = fit(store, "logistic", missing="patterns")
        assert not whole.patterns


def test_too_few_rows_of_a_pattern_are_named(rows: Rows) -> None:
    lacking = absent(rows)
    plan = make_folds(lacking.codes, "given", given=lacking.having(["audio"]).astype(str))
    with pytest.raises(HeadError, match="lie in 1 of 2 folds"):
        evaluate_rows(lacking, ["knn"], ["audio"], [], plan)


def _tone(path: Path, hertz: float, seed: int) -> None:
    t = np.arange(4000) / 8000
    noise = np.random.default_rng(seed).normal(size=4000)
    samples = (8000 * np.sin(2 * np.pi * hertz * t) + 900 * noise).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(samples.tobytes())


def test_from_broken_files_to_predictions_on_the_command_line(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    """Sounds that are broken or not there, and a table that has no sounds at all."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    lines = ["id,audio,label,m_1,m_2,m_3"]
    for i in range(60):
        label = i % 3
        audio = "" if i % 10 == 4 else f"{i}.wav"
        if audio and i % 10 == 7:
            Path(audio).write_bytes(b"RIFF nothing of the kind")
        elif audio:
            _tone(Path(audio), 300 * (label + 1), i)
        cells = ",".join(f"{v:.3f}" for v in rng.normal(size=3) + label)
        lines.append(f"r{i:02d},{audio},{'abc'[label]},{cells}")
    Path("index.csv").write_text("\n".join(lines) + "\n")

    def run(*words: str) -> tuple[str, int]:
        code = 0
        try:
            cli.main(list(words), prog_name="headstock", standalone_mode=False)
        except SystemExit as end:
            code = int(end.code or 0)
        return capsys.readouterr().out, code

    _, code = run("extract", "index.csv", "-o", "f.h5", "--audio", "mfcc", "--columns", "m_*",
                  "--as", "table", "-j", "1", "-q")  # fmt: skip
    assert code == 3  # six sounds failed
    words = "evaluate f.h5 --head lda --head knn --missing patterns --folds 3 -o run"
    out, code = run(*words.split(), "--fusion", "weighted", "--fusion", "gated")
    assert code == 0
    assert "rows with table alone, 12:" in " ".join(out.split())
    run("fit", "f.h5", "--head", "lda", "--fusion", "weighted", "--missing", "patterns",
        "-o", "m.headstock", "-q")  # fmt: skip
    out, code = run("predict", "m.headstock", "f.h5")
    assert code == 0  # every row has something
    table = list(csv.DictReader(out.splitlines()))
    assert {r["id"] for r in table if r["answered_by"] == "table"} == {
        f"r{i:02d}" for i in range(60) if i % 10 in (4, 7)
    }
    right = sum(r["prediction"] == "abc"[int(r["id"][1:]) % 3] for r in table)
    assert right > 40

    plain = [",".join(np.delete(line.split(","), 1)) for line in lines]
    Path("plain.csv").write_text("\n".join(plain) + "\n")
    out, code = run("predict", "m.headstock", "plain.csv", "-q")
    assert code == 0
    said = list(csv.DictReader(out.splitlines()))
    assert {r["answered_by"] for r in said} == {"table"}
    by_id = {r["id"]: r for r in table}
    assert said[4]["p_a"] == by_id["r04"]["p_a"]
