"""Words, dates and gaps of a table as values, by rules that the recipe keeps."""

import csv

import numpy as np
import pytest

from headstock.extract.encoders.columns import ingest_columns, read_numbers
from headstock.heads import Bundle, evaluate, fit
from headstock.store import FeatureStore, Manifest, Recipe
from headstock.store.errors import (
    HeadstockError,
    ManifestError,
    OptionError,
    RecipeMismatch,
    UnsafeInput,
)
from headstock.store.manifest.cells import MOST, Column, columns_in, recipe_of

TABLE = """id,label,age,site,seen,split
a,x,30,north,2024-01-01,train
b,y,,north,2024-01-31,train
c,x,50,"s,üd",2024-02-01T12:00,train
d,y,60,"s,üd",2024-01-01,train
e,x,90,attic,2024-01-01,train
f,y,,attic,2024-01-01,test
"""


def table(tmp_path, text=TABLE, **more):
    path = tmp_path / "t.csv"
    path.write_text(text, "utf-8")
    asked = {"columns": ["*"], "categories": ["site"], "dates": ["seen"]} | more
    return Manifest.read(path, **asked)


def fill(store, manifest, of=("*",)):
    numbers = read_numbers(store, manifest, "clinic", of)
    store.register(manifest.items)
    return ingest_columns(store, numbers, manifest.items.id.tolist()), numbers


def test_values_are_what_the_cells_say(tmp_path):
    with FeatureStore.open(tmp_path / "f.h5", mode="a") as store:
        counts, numbers = fill(store, table(tmp_path))
        assert counts == {"done": 6, "reused": 0, "failed": 0, "absent": 0}
        held = store.feature_set("clinic")
        assert list(held.feature_names) == [
            "age", "age is empty", "site=north", "site=s,üd", "site=(another)", "seen",
        ]  # fmt: skip
        # the stand-in is the median of 30, 50, 60 and 90; "attic" has one row outside the test
        first = 19723  # days from 1970 to 2024
        assert held.x().tolist() == [
            [30, 0, 1, 0, 0, first],
            [55, 1, 1, 0, 0, first + 30],
            [50, 0, 0, 1, 0, first + 31.5],
            [60, 0, 0, 1, 0, first],
            [90, 0, 0, 0, 1, first],
            [55, 1, 0, 0, 1, first],
        ]
        assert numbers.notes == [
            "age: empty cells count as 55, with a flag (2 rows)",
            "site: rare or unknown words count as one: attic (2 rows)",
        ]


def test_the_rules_of_a_set_hold_for_later_tables(tmp_path):
    """A new word is unknown, the stand-in stays, another kind is refused with a way out."""
    with FeatureStore.open(tmp_path / "f.h5", mode="a") as store:
        fill(store, table(tmp_path))
        later = "id,seen,site,age\ng,2024-01-01,moon,\nh,2024-01-01,,7\n"
        _, numbers = fill(store, table(tmp_path, later))
        assert store.feature_set("clinic").x(np.array([6, 7])).tolist() == [
            [55, 1, 0, 0, 1, 19723],
            [7, 0, 0, 0, 1, 19723],
        ]
        assert numbers.notes[1].endswith("moon, (empty) (2 rows)")
        with pytest.raises(ManifestError, match=r"is not a number; .*--categories site"):
            table(tmp_path, columns=["age", "site", "seen"], categories=())
        codes = TABLE.replace("north", "1").replace('"s,üd"', "2").replace("attic", "3")
        with pytest.raises(ManifestError, match=r"is a number here and a category .* site"):
            fill(store, table(tmp_path, codes, categories=()))
        with pytest.raises(RecipeMismatch, match="columns"):
            fill(store, table(tmp_path, columns=["age", "seen"], categories=()))


