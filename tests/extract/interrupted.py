"""A program to interrupt: ``python interrupted.py STORE FOLDER MARKS`` extracts with the counting
encoder and leaves one line in MARKS for each encoder call."""

import os
import sys
import time

from counting import CountingEncoder

from headstock.extract import extract
from headstock.store import FeatureStore, Items


class Marking(CountingEncoder):
    """Writes each item's first value where the test can count it, before its batch is committed."""

    def encode(self, items):
        out = super().encode(items)
        with open(sys.argv[3], "a") as file:
            file.writelines(f"{row[0]!r}\n" for row in out)
        time.sleep(0.02)
        return out


if __name__ == "__main__":
    names = sorted(os.listdir(sys.argv[2]))
    rows = Items.of(names, paths={"image": names}, root=sys.argv[2])
    with FeatureStore.open(sys.argv[1], "a") as store:
        print("started", flush=True)
        extract(store, rows, {"image": Marking()}, batch_size=4, workers=2)
        store.compact()
