"""Every format that is exported comes back whole."""

import csv
import io
import itertools
import json
import re

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from headstock.cli import main
from headstock.store import FAILED, OK, Batch, FeatureStore, Items, Recipe
from headstock.store.care.link import link
from headstock.store.care.verify import verify
from headstock.store.errors import OptionError, StorageError, StoreDamaged
from headstock.store.exchange.export import export
from headstock.store.exchange.imports import import_features
from headstock.store.manifest.table import CsvWriter, read_table

FORMATS = ["npz", "csv", "h5", "parquet"]

# any text that a store takes: no NUL, no lone surrogates (files name those, tables cannot)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
IDS = TEXT.filter(bool) | st.sampled_from(["-a", "=b", "+1", "@c", "007", " x ", "NA", "a\rb"])
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def stores(draw):
    """Rows, and one or two sets; some rows lack a vector of one of them."""
    ids = draw(st.lists(IDS, min_size=1, max_size=5, unique=True))
    column = st.lists(TEXT, min_size=len(ids), max_size=len(ids))
    items = Items.of(
        ids,
        paths={m: draw(column) for m in draw(st.sets(st.sampled_from(["image", "audio"])))},
        label=draw(column),
        split=draw(column),
        group=draw(column),
        extra={name: draw(column) for name in draw(st.sets(TEXT.filter(bool), max_size=2))},
        root=draw(st.sampled_from(["", "/data", "/a b"])),
    )
    sets = []
    names = st.sampled_from(["image", "audio", "label", "ids", "a.b", "features"])
    for name in draw(st.lists(names, min_size=1, max_size=2, unique=True)):
        dim = draw(st.integers(1, 3))
        recipe = Recipe(draw(st.sampled_from(["image", "columns"])), {"weights": draw(TEXT)})
        called = draw(st.none() | st.lists(TEXT, min_size=dim, max_size=dim))
        row = st.lists(FLOATS, min_size=dim, max_size=dim)
        x = np.array(draw(st.lists(row, min_size=len(ids), max_size=len(ids))), dtype=np.float32)
        status = draw(st.lists(st.sampled_from([OK, OK, FAILED, 0]), min_size=len(ids),
                               max_size=len(ids)))  # fmt: skip
        sets.append((name, recipe, called, x, np.array(status, dtype=np.uint8)))
    return items, sets


def write(path, items, sets):
    with FeatureStore.open(path, "a") as store:
        store.register(items)
        for name, recipe, called, x, status in sets:
            store.declare(name, recipe, x.shape[1], feature_names=called)
            rows = np.flatnonzero(status)
            if not rows.size:
                continue
            digest = np.random.default_rng(0).integers(1, 255, (len(rows), 32), dtype=np.uint8)
            store.commit(
                name,
                Batch(
                    ids=items.id[rows].tolist(), digest=digest, x=x[rows], status=status[rows],
                    stat=np.full((len(rows), 2), -1, dtype=np.int64),
                ),
            )  # fmt: skip
        store.compact()


