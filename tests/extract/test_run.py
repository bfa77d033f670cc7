"""``extract``: what is computed, what is not, what is recorded, and what the account says."""

import json
import os
import signal
import threading
import time

import numpy as np
import pytest
from counting import CountingEncoder, vector_of

from headstock.extract import Status, extract
from headstock.extract.pipeline.account import SetAccount
from headstock.extract.pipeline.run import Terminated
from headstock.store import FAILED, OK, FeatureStore, Items
from headstock.store.errors import (
    EncoderError,
    ManifestError,
    OptionError,
    RecipeMismatch,
    StorageError,
    TooManyFailures,
)
from headstock.store.progress import Progress


@pytest.fixture
def store(tmp_path):
    with FeatureStore.open(tmp_path / "features.h5", "a") as opened:
        yield opened


def items_of(root, names=None, ids=None, **columns) -> Items:
    names = sorted(os.listdir(root)) if names is None else list(names)
    return Items.of(ids or names, paths={"image": names}, root=str(root), **columns)


def go(store, items, encoder=None, **options):
    encoder = encoder or CountingEncoder()
    options = {"workers": 0, "batch_size": 4, **options}
    return encoder, extract(store, items, {"image": encoder}, **options)


def codes(store) -> dict[str, str]:
    return {error.id: error.code for error in store.errors("image")}


# --- what is computed


@pytest.mark.parametrize("workers", [0, 2])
def test_every_row_gets_the_vector_of_its_bytes(store, folder, workers):
    encoder, account = go(store, items_of(folder), workers=workers)
    x = store.feature_set("image").x()
    expected = [vector_of((folder / name).read_bytes()) for name in sorted(os.listdir(folder))]
    assert np.array_equal(x, expected)
    assert encoder.calls == [4, 4, 4]
    assert (account.done, account.reused, account.failed) == (12, 0, 0)
    assert account.calls == 3


def test_nothing_is_done_twice(store, folder):
    go(store, items_of(folder))
    encoder, account = go(store, items_of(folder))
    assert encoder.calls == []
    assert (account.done, account.reused) == (0, 12)


def test_an_unchanged_file_is_not_even_opened(store, folder):
    go(store, items_of(folder))
    marks = folder.parent / "marks"
    marks.mkdir()
    go(store, items_of(folder), CountingEncoder(marks=str(marks)))
    assert os.listdir(marks) == []


def test_new_rows_are_added(store, folder):
    go(store, items_of(folder))
    (folder / "12").write_bytes(b"new")
    encoder, account = go(store, items_of(folder))
    assert encoder.calls == [1]
    assert (account.done, account.reused) == (1, 12)


def test_a_touched_file_is_read_and_not_encoded(store, folder):
    go(store, items_of(folder))
    os.utime(folder / "03", ns=(1, 1))
    encoder, account = go(store, items_of(folder))
    assert encoder.calls == []
    assert account.reused == 12
    marks = folder.parent / "marks"
    marks.mkdir()
    go(store, items_of(folder), CountingEncoder(marks=str(marks)))  # the new time is known now
    assert os.listdir(marks) == []


def test_a_changed_file_is_computed_again(store, folder):
    go(store, items_of(folder))
    (folder / "03").write_bytes(b"changed!")
    encoder, account = go(store, items_of(folder))
    assert encoder.calls == [1]
    assert account.done == 1
    assert np.array_equal(store.feature_set("image").x()[3], vector_of(b"changed!"))


def test_a_row_that_points_at_a_neighbour_of_equal_size_and_time_is_another_row(store, folder):
    for name in ("00", "01"):
        os.utime(folder / name, ns=(5, 5))
    go(store, items_of(folder, ["00"], ids=["row"]))
    with pytest.raises(ManifestError, match=r"1 id is in .* with another file and other bytes"):
        go(store, items_of(folder, ["01"], ids=["row"]))
    assert store.items.paths["image"].tolist() == ["00"]
    assert np.array_equal(store.feature_set("image").x()[0], vector_of(b"file 0"))


