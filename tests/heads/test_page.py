"""The HTML report: what is on it, that text stays text, and that broken inputs cost themselves."""

import io
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import some_run
import soundfile
from PIL import Image

from headstock.heads.report.page import write_report
from headstock.heads.report.page.markup import h, json_block, text
from headstock.heads.report.page.media import clip, thumbnail
from headstock.heads.run.folder import read_run, write_run
from headstock.heads.run.run import Run
from headstock.store import FeatureStore
from headstock.store.disk.batch import Batch
from headstock.store.errors import HeadError, ItemError, OptionError
from headstock.store.items import Items
from headstock.store.recipe import Recipe

pytest.importorskip("matplotlib", reason="the report is an extra: pip install 'headstock[report]'")

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "' onmouseover='alert(3)",
    "</script><script>alert(4)</script>",
    "\x1b[31mred\x07",
    "$\\bad{$ &amp; <b>",
    "\u202egnp.exe",
    "=cmd|' /C calc'!A0",
]


def _files(folder: Path, n: int) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(0)
    pictures, sounds = [], []
    for i in range(n):
        pictures.append(f"{i}.png")
        sounds.append(f"{i}.wav")
        pixels = rng.integers(0, 255, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / pictures[-1])
        wave = np.sin(np.arange(12_000) * 0.02 * (i + 1)).astype(np.float32)
        soundfile.write(folder / sounds[-1], 0.5 * wave, 8000)
    return pictures, sounds


def make_run(folder: Path, names: list[str], n: int = 40, **more_parts: Any) -> Path:
    """A store with files and a run folder over it, as ``extract`` and ``evaluate`` leave them;
    ``names`` go to classes, ids, systems, recipes and error lines. more_parts: of the run, as plain
    data; ``first``: of its first line."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(1)
    pictures, sounds = _files(folder, n)
    k = len(names)
    ids = [f"{i} {names[i % k]}" for i in range(n)]
    codes = np.arange(n) % k
    x = rng.standard_normal((n, 6)).astype(np.float32) + codes[:, None]
    digest = rng.integers(0, 255, (n, 32), dtype=np.uint8)
    digest[1] = digest[0]
    status = np.ones(n, dtype=np.uint8)
    status[n - 1] = 2
    items = Items.of(
        ids,
        paths={"image": pictures, "audio": sounds},
        label=[names[c] for c in codes],
        root=str(folder),
    )
    with FeatureStore.open(folder / "features.h5", "a") as store:
        store.register(items)
        store.declare("image", Recipe("image", {"name": names[0]}), 6)
        failed = [(ids[-1], "corrupt", f"broken: {names[-1]}")]
        stat = np.full((n, 2), -1, dtype=np.int64)
        store.commit("image", Batch(ids, digest, stat, x, status, failed))
    classes, codes = np.unique([names[c] for c in codes], return_inverse=True)
    proba = {f"{names[0]}@image": _proba(rng, codes, k, 2.0), "knn@image": _proba(rng, codes, k, 1)}
    run = folder / "run"
    run.mkdir(exist_ok=True)
    arrays = {f"proba/{i}": p for i, p in enumerate(proba.values())}
    board = []
    for number, (key, name) in enumerate(zip(arrays, proba)):
        predicted = arrays[key].argmax(axis=1)
        of_class = [
            {"n": int(mine.sum()), "errors": int((mine & (predicted != c)).sum()), "recall": 0.5,
             "precision": None, "interval": [0.2, 0.8]}
            for c, mine in enumerate(codes == np.arange(k)[:, None])
        ]  # fmt: skip
        more = {"fusion": names[0] if number else None, "name": str(number)}
        wrong = int((predicted != codes).sum())
        board.append(some_run.line(name, n, wrong, per_class=of_class, **more))
    (run / "oof.npz").write_bytes(npz(ids=np.array(ids), codes=codes, classes=classes, **arrays))
    parts = {
        "folds": {"folds": 2, "kind": names[0]},
        "settings": {"store": str(folder / "features.h5"), "heads": names},
        "recipes": {
            names[0]: {"modality": "image", "fingerprint": "f", "fields": {names[0]: names}}
        },
        **more_parts,
    }
    board[0] |= parts.pop("first", {})
    keep(run, some_run.run(board, [str(c) for c in classes], **parts))
    return run


def npz(**arrays: np.ndarray) -> bytes:
    held = io.BytesIO()
    np.savez(held, **arrays)
    return held.getvalue()


def keep(folder: Path, run: Run) -> None:
    """Write the run with the arrays that lie in its folder."""
    write_run(folder, run, {path.name: path.read_bytes() for path in folder.glob("*.npz")})


def _proba(rng: np.random.Generator, codes: np.ndarray, k: int, sure: float) -> np.ndarray:
    raw = np.exp(rng.standard_normal((len(codes), k)) + sure * np.eye(k)[codes])
    return raw / raw.sum(axis=1, keepdims=True)


class Page(HTMLParser):
    """The elements of a page, with all text and every attribute."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def test_report_shows_the_run(tmp_path):
    run = make_run(tmp_path / "a", ["cat", "dog", "cow"])
    told = write_report([run], tmp_path / "page.html")
    source = (tmp_path / "page.html").read_text()
    page, words = Page(source), " ".join(Page(source).said)
    assert told.bytes == len(source.encode())
    assert told.pictures == 40
    assert told.sounds > 10
    assert told.text().startswith(str(tmp_path / "page.html"))
    for part in (
        "Leaderboard", "Which of these differ", "Which errors they share", "Confidently wrong",
        "Least confident", "Likely mislabelled", "Duplicates", "Failed rows", "Map of image",
        "Reliability of 0", "Accuracy against coverage", "Settings", "2 rows, the same bytes",
    ):  # fmt: skip
        assert part in words, part
    assert "Learning curve" not in words
    cut = [said for said in page.said if said.strip().endswith("…") and len(said) > 100]
    assert not cut  # what we say ourselves is said to its end
    assert page.count("svg") >= 4
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:  # whatever can be pressed has a name, a picture its words
        if tag == "img":
            assert attributes["alt"]