def content(path, rows=None):
    """All that a store says, of the rows that are complete or of all."""
    with FeatureStore.open(path) as store:
        complete = store.complete(store.sets)
        rows = np.arange(store.n) if rows == "all" else np.flatnonzero(complete)
        items = store.items.take(rows)
        sets = {}
        for name in store.sets:
            one = store.feature_set(name)
            there = rows[one.status[rows] == OK]
            told = one.recipe.to_json(), one.dtype, one.feature_names
            kept = store.items.id[there].tolist(), one.x(there).tobytes(), one.digest[there]
            sets[name] = (*told, *kept[:2], kept[2].tobytes())
        texts = {"id": items.id, "label": items.label, "split": items.split, "group": items.group}
        texts |= {f"path/{k}": v for k, v in items.paths.items()}
        texts |= {f"extra/{k}": v for k, v in items.extra.items()}
        # a column that is empty throughout is none
        named = {k: v.tolist() for k, v in texts.items() if any(v)}
        return named, items.root if any(k.startswith("path/") for k in named) else "", sets


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Whether a commit is durable is shown elsewhere."""
    monkeypatch.setattr("os.fsync", lambda fd: None)


@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(stores(), st.booleans())
@pytest.mark.parametrize("form", FORMATS)
def test_what_was_exported_comes_back_whole(tmp_path_factory, form, made, everything):
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is an extra")
    folder = tmp_path_factory.mktemp("trip")
    write(folder / "f.h5", *made)
    told = export(folder / "f.h5", folder / f"out.{form}", all_rows=everything)
    wanted = content(folder / "f.h5", "all" if everything else None)
    if not told.rows:
        return
    back = import_features(folder / f"out.{form}", folder / "g.h5")
    assert (back.rows, back.unknown, back.failed) == (told.rows, [], [])
    assert content(folder / "g.h5", "all" if everything else None) == wanted


CELLS = st.lists(st.lists(TEXT, min_size=2, max_size=2), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(CELLS.filter(lambda rows: all(row[0].strip(" \t\r\n") for row in rows)))
def test_any_text_comes_out_of_a_table_as_it_went_in(tmp_path_factory, rows):
    out = io.StringIO(newline="")
    writer = CsvWriter(out)
    writer.row(["id", "label"])
    writer.rows(rows)
    assert list(csv.reader(io.StringIO(out.getvalue(), newline="")))[1:] == rows
    path = tmp_path_factory.mktemp("cells") / "t.csv"
    path.write_bytes(out.getvalue().encode())
    assert read_table(path).rows == rows


@pytest.fixture
def two(tmp_path, toy):
    """40 rows of two sets with labels, splits, groups, paths; one row lacks its sound."""
    n = 40
    ids = ["-a", "=b", "007", "x y", "NA", *(f"r{k}" for k in range(5, n))]
    items = Items.of(
        ids,
        paths={kind: [f"d/{k}.{kind}" for k in range(n)] for kind in ("image", "audio")},
        label=[("None", "+1")[k % 2] for k in range(n)],
        split=["test" if k >= 30 else "train" for k in range(n)],
        group=[f"g{k // 4}" for k in range(n)],
        root="/data",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    sets = [
        (name, Recipe(name, {"weights": "toy"}), None, rng.normal(size=(n, d)).astype("f4"),
         np.array([OK] * (n - missing) + [0] * missing, np.uint8))
        for name, d, missing in (("image", 6, 0), ("audio", 3, 1))
    ]  # fmt: skip
    write(tmp_path / "s.h5", items, sets)
    return tmp_path / "s.h5"


@pytest.mark.parametrize("form", FORMATS)
def test_labels_splits_groups_and_both_sets_come_back(tmp_path, two, form):
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is an extra")
    out = tmp_path / f"x.{form}"
    told = export(two, out)
    assert (told.rows, told.left_out) == (39, 1)
    assert "--all-rows" in told.text()
    back = import_features(out, tmp_path / "b.h5")
    assert back.sets == {"image": 6, "audio": 3}
    assert content(tmp_path / "b.h5") == content(two)
    export(two, out, all_rows=True)  # the way out that the line names
    import_features(out, tmp_path / "c.h5")
    assert content(tmp_path / "c.h5", "all") == content(two, "all")
    assert not verify(tmp_path / "c.h5").findings


def test_halves_and_stores_in_parts_come_back_too(tmp_path, toy):
    for part in (0, 1):
        with FeatureStore.open(tmp_path / f"p{part}.h5", "a") as store:
            ids = [f"{part}-{k}" for k in range(3)]
            store.register(Items.of(ids, label=["x", "y", ""]))
            store.declare("image", toy.recipe, 5, dtype="float16")
            store.commit("image", toy.batch(ids))
            store.compact()
    parts = tmp_path / "all.parts.json"
    link(parts, [tmp_path / "p0.h5", tmp_path / "p1.h5"])
    for form in ("npz", "csv", "h5"):
        export(parts, tmp_path / f"x.{form}")
        import_features(tmp_path / f"x.{form}", tmp_path / f"{form}-back.h5")
        assert content(tmp_path / f"{form}-back.h5") == content(parts)
    with FeatureStore.open(tmp_path / "npz-back.h5") as store:
        assert store.feature_set("image").dtype == "float16"


def test_one_set_of_several_is_picked_or_the_only_one_renamed(tmp_path, two):
    export(two, tmp_path / "x.npz")
    assert import_features(tmp_path / "x.npz", tmp_path / "a.h5", name="audio").sets == {"audio": 3}
    with pytest.raises(OptionError, match="no set 'sound'; it has: image, audio"):
        import_features(tmp_path / "x.npz", tmp_path / "b.h5", name="sound")
    export(two, tmp_path / "y.npz", sets=["audio"])
    assert import_features(tmp_path / "y.npz", tmp_path / "c.h5", name="sound").sets == {"sound": 3}
    with pytest.raises(OptionError, match="audio, not image"):
        import_features(tmp_path / "y.npz", tmp_path / "d.h5", modality="image")


def test_a_file_that_was_changed_no_longer_proves_its_recipe(tmp_path, two):
    out = tmp_path / "x.csv"
    export(two, out)
    lines = list(csv.reader(out.open(newline="")))
    lines[1][-1] = "0.5"
    with out.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    back = import_features(out, tmp_path / "b.h5")
    assert back.unknown == ["audio"]
    assert back.notes == ["audio: the file was changed since it was exported"]
    with FeatureStore.open(tmp_path / "b.h5") as store:
        assert list(store.feature_set("audio").recipe.fields) == ["unknown"]
        assert not store.feature_set("audio").digest.any()
        assert store.feature_set("image").recipe.fields == {"weights": "toy"}


def test_a_description_that_does_not_fit_is_refused(tmp_path, two):
    out, about = tmp_path / "x.csv", tmp_path / "x.csv-metadata.json"
    export(two, out)
    good = about.read_text()
    lines = out.read_text().splitlines()
    out.write_text("\n".join([lines[0].replace("image_0", "other"), *lines[1:]]) + "\n")
    with pytest.raises(OptionError, match=r"its columns are not those of x\.csv-metadata"):
        import_features(out, tmp_path / "b.h5")
    about.unlink()  # the way out that the line names
    back = import_features(out, tmp_path / "b.h5")
    assert (back.sets, back.unknown) == ({"image": 9}, ["image"])
    with FeatureStore.open(tmp_path / "b.h5") as store, FeatureStore.open(two) as old:
        assert store.items.group.tolist() == old.items.group.tolist()[:39]
        assert store.items.paths["audio"].tolist() == old.items.paths["audio"].tolist()[:39]
    export(two, out)
    for old, new in (('"rows": 39', '"rows": 38'), ('"dim": 6', '"dim": 5'), (good, "{")):
        assert old in good
        about.write_text(good.replace(old, new))
        with pytest.raises(StoreDamaged, match=r"x\.csv"):
            import_features(out, tmp_path / "c.h5")
    assert not (tmp_path / "c.h5").exists()
    assert json.loads(good)["url"] == "x.csv"


def test_a_csv_that_lost_its_description_keeps_rows_and_sets_apart(tmp_path, two):
    export(two, tmp_path / "x.csv")
    (tmp_path / "x.csv-metadata.json").unlink()
    back = import_features(tmp_path / "x.csv", tmp_path / "b.h5")
    assert (back.sets, back.unknown) == ({"image": 6, "audio": 3}, ["image", "audio"])
    (texts, _, _), (wanted, _, _) = content(tmp_path / "b.h5"), content(two)
    assert texts == wanted


def test_arrays_of_other_tools_all_come_with_split_and_group(tmp_path):
    rng = np.random.default_rng(0)
    image, audio = rng.normal(size=(3, 4)), rng.normal(size=(3, 2))
    rows = {"ids": ["a", "b", "c"], "y": ["k", "l", "k"], "split": ["", "test", ""],
            "group": ["g", "g", "h"]}  # fmt: skip
    np.savez(tmp_path / "x.npz", **rows, image=image, audio=audio, scale=np.ones(7))
    back = import_features(tmp_path / "x.npz", tmp_path / "a.h5")
    assert back.sets == {"image": 4, "audio": 2}
    assert back.unknown == ["image", "audio"]
    assert back.notes == ["not taken: scale (7,)"]
    with FeatureStore.open(tmp_path / "a.h5") as store:
        assert store.items.label.tolist() == rows["y"]
        assert store.items.split.tolist() == rows["split"]
        assert store.items.group.tolist() == rows["group"]
        assert np.array_equal(store.matrix("audio")[0], audio.astype("f4"))
        assert store.feature_set("audio").recipe.modality == "audio"


def test_a_spreadsheets_apostrophes_are_no_ids(tmp_path, two):
    export(two, tmp_path / "x.csv", spreadsheet=True)
    with FeatureStore.open(two) as store:
        ids = store.items.id.tolist()
    rows = list(csv.DictReader((tmp_path / "x.csv").open(newline="")))
    assert [r["id"] for r in rows[:3]] == ["'-a", "'=b", "007"]
    back = import_features(tmp_path / "x.csv", tmp_path / "b.h5")
    assert back.unknown == ["image", "audio"]  # other ids: nothing is proven of them
    assert ids[:2] == ["-a", "=b"]


def test_column_names_of_a_table_differ(tmp_path):
    names = ["a", "a", "a_1", "", " a", "id", "label"]
    items = Items.of(["r"])
    x = np.arange(7, dtype=np.float32)[None]
    made = ("image", Recipe("image", {"w": 1}), names, x, np.array([OK], np.uint8))
    write(tmp_path / "f.h5", items, [made])
    for form in ("csv", "h5"):
        export(tmp_path / "f.h5", tmp_path / f"x.{form}")
        import_features(tmp_path / f"x.{form}", tmp_path / f"{form}.h5")
        assert content(tmp_path / f"{form}.h5") == content(tmp_path / "f.h5")
    header = next(csv.reader((tmp_path / "x.csv").open(newline="")))
    assert len(set(header)) == len(header)
    assert all(name.strip() == name != "" for name in header)
    assert list(itertools.islice(header, 4)) == ["id", "label", "split", "group"]


# --- what is not whole, or not all of it


def bags(folder, toy, broken=()):
    folder.mkdir()
    for identity in toy.ids(4):
        with h5py.File(folder / f"{identity}.h5", "w") as file:
            file["features"] = toy.vector(identity)[None]
        if identity in broken:
            raw = (folder / f"{identity}.h5").read_bytes()
            (folder / f"{identity}.h5").write_bytes(raw[: len(raw) // 2])


@pytest.mark.parametrize("broken", [["r2"], ["r0", "r3"]])
def test_a_bag_that_is_cut_short_costs_its_own_row_and_is_named(
    tmp_path, toy, broken, capsys
) -> None:
    bags(tmp_path / "slides", toy, broken)
    with pytest.raises(SystemExit) as stop:
        main(["store", "import", str(tmp_path / "slides"), str(tmp_path / "g.h5")])
    assert stop.value.code == 3
    err = capsys.readouterr().err
    for identity in broken:
        line = rf"not imported: \S+/slides/{identity}\.h5: is cut short or damaged \(.+\)"
        assert re.search(line, err)
    with FeatureStore.open(tmp_path / "g.h5") as store:
        good = [i for i in toy.ids(4) if i not in broken]
        assert store.items.id[store.complete("image")].tolist() == good
        assert {(e.id, e.code) for e in store.errors()} == {(i, "damaged") for i in broken}
        assert np.array_equal(store.matrix("image", store.complete("image"))[0], toy.matrix(good))
    bags(tmp_path / "mended", toy)  # and the next import takes those that were not taken
    import_features(tmp_path / "mended", tmp_path / "h.h5")


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_that_is_cut_short_is_named_as_damaged(tmp_path, two, form):
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is an extra")
    out = tmp_path / f"x.{form}"
    export(two, out)
    out.write_bytes(out.read_bytes()[: out.stat().st_size // 2])
    with pytest.raises(StoreDamaged) as caught:
        import_features(out, tmp_path / "b.h5")
    assert str(out) in str(caught.value)
    assert caught.value.exit_code == 4
    assert not (tmp_path / "b.h5").exists()


def test_what_the_disk_refuses_is_no_damage(tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        import_features(tmp_path / "none.npz", tmp_path / "b.h5")