def test_a_table_without_gaps_and_words_has_the_recipe_it_always_had(tmp_path):
    """Rows without any cell are absent; they make no column one with gaps."""
    text = "id,m1,m2\na,1,2\nb,,\nc,3,4\n"
    with FeatureStore.open(tmp_path / "f.h5", mode="a") as store:
        counts, _ = fill(store, table(tmp_path, text, columns=["m*"], categories=(), dates=()))
        assert counts["absent"] == 1
        recipe = store.feature_set("clinic").recipe
        assert recipe == Recipe("columns", {"columns": ["m1", "m2"], "dtype": "float32"})


def test_what_is_rare_and_what_is_too_much_fall_together():
    words = np.array([f"w{i}" for i in range(1000) for _ in range(4)] + ["one"], dtype=object)
    column = Column.of("site", "category", words, np.ones(len(words), dtype=bool))
    assert column.values == ()  # less than half a percent each
    words = np.array([f"w{i:03d}" for i in range(250) for _ in range(1 + i % 2)], dtype=object)
    column = Column.of("site", "category", words, np.ones(len(words), dtype=bool))
    assert column.values == tuple(f"w{i:03d}" for i in range(250) if i % 2)
    assert column.encode(words).sum(axis=1).tolist() == [1] * len(words)
    words = np.array([f"w{i:03d}" for i in range(300) for _ in range(3)], dtype=object)
    column = Column.of("site", "category", np.append(words, ["w0"] * 2000), np.arange(2900) < 900)
    assert len(column.values) == 0
    assert len(Column.of("s", "category", words[:600], np.arange(600) < 600).values) == MOST


@pytest.mark.parametrize(
    ("asked", "error", "match"),
    [
        ({"categories": ["stie"]}, ManifestError, "no column matches 'stie'; did you mean site"),
        ({"columns": ["age"], "dates": ()}, OptionError, "--columns site --as NAME"),
        ({"dates": ["site", "seen"]}, OptionError, "category and a date"),
        ({"categories": (), "dates": ["site"], "columns": ["site"]}, ManifestError, "is no date"),
    ],
)
def test_what_cannot_be_asked_is_one_line(tmp_path, asked, error, match):
    with pytest.raises(error, match=match):
        table(tmp_path, **asked)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"columns": "age"},
        {"columns": ["a", "a"]},
        {"columns": [1]},
        {"columns": ["a"], "rules": []},
        {"columns": ["a"], "rules": {"b": {"kind": "number"}}},
        {"columns": ["a"], "rules": {"a": {"kind": "shell"}}},
        {"columns": ["a"], "rules": {"a": {"kind": "category", "values": ["x"] * (MOST + 1)}}},
        {"columns": ["a"], "rules": {"a": {"kind": "category", "values": "xyz"}}},
        {"columns": ["a"], "rules": {"a": {"fill": "1"}}},
        {"columns": ["a"], "rules": {"a": {"kind": "category", "values": ["x", "x"]}}},
        {"columns": ["a"], "rules": {"a": {"kind": "category", "values": ["x"], "fill": 1}}},
        {"columns": ["a"], "rules": {"a": {"kind": "date", "values": ["x"]}}},
        {"columns": ["a"], "rules": {"a": {"fill": True}}},
        {"columns": ["a"], "rules": {"a": {"fill": 10**400}}},
        {"columns": ["a"], "rules": {"a": {"path": "x"}}},
    ],
)
def test_a_foreign_recipe_with_other_rules_is_refused(fields):
    with pytest.raises(UnsafeInput, match="recipe of columns"):
        columns_in(Recipe("columns", fields))


def test_a_set_of_columns_that_have_no_names_is_refused(tmp_path):
    with FeatureStore.open(tmp_path / "f.h5", mode="a") as store:
        store.declare("clinic", Recipe("columns", {"columns": [["age"], "site", "seen"]}), 3)
        with pytest.raises(HeadstockError):
            fill(store, table(tmp_path))


