"""What every operation on a store takes of memory, each in a process of its own.

``python bench/memory.py --rows 1000000 --dim 16`` prints a Markdown table: the peak of the
process's own memory (anonymous pages, sampled; pages of mapped files belong to the system) beyond
what the libraries take, and that by row. ``extract`` is the real one, with a trivial encoder over
500 files that the rows share.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from headstock.extract.encoder import Encoder, Loader

FILES = 500


def anonymous() -> int:
    """Bytes of this process's own memory now."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon"))


class Peak:
    """The most anonymous memory while the context lasts, beyond what was there before."""

    def __enter__(self) -> Peak:
        self.before = self.most = anonymous()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._end.wait(0.01):
            self.most = max(self.most, anonymous())

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self.most = max(self.most, anonymous())

    @property
    def bytes(self) -> int:
        return self.most - self.before


class Floats(Loader):
    """The file's bytes as numbers."""

    def decode(self, data: bytes) -> np.ndarray:
        return np.frombuffer(data, dtype="<f4")


class Damaged(Loader):
    """Finds every file bad."""

    def decode(self, data: bytes) -> np.ndarray:
        from headstock.store.errors import ItemError

        raise ItemError("item", "ends in the middle of its data", "replace it", code="truncated")


class Small(Encoder):
    """An encoder that costs nothing: the file's bytes are its vector."""

    name, modality, batch_size, loader = "small", "image", 4096, Floats()

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def recipe(self) -> Any:
        from headstock.store import Recipe

        return Recipe("image", {"bench": "memory", "dim": self.dim})

    def encode(self, items: list[np.ndarray]) -> np.ndarray:
        return np.stack(items)


def extract(folder: Path, rows: int, dim: int) -> None:
    from headstock.extract import extract as run
    from headstock.store import FeatureStore, Manifest

    manifest = Manifest.read(folder / "m.csv")
    with FeatureStore.open(folder / "f.h5", "a") as store:
        run(store, manifest.items, {"image": Small(dim)}, workers=0)


class Bad(Small):
    """An encoder whose files are all bad."""

    loader = Damaged()


def failing(folder: Path, rows: int, dim: int) -> None:
    from headstock.extract import extract as run
    from headstock.store import FeatureStore, Manifest

    manifest = Manifest.read(folder / "m.csv")
    with FeatureStore.open(folder / "failed.h5", "a") as store:
        if run(store, manifest.items, {"image": Bad(dim)}, workers=0).failed != rows:
            raise SystemExit("not all rows failed")


def compact(folder: Path, rows: int, dim: int) -> None:
    from headstock.store import FeatureStore

    with FeatureStore.open(folder / "f.h5", "a") as store:
        store.compact(force=True)


def verify(folder: Path, rows: int, dim: int) -> None:
    from headstock.store.care.verify import verify as run

    if run(folder / "f.h5").findings:
        raise SystemExit("the store does not verify")


def exported(suffix: str) -> Callable[[Path, int, int], None]:
    def do(folder: Path, rows: int, dim: int) -> None:
        from headstock.store.exchange.export import export

        if export(folder / "f.h5", folder / f"out{suffix}").rows != rows:
            raise SystemExit("not all rows were exported")
        if suffix != ".npz":  # which is imported next
            (folder / f"out{suffix}").unlink()

    return do


def imported(folder: Path, rows: int, dim: int) -> None:
    from headstock.store import FeatureStore
    from headstock.store.exchange.imports import import_features

    import_features(folder / "out.npz", folder / "imported.h5")
    with FeatureStore.open(folder / "imported.h5") as store:
        if store.n != rows:
            raise SystemExit("not all rows were imported")


def merge(folder: Path, rows: int, dim: int) -> None:
    from headstock.store.care.merge import merge as run

    run(folder / "merged.h5", [folder / "f.h5"])


def label(folder: Path, rows: int, dim: int) -> None:
    from headstock.store.care.label import relabel

    if relabel(folder / "f.h5", folder / "labels.csv").changed != rows:
        raise SystemExit("not all rows were relabelled")


def opened(folder: Path, rows: int, dim: int) -> None:
    from headstock.store import FeatureStore

    with FeatureStore.open(folder / "f.h5") as store:
        if store.feature_set("image").x().shape != (rows, dim):
            raise SystemExit("not all rows are there")


def listed(folder: Path, rows: int, dim: int) -> None:
    from headstock.store import FeatureStore

    with FeatureStore.open(folder / "f.h5") as store:
        _ = (store.items, store.complete("image").sum())