def alike(*first: list[str]) -> dict[str, Any]:
    counts = ("clusters", "rows", "other_label", "across_folds", "across_splits")
    return {**dict.fromkeys(counts, 1), "first": list(first)}


COMPARED = {
    "n": 40, "repeats": 1, "only_a_right": 7, "only_b_right": 5, "shared_errors": 3,
    "same_answer": 2, "mcnemar_p": 0.5, "by": "rows",
    "accuracy_difference": {"value": 0.05, "low": -0.02, "high": 0.1},
    "log_loss_difference": {"value": 0.05, "low": None, "high": None},
}  # fmt: skip


def test_optional_parts_are_drawn_when_the_run_has_them(tmp_path):
    gate = {
        "first": "0", "second": "1", "curve": [[0, 0.5], [4, 0.6], [40, 0.4]], "k": 4,
        "share": 0.1, "threshold": 0.5, "first_accuracy": 0.5, "apparent_accuracy": 0.6,
        "nested_accuracy": 0.55, "verdict": "the gate may help", "best": "1",
        "best_accuracy": 0.525, "adjusted_p": 0.3, "against_best": COMPARED,
    }  # fmt: skip
    run = make_run(
        tmp_path / "a", ["cat", "dog"], first={"gate": gate},
        learning_curve=[
            {
                "system": "0", "n": n, "log_loss": 0.5,
                "accuracy": {"value": n / 100, "low": 0.1, "high": 0.9},
            }
            for n in (10, 20, 40)
        ],
        hygiene={
            "near": {"audio": alike(["0 cat", "1 dog"], ["0 cat", "1 dog"])},
            "label_doubts": [{"id": "3 dog", "label": "dog", "likely": "cat", "quality": 0.1}],
        },
        comparisons=[
            {**COMPARED, "a": "0", "b": "1", "adjusted_p": 0.77, "verdict": "not distinguishable"}
        ],
    )  # fmt: skip
    write_report([run], tmp_path / "page.html")
    words = " ".join(Page((tmp_path / "page.html").read_text()).said)
    for part in (
        "Learning curve",
        "Gate of 0",
        "the gate may help. Its best system alone, 1: 52.50 %.",
        "2 rows, alike in audio",
        "suggested: cat",
        "p 0.770, −5.0 % (−10.0 to +2.0)",
    ):
        assert part in words, part


