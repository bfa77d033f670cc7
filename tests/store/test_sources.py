"""Tables people have: JSON lines, Parquet, frames, data sets and metadata files read as a CSV is,
and errors that name the columns and the flags to paste."""

import io
import json
import shlex

import numpy as np
import pytest
from click.testing import CliRunner

from headstock.store import FeatureStore, Items
from headstock.store.care.label import relabel
from headstock.store.errors import ManifestError, OptionError
from headstock.store.manifest.manifest import Manifest
from headstock.store.manifest.sources import table_of

pd = pytest.importorskip("pandas")

FRAME = pd.DataFrame(
    {
        "id": ["007", "1e5", "c", "d"],
        "image": ["a.png", "b.png", "sub/c.png", "d.png"],
        "label": ["café", None, "tea", "tea"],
        "split": ["Training", "dev", "TEST SET", None],
        "patient": [101.0, 102.0, np.nan, 101.0],
        "m_1": [1.5, np.nan, 1e-9, 3],
        "seen": [True, False, True, False],
    }
)


def same(one: Manifest, other: Manifest):
    a, b = one.items, other.items
    for name in ("id", "label", "split", "group"):
        assert list(getattr(a, name)) == list(getattr(b, name)), name
    assert {k: list(v) for k, v in a.paths.items()} == {k: list(v) for k, v in b.paths.items()}
    assert {k: list(v) for k, v in a.extra.items()} == {k: list(v) for k, v in b.extra.items()}
    assert one.columns.keys() == other.columns.keys()
    for name in one.columns:
        np.testing.assert_array_equal(one.columns[name], other.columns[name])
    assert list(one.notes) == list(other.notes)


@pytest.fixture
def by_csv(tmp_path):
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    return Manifest.read(tmp_path / "t.csv", columns=["m_*"])


def test_json_lines(tmp_path, by_csv):
    path = tmp_path / "t.jsonl"
    rows = [{k: v for k, v in row.items() if v == v and v is not None}
            for row in FRAME.to_dict("records")]  # fmt: skip
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\n\n")
    same(Manifest.read(path, columns=["m_*"]), by_csv)
    path.write_text('{"id": "a", "image": "a.png"}\n{"id": \n')
    with pytest.raises(ManifestError, match=r"t\.jsonl:2: no JSON"):
        Manifest.read(path)
    path.write_text('["a"]\n')
    with pytest.raises(ManifestError, match=r"t\.jsonl:1: no JSON object"):
        Manifest.read(path)
    path.write_text('{"id": "a", "image": "a.png", "split": "later"}\n')
    with pytest.raises(ManifestError, match=r"t\.jsonl:1: the split 'later'"):
        Manifest.read(path)


def test_parquet(tmp_path, by_csv):
    pytest.importorskip("pyarrow")
    FRAME.to_parquet(tmp_path / "t.parquet")
    same(Manifest.read(tmp_path / "t.parquet", columns=["m_*"]), by_csv)
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(ManifestError, match="is no Parquet table"):
        Manifest.read(tmp_path / "t.parquet")


def test_a_frame_is_the_csv_of_it(tmp_path, by_csv, monkeypatch):
    monkeypatch.chdir(tmp_path)
    manifest = Manifest.read(FRAME, columns=["m_*"])
    same(manifest, by_csv)
    assert manifest.items.root == str(tmp_path)
    same(Manifest.read(FRAME.set_index("id"), columns=["m_*"]), by_csv)
    pa = pytest.importorskip("pyarrow")
    same(Manifest.read(pa.Table.from_pandas(FRAME), columns=["m_*"]), by_csv)


@pytest.mark.parametrize("index", [None, [10, 11, 12, 13]])
def test_cells_of_a_frame_are_those_of_its_csv(tmp_path, index):
    frame = pd.DataFrame(
        {
            "a": [0.1, 1e300, -0.0, np.inf],
            "b": [1, 2, 3, 4],
            "c": pd.array([1, None, 3, 4], dtype="Int64"),
            "d": pd.Categorical(["x", "y", None, "x"]),
            "e": [np.float32(0.1), np.float32(2), np.float32(3), np.float32(4)],
        },
        index=index,
    )
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=index is not None)
    mine, theirs = table_of(frame), table_of(path)
    assert mine.header == theirs.header
    assert [r[:-1] for r in mine.rows] == [r[:-1] for r in theirs.rows]
    assert [float(r[-1]) for r in mine.rows] == pytest.approx([float(r[-1]) for r in theirs.rows])


