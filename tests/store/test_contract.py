"""What every StoreReader must do, whatever it lies in: each kind of store passes the same tests.

The rows are those of ``wanted``: forty, of which one failed, one was never extracted and one kept
its vector though its file was not seen.
"""

from itertools import pairwise

import numpy as np
import pytest

from headstock.store import (
    ABSENT,
    FAILED,
    OK,
    FeatureSet,
    FeatureStore,
    Items,
    Recipe,
    StoreReader,
    open_store,
)
from headstock.store.care.info import describe
from headstock.store.care.link import link
from headstock.store.disk.declared import Declared
from headstock.store.errors import IncompleteSet, MissingSet, RecipeMismatch

N, HALF = 40, Recipe("audio", {"n_mfcc": 13})
FAILS, NEVER, UNSEEN = "r7", "r31", "r21"


def fill(path, toy, lo, hi, compact=True):
    ids = toy.ids(N)[lo:hi]
    items = Items.of(
        ids,
        paths={"image": [f"pictures/{i}.png" for i in ids]},
        label=["cat" if int(i[1:]) % 2 else "dog" for i in ids],
        split=["test" if int(i[1:]) % 5 == 0 else "" for i in ids],
        group=[f"g{int(i[1:]) // 2}" for i in ids],
        extra={"site": [f"s{int(i[1:]) % 3}" for i in ids]},
        root="/data",
    )
    with FeatureStore.open(path, "a") as store:
        store.register(items)
        store.declare("image", toy.recipe, toy.dim)
        store.declare("half", HALF, toy.dim, dtype="float16", feature_names=list("abcde"))
        for name in ("image", "half"):
            for start in range(0, len(ids), 4):
                some = [i for i in ids[start : start + 4] if i != NEVER or name == "half"]
                fails = [FAILS] if FAILS in some and name == "image" else []
                store.commit(name, toy.batch(some, failed=fails))
        if UNSEEN in ids:
            store.mark_unseen("image", {UNSEEN: "missing"})
        if compact:
            store.compact()
    return path


def compacted(folder, toy):
    return fill(folder / "f.h5", toy, 0, N)


def waiting(folder, toy):
    return fill(folder / "f.h5", toy, 0, N, compact=False)


def parted(folder, toy):
    """Five parts, the second of one row, the third not compacted."""
    spans = list(pairwise([0, 9, 10, 23, 36, N]))
    made = [fill(folder / f"p{k}.h5", toy, *span, k != 2) for k, span in enumerate(spans)]
    return link(folder / "all.parts.json", made).path


KINDS = {"one file": compacted, "with shards": waiting, "parts": parted}


@pytest.fixture(scope="module")
def paths(tmp_path_factory, toy):
    return {name: make(tmp_path_factory.mktemp("contract"), toy) for name, make in KINDS.items()}


@pytest.fixture(params=KINDS)
def store(request, paths):
    with open_store(paths[request.param]) as store:
        yield store


def test_it_is_a_reader_and_gives_its_parts(store):
    assert isinstance(store, StoreReader)
    spans = [span for span, _ in store.each()]
    assert (spans[0].start, spans[-1].stop) == (0, N)
    assert all(a.stop == b.start for a, b in pairwise(spans))
    for span, part in store.each():
        assert part.items.id.tolist() == store.items.id[span].tolist()
    assert len(store.parts) in (0, len(spans))
    assert len(store.uuid) >= 32
    assert store.generation >= 1
    assert store.pending >= 0


def test_rows(store, toy):
    ids, items = toy.ids(N), store.items
    assert (store.n, len(items), items.id.tolist()) == (N, N, ids)
    assert items.label.tolist() == ["cat" if k % 2 else "dog" for k in range(N)]
    assert items.split.tolist() == ["" if k % 5 else "test" for k in range(N)]
    assert items.group.tolist() == [f"g{k // 2}" for k in range(N)]
    assert list(items.extra) == ["site"]
    assert (items.root, items.paths["image"][3]) == ("/data", "pictures/r3.png")
    assert store.rows(["r30", "nobody", "r0"]).tolist() == [30, -1, 0]
    assert store.rows(np.array(["r2"], dtype=object)).tolist() == [2]