def test_weights_patterns_and_findings_are_shown(tmp_path):
    columns = [{"name": 4, "share": 0.2, "sd": 0.05}, {"name": 0, "share": 0.1, "sd": 0.0}]
    others = [{"name": HOSTILE[1], "share": 0.5}, {"name": "w1_mfcc2", "share": 0.004}]
    importances = {
        "image": {"share": 0.3, "width": 6, "sd": 0.01, "columns": columns},
        HOSTILE[0]: {"share": 0.7, "width": 18, "columns": others},
    }
    some, few = some_run.line(n=30, errors=3), some_run.line(n=10, errors=5)
    some["accuracy"] = {"value": 0.9, "low": 0.7, "high": 0.98}
    few["accuracy"] = {"value": 0.5, "low": 0.2, "high": 0.8}
    patterns = {"image+audio": some_run.scores(some), "image": some_run.scores(few)}
    guess = some_run.line("guessing", 40, 20, seconds=None, how="", on="-", accuracy={
        "value": 0.5, "low": 0.34, "high": 0.66
    })  # fmt: skip
    run = make_run(
        tmp_path / "a", ["cat", "dog"], first={"importances": importances, "patterns": patterns},
        selection={
            "leader": "0", "systems": 2, "apparent": 0.9, "optimism": 0.0123, "by": "rows",
            "nested": {"value": 0.8877, "low": 0.8, "high": 0.95}, "wins": [["0", 0.75]],
        },
        checks=[
            {"code": "HS05", "title": "a column that tells the label", "found": HOSTILE[0],
             "do": "look"}
        ],
        baseline=guess,
        fold_table=[[{"n": 21, "classes": [10, 11]}, {"n": 19, "classes": [10, 9]}]],
    )  # fmt: skip
    write_report([run], tmp_path / "page.html")
    source = (tmp_path / "page.html").read_text()
    words = " ".join(Page(source).said)
    for part in (
        "Checks", "HS05, a column that tells the label: ",
        "What weighs", "Weights of 0", "6, 25.0 %", "30.0 % ± 1.0 %", "70.0 %", "column 4",
        "20.0 % ± 5.0 %", "w1_mfcc2", "0.40 %", "Rows that lack a set", "image and audio",
        "0.200 to 0.800", "In words", "0.8877", "flatters the first line by +0.0123",
        "a fold holds out 19 to 21 rows, 9 to 11 of a class", "guessing", "0.340 to 0.660",
    ):  # fmt: skip
        assert part in words, part
    assert "<script>alert" not in source
    assert "onerror=alert" not in "".join(f"{t}{a}" for t, a in Page(source).tags if t != "p")


def test_several_runs_are_compared_on_the_rows_they_share(tmp_path):
    runs = [make_run(tmp_path / "a", ["cat", "dog"]), make_run(tmp_path / "b", ["cat", "dog"], 30)]
    write_report(runs, tmp_path / "page.html")
    words = " ".join(Page((tmp_path / "page.html").read_text()).said)
    assert "30 shared rows" in words
    assert "run (2): 0" in words


def test_text_from_data_stays_text(tmp_path):
    run = make_run(tmp_path / "a", HOSTILE)
    write_report([run], tmp_path / "page.html")
    source = (tmp_path / "page.html").read_text()
    page = Page(source)
    assert page.count("script") == 2  # the data and the page's own
    assert not [a for _, a in page.tags for key in a if key.startswith("on")]
    assert not [a for _, a in page.tags if str(a.get("src", "data:")).startswith("x")]
    assert "\x1b" not in source
    assert "\u202e" not in source
    assert "\\x1b[31mred" in source
    assert "<script>alert" not in source
    assert "alert(1)" in " ".join(page.said)


def test_the_policy_lets_only_the_own_script_run_and_nothing_be_fetched(tmp_path):
    write_report([make_run(tmp_path / "a", ["cat", "dog"])], tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text())
    (policy,) = [a["content"] for _, a in page.tags if a.get("http-equiv")]
    assert policy.startswith("default-src 'none'; img-src data:")
    assert "script-src 'sha256-" in policy
    assert "http" not in policy


def test_limit_of_bytes_is_kept_and_told(tmp_path):
    run = make_run(tmp_path / "a", ["cat", "dog"])
    told = write_report([run], tmp_path / "page.html", media_mb=0.02)
    assert 0 < told.pictures < 40
    assert told.left_out > 0
    assert "were left out" in (tmp_path / "page.html").read_text()