def test_a_row_of_a_frame_is_named():
    frame = FRAME.assign(split=["train", "test", "later", "valid"])
    with pytest.raises(ManifestError, match="data frame:2: the split 'later'"):
        Manifest.read(frame)
    with pytest.raises(OptionError, match="a list is no table"):
        Manifest.read([1, 2])
    with pytest.raises(ManifestError, match="has no rows"):
        Manifest.read(FRAME.iloc[:0])


@pytest.fixture
def data_sets(tmp_path):
    datasets = pytest.importorskip("datasets")
    from PIL import Image

    def png(colour):
        out = io.BytesIO()
        Image.new("RGB", (4, 4), colour).save(out, "PNG")
        return out.getvalue()

    def make(colours, labels):
        features = datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
        )
        rows = {"image": [{"bytes": png(c), "path": "x.png"} for c in colours], "label": labels}
        return datasets.Dataset.from_dict(rows, features=features)

    train, test = make(["red", "blue", "green"], [0, 1, 0]), make(["black"], [-1])
    return datasets.DatasetDict({"train": train, "validation": test})


def test_a_data_set_with_its_pictures_inside(data_sets, tmp_path):
    from PIL import Image

    with pytest.raises(ManifestError, match=r"Manifest\.read\(dataset, files='pictures'\)"):
        Manifest.read(data_sets["train"])
    items = Manifest.read(data_sets, files=tmp_path / "pictures").items
    assert list(items.id) == ["train/0", "train/1", "train/2", "validation/0"]
    assert list(items.label) == ["cat", "dog", "cat", ""]
    assert list(items.split) == ["train", "train", "train", "valid"]
    colours = [Image.open(path).getpixel((0, 0)) for path in items.paths["image"]]
    assert colours == [(255, 0, 0), (0, 0, 255), (0, 128, 0), (0, 0, 0)]
    again = Manifest.read(data_sets, files=tmp_path / "pictures").items
    assert list(again.paths["image"]) == list(items.paths["image"])
    assert len(list((tmp_path / "pictures").iterdir())) == 4


def test_one_picture_in_two_rows_of_a_data_set(data_sets, tmp_path):
    datasets = pytest.importorskip("datasets")

    twice = datasets.concatenate_datasets([data_sets["train"], data_sets["train"]])
    items = Manifest.read(twice, files=tmp_path / "pictures").items
    assert list(items.id) == list("012345")
    assert items.paths["image"][0] == items.paths["image"][3]
    twice.to_parquet(tmp_path / "t.parquet")
    assert len(Manifest.read(tmp_path / "t.parquet", files=tmp_path / "pictures").items) == 6


def test_a_parquet_file_of_a_data_set(data_sets, tmp_path):
    data_sets["train"].to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ManifestError, match=r"train\.parquet, column image: .* files='pictures'"):
        Manifest.read(tmp_path / "train.parquet")
    items = Manifest.read(tmp_path / "train.parquet", files=tmp_path / "pictures").items
    assert list(items.paths["image"]) == list(
        Manifest.read(data_sets["train"], files=tmp_path / "pictures").items.paths["image"]
    )
    assert list(items.label) == ["0", "1", "0"]  # the file itself knows no names


def test_store_label_takes_any_table(tmp_path):
    path = tmp_path / "s.h5"
    with FeatureStore.open(path, "a") as store:
        store.register(Items.of(["a", "b"]))
    relabel(path, pd.DataFrame({"id": ["a", "b"], "label": ["x", "y"]}))
    (tmp_path / "t.jsonl").write_text('{"id": "b", "label": "z"}\n')
    relabel(path, tmp_path / "t.jsonl")
    with FeatureStore.open(path) as store:
        assert list(store.items.label) == ["x", "z"]


# --- metadata of image folders


