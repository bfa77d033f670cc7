"""What attackers and accidents send, met from the command line: the answer and the exit code that
docs/store.md states, nothing lost, no traceback."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile

from headstock.cli import main
from headstock.store import FeatureStore
from headstock.store.care.verify import verify
from headstock.store.disk import commit, layout

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(capsys):
    """Call the command line in this process: (exit code, all that it said)."""

    def call(*words):
        code = 0
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert "\x1b" not in out + err
        return code, out + err

    return call


@pytest.fixture
def data(tmp_path):
    """A folder with two sounds, and its manifest."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in "ab":
        soundfile.write(folder / f"{name}.wav", 0.1 * rng.normal(size=3000), 8000)
    (folder / "m.csv").write_text("id,audio,label\na,a.wav,x\nb,b.wav,y\n")
    return folder


def extract(run, data, table="m.csv", store="f.h5", *more):
    words = ("-o", data / store, "--audio", "mfcc", "-j", "1", *more)
    return run("extract", data / table, *words)


def refused(told, code, *words):
    """One line of error with each of ``words``."""
    got, said = told
    assert got == code, said
    lines = [line for line in said.splitlines() if all(word in line for word in words)]
    assert lines, said


# --- paths in a manifest


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../../../etc/passwd", "unsafe-path"),
        ("/etc/passwd", "unsafe-path"),
        ("/dev/zero", "unsafe-path"),
        ("link.wav", "unsafe-path"),
        ("loop.wav", "unreadable"),
        ("pipe.wav", "not-a-file"),
        ("folder.wav", "not-a-file"),
        ("empty.wav", "empty"),
        ("none.wav", "missing"),
        ("\x1b[31mred.wav", "missing"),
        ("x" * 300, "unreadable"),
    ],
)
def test_a_path_that_leads_astray_costs_its_row(run, data, path, code):
    (data / "link.wav").symlink_to("/etc/passwd")
    (data / "loop.wav").symlink_to("loop.wav")
    os.mkfifo(data / "pipe.wav")
    (data / "folder.wav").mkdir()
    (data / "empty.wav").write_bytes(b"")
    with (data / "m.csv").open("a") as file:
        file.write(f'odd,"{path}",x\n')
    got, said = extract(run, data)
    assert got == 3, said
    assert f"failed: 1 {code}" in said
    with FeatureStore.open(data / "f.h5") as store:
        assert store.complete("audio").tolist() == [True, True, False]
        assert [(e.id, e.code) for e in store.errors()] == [("odd", code)]
    assert extract(run, data)[0] == 3  # and it is not tried again


# --- tables


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,audio\na,a.wav\0\n", ["m.csv:2", "NUL"]),
        (b"id,audio\na,a.wav\nb,\xff\xfe\n", ["m.csv:3", "not UTF-8"]),
        ("id,audio\n\u00e9,a.wav\ne\u0301,b.wav\n", ["m.csv:3", "Unicode form"]),
        ("id,audio\na,a.wav\na,b.wav\n", ["m.csv:3", "other content"]),
        ("id,audio,split\na,a.wav,train\na,a.wav,test\n", ["m.csv:3", "other content"]),
        ('id,audio\na,"a.wav\n', ["m.csv:2", "broken CSV"]),
        ("id,audio,audio\na,a.wav,b.wav\n", ["m.csv:1", "twice"]),
        ("a,a.wav\nb,b.wav\n", ["m.csv:1", "no image, audio or numeric column"]),
        ("id,audio\n", ["m.csv:1", "no rows"]),
        ("", ["m.csv:1", "empty"]),
        ("id,audio\na,a.wav,more\n", ["m.csv:2", "3 cells"]),
        ("id,audio\n,\n,a.wav\n", ["m.csv:3", "no id"]),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused_by_line(run, data, text, words):
    (data / "m.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(extract(run, data), 1, *words)
    assert not (data / "f.h5").exists()


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffid,audio,label\r\na,a.wav,x\r\nb,b.wav,y\r\n",
        "id;audio;label\na;a.wav;x\nb;b.wav;y\n",
        'id\taudio\tlabel\na\t"a.wav"\tx\nb\tb.wav\ty\n',
        "id,audio,label\na,a.wav,x\nb,b.wav,y\nb,b.wav,y\n",
    ],
)
def test_a_table_in_another_dialect_is_read(run, data, text):
    (data / "m.csv").write_text(text, newline="")
    assert extract(run, data)[0] == 0
    with FeatureStore.open(data / "f.h5") as store:
        assert store.items.label.tolist() == ["x", "y"]
        assert store.complete("audio").all()


