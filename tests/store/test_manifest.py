"""The manifest: what is read, what is refused, and that each refusal names file and line."""

import numpy as np
import pytest

from headstock.store.errors import ManifestError, OptionError
from headstock.store.manifest.manifest import Manifest


@pytest.fixture
def write(tmp_path):
    def to_file(text, name="m.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return to_file


def test_plain_columns_and_extras(write):
    path = write("id,image,label,speaker,score\n007,a.png,TRUE,ann,1.5\n1e5,b.png,NA,bob,2.5\n")
    items = Manifest.read(path).items
    assert list(items.id) == ["007", "1e5"]  # text stays text
    assert list(items.label) == ["TRUE", "NA"]
    assert list(items.extra) == ["speaker", "score"]  # any column may be a group
    assert items.root == str(path.parent)


def test_notebook_layout_by_renames_alone(write, tmp_path):
    images = tmp_path / "pictures" / "all"
    images.mkdir(parents=True)
    (images / "x.png").touch()
    path = write("IMAGE,mfcc_1,mfcc_2,CLASS\nx.png,1.5,-2,FOREST\ny.png,,3,\n")
    manifest = Manifest.read(
        path,
        cols={"image": "IMAGE", "label": "CLASS"},
        columns=["mfcc_*"],
        roots={"image": images},
    )
    assert list(manifest.items.id) == ["x.png", "y.png"]
    assert manifest.items.paths["image"][0] == "pictures/all/x.png"
    assert np.isnan(manifest.columns["mfcc_1"][1])
    assert manifest.columns["mfcc_2"].tolist() == [-2, 3]
    assert not manifest.items.extra
    account = "\n".join(manifest.account())
    assert "1 found, 1 missing" in account
    assert "without a label: 1" in account


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_dialects(write, delimiter, ending, bom):
    lines = [["id", "image", "label"], ["1", '"a\nb.png"', "x"], ["2", "c.png", "y"]]
    text = ending.join(delimiter.join(cells) for cells in lines) + ending
    items = Manifest.read(write(bom + text.encode())).items
    assert list(items.paths["image"]) == ["a\nb.png", "c.png"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "empty"),
        ("id,image\n", 1, "no rows"),
        ("id,id\n1,2\n", 1, "twice"),
        ("id,image\n1,a\n2\n", 3, "1 cells"),
        ('id,image\n1,a\n2,"b\n', 3, "broken CSV"),
        ("id,image\n1,a\n1,b\n", 3, "other content"),
        ("id,image\n1,a\n,b\n", 3, "no id"),
        ("id,image\n\u00e9,a\ne\u0301,a\n", 3, "Unicode form"),
        ("id,image\n1,a\0\n", 2, "NUL"),
        (b"id,image\n1,a\n2,\xff\xfe\n", 3, "UTF-8"),
        ("id,other\n1,2\n", 1, "no image, audio or numeric column"),
    ],
)
def test_refused_by_line(write, text, line, words):
    path = write(text)
    with pytest.raises(ManifestError, match=words) as caught:
        Manifest.read(path)
    assert caught.value.where == f"{path}:{line}"
    assert "\n" not in str(caught.value)


def test_exact_repeats_are_left_out_and_counted(write):
    manifest = Manifest.read(write("id,image\n1,a\n2,b\n1,a\n"))
    assert len(manifest.items) == 2
    assert manifest.repeated == ("1",)


def test_a_number_that_is_none(write):
    path = write("id,m\n1,2\n2,x\n")
    with pytest.raises(ManifestError, match="'x' in column 'm'") as caught:
        Manifest.read(path, columns=["m"])
    assert caught.value.where.endswith(":3")


def test_class_names_and_split(write):
    path = write("id,image,label,split\n1,a,0,\n2,b,1,test\n3,c,,\n")
    items = Manifest.read(path, class_names=["cat", "dog"], split="train").items
    assert list(items.label) == ["cat", "dog", ""]
    assert list(items.split) == ["train", "test", "train"]
    with pytest.raises(ManifestError, match=r"label '1' .* has no class name"):
        Manifest.read(path, class_names=["cat"])
    with pytest.raises(OptionError, match="no field"):
        Manifest.read(path, cols={"klass": "label"})


def test_a_renamed_group_column_keeps_its_own_name(write):
    path = write("id,image,label,speaker\n1,a,x,ann\n2,b,y,bob\n")
    items = Manifest.read(path, cols={"group": "speaker"}).items
    assert list(items.group) == list(items.column("speaker")) == ["ann", "bob"]


def test_folder_of_class_folders(tmp_path):
    for name in (
        "cat/1.png",
        "cat/1.wav",
        "dog/1.png",
        "dog/1.jpg",
        "dog/.hidden.png",
        "loose.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    items = Manifest.read(tmp_path).items
    assert list(items.id) == ["cat/1.png", "dog/1.jpg", "dog/1.png", "loose.png"]
    assert list(items.label) == ["cat", "dog", "dog", ""]
    assert list(items.paths["audio"]) == ["cat/1.wav", "", "", ""]


def test_folder_with_a_level_of_splits(tmp_path):
    for name in ("train/cat/1.png", "test/cat/2.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.touch()
    items = Manifest.read(tmp_path).items
    assert list(items.split) == ["test", "train"]
    assert list(items.label) == ["cat", "cat"]
    with pytest.raises(ManifestError, match="no pictures or sounds"):
        Manifest.read(_empty(tmp_path / "none"))


def _empty(folder):
    folder.mkdir()
    return folder
