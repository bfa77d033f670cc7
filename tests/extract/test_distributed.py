"""Many processes on one store: shares of job arrays, and actors of a Ray cluster that die."""

import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from counting import CountingEncoder, MarkingEncoder, vector_of

from headstock.extract import extract
from headstock.extract.job import extract_manifest
from headstock.extract.pipeline import distributed
from headstock.extract.pipeline.account import Account
from headstock.extract.pipeline.distributed import Actor, extract_on_ray, resources
from headstock.extract.pipeline.options import Options, share_of
from headstock.store import FeatureStore, Items, Manifest
from headstock.store.errors import HeadstockError, OptionError, TooManyFailures

HERE = Path(__file__).parent


def test_shares_cover_every_row_once():
    for n in (0, 1, 7, 1000):
        for m in (1, 3, 8, 1001):
            rows = [share_of(f"{i}/{m}", n).tolist() for i in range(1, m + 1)]
            assert list(chain.from_iterable(rows)) == list(range(n))
            assert max(map(len, rows)) - min(map(len, rows)) <= 1


@pytest.mark.parametrize("word", ["", "1", "0/4", "5/4", "a/b", "1/0", "-1/4", "1/4/2"])
def test_what_is_no_share(word):
    with pytest.raises(OptionError, match="is no share"):
        share_of(word, 10)


def test_what_an_actor_asks_for():
    node, small = {"CPU": 64.0, "GPU": 8.0, "memory": 1e12}, {"CPU": 2.0}
    want = distributed.Resources
    assert resources([node], "auto", None, None) == want(8, 8, 1, 8)
    assert resources([node, node, {"CPU": 4.0}], "cuda", None, 3) == want(16, 8, 1, 3)
    assert resources([node], "cpu", None, None) == want(16, 4, 0, 2)
    assert resources([node, small], "cpu", None, None) == want(17, 2, 0, 1)
    assert resources([small], "auto", None, None) == want(1, 2, 0, 1)
    assert resources([{"CPU": 0.0}, {"CPU": 1.0}, {"CPU": 1.0}], "auto", None, 0) == want(
        2, 1, 0, 0
    )
    with pytest.raises(OptionError, match="no GPU"):
        resources([small], "cuda:0", None, None)
    with pytest.raises(OptionError, match="the cluster has 8 GPUs"):
        resources([node], "auto", 9, None)
    with pytest.raises(OptionError, match="Ray chooses the GPU of an actor; --device cuda"):
        resources([node], "cuda:1", None, None)
    with pytest.raises(OptionError, match="no node"):
        resources([{"CPU": 0.0}], "auto", None, None)
    with pytest.raises(OptionError, match="actors 0"):
        resources([node], "auto", 0, None)


# --- one store, several jobs; a store of several parts


@pytest.fixture
def table(folder) -> Manifest:
    for i in range(12, 40):
        (folder / f"{i:02d}").write_bytes(b"bad" if i == 30 else b"file %d" % i)
    rows = "".join(f"r{i},{i:02d},{i % 3}\n" for i in range(40))
    path = folder / "index.csv"
    path.write_text("id,image,label\n" + rows)
    return Manifest.read(path)


@pytest.fixture
def counting(monkeypatch):
    """The encoders that ``--image counting`` made, with their calls."""
    made = []

    def build(name, device="auto", **_):
        made.append(CountingEncoder())
        return made[-1]

    monkeypatch.setattr("headstock.extract.job.image_encoder", build)
    return made


def test_jobs_with_shares_fill_one_store_and_the_last_gathers_it(tmp_path, table, counting):
    store, whole = tmp_path / "f.h5", tmp_path / "whole.h5"
    for number, word in enumerate(["2/3", "3/3", "1/3"]):
        account = extract_manifest(table, store, image=["counting"], shard=word, workers=0)
        assert account.done + account.failed == len(share_of(word, 40))
        with FeatureStore.open(store) as opened:
            assert opened.n == 40
            assert (opened.pending == 0) == (number == 2)
    assert sum(sum(encoder.calls) for encoder in counting) == 39  # one of the 40 is bad
    extract_manifest(table, whole, image=["counting"], workers=0)
    with FeatureStore.open(store) as a, FeatureStore.open(whole) as b:
        rows = a.complete("image")
        assert rows.sum() == 39
        assert a.items.id.tolist() == b.items.id.tolist()
        assert np.array_equal(a.matrix("image", rows)[0], b.matrix("image", rows)[0])
    extract_manifest(table, store, image=["counting"], shard="2/3", workers=0)
    assert not counting[-1].calls