def test_ids_that_look_like_numbers_stay_text(run, data):
    ids = ["007", "1e5", "NA", "TRUE", "1_000", "-0"]
    rows = "".join(f"{i},{'ab'[k % 2]}.wav,{i}\n" for k, i in enumerate(ids))
    (data / "m.csv").write_text("id,audio,label\n" + rows)
    assert extract(run, data)[0] == 0
    with FeatureStore.open(data / "f.h5") as store:
        assert store.items.id.tolist() == ids
        assert store.items.label.tolist() == ids
    assert run("store", "export", data / "f.h5", data / "out.csv")[0] == 0
    assert [line.split(",")[0] for line in (data / "out.csv").read_text().split()[1:]] == ids


def test_missing_labels_are_kept_and_one_class_is_nothing_to_learn(run, data):
    (data / "m.csv").write_text("id,audio,label\na,a.wav,x\nb,b.wav,\n")
    told = extract(run, data)
    assert told[0] == 0
    assert "without a label: 1" in told[1]
    refused(run("evaluate", data / "f.h5", "--head", "lda", "-o", data / "run"), 1, "class")


@pytest.mark.parametrize("command", ["extract", "label", "import", "predict", "config"])
def test_a_table_that_is_a_pipe_or_a_device_is_refused_at_once(run, data, command):
    assert extract(run, data)[0] == 0
    os.mkfifo(data / "pipe.csv")
    for table in (data / "pipe.csv", "/dev/zero"):
        words = {
            "extract": ("extract", table, "-o", data / "g.h5", "--audio", "mfcc"),
            "label": ("store", "label", data / "f.h5", table),
            "import": ("store", "import", table, data / "h.h5"),
            "predict": ("predict", table, data / "f.h5"),
            "config": ("store", "info", data / "f.h5", "--config", table),
        }[command]
        refused(run(*words), 8, "not a plain file")


def test_cells_that_a_spreadsheet_would_run_are_quoted_when_asked(run, data):
    odd = "=cmd|' /C calc'!A0"
    (data / "m.csv").write_text(f'id,audio,label\n"{odd}",a.wav,"@x"\n+b,b.wav,y\n')
    assert extract(run, data)[0] == 0
    assert run("store", "export", data / "f.h5", data / "out.csv", "--spreadsheet")[0] == 0
    lines = (data / "out.csv").read_text().splitlines()
    assert lines[1].startswith("'=cmd")
    assert ",'@x," in lines[1]
    assert lines[2].startswith("'+b")


# --- the store's own files


def hostile(path, how):
    """A file under a store's name that tries what no store does."""
    with h5py.File(path, "w") as file:
        for key in ("format", "kind", "uuid", "writer", "schema"):
            file.attrs[key] = np.bytes_(b"headstock")
        for key in ("format_version", "generation", "min_reader_version", "n", "root_crc"):
            file.attrs[key] = np.int64(1)
        if how == "external link":
            file["x"] = h5py.ExternalLink("/etc/passwd", "/")
        elif how == "shape bomb":
            file.create_dataset("x", (1 << 45, 8), dtype="f4", chunks=(1024, 8))
        elif how == "newer":
            file.attrs["min_reader_version"] = np.int64(99)
            root = {k: file.attrs[k] for k in layout.ROOT}
            file.attrs["root_crc"] = np.int64(layout.root_crc(root))


@pytest.mark.parametrize("command", ["info", "verify", "export", "repair"])
@pytest.mark.parametrize("how", ["external link", "shape bomb", "text", "pipe", "empty", "newer"])
def test_a_hostile_store_is_one_line(run, tmp_path, command, how):
    path = tmp_path / "f.h5"
    if how == "text":
        path.write_text("id,image\n1,a.png\n")
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "empty":
        path.write_bytes(b"")
    else:
        hostile(path, how)
    more = (tmp_path / "out.npz",) if command == "export" else ()
    code, said = run("store", command, path, *more)
    assert code in ((7,) if how == "newer" else (4, 8)), said
    assert not [line for line in said.splitlines() if len(line) > 2000]
    assert path.exists()