def test_new_content_with_the_old_size_and_time_is_noticed(store, folder):
    go(store, items_of(folder))
    before = (folder / "03").stat()
    time.sleep(0.02)  # the clock of the file system ticks every few milliseconds
    (folder / "03").write_bytes(b"FILE 3")
    os.utime(folder / "03", ns=(before.st_atime_ns, before.st_mtime_ns))
    encoder, _ = go(store, items_of(folder))
    assert encoder.calls == [1]


def test_moved_files_are_known_by_their_bytes(store, folder):
    go(store, items_of(folder))
    moved = folder.parent / "moved"
    moved.mkdir()
    for name in os.listdir(folder):
        (moved / f"x{name}").write_bytes((folder / name).read_bytes())
    ids = sorted(os.listdir(folder))
    encoder, account = go(store, items_of(moved, [f"x{i}" for i in ids], ids=ids))
    assert encoder.calls == []
    assert account.reused == 12


def test_the_same_bytes_under_other_ids_are_encoded_once(store, folder):
    for i in range(12, 18):
        (folder / f"{i:02d}").write_bytes(b"file 0")
    encoder, account = go(store, items_of(folder))
    assert sum(encoder.calls) == 12
    assert (account.done, account.reused) == (12, 6)
    assert account.sets["image"].encoded == 12
    x = store.feature_set("image").x()
    assert all(np.array_equal(x[0], x[i]) for i in range(12, 18))
    encoder, account = go(store, items_of(folder, ["00"], ids=["again"]))
    assert encoder.calls == []