def test_sets_and_how_they_were_made(store, toy):
    assert (store.sets, store.all_sets, store.fingerprints) == (["image", "half"],) * 2 + ([],)
    assert store.agrees(Declared.of("image", toy.recipe, toy.dim))
    assert not store.agrees(Declared.of("other", toy.recipe, toy.dim))
    with pytest.raises(RecipeMismatch, match="set image: was made another way"):
        store.agrees(Declared.of("image", Recipe("image", {"weights": "x"}), toy.dim))
    for ask in (store.declared, store.column, store.feature_set, store.matrix, store.complete,
                store.progress, store.errors, store.unseen):  # fmt: skip
        with pytest.raises(MissingSet, match=r"has no feature set 'imag'.*it has: image, half"):
            ask("imag")
    half = store.feature_set("half")
    assert isinstance(half, FeatureSet)
    assert (half.name, half.dim, half.dtype) == ("half", toy.dim, "float16")
    assert (half.recipe, half.feature_names) == (HALF, list("abcde"))


def test_what_is_done_failed_and_absent(store, toy):
    want = np.full(N, OK)
    want[[7, 31]] = FAILED, ABSENT
    progress = store.progress("image")
    assert progress.status.tolist() == want.tolist()
    assert store.feature_set("image").status.tolist() == want.tolist()
    assert (progress.digest[3] == toy.digest("r3")).all()
    assert not progress.digest[31].any()
    picked = store.progress("image", ["r31", "nobody", "r3"])
    assert picked.status.tolist() == [ABSENT, ABSENT, OK]
    assert not picked.digest[:2].any()
    assert store.complete("image+half").tolist() == (want == OK).tolist()
    assert store.complete(["half"]).all()
    assert store.errors() == [("image", "r7", "bad", "r7 cannot be read")]
    assert (store.errors("image"), store.errors("half")) == (store.errors(), [])
    assert (store.unseen("image"), store.unseen("half")) == ({UNSEEN: "missing"}, {})


def test_vectors_by_rows(store, toy):
    ids, rng = np.array(toy.ids(N)), np.random.default_rng(0)
    good = np.flatnonzero(store.complete("image"))
    shuffled, mask = rng.permutation(good), np.isin(np.arange(N), rng.choice(good, 9))
    for rows in (good, shuffled, shuffled[:7], np.array([5, 5, 2]), good[:0], mask):
        want = toy.matrix(ids[rows]) if len(ids[rows]) else np.empty((0, toy.dim), np.float32)
        x, spans = store.matrix("image", rows)
        assert np.array_equal(x, want)
        assert (x.dtype, spans) == (np.float32, {"image": slice(0, toy.dim)})
        wide = np.full((len(want), 2 * toy.dim), 7, np.float32)
        store.feature_set("image").read_into(wide[:, toy.dim :], rows)
        assert np.array_equal(wide[:, toy.dim :], want)
        assert (wide[:, : toy.dim] == 7).all()
    halves = toy.matrix(ids).astype(np.float16).astype(np.float32)
    assert np.array_equal(store.matrix("half")[0], halves)
    both, spans = store.matrix("image+half", good)
    assert np.array_equal(both[:, spans["half"]], halves[good])
    with pytest.raises(IncompleteSet, match=r"2 of 40 rows have no vector \(1 not extracted, 1 f"):
        store.matrix("image")


def test_vectors_by_content(store, toy):
    asked = np.stack([toy.digest("r12"), toy.digest("none"), toy.digest("r7")])
    known = store.by_digest("image", asked)
    assert list(known) == [toy.digest("r12").tobytes()]  # and r7, which failed, has none
    assert np.array_equal(known[toy.digest("r12").tobytes()], toy.vector("r12"))
    assert store.by_digest("image", asked[1:]) == {}


def test_looking_again_and_info_change_nothing(store):
    before, x = store.items.id.tolist(), store.matrix("half")[0].copy()
    store.refresh()
    assert store.items.id.tolist() == before
    assert np.array_equal(store.matrix("half")[0], x)
    told = describe(store)
    assert (told["rows"], told["sets"]["image"]["done"]) == (N, N - 2)
    assert (told["sets"]["image"]["failures"], len(told["parts"])) == ({"bad": 1}, len(store.parts))


def test_nothing_of_it_writes(store, paths):
    public = {name for name in dir(store) if not name.startswith("_")}
    assert not public & {"register", "declare", "commit", "compact", "drop", "change", "forget"}


def test_feature_store_opens_each_kind_for_reading(paths):
    for path in paths.values():
        with FeatureStore.open(path) as store:
            assert isinstance(store, StoreReader)
            assert store.n == N