def test_an_older_generation_put_back_and_another_stores_file_are_noticed(run, data):
    assert extract(run, data)[0] == 0
    shutil.copy(data / "f.h5", data / "old.h5")
    (data / "m.csv").write_text("id,audio,label\na,a.wav,x\nb,b.wav,y\nc,a.wav,x\n")
    assert extract(run, data)[0] == 0
    os.replace(data / "old.h5", data / "f.h5")
    assert "3 rows" in run("store", "info", data / "f.h5")[1]  # rolled forward
    assert extract(run, data, "m.csv", "other.h5")[0] == 0
    (data / "f.h5").unlink()
    shutil.copy(data / "other.h5", data / "f.h5")
    refused(run("store", "info", data / "f.h5"), 4, "belongs to another store")


# --- the environment


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EROFS, "must be writable"),
        (errno.EACCES, "check the permissions"),
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some quota"),
        (errno.EIO, "check the disk"),
        (errno.EMFILE, "ulimit -n"),
    ],
)
def test_a_disk_that_refuses_is_one_line_and_the_next_run_completes(
    run, data, monkeypatch, number, words
):
    real = os.open

    def refuse(path, flags, *more, **options):
        if flags & os.O_CREAT and str(data) in os.fspath(path):
            raise OSError(number, os.strerror(number), path)
        return real(path, flags, *more, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        refused(extract(run, data), 5, words)
    assert extract(run, data)[0] == 0


def test_a_folder_that_cannot_be_written_is_read_all_the_same(run, data, monkeypatch):
    assert extract(run, data)[0] == 0
    real = os.open

    def refuse(path, flags, *more, **options):
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return real(path, flags, *more, **options)

    for call in ("link", "unlink", "rename", "replace", "mkdir"):
        monkeypatch.setattr(os, call, lambda *a, **k: refuse("x", os.O_CREAT))
    monkeypatch.setattr(os, "open", refuse)
    assert run("store", "info", data / "f.h5")[0] == 0
    with FeatureStore.open(data / "f.h5") as store:
        assert store.complete("audio").all()


def test_the_folder_may_be_moved_and_the_run_goes_on(run, data, tmp_path):
    assert extract(run, data)[0] == 0
    os.rename(data, tmp_path / "elsewhere")
    data = tmp_path / "elsewhere"
    code, said = extract(run, data)
    assert code == 0
    assert "0 done, 2 reused" in said


def test_a_clock_that_went_back_changes_nothing(run, data, monkeypatch):
    """Times name nothing and order nothing: files from the future are read, rows found again."""
    future = time.time() + 10 * 365 * 86400
    for path in data.iterdir():
        os.utime(path, (future, future))
    assert extract(run, data)[0] == 0
    for path in [data / "f.h5", *(data / "f.h5.d").iterdir()]:
        os.utime(path, (future, future))
    monkeypatch.setattr(time, "time", lambda: 1.0)
    code, said = extract(run, data)
    assert code == 0
    assert "0 done, 2 reused" in said
    assert not verify(data / "f.h5").findings


def test_a_pid_that_came_again_keeps_a_temp_a_day_and_a_claim_a_minute(tmp_path, toy):
    """The owner's number runs again as another program: its temp is swept by age, its claim is free
    by age, and until then the others work around both."""
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        toy.fill(store, 4)
        store.register(toy.items(8))
    pending = tmp_path / "f.h5.d"
    temp = pending / f"tmp-{commit.host()}-1-0a0a0a0a0a0a"
    claim = pending / f"claim-image-{store.declared('image').epoch}-1024-00000000"
    temp.write_bytes(b"half")
    claim.write_text(f"{commit.host()} 1\n")
    old = time.time() - 200
    os.utime(claim, (old, old))
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        assert temp.exists()
        given = [i for some in store.share("image", toy.ids(8)[4:]) for i in some]
    assert given == toy.ids(8)[4:]
    old -= 2 * 86400
    os.utime(temp, (old, old))
    FeatureStore.open(tmp_path / "f.h5", "a").close()
    assert not temp.exists()


@pytest.mark.parametrize(
    ("signals", "code"),
    [([signal.SIGINT, signal.SIGINT], 130), ([signal.SIGTERM], 130)],
)
def test_an_interruption_is_one_line_and_nothing_is_lost(data, signals, code):
    n = 200
    rng = np.random.default_rng(1)
    rows = []
    for i in range(n):
        soundfile.write(data / f"{i}.wav", 0.1 * rng.normal(size=6000), 8000)
        rows.append(f"s{i},{i}.wav,{'xy'[i % 2]}\n")
    (data / "m.csv").write_text("id,audio,label\n" + "".join(rows))
    command = [sys.executable, "-m", "headstock.cli", "extract", data / "m.csv", "-q"]
    command += ["-o", data / "f.h5", "--audio", "mfcc", "-j", "1", "-b", "4"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list((data / "f.h5.d").glob("shard-audio-*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    for number in signals:
        process.send_signal(number)
        time.sleep(0.01)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code, error
    assert len(error.strip().splitlines()) == 1
    assert "interrupted" in error
    with FeatureStore.open(data / "f.h5") as store:
        done = int(store.complete("audio").sum())
    assert 12 <= done < n
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    with FeatureStore.open(data / "f.h5") as store:
        assert store.complete("audio").all()


SLOW_COMMITS = """
import sys, time
import h5py._objects
from headstock.store import FeatureStore

commit = FeatureStore.commit

def slow(*words):
    with h5py._objects.phil:
        time.sleep(0.5)
    return commit(*words)

FeatureStore.commit = slow
from headstock.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.2])
def test_a_second_interruption_ends_a_writer_that_holds_the_lock_of_hdf5(data, seconds):
    """Cut off at exit it would keep the lock, and the process would wait for it for ever."""
    command = [sys.executable, "-c", SLOW_COMMITS, "extract", data / "m.csv", "-q"]
    command += ["-o", data / "f.h5", "--audio", "mfcc", "-j", "0", "-b", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list((data / "f.h5.d").glob("shard-audio-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert len(error.strip().splitlines()) == 1
    with FeatureStore.open(data / "f.h5") as store:
        assert store.complete("audio").any()


@pytest.mark.parametrize("locking", ["TRUE", "FALSE"])
def test_file_locking_of_hdf5_set_either_way(data, locking):
    command = [sys.executable, "-m", "headstock.cli", "extract", data / "m.csv", "-q"]
    command += ["-o", data / "f.h5", "--audio", "mfcc", "-j", "0"]
    env = {**os.environ, "HDF5_USE_FILE_LOCKING": locking}
    told = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert told.returncode == 0, told.stderr


@pytest.mark.slow
def test_a_million_rows_are_registered_in_bounded_memory(tmp_path):
    """About a kilobyte and a half a row while a table is read and registered: ten million rows need
    15 GB of memory for their text, and less is one line, not a death."""
    table = tmp_path / "m.csv"
    with table.open("w") as file:
        file.write("id,image,label\n")
        file.writelines(f"row{i:08d},pictures/{i:08d}.jpg,{i % 9}\n" for i in range(1_000_000))
    code = (
        "import resource, sys\n"
        "from headstock.store import FeatureStore, Manifest\n"
        "items = Manifest.read(sys.argv[1]).items\n"
        "with FeatureStore.open(sys.argv[2], 'a') as store:\n"
        "    assert store.register(items).added == 1_000_000\n"
        "    store.compact()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)\n"
    )
    words = [sys.executable, "-c", code, table, tmp_path / "f.h5"]
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert int(told.stdout) < 1_700_000_000
    assert verify(tmp_path / "f.h5").rows == 1_000_000


def test_memory_that_ends_is_one_line(data):
    """A table larger than the memory allowed."""
    with (data / "m.csv").open("a") as file:
        file.writelines(f"row{i:08d},{i:08d}.wav,{i % 9}\n" for i in range(400_000))
    code = (
        "import resource, sys\n"
        "import headstock.extract, headstock.extract.job, headstock.store.features\n"
        "from headstock.cli import main\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "most = pages * resource.getpagesize() + (64 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        "main(['extract', sys.argv[1], '-o', sys.argv[2], '--audio', 'mfcc', '-q', '-j', '0'])\n"
    )
    words = [sys.executable, "-c", code, data / "m.csv", data / "f.h5"]
    told = subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)
    assert told.returncode == 5, told.stderr
    assert len(told.stderr.strip().splitlines()) == 1
    assert "memory" in told.stderr
    assert not (data / "f.h5").exists()


# --- the page


def test_every_answer_is_shown_by_a_test_that_exists():
    """docs/store.md names a test for each attack."""
    page = (ROOT / "docs" / "store.md").read_text()
    table = page[page.index("## What attackers and accidents send") :]
    rows = [line for line in table.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) > 60
    for row in rows:
        for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row):
            assert f"def {name}(" in (ROOT / file).read_text(), row
        assert "`tests/" in row, row