def test_rows_that_share_a_path_read_it_once(store, folder, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    names = [f"{i % 3:02d}" for i in range(30)]
    items = items_of(folder, names, ids=[f"row{i}" for i in range(30)])
    encoder, account = go(store, items, CountingEncoder(marks=str(marks)))
    assert len(os.listdir(marks)) == 3
    assert sum(encoder.calls) == 3
    assert (account.done, account.reused) == (3, 27)


def test_rows_without_a_path_are_counted_and_left(store, folder):
    items = Items.of(["a", "b"], paths={"image": ["00", ""]}, root=str(folder))
    _, account = go(store, items)
    assert account.sets["image"].missing == 1
    assert store.complete("image").tolist() == [True, False]


def test_limit_counts_rows_and_says_what_is_left(store, folder):
    encoder, account = go(store, items_of(folder), limit=5)
    assert sum(encoder.calls) == 5
    assert (account.done, account.sets["image"].left) == (5, 7)
    encoder, account = go(store, items_of(folder), limit=5)
    assert (account.done, account.reused, account.sets["image"].left) == (5, 5, 2)


def test_two_sets_of_one_modality(store, folder):
    a, b = CountingEncoder(dim=4), CountingEncoder(dim=6)
    account = extract(store, items_of(folder), {"small": a, "large": b}, workers=0)
    assert store.feature_set("small").x().shape == (12, 4)
    assert store.feature_set("large").x().shape == (12, 6)
    assert set(account.sets) == {"small", "large"}


def test_another_recipe_is_refused_and_overwrite_replaces_it(store, folder):
    go(store, items_of(folder))
    with pytest.raises(RecipeMismatch, match="version: 1 -> 2"):
        go(store, items_of(folder), CountingEncoder(version=2))
    encoder, _ = go(store, items_of(folder), CountingEncoder(version=2), overwrite=True)
    assert sum(encoder.calls) == 12
    encoder, _ = go(store, items_of(folder), CountingEncoder(version=2), overwrite=True)
    assert encoder.calls == []  # made this way already: an interrupted overwrite goes on


def test_the_store_remembers_what_made_the_set(store, folder):
    go(store, items_of(folder))
    assert store.feature_set("image").provenance["name"] == "counting"


# --- failures


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_file_costs_its_row_and_is_named_once(store, folder, workers):
    (folder / "02").write_bytes(b"bad")
    (folder / "05").write_bytes(b"bug")
    (folder / "07").write_bytes(b"nan")
    (folder / "09").unlink()
    items = items_of(folder, [f"{i:02d}" for i in range(12)])
    _, account = go(store, items, workers=workers)
    expected = {"02": "bad", "05": "loader-error", "07": "not-finite", "09": "missing"}
    assert codes(store) == expected
    assert (account.done, account.failed) == (8, 4)
    assert sorted(f.id for f in account.failures) == sorted(expected)
    assert account.sets["image"].codes == dict.fromkeys(expected.values(), 1)
    assert all("\n" not in f.line for f in account.failures)
    status = store.progress("image").status
    assert (status == FAILED).sum() == 4
    assert (status == OK).sum() == 8


def test_failed_rows_are_not_retried_until_something_changes(store, folder, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    (folder / "02").write_bytes(b"bad")
    items = items_of(folder, [f"{i:02d}" for i in range(13)])  # 12 is missing
    go(store, items)
    _, account = go(store, items, CountingEncoder(marks=str(marks)))
    assert os.listdir(marks) == []
    assert [(f.id, f.code, f.known) for f in account.failures] == [
        ("02", "bad", True),
        ("12", "missing", True),
    ]
    _, account = go(store, items, CountingEncoder(marks=str(marks)), retry_failed=True)
    assert len(os.listdir(marks)) == 1
    assert account.failed == 2
    (folder / "02").write_bytes(b"good now")
    (folder / "12").write_bytes(b"here now")
    encoder, account = go(store, items)
    assert sum(encoder.calls) == 2
    assert account.failed == 0
    assert codes(store) == {}


def test_a_hopeless_run_stops_and_keeps_what_it_has(store, folder):
    for i in range(12, 100):
        (folder / f"{i:02d}").write_bytes(b"bad %d" % i)
    with pytest.raises(TooManyFailures, match="of"):
        go(store, items_of(folder), fail_threshold=0.5)
    status = store.progress("image").status
    assert (status == OK).sum() == 12
    assert 12 <= (status == FAILED).sum() < 40


def test_a_few_early_failures_do_not_stop_a_run(store, folder):
    for i in range(5):
        (folder / f"{i:02d}").write_bytes(b"bad %d" % i)
    for i in range(12, 60):
        (folder / f"{i:02d}").write_bytes(b"good %d" % i)
    _, account = go(store, items_of(folder), fail_threshold=0.3)
    assert account.failed == 5


def test_a_small_run_is_judged_at_its_end(store, folder):
    (folder / "00").write_bytes(b"bad")
    with pytest.raises(TooManyFailures, match="1 of 12 rows"):
        go(store, items_of(folder), fail_threshold=0.05)
    assert store.complete("image").sum() == 11


# --- paths


def test_paths_out_of_the_data_root_are_refused_one_by_one(store, folder, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    (folder / "link").symlink_to(outside)
    (folder / "inner").symlink_to("00")
    os.mkfifo(folder / "fifo")
    names = [
        "../outside", str(outside), "link", "fifo", ".", "/dev/zero", "sub/../00", "inner",
        str(folder / "01"),
    ]  # fmt: skip
    ids = [f"r{i}" for i in range(len(names))]
    items = items_of(folder, names, ids=ids)
    go(store, items, workers=2)
    assert codes(store) == {
        "r0": "unsafe-path", "r1": "unsafe-path", "r2": "unsafe-path", "r3": "not-a-file",
        "r4": "not-a-file", "r5": "unsafe-path",
    }  # fmt: skip
    assert store.complete("image")[-3:].all()
    _, account = go(store, items)
    assert all(f.known for f in account.failures)


def test_further_data_roots_and_no_root_at_all(store, folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a").write_bytes(b"a")
    items = items_of(folder, [str(elsewhere / "a")], ids=["a"])
    _, account = go(store, items)
    assert account.failed == 1
    _, account = go(store, items, data_roots=[elsewhere], retry_failed=True)
    assert account.done == 1
    (elsewhere / "b").write_bytes(b"b")
    _, account = go(store, items_of(folder, ["../elsewhere/b"], ids=["b"]), allow_outside=True)
    assert account.done == 1
    (elsewhere / "c").write_bytes(b"c")
    _, account = go(store, Items.of(["c"], paths={"image": [str(elsewhere / "c")]}))
    assert account.done == 1


# --- interruptions


def test_the_same_bytes_after_an_interruption_and_no_work_twice(tmp_path, folder):
    for i in range(12, 40):
        (folder / f"{i}").write_bytes(b"bad %d" % i if i % 5 == 0 else b"file %d" % (i % 30))
    with FeatureStore.open(tmp_path / "whole.h5", "a") as whole:
        encoder, _ = go(whole, items_of(folder))
        total, expected = sum(encoder.calls), whole.feature_set("image").x(whole.complete("image"))
    with FeatureStore.open(tmp_path / "parts.h5", "a") as parts:
        calls = []
        for stop in (0, 1, 2, 1):
            stopped = CountingEncoder(stop_at=stop)
            with pytest.raises(KeyboardInterrupt):
                go(parts, items_of(folder), stopped)
            calls += stopped.calls
        last, _ = go(parts, items_of(folder))
        assert sum(calls) + sum(last.calls) == total
        assert calls + last.calls == encoder.calls  # the very same batches
        assert np.array_equal(parts.feature_set("image").x(parts.complete("image")), expected)


def test_sigterm_is_an_interruption_and_the_handler_is_put_back(store, folder):
    before = signal.getsignal(signal.SIGTERM)

    class Terminating(CountingEncoder):
        def encode(self, items):
            if len(self.calls) == 1:  # once: a second one would meet the handler that is put back
                os.kill(os.getpid(), signal.SIGTERM)
            return super().encode(items)

    with pytest.raises(Terminated):
        go(store, items_of(folder), Terminating(), workers=1)
    assert signal.getsignal(signal.SIGTERM) is before
    encoder, _ = go(store, items_of(folder))
    assert sum(encoder.calls) < 12
    assert store.complete("image").all()


def test_it_runs_outside_the_main_thread(store, folder):
    results = []
    thread = threading.Thread(target=lambda: results.append(go(store, items_of(folder))[1]))
    thread.start()
    thread.join()
    assert results[0].done == 12


def test_an_error_of_the_store_ends_the_run(store, folder, monkeypatch):
    def full(self, name, batch):
        raise StorageError(self.path, "no space left", "make room")

    monkeypatch.setattr(FeatureStore, "commit", full)
    with pytest.raises(StorageError, match="no space"):
        go(store, items_of(folder))


def test_an_encoder_that_breaks_its_contract_is_an_error_and_commits_nothing(store, folder):
    class Wrong(CountingEncoder):
        def encode(self, items):
            return super().encode(items)[:, :-1]

    with pytest.raises(ValueError, match="encoder gave"):
        go(store, items_of(folder), Wrong())
    assert not store.complete("image").any()


@pytest.mark.parametrize("error", [RuntimeError("device-side assert\ntriggered"), MemoryError()])
def test_a_device_that_fails_ends_the_run_in_one_line_and_what_was_committed_stays(
    store, folder, error
):
    class Failing(CountingEncoder):
        def encode(self, items):
            if len(self.calls) == 2:
                raise error
            return super().encode(items)

    with pytest.raises(EncoderError, match="counting failed") as caught:
        go(store, items_of(folder), Failing(), batch_size=4)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    assert store.complete("image").sum() == 8
    assert go(store, items_of(folder))[1].sets["image"].done == 4


def test_a_vector_that_the_store_lost_is_computed_again(store, folder, monkeypatch):
    go(store, items_of(folder))
    monkeypatch.setattr(FeatureStore, "by_digest", lambda self, name, digests: {})
    os.utime(folder / "03", ns=(1, 1))
    encoder, account = go(store, items_of(folder))
    assert encoder.calls == [1]
    assert account.done == 1


# --- encoders with batches in flight


class Flying(CountingEncoder):
    in_flight = 3

    def __init__(self, **options):
        super().__init__(**options)
        self.up, self.most, self.dropped, self.seconds = 0, 0, 0, 0.0

    def start(self, items):
        if self.stop_at is not None and len(self.calls) >= self.stop_at:
            raise KeyboardInterrupt
        self.up += 1
        self.most = max(self.most, self.up)
        return super().encode(items)

    def finish(self, flight):
        self.up -= 1
        self.seconds += 0.5
        return flight

    def status(self):
        return Status(model_seconds=self.seconds)

    def abandon(self, flight):
        self.dropped += 1


def test_several_batches_are_in_flight_and_all_land(store, folder):
    for i in range(12, 30):
        (folder / f"{i}").write_bytes(b"file %d" % (i % 20))
    encoder, account = go(store, items_of(folder), Flying(), batch_size=2)
    assert encoder.most == 3
    assert encoder.up == 0
    assert sum(encoder.calls) == 20
    assert account.sets["image"].seconds["model"] == pytest.approx(0.5 * len(encoder.calls))
    names = sorted(os.listdir(folder))
    expected = [vector_of((folder / name).read_bytes()) for name in names]
    assert np.array_equal(store.feature_set("image").x(), expected)


def test_what_is_in_flight_at_an_interruption_is_dropped(store, folder):
    encoder = Flying(stop_at=4)
    with pytest.raises(KeyboardInterrupt):
        go(store, items_of(folder), encoder, batch_size=2)
    assert encoder.dropped == 2
    assert store.complete("image").sum() == 4


# --- options and account


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0}, {"workers": -1}, {"limit": -1}, {"fail_threshold": 1.5},
        {"item_seconds": 0},
    ],
)  # fmt: skip
def test_options_without_meaning_are_refused(store, folder, wrong):
    with pytest.raises(OptionError):
        go(store, items_of(folder), **wrong)


def test_a_modality_that_rows_do_not_have(store):
    with pytest.raises(OptionError, match="no image column"):
        go(store, Items.of(["a"], paths={"audio": ["x"]}))


def test_the_account_reads_and_parses(store, folder, capsys):
    (folder / "02").write_bytes(b"bad")
    _, account = go(store, items_of(folder), progress=True, workers=1)
    text = account.text()
    assert "image: 11 done, 0 reused, 1 failed" in text
    assert "1 bad" in text
    assert "02: told to be bad" in text
    body = json.loads(account.to_json())["sets"]["image"]
    assert body["done"] == 11
    assert body["codes"] == {"bad": 1}
    assert body["failures"][0]["code"] == "bad"
    assert body["memory"]["host"] > 10 << 20
    assert body["memory"]["worker"] > 10 << 20
    steps = "read decode transform transfer start model wait commit total".split()
    assert set(body["seconds"]) == set(steps)
    assert capsys.readouterr().out == ""


def test_progress_tells_rows_and_failures(store, folder, monkeypatch, capsys):
    lines = []
    real = Progress.__call__

    def told(self, done, total, what=""):
        real(self, done, total, what)
        lines.append(self.line(80))

    monkeypatch.setattr(Progress, "__call__", told)
    (folder / "02").write_bytes(b"bad")
    go(store, items_of(folder), progress=True, workers=1)
    assert "image  12/12 rows  100%" in lines[-1]
    assert "1 failed" in lines[-1]
    assert capsys.readouterr().out == ""


def test_the_account_advises_only_what_can_help(monkeypatch):
    monkeypatch.setattr("headstock.extract.pipeline.account.cores", lambda: 8)
    slow = SetAccount("image", workers=1, encoded=1000, decode="full")
    slow.seconds.update(total=100.0, wait=60.0, model=30.0, read=5.0, decode=60.0)
    assert "more workers (-j 8)" in slow.advice()
    slow.encoded = 3
    assert "more workers (-j 3)" in slow.advice()
    slow.encoded = 1  # a file has one worker
    assert slow.advice() == ""
    slow.workers, slow.encoded = 8, 1000
    assert "try --decode fast" in slow.advice()
    slow.decode = ""  # of a sound
    assert slow.advice() == ""
    slow.seconds["read"] = 300.0
    assert "nearer disk" in slow.advice()
    moving = SetAccount("image", workers=8, calls=40)
    moving.seconds.update(total=100.0, wait=5.0, model=40.0, transfer=20.0)
    assert "bigger batch" in moving.advice()
    writing = SetAccount("image", workers=8, calls=40)
    writing.seconds.update(total=100.0, model=40.0, commit=60.0)
    assert "bigger batch" in writing.advice()
    busy = SetAccount("image", workers=1)
    busy.seconds.update(total=100.0, wait=5.0, model=95.0)
    assert busy.advice() == ""
    assert busy.busy == 0.95


def test_columns_join_the_account(store, folder):
    _, account = go(store, items_of(folder))
    counts = {"table": {"done": 3, "reused": 1, "failed": 0, "missing": 2}}
    account.add_columns(counts, {"table": ["empty cells count as 0"]})
    assert "table: 3 done" in account.text()
    assert "empty cells count as 0" in account.text()
    assert account.done == 15
