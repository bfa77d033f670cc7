"""The store beside plain HDF5, npy, Parquet and zarr, the memory and the disk, in one run.

``python bench/store.py --rows 20000 --dim 1024`` prints a Markdown table. Each figure is the best
of ``--repeats`` with the files in the page cache; the store checks every row when it first reads it
(not again while it is open), the others check nothing. "First" is in a store just opened. Parquet
and zarr are left out by name when they are not installed.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from headstock.store import OK, Batch, FeatureStore, Items, Recipe

BATCH = 512
Figures = dict[str, float | str]


class Peer(ABC):
    """Appends batches of 512 rows durably, opens, reads all, reads random rows."""

    name = ""

    def __init__(self, folder: Path, x: np.ndarray) -> None:
        self.folder, self.x = folder, x

    @abstractmethod
    def append(self) -> None: ...

    @abstractmethod
    def open(self) -> Any: ...

    @abstractmethod
    def read(self, opened: Any, rows: np.ndarray | None) -> np.ndarray: ...

    def close(self, opened: Any) -> None:
        opened.close()


class Store(Peer):
    name = "headstock store"
    precision = "float32"

    def append(self) -> None:
        n, d = self.x.shape
        ids = [f"row{i:08d}" for i in range(n)]
        digests = np.random.default_rng(1).integers(0, 256, (n, 32), dtype=np.uint8)
        store = FeatureStore.open(self.folder / "f.h5", "a")
        store.register(Items.of(ids))
        store.declare("image", Recipe("image", {"bench": True}), d, dtype=self.precision)
        self.spent: list[tuple[float, float]] = []
        for start in range(0, n, BATCH):
            part = slice(start, min(start + BATCH, n))
            b = part.stop - part.start
            batch = Batch(
                ids[part], digests[part], np.full((b, 2), -1), self.x[part], np.full(b, OK, "u1")
            )
            wall, cpu = time.perf_counter(), time.process_time()
            store.commit("image", batch)
            self.spent.append((time.perf_counter() - wall, time.process_time() - cpu))
        begin = time.perf_counter()
        store.compact()
        self.compaction = time.perf_counter() - begin
        store.close()

    def open(self) -> FeatureStore:
        return FeatureStore.open(self.folder / "f.h5")

    def read(self, opened: FeatureStore, rows: np.ndarray | None) -> np.ndarray:
        return opened.feature_set("image").x(rows)


class Half(Store):
    name = "headstock store, float16"
    precision = "float16"


class Chunked(Peer):
    """What h5py users write: a resizable dataset, flushed and synced after each batch."""

    name = "h5py, chunked"
    more: dict[str, Any] = {}  # noqa: RUF012

    def append(self) -> None:
        path = self.folder / "f.h5"
        with h5py.File(path, "w") as file:
            d = self.x.shape[1]
            out = file.create_dataset(
                "x", (0, d), maxshape=(None, d), dtype="f4", chunks=(64, d), **self.more
            )
            fd = os.open(path, os.O_RDONLY)
            for start in range(0, len(self.x), BATCH):
                part = self.x[start : start + BATCH]
                out.resize(start + len(part), axis=0)
                out[start:] = part
                file.flush()
                os.fsync(fd)
            os.close(fd)

    def open(self) -> h5py.File:
        return h5py.File(self.folder / "f.h5", "r")

    def read(self, opened: h5py.File, rows: np.ndarray | None) -> np.ndarray:
        return opened["x"][:] if rows is None else opened["x"][rows]


class Gzip(Chunked):
    name = "h5py, chunked, gzip 4"
    more = {"compression": "gzip"}  # noqa: RUF012


class Npy(Peer):
    name = "npy, memory-mapped"

    def append(self) -> None:
        path = self.folder / "f.npy"
        out = np.lib.format.open_memmap(path, "w+", dtype="f4", shape=self.x.shape)
        for start in range(0, len(self.x), BATCH):
            out[start : start + BATCH] = self.x[start : start + BATCH]
            out.flush()

    def open(self) -> np.ndarray:
        return np.load(self.folder / "f.npy", mmap_mode="r")

    def read(self, opened: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
        return np.array(opened) if rows is None else opened[rows]

    def close(self, opened: np.ndarray) -> None:
        del opened


class Parquet(Peer):
    name = "Parquet"

    def append(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        d = self.x.shape[1]
        form = pa.schema([("x", pa.list_(pa.float32(), d))])
        with pq.ParquetWriter(self.folder / "f.parquet", form) as out:
            for start in range(0, len(self.x), BATCH):
                flat = pa.array(self.x[start : start + BATCH].reshape(-1))
                out.write_table(
                    pa.Table.from_arrays([pa.FixedSizeListArray.from_arrays(flat, d)], schema=form)
                )

    def open(self) -> Any:
        import pyarrow.parquet as pq

        return pq.ParquetFile(self.folder / "f.parquet")

    def read(self, opened: Any, rows: np.ndarray | None) -> np.ndarray:
        column = opened.read()["x"].combine_chunks()
        x = column.values.to_numpy().reshape(len(column), -1)
        return x if rows is None else x[rows]


class Zarr(Peer):
    name = "zarr"

    def append(self) -> None:
        import zarr

        n, d = self.x.shape
        out = zarr.create_array(
            str(self.folder / "f.zarr"), shape=(n, d), chunks=(64, d), dtype="f4"
        )
        for start in range(0, n, BATCH):
            out[start : start + BATCH] = self.x[start : start + BATCH]

    def open(self) -> Any:
        import zarr

        return zarr.open_array(str(self.folder / "f.zarr"), mode="r")

    def read(self, opened: Any, rows: np.ndarray | None) -> np.ndarray:
        return opened[:] if rows is None else opened.oindex[rows]

    def close(self, opened: Any) -> None:
        del opened


def best(repeats: int, do: Callable[[], Any]) -> float:
    """Seconds of the fastest of some runs."""
    spent = []
    for _ in range(repeats):
        begin = time.perf_counter()
        do()
        spent.append(time.perf_counter() - begin)
    return min(spent)


def measure(peer: Peer, rows: np.ndarray, repeats: int) -> Figures:
    """The figures of one peer; its folder is emptied before and after."""
    x = peer.x
    shutil.rmtree(peer.folder, ignore_errors=True)
    peer.folder.mkdir(parents=True)
    begin = time.perf_counter()
    peer.append()
    figures: Figures = {"name": peer.name, "append": time.perf_counter() - begin}
    if isinstance(peer, Store):
        figures["commit"], figures["commit cpu"] = np.median(peer.spent, axis=0).tolist()
        figures["compaction"] = peer.compaction
    files = [p for p in peer.folder.rglob("*") if p.is_file()]
    figures["bytes"] = sum({p.stat().st_ino: p.stat().st_size for p in files}.values())
    figures["open"] = best(4 * repeats, lambda: peer.close(peer.open()))
    opened = peer.open()
    begin = time.perf_counter()
    got = peer.read(opened, None)
    np.add.reduce(got[:, 0])
    figures["first read"] = time.perf_counter() - begin
    exact = not isinstance(peer, Half)
    if exact and not np.array_equal(got, x):
        raise SystemExit(f"{peer.name} gave back other values")

    def read() -> np.ndarray:
        got = peer.read(opened, None)
        # a map costs nothing until it is used: read means copied into new memory
        return np.array(got) if isinstance(got, np.memmap) else got

    figures["read"] = best(repeats, read)
    figures["random"] = best(repeats, lambda: peer.read(opened, rows))
    if exact and not np.array_equal(peer.read(opened, rows), x[rows]):
        raise SystemExit(f"{peer.name} gave back other rows")
    peer.close(opened)

    anew = []
    for _ in range(repeats):
        opened = peer.open()
        anew.append(best(1, lambda opened=opened: peer.read(opened, rows)))
        peer.close(opened)
    figures["random first"] = min(anew)
    shutil.rmtree(peer.folder)
    return figures


def floor(folder: Path, x: np.ndarray, rows: np.ndarray, repeats: int) -> Figures:
    """The machine's own speed: memory, and one file written and synced."""

    def write() -> None:
        with open(folder / "raw", "wb", buffering=0) as file:
            for start in range(0, len(x), BATCH):
                file.write(x[start : start + BATCH].data)
                os.fsync(file.fileno())

    append = best(1, write)
    (folder / "raw").unlink()
    return {
        "name": "memory, disk", "append": append, "open": 0.0, "bytes": x.nbytes,
        "first read": best(1, x.copy), "read": best(repeats, x.copy),
        "random": best(repeats, lambda: x[rows]), "random first": best(repeats, lambda: x[rows]),
    }  # fmt: skip