def test_a_recipe_gives_back_its_columns():
    columns = [Column("a"), Column("b", fill=2.5), Column("c", "category", values=("", "x")),
               Column("d", "date"), Column("e", "date", 3.0)]  # fmt: skip
    assert columns_in(Recipe.from_json(recipe_of(columns).to_json())) == columns
    assert columns[2].features == ["c is empty", "c=x", "c=(another)"]


@pytest.fixture
def clinic(tmp_path):
    rng = np.random.default_rng(0)
    n = 240
    site = rng.choice(["north", "east", "west"], n)
    age = rng.normal(50, 10, n).round()
    ill = (site == "north") ^ (rng.random(n) < 0.05)
    path = tmp_path / "clinic.csv"
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", "label", "age", "site", "ward"])
        for i in range(n):
            gap = "" if i % 7 == 0 else age[i]
            ward = f"ward {'ABC'[i % 3]}{int(ill[i])}"
            out.writerow([f"p{i}", "ill" if ill[i] else "well", gap, site[i], ward])
    return path


def test_from_the_table_to_predictions(clinic, run_headstock, tmp_path):
    store, model = tmp_path / "s.h5", tmp_path / "m.headstock"
    words = ["--columns", "age", "--as", "clinic", "--columns", "site", "--as", "clinic"]
    code, out, _ = run_headstock("extract", clinic, "-o", store, *words, "--categories", "site")
    assert code == 0
    assert "age: empty cells count as" in out
    with FeatureStore.open(store) as features:
        result = evaluate(features, heads=["logistic"], folds=3)
        assert 0.9 < result.leaderboard[0].accuracy.value < 0.99
        fit(features, "logistic").save(model)
    new = tmp_path / "new.csv"
    new.write_text("id,site,age\nq1,north,\nq2,east,40\nq3,mars,40\n")
    code, out, err = run_headstock("predict", model, new)
    assert code == 0
    assert [line.split(",")[1] for line in out.splitlines()[1:]] == ["ill", "well", "well"]
    assert "site: rare or unknown words count as one: mars (1 row)" in err
    assert Bundle.load(model).recipes["clinic"].fields["rules"]["site"]["kind"] == "category"


def test_words_that_tell_the_label_are_a_suspected_leak(clinic, run_headstock, tmp_path):
    """No single word of them does: six wards of two classes."""
    store = tmp_path / "s.h5"
    words = ["--columns", "age", "--as", "clinic", "--columns", "ward", "--as", "clinic"]
    assert run_headstock("extract", clinic, "-o", store, *words, "--categories", "ward")[0] == 0
    with FeatureStore.open(store) as features:
        found = evaluate(features, heads=["lda"], folds=3).run.hygiene.leaks
    assert [one.feature for one in found] == ["ward"]


def test_each_way_out_of_other_columns_is_one(tmp_path, run_headstock):
    """A table read without its words is another set and not other rows; it says so, and --overwrite
    replaces the set, once."""
    path, store = tmp_path / "t.csv", tmp_path / "s.h5"
    path.write_text(TABLE, "utf-8")
    words = [
        "extract",
        path,
        "-o",
        store,
        "--columns",
        "*",
        "--as",
        "clinic",
        "--categories",
        "seen",
    ]
    assert run_headstock(*words, "--categories", "site")[0] == 0
    code, _, err = run_headstock(*words)
    assert code == 1
    assert "set clinic: was made another way (columns: ['age', 'site', 'seen'] -> " in err
    assert "or --overwrite" in err
    code, out, _ = run_headstock(*words, "--overwrite")
    assert code == 0
    assert out.startswith("clinic: 6 done")
    assert run_headstock(*words)[1].startswith("clinic: 0 done, 6 reused")
    only = ["extract", path, "-o", store, "--columns", "age", "--as", "age"]
    assert run_headstock(*only)[0] == 0
    code, _, err = run_headstock(*only, "--categories", "age")
    assert code == 1
    assert "leave it out of --categories, or --overwrite" in err
    code, out, _ = run_headstock(*only, "--categories", "age", "--overwrite")
    assert code == 0
    assert out.startswith("age: 4 done")
