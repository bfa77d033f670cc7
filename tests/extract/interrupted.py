"""A program to interrupt: ``python interrupted.py STORE FOLDER MARKS [BATCH [SECONDS]]`` extracts
with the counting encoder and leaves one line in MARKS for each item that was encoded. ``SECONDS``:
how long each commit holds the lock of HDF5."""

import os
import sys
import time

import h5py._objects
from counting import CountingEncoder

from headstock.extract import extract
from headstock.extract.pipeline import fill
from headstock.store import FeatureStore, Items


class Marking(CountingEncoder):
    """Writes each item's first value where the test can count it, before its batch is committed."""

    def encode(self, items):
        out = super().encode(items)
        with open(sys.argv[3], "a") as file:
            file.writelines(f"{row[0]!r}\n" for row in out)
        time.sleep(0.02)
        return out


commit = FeatureStore.commit


def slow(*words):
    with h5py._objects.phil:
        time.sleep(float(sys.argv[5]))
    return commit(*words)


if __name__ == "__main__":
    fill.BLOCK = 32
    if len(sys.argv) > 5:
        FeatureStore.commit = slow
    names = sorted(os.listdir(sys.argv[2]))
    rows = Items.of(names, paths={"image": names}, root=sys.argv[2])
    with FeatureStore.open(sys.argv[1], "a") as store:
        print("started", flush=True)
        batch = int(sys.argv[4]) if len(sys.argv) > 4 else 4
        extract(store, rows, {"image": Marking()}, batch_size=batch, workers=2)
        store.compact()
