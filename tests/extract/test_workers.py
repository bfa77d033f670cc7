"""Worker processes: order, death, hangs, memory, and what they must not import."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from counting import CountingLoader, vector_of

from headstock.extract.decode.reading import Task
from headstock.extract.decode.workers import Workers
from headstock.extract.encoder import Loader
from headstock.store.datafile import Reader
from headstock.store.errors import OptionError


def results(folder, loader=None, count=2, **options):
    names = sorted(os.listdir(folder))
    pool = Workers(Reader(str(folder)), loader or CountingLoader(), count, **options)
    tasks = (Task(i, name) for i, name in enumerate(names))
    return names, list(pool.run(tasks))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_results_come_in_the_order_of_tasks(folder, count):
    (folder / "00").write_bytes(b"slow start")
    names, done = results(folder, count=count)
    assert [d.number for d in done] == list(range(12))
    for name, d in zip(names, done):
        assert np.array_equal(d.item, vector_of((folder / name).read_bytes()))


def test_a_small_window_bounds_what_is_held(folder):
    taken = []

    def tasks():
        for i, name in enumerate(sorted(os.listdir(folder))):
            taken.append(i)
            yield Task(i, name)

    pool = Workers(Reader(str(folder)), CountingLoader(), 1, window=4)
    stream = pool.run(tasks())
    next(stream)
    time.sleep(0.5)
    assert len(taken) <= 6
    assert len(list(stream)) == 11


def test_an_item_that_kills_its_worker_twice_has_failed_and_costs_nobody_else(folder):
    (folder / "04").write_bytes(b"die")
    (folder / "08").write_bytes(b"die too")
    _, done = results(folder)
    assert [d.number for d in done if d.error] == [4, 8]
    code, line = done[4].error
    assert code == "worker-died"
    assert line.startswith("04: ended its worker")
    assert done[4].stat[0] == 3


def test_an_item_whose_worker_died_once_is_tried_again(folder, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    (folder / "04").write_bytes(b"once")
    _, done = results(folder, CountingLoader(marks=str(marks)))
    assert not any(d.error for d in done)


def test_an_item_that_hangs_is_ended_even_with_signals_blocked(folder):
    (folder / "04").write_bytes(b"hang")
    _, done = results(folder, count=1, seconds=0.3)
    assert [d.number for d in done if d.error] == [4]
    assert done[4].error[0] == "timeout"


def test_an_item_that_takes_all_memory_fails_alone(folder):
    (folder / "04").write_bytes(b"huge")
    _, done = results(folder, memory=1 << 30)
    assert [(d.number, d.error[0]) for d in done if d.error] == [(4, "out-of-memory")]


def test_known_bytes_are_not_decoded(folder, tmp_path):
    import hashlib

    known = hashlib.sha256((folder / "03").read_bytes()).digest()
    pool = Workers(Reader(str(folder)), CountingLoader(), 1)
    (done,) = pool.run([Task(0, "03", known)])
    assert done.item is None
    assert done.error is None
    assert done.digest == known


def test_a_loader_that_cannot_travel_is_an_option_error():
    with pytest.raises(OptionError, match="cannot be sent"):
        Workers(Reader(), lambda data: data, 1)


class Lost(Loader):
    """Pickles by a name that no other process can import."""

    def decode(self, data):
        return data


def test_a_loader_that_workers_cannot_import_is_an_option_error(folder, monkeypatch):
    module = type(sys)("nowhere_to_be_found")
    module.Lost = Lost
    monkeypatch.setitem(sys.modules, "nowhere_to_be_found", module)
    monkeypatch.setattr(Lost, "__module__", "nowhere_to_be_found")
    with pytest.raises(OptionError, match="cannot start"):
        results(folder, Lost(), count=1)


def test_an_error_in_the_tasks_reaches_the_caller(folder):
    def tasks():
        yield Task(0, "00")
        raise LookupError("told to")

    with pytest.raises(LookupError, match="told to"):
        list(Workers(Reader(str(folder)), CountingLoader(), 1).run(tasks()))


def test_leaving_early_ends_the_processes(folder):
    (folder / "05").write_bytes(b"hang")
    pool = Workers(Reader(str(folder)), CountingLoader(), 2)
    stream = pool.run(Task(i, f"{i:02d}") for i in range(12))
    next(stream)
    processes = [worker.process for worker in pool._workers]
    stream.close()
    assert all(process.poll() is not None for process in processes)


def test_it_ends_though_an_interrupt_came_between_a_poke_and_its_byte(folder):
    pool = Workers(Reader(str(folder)), CountingLoader(), 1, window=2)
    stream = pool.run(Task(i, f"{i % 12:02d}") for i in range(40))
    next(stream)
    while pool._held < 2 or any(worker.tasks for worker in pool._workers):
        time.sleep(0.01)
    time.sleep(0.1)  # the pump waits for room, and nobody else will wake it
    pool._poked = True  # what the interrupted poke leaves
    ending = threading.Thread(target=pool.close, daemon=True)
    ending.start()
    ending.join(20)
    assert not ending.is_alive()


def test_workers_do_not_import_torch():
    code = (
        "import sys; import headstock.extract.decode.worker, headstock.extract.decode.preprocess, "
        "headstock.extract.encoders.mfcc; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'timm', 'h5py', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