def read(folder: Path, rows: int, dim: int) -> None:
    from headstock.heads.rows.labelled import read_rows
    from headstock.store import FeatureStore

    with FeatureStore.open(folder / "f.h5") as store:
        read_rows(store, ["image"])


def repair(folder: Path, rows: int, dim: int) -> None:
    from headstock.store.care.repair import repair as run

    with open(folder / "f.h5", "r+b") as file:
        from headstock.store.disk.file import StoreFile

        with StoreFile(folder / "f.h5") as opened:
            file.seek(opened.regions["/features/image/x"].offset)
        file.write(b"\x7f")
    told = run(folder / "f.h5")  # the row is in the generation before, too
    if told.files != ["f.h5"] or told.rows:
        raise SystemExit("the row was not taken from the generation before")


STEPS: dict[str, Callable[[Path, int, int], None]] = {
    "extract, all of it": extract,
    "extract, where every row fails": failing,
    "compact": compact,
    "verify": verify,
    "open, map a set, check it": opened,
    "open, list the rows": listed,
    "evaluate's reading": read,
    "export npz": exported(".npz"),
    "export h5": exported(".h5"),
    "export csv": exported(".csv"),
    "export parquet": exported(".parquet"),
    "import npz": imported,
    "label, all rows": label,
    "merge into a new store": merge,
    "repair": repair,
}


def prepare(folder: Path, rows: int, dim: int) -> None:
    """The files, the table and the labels."""
    rng = np.random.default_rng(0)
    (folder / "files").mkdir()
    for i in range(FILES):
        (folder / "files" / f"{i:03d}").write_bytes(rng.normal(size=dim).astype("<f4").tobytes())
    with (
        open(folder / "m.csv", "w", newline="") as table,
        open(folder / "labels.csv", "w", newline="") as labels,
    ):
        out, new = csv.writer(table), csv.writer(labels)
        out.writerow(["id", "image", "label", "group"])
        new.writerow(["id", "label"])
        for i in range(rows):
            out.writerow([f"row{i:08d}", f"files/{i % FILES:03d}", f"class{i % 9}", f"g{i % 99}"])
            new.writerow([f"row{i:08d}", f"other{i % 7}"])


def one(step: str, folder: Path, rows: int, dim: int) -> None:
    """Run a step and print its figures as JSON."""
    import headstock.extract
    import headstock.heads.rows.labelled
    import headstock.store.features  # noqa: F401  libraries count before

    np.zeros(1 << 20).sum()
    if step == "repair" and (child := os.fork()) == 0:  # the generation before has the rows, too
        compact(folder, rows, dim)
        os._exit(0)
    elif step == "repair":
        os.waitpid(child, 0)
    with Peak() as peak:
        begin = time.process_time()
        STEPS[step](folder, rows, dim)
        spent = time.process_time() - begin
    print(json.dumps({"bytes": peak.bytes, "base": peak.before, "seconds": spent}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--folder", type=Path, help="where to write")
    parser.add_argument("--step", choices=list(STEPS))
    options = parser.parse_args()
    if options.step:
        one(options.step, options.folder, options.rows, options.dim)
        return
    with tempfile.TemporaryDirectory(prefix="bench-memory-", dir=options.folder) as name:
        folder = Path(name)
        prepare(folder, options.rows, options.dim)
        size = 4 * options.rows * options.dim
        print(
            f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, {os.cpu_count()} cores "
            f"({platform.machine()}), {options.rows:,} rows of {options.dim} float32 "
            f"({size / 1e6:.0f} MB of vectors), one set, four text columns.\n"
        )
        print(
            "| operation | libraries, MB | peak beyond them, MB | bytes a row | processor seconds |"
            "\n|---|---|---|---|---|"
        )
        for step in STEPS:
            words = ["--step", step, "--folder", name, "--rows", options.rows, "--dim", options.dim]
            told = subprocess.run(
                [sys.executable, __file__, *map(str, words)], capture_output=True, text=True
            )
            if told.returncode:
                print(f"| {step} | | failed: {told.stderr.strip().splitlines()[-1][:120]} | | |")
                continue
            figures = json.loads(told.stdout)
            print(
                f"| {step} | {figures['base'] / 1e6:.0f} | {figures['bytes'] / 1e6:.0f} "
                f"| {figures['bytes'] / options.rows:.0f} | {figures['seconds']:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