def test_broken_absent_and_outside_files_cost_themselves_only(tmp_path):
    run = make_run(tmp_path / "a", ["cat", "dog"])
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
    (tmp_path / "a/0.png").write_bytes(b"\x89PNG broken")
    (tmp_path / "a/1.png").unlink()
    (tmp_path / "a/2.png").unlink()
    (tmp_path / "a/2.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "a/3.wav").write_bytes(b"RIFF")
    told = write_report([run], tmp_path / "page.html", gallery_size=40)
    assert told.pictures == 37
    assert told.unreadable == 4
    source = (tmp_path / "page.html").read_text()
    assert "cannot be shown: leads out of the data root" in source
    assert "cannot be shown: no such file" in source


def test_many_classes_are_cut_and_said(tmp_path):
    run = make_run(tmp_path / "a", [f"class {c}" for c in range(130)], 130)
    write_report([run], tmp_path / "page.html")
    words = " ".join(Page((tmp_path / "page.html").read_text()).said)
    assert "The 24 of 130 classes with the most errors" in words
    assert "without the 30 that have the fewest errors" in words
    assert "89 more classes are on the map" in words  # the last row failed


def test_copies_across_the_test_split_are_shown(tmp_path):
    run = make_run(tmp_path / "a", ["cat", "dog"])
    with np.load(run / "oof.npz") as held:
        arrays = {name: held[name] for name in held.files}
    every, test = np.ones(40, dtype=bool), np.arange(40) == 1  # row 1 has the bytes of row 0
    for name, rows in {"oof.npz": every & ~test, "test.npz": test}.items():
        cut = {k: v if k == "classes" else v[rows] for k, v in arrays.items()}
        (run / name).write_bytes(npz(**cut))
    keep(run, read_run(run))
    write_report([run], tmp_path / "page.html")
    words = " ".join(Page((tmp_path / "page.html").read_text()).said)
    assert "test split" in words
    assert "different labels" in words


@pytest.mark.slow
def test_umap_draws_the_map(tmp_path):
    pytest.importorskip("umap", reason="an extra: pip install 'headstock[umap]'")
    run = make_run(tmp_path / "a", ["cat", "dog"])
    write_report([run], tmp_path / "page.html", projection="umap")
    assert "Neighbours by UMAP" in (tmp_path / "page.html").read_text()


def test_without_its_store_a_run_is_still_reported(tmp_path):
    run = make_run(tmp_path / "a", ["cat", "dog"])
    (tmp_path / "a/features.h5").unlink(missing_ok=True)
    for left in (tmp_path / "a").glob("features.h5*/*"):
        left.unlink()
    for left in (tmp_path / "a").glob("features.h5*"):
        left.rmdir()
    told = write_report([run], tmp_path / "page.html")
    assert told.pictures == 0
    assert "name it with --store" in told.text()


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(OptionError, match="is no run folder"):
        write_report([tmp_path], tmp_path / "page.html")
    with pytest.raises(OptionError, match="one of pca, umap"):
        write_report([tmp_path], tmp_path / "page.html", projection="tsne")
    run = make_run(tmp_path / "a", ["cat", "dog"])
    (run / "oof.npz").write_bytes(b"no zip")
    with pytest.raises(HeadError, match="another evaluation"):
        write_report([run], tmp_path / "page.html")
    keep(run, read_run(run))
    with pytest.raises(HeadError, match=r"oof\.npz: cannot be read"):
        write_report([run], tmp_path / "page.html")


def test_matplotlib_missing_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(OptionError, match="pip install 'headstock\\[report\\]'"):
        write_report([tmp_path], tmp_path / "page.html")


@pytest.mark.parametrize("word", HOSTILE)
def test_markup_escapes(word):
    page = Page(h("p", word, title=word, data_x=word))
    assert [tag for tag, _ in page.tags] == ["p"]
    assert set(page.tags[0][1]) == {"title", "data-x"}
    assert "<" not in json_block("d", [word]).split(">", 1)[1].removesuffix("</script>")


def test_markup_keeps_spaces_at_the_ends_and_cuts_what_is_long():
    assert text(" a\nb ") == " a b "
    assert len(text("x" * 1000)) == 400


def test_thumbnail_has_no_metadata_and_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "where I live"
    Image.new("RGB", (400, 200), "red").save(tmp_path / "a.jpg", exif=exif)
    kind, data = thumbnail((tmp_path / "a.jpg").open("rb"))
    assert kind in ("image/webp", "image/jpeg")
    with Image.open(io.BytesIO(data)) as small:
        assert small.size == (64, 128)
        assert not small.getexif()
    assert b"where I live" not in data


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16", "F", "1"])
def test_thumbnail_of_each_mode(tmp_path, mode):
    path = tmp_path / ("a.tiff" if mode in ("CMYK", "F") else "a.png")
    Image.new(mode, (50, 20)).save(path)
    assert thumbnail(path.open("rb"))[1]


@pytest.mark.parametrize(("rate", "channels"), [(6000, 1), (8000, 2), (44_100, 1), (96_000, 3)])
def test_clip_is_short_mono_and_plays(tmp_path, rate, channels):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (6 * rate, channels))
    soundfile.write(tmp_path / "a.wav", sound, rate)
    made = clip((tmp_path / "a.wav").open("rb"))
    assert made.cut
    assert made.seconds == 4.0
    assert len(made.bars) == 40
    back, played = soundfile.read(io.BytesIO(made.data))
    assert played == 16_000
    assert back.ndim == 1
    assert 3.9 < len(back) / played < 4.2


def test_clip_refuses_what_is_no_sound(tmp_path):
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    (tmp_path / "text.wav").write_text("hello")
    for name in ("empty.wav", "text.wav"):
        with pytest.raises(ItemError):
            clip((tmp_path / name).open("rb"))