def table(figures: list[Figures], x: np.ndarray) -> str:
    lines = [
        "| | append 512 rows, durable, µs a row | open, ms | first full read, GB/s "
        "| full read again, GB/s | first random 10 % rows, ms | random 10 % rows again, ms "
        "| bytes / data |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for f in figures:
        speed = [x.nbytes / float(f[k]) / 1e9 for k in ("first read", "read")]
        lines.append(
            f"| {f['name']} | {1e6 * float(f['append']) / len(x):.1f} "
            f"| {1e3 * float(f['open']):.2f} | {speed[0]:.2f} | {speed[1]:.2f} "
            f"| {1e3 * float(f['random first']):.1f} | {1e3 * float(f['random']):.1f} "
            f"| {float(f['bytes']) / x.nbytes:.2f} |"
        )
    for f in figures:
        if "commit" in f:
            lines.append(
                f"\n{f['name']}: a commit of {BATCH} rows {1e3 * float(f['commit']):.1f} ms "
                f"(median; {1e6 * float(f['commit']) / BATCH:.1f} µs a row, "
                f"{1e6 * float(f['commit cpu']) / BATCH:.1f} of them computing); "
                f"compaction of {len(x)} rows {float(f['compaction']):.2f} s, included in append."
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write; a disk worth measuring")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-store-", dir=options.folder))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(options.rows, options.dim)).astype(np.float32)
    np.maximum(x, 0, out=x)  # like pooled activations, half of them zero
    rows = np.sort(rng.choice(len(x), len(x) // 10, replace=False))
    figures, absent = [floor(folder, x, rows, options.repeats)], []
    for kind in (Store, Half, Chunked, Gzip, Npy, Parquet, Zarr):
        try:
            figures.append(measure(kind(folder / "peer", x), rows, options.repeats))
        except ImportError as error:
            absent.append(f"{kind.name} ({error})")
    shutil.rmtree(folder)
    load = ", ".join(f"{v:.1f}" for v in os.getloadavg())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, {os.cpu_count()} cores "
        f"({platform.machine()}), load {load}, h5py {h5py.__version__}, {len(x)} rows of "
        f"{x.shape[1]} float32 ({x.nbytes / 1e6:.0f} MB), page cache warm, peak {peak:.0f} MB.\n"
    )
    print(table(figures, x))
    if absent:
        print(f"\nLeft out: {'; '.join(absent)}.")


if __name__ == "__main__":
    main()