def test_parts_of_a_manifest_are_stores_that_join(tmp_path, table, counting):
    from headstock.store.care.link import link

    made = []
    for i in range(1, 4):
        made.append(tmp_path / f"part-{i}.h5")
        extract_manifest(table, made[-1], image=["counting"], part=f"{i}/3", workers=0)
    told = link(tmp_path / "all.parts.json", made)
    assert (told.rows, told.sets) == (40, {"image": 39})
    with FeatureStore.open(tmp_path / "all.parts.json") as store:
        assert store.items.id.tolist() == [f"r{i}" for i in range(40)]


# --- an actor, without a cluster


def block(folder, names):
    import pyarrow as pa

    return pa.table({"id": names, "path/image": names})


def said(actor, table):
    return pickle.loads(actor(table)["told"][0])  # noqa: S301  our own words


def test_an_actor_extracts_a_block_and_tells_its_account(tmp_path, folder):
    (folder / "05").write_bytes(b"bad")
    names = sorted(os.listdir(folder))
    store = tmp_path / "f.h5"
    with FeatureStore.open(store, "a") as opened:
        opened.register(Items.of(names, paths={"image": names}, root=str(folder)))
    built = []

    def build():
        built.append(CountingEncoder())
        return built[-1]

    actor = Actor(str(store), str(folder), {"image": build}, Options(workers=0, batch_size=4))
    told = [said(actor, block(folder, part)) for part in (names[:8], names[6:])]
    assert len(built) == 1
    assert [(one.done, one.reused, one.failed) for one in told] == [(7, 0, 1), (4, 2, 0)]
    whole = Account()
    whole.sets = {"image": distributed.SetAccount("image")}
    assert [distributed._merge(whole, one) for one in told] == [8, 6]
    one = whole.sets["image"]
    assert (one.done, one.reused, one.failed, one.calls, one.encoded) == (11, 2, 1, 3, 11)
    assert [f.code for f in one.failures] == ["bad"]
    assert one.seconds["total"] == pytest.approx(
        sum(t.sets["image"].seconds["total"] for t in told)
    )


def test_what_an_actor_cannot_do_is_said_in_our_words(tmp_path, folder):
    store = tmp_path / "f.h5"
    with FeatureStore.open(store, "a") as opened:
        opened.register(Items.of(["a"], paths={"image": ["00"]}, root=str(folder)))
        opened.declare("image", CountingEncoder(version=2).recipe(), 8)
    actor = Actor(str(store), str(folder), {"image": CountingEncoder}, Options(workers=0))
    error = said(actor, block(folder, ["00"]))
    assert isinstance(error, HeadstockError)
    assert "was made another way (version: 2 -> 1)" in str(error)