def _touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_an_image_folder_with_metadata(tmp_path, form):
    _touch(tmp_path, "0.png", "1.png", "more/2.png", "3.png")
    rows = pd.DataFrame({"file_name": ["0.png", "1.png", "more/2.png"], "label": ["x", "y", "x"]})
    path = tmp_path / f"metadata.{form}"
    rows.to_csv(path, index=False) if form == "csv" else rows.to_json(
        path, orient="records", lines=True
    )
    manifest = Manifest.read(tmp_path)
    assert list(manifest.items.label) == ["x", "y", "x"]
    assert list(manifest.items.paths["image"]) == ["0.png", "1.png", "more/2.png"]
    account = "\n".join(manifest.account())
    assert "3 found, 0 missing" in account
    assert f"rows of metadata.{form}" in account
    assert "1 pictures or sounds below it are in no row (first: 3.png)" in account


def test_metadata_in_folders_of_splits(tmp_path):
    _touch(tmp_path, "train/a.wav", "train/b.wav", "test/a.wav")
    (tmp_path / "train" / "metadata.csv").write_text("file_name,word\na.wav,yes\nb.wav,no\n")
    (tmp_path / "test" / "metadata.jsonl").write_text('{"file_name": "a.wav", "word": "yes"}\n')
    items = Manifest.read(tmp_path, cols={"label": "word"}).items
    found = dict(zip(items.paths["audio"], zip(items.label, items.split)))
    assert found == {
        "train/a.wav": ("yes", "train"),
        "train/b.wav": ("no", "train"),
        "test/a.wav": ("yes", "test"),
    }
    (tmp_path / "train" / "metadata.csv").write_text("file_name,split\na.wav,train\nb.wav,later\n")
    with pytest.raises(ManifestError, match=r"train/metadata\.csv:3: the split 'later'"):
        Manifest.read(tmp_path)


def test_metadata_of_something_else_is_no_manifest(tmp_path):
    _touch(tmp_path, "cat/1.png", "dog/2.png")
    (tmp_path / "metadata.csv").write_text("author,licence\nann,mit\n")
    assert list(Manifest.read(tmp_path).items.label) == ["cat", "dog"]


# --- errors to paste from


@pytest.mark.parametrize(
    ("header", "row", "flags"),
    [
        ("path,target", "im/{}.png,cat", "--image-col path --label-col target"),
        ("filename,class", "{}.JPG,cat", "--image-col filename --label-col class"),
        ("image_path,category", "x/{}.jpeg,cat", "--image-col image_path --label-col category"),
        ("clip,Species", "{}.mp3,cat", "--audio-col clip --label-col Species"),
        ("the file,y", "{}.png,1", "--image-col 'the file' --label-col y"),
        ("id,w,h,target", "r{},1.5,2,0", "--columns '*' --as numbers --label-col target"),
    ],
)
def test_the_next_command_can_be_pasted(tmp_path, header, row, flags):
    from headstock.store.terminal import MANIFEST_OPTIONS, read_manifest

    path = tmp_path / "t.csv"
    path.write_text("\n".join([header, *(row.format(i) for i in range(4))]) + "\n")
    with pytest.raises(ManifestError) as caught:
        Manifest.read(path)
    assert f"its columns: {header.replace(',', ', ')}; likely: {flags}" in str(caught.value)

    import click

    read = []

    @click.command()
    @click.option("--columns", multiple=True)
    @click.option("--as", "_", multiple=True)
    @MANIFEST_OPTIONS
    def command(columns, _, **names):
        read.append(read_manifest(str(path), columns, **names))

    result = CliRunner().invoke(command, shlex.split(flags), catch_exceptions=False)
    assert result.exit_code == 0
    assert len(read[0].items) == 4
    assert set(read[0].items.label) <= {"cat", "1", "0"}
    assert "" not in read[0].items.label


def test_a_table_without_labels_says_which_column_may_be_one(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("image,species\na.png,cat\n")
    assert any("likely: --label-col species" in line for line in Manifest.read(path).account())
    path.write_text("image,comment\na.png,nice\n")
    assert not Manifest.read(path).notes
