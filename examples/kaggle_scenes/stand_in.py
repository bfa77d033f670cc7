"""Make a competition of the layout of the scene-classification one from a folder of your own.

    python stand_in.py FOLDER/index.csv kaggle

FOLDER/index.csv has the columns `image`, `audio` and `label`, and `split` if it has a test split;
without one, every fifth row of each class becomes the test. Written are, as the competition had
them: `train.csv` (IMAGE, mfcc_1 … mfcc_104, CLASS, CLASS_NAME), `test.csv` (IMAGE, mfcc_1 …
mfcc_104), `images/`, `class_names.txt` in the order of the indices, and, which no competition
gives away, `solution.csv`. CLASS is an index from 0.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import click
import numpy as np

from headstock.extract import audio_encoder, extract
from headstock.store import FeatureStore, Manifest

COEFFICIENTS = [f"mfcc_{i + 1}" for i in range(104)]


def test_rows(manifest: Manifest) -> np.ndarray:
    """(n,) bool: the rows of split test, or every fifth row of each class."""
    items = manifest.items
    if (items.split == "test").any():
        return items.split == "test"
    out = np.zeros(len(items), dtype=bool)
    for label in np.unique(items.label.astype(str)):
        out[np.flatnonzero(items.label == label)[4::5]] = True
    return out


def write(path: Path, header: list[str], rows: Iterable[list]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)


@click.command(help=__doc__)
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
def main(index: Path, output: Path) -> None:
    manifest = Manifest.read(index)
    items = manifest.items
    pictures = output / "images"
    pictures.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        FeatureStore.open(Path(folder, "sounds.h5"), "a") as store,
    ):
        extract(store, items, {"audio": audio_encoder("mfcc")})
        sounds = store.feature_set("audio").x()
    classes = np.unique(items.label.astype(str))
    (output / "class_names.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    names, train, test, solution = [], [], [], []
    for row, held_out in enumerate(test_rows(manifest)):
        source = Path(items.root, items.paths["image"][row])
        names.append(f"{'test' if held_out else 'train'}_{row:05d}{source.suffix.lower()}")
        shutil.copyfile(source, pictures / names[row])
        line = [names[row], *(f"{v:.6f}" for v in sounds[row])]
        index_of = int(np.searchsorted(classes, str(items.label[row])))
        if held_out:
            test.append(line)
            solution.append([names[row], index_of])
        else:
            train.append([*line, index_of, classes[index_of]])
    write(output / "train.csv", ["IMAGE", *COEFFICIENTS, "CLASS", "CLASS_NAME"], train)
    write(output / "test.csv", ["IMAGE", *COEFFICIENTS], test)
    write(output / "solution.csv", ["Id", "CLASS"], solution)
    click.echo(f"{output}: {len(train)} rows to learn from, {len(test)} to predict")


if __name__ == "__main__":
    main()