def test_without_ray_it_says_what_to_install(tmp_path, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        items = Items.of(["a"], paths={"image": ["00"]}, root=str(folder))
        with pytest.raises(OptionError, match=r"pip install 'headstock\[ray\]'"):
            extract_on_ray(store, items, {}, {"image": CountingEncoder()})


def test_what_ray_says_of_the_dead_is_not_in_the_result(monkeypatch, capsys):
    fake = SimpleNamespace(is_initialized=lambda: True, data=None)
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setitem(sys.modules, "ray.data", SimpleNamespace())
    with distributed._ray() as ray:
        assert ray is fake
        print("(raylet) A worker died")
    print("{}")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("{}\n", "(raylet) A worker died\n")


def test_nothing_to_do_starts_no_cluster(tmp_path, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    names = sorted(os.listdir(folder))
    items = Items.of(names, paths={"image": names}, root=str(folder))
    (folder / "03").write_bytes(b"bad")
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        extract(store, items, {"image": CountingEncoder()}, workers=0)
        account = extract_on_ray(store, items, {}, {"image": CountingEncoder()})
        one = account.sets["image"]
        assert (one.done, one.reused, one.failed) == (0, 11, 1)
        assert [(f.code, f.known) for f in one.failures] == [("bad", True)]
        with pytest.raises(TooManyFailures, match="1 of 12 rows failed, more than 5%"):
            extract_on_ray(store, items, {}, {"image": CountingEncoder()}, fail_threshold=0.05)


# --- a real cluster on this machine

FILES, BATCH, NODES = 6144, 32, 2


def marked(marks: Path) -> list[tuple[int, str]]:
    lines = marks.read_text().splitlines() if marks.exists() else []
    return [(int(pid), value) for pid, value in (line.split(" ", 1) for line in lines)]


@pytest.fixture(scope="module")
def cluster():
    """A head without cores and two nodes with one each: losing a node is losing a process tree."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(HERE)}
    store = {"object_store_memory": 80 << 20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **store})
    nodes = [made.add_node(num_cpus=1, object_store_memory=80 << 20) for _ in range(NODES)]
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made, nodes
    ray.shutdown()
    made.shutdown()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def many(tmp_path) -> Items:
    root = tmp_path / "many"
    root.mkdir()
    names = [f"{i:05d}" for i in range(FILES)]
    for i, name in enumerate(names):
        (root / name).write_bytes(b"bad" if i == 50 else b"file %d" % i)
    return Items.of(names, paths={"image": names}, root=str(root))


def wait_for(test, seconds=300):
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@pytest.mark.slow
def test_actors_and_a_node_die_and_nothing_committed_is_lost(tmp_path, many, cluster):
    made, nodes = cluster
    marks = tmp_path / "marks"
    build = partial(MarkingEncoder, str(marks))
    deaths = []

    def kill():
        for after in (300, 900):  # an actor, by the signal that nothing survives
            wait_for(lambda after=after: len(marked(marks)) > after)
            pid = marked(marks)[-1][0]
            os.kill(pid, signal.SIGKILL)
            deaths.append(pid)
        wait_for(lambda: len(marked(marks)) > 1800)
        made.remove_node(nodes.pop(), allow_graceful=False)  # and a node with all it runs
        deaths.append("node")

    killer = threading.Thread(target=kill)
    killer.start()
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        account = extract_on_ray(
            store, many, {"image": build}, {"image": build()}, batch_size=BATCH, workers=1
        )
        killer.join()
        made.add_node(num_cpus=1, object_store_memory=80 << 20)  # the main thread alone may
        assert len(deaths) == 3
        store.refresh()
        assert store.complete("image").sum() == FILES - 1
        for row in (0, 999, FILES - 1):
            want = vector_of(b"file %d" % row)
            assert np.array_equal(store.matrix("image", np.array([row]))[0][0], want)
        one = account.sets["image"]
        assert (one.done + one.reused, one.failed) == (FILES - 1, 1)
        assert [(f.id, f.code) for f in one.failures] == [("00050", "bad")]
    counts = Counter(value for _, value in marked(marks))
    again = sum(counts.values()) - len(counts)
    print(f"{len(deaths)} deaths, {again} of {FILES} rows computed again")
    assert len(counts) == FILES - 1
    # a death costs what the encoder and the writer had in hand, of one process
    assert again <= len(deaths) * 7 * BATCH
    assert len({pid for pid, _ in marked(marks)}) >= 3

    before = len(marked(marks))  # resuming: nothing is left, and nothing is computed
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        account = extract_on_ray(store, many, {"image": build}, {"image": build()})
        assert (account.done, account.reused, account.failed) == (0, FILES - 1, 1)
    assert len(marked(marks)) == before


@pytest.mark.slow
def test_the_cluster_gives_the_vectors_of_a_local_run(tmp_path, cluster):
    """With the encoders of the package, as the command line asks for them."""
    soundfile = pytest.importorskip("soundfile")
    rng, rows = np.random.default_rng(0), ["id,audio,label"]
    for i in range(30):
        soundfile.write(tmp_path / f"{i}.wav", rng.normal(size=8000) * 0.1, 8000)
        rows.append(f"r{i},{i}.wav,{i % 2}")
    (tmp_path / "7.wav").write_bytes(b"no sound")
    (tmp_path / "index.csv").write_text("\n".join(rows) + "\n")
    table = Manifest.read(tmp_path / "index.csv")
    here, there = tmp_path / "here.h5", tmp_path / "there.h5"
    extract_manifest(table, here, audio=["mfcc"], workers=0)
    account = extract_manifest(table, there, audio=["mfcc"], engine="ray", actors=2)
    assert (account.done, account.failed) == (29, 1)
    with FeatureStore.open(here) as a, FeatureStore.open(there) as b:
        kept = a.complete("audio")
        assert np.array_equal(kept, b.complete("audio"))
        assert np.array_equal(a.matrix("audio", kept)[0], b.matrix("audio", kept)[0])
        assert a.errors() == b.errors()
        assert (a.pending, b.pending) == (0, 0)


def test_the_actors_device_need_not_be_here(tmp_path, monkeypatch):
    """What tells the recipe has no GPU; what computes may."""
    told = {}

    def on_ray(store, items, builders, encoders, **options):
        told.update(encoders=encoders, builders=builders, options=options)
        return Account()

    monkeypatch.setattr("headstock.extract.job.extract_on_ray", on_ray)
    (tmp_path / "index.csv").write_text("id,image\na,a.jpg\n")
    table = Manifest.read(tmp_path / "index.csv")
    flags = {"untrained_seed": 0, "input_size": 64, "decode": "device", "device": "cuda"}
    extract_manifest(table, tmp_path / "f.h5", image=["timm:test_resnet"], engine="ray", **flags)
    encoder = told["encoders"]["image"]
    assert encoder.recipe().fields["decoder"]["jpeg"] == "by the device"
    assert told["options"]["device"] == "cuda"
    with pytest.raises(OptionError, match="cuda"):  # an actor that lacks it says so
        told["builders"]["image"]()


@pytest.mark.slow
def test_too_many_failures_stop_the_cluster_too(tmp_path, many, cluster):
    for name in many.paths["image"][:1500]:
        Path(many.root, name).write_bytes(b"bad " + name.encode())
    with FeatureStore.open(tmp_path / "f.h5", "a") as store:
        with pytest.raises(TooManyFailures, match="more than 10%"):
            extract_on_ray(
                store, many, {"image": CountingEncoder}, {"image": CountingEncoder()},
                fail_threshold=0.1, workers=0, limit=3000,
            )  # fmt: skip
        store.refresh()
        assert store.complete("image").sum() < FILES  # and what was done is kept


PROGRAM = """
import sys
from functools import partial
from itertools import chain
from headstock.extract.pipeline.distributed import extract_on_ray
from headstock.store import FeatureStore, Items
from counting import MarkingEncoder
import os
if __name__ == "__main__":
    root, path, marks = sys.argv[1:]
    names = sorted(os.listdir(root))
    build = partial(MarkingEncoder, marks)
    with FeatureStore.open(path, "a") as store:
        items = Items.of(names, paths={"image": names}, root=root)
        account = extract_on_ray(store, items, {"image": build}, {"image": build()}, workers=1)
        store.compact()
        print(account.text())
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_cluster_it_started_and_keeps_what_was_done(tmp_path, many, number):
    pytest.importorskip("ray")
    marks, program = tmp_path / "marks", tmp_path / "program.py"
    program.write_text(PROGRAM)
    words = [sys.executable, str(program), many.root, str(tmp_path / "f.h5"), str(marks)]
    env = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    env.pop("RAY_ADDRESS", None)
    told = tmp_path / "told"
    with told.open("w") as stderr:
        process = subprocess.Popen(words, env=env, stderr=stderr, stdout=stderr)
    wait_for(lambda: len(marked(marks)) > 100 or process.poll() is not None)
    assert process.poll() is None, told.read_text()
    process.send_signal(number)
    process.wait(timeout=300)
    error = told.read_text()
    assert process.returncode not in (0, None)
    assert re.search("KeyboardInterrupt|Terminated", error)
    pids = {pid for pid, _ in marked(marks)}
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))
    with FeatureStore.open(tmp_path / "f.h5") as store:
        done = int(store.complete("image").sum())
    assert 0 < done < FILES - 1
    assert len(marked(marks)) - done <= 8 * BATCH
