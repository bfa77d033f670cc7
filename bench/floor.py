"""How near extraction comes to its floor: the network alone on ready pictures, in turn with files.

    python bench/floor.py [--backbone resnext101_32x8d] [--size 500x375] [--files 384] [--rounds 3]
                          [--runtime torch] [--precision bf16]

One process, one network, one runtime: a round computes as many ready pictures as there are files,
and then the files, from reading to durable commits. "Share" is the floor's seconds over ours, by
the clock and by processor time (workers included).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line sets it

import numpy as np

from headstock.extract import extract, image_encoder
from headstock.extract.doctor import sample_jpeg
from headstock.store import FeatureStore, Items

WORKERS = max(1, (os.cpu_count() or 1) // 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", default="resnext50_32x4d")
    parser.add_argument("--size", default="500x375", help="pixels of the JPEGs that it makes")
    parser.add_argument("--files", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--precision", default="fp32")
    asked = parser.parse_args()
    encoder = image_encoder(
        f"timm:{asked.backbone}",
        untrained_seed=0,
        runtime=asked.runtime,
        precision=asked.precision,
    )
    picture = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    width, height = map(int, asked.size.split("x"))
    n = asked.files

    def files(paths: list[str]) -> None:
        items = Items.of(paths, paths={"image": paths})
        with (
            tempfile.TemporaryDirectory() as place,
            FeatureStore.open(Path(place, "f.h5"), "a") as store,
        ):
            extract(store, items, {"image": encoder}, workers=WORKERS)

    def spent(step, *given) -> tuple[float, float]:
        wall, cpu = time.perf_counter(), sum(os.times()[:4])
        step(*given)
        return time.perf_counter() - wall, sum(os.times()[:4]) - cpu

    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, f"{i:05d}.jpg")) for i in range(n)]
        for i, path in enumerate(paths):
            Path(path).write_bytes(sample_jpeg(width, height, seed=i))
        files(paths[:8])  # proves the runtime, once
        print(
            f"{asked.backbone}, {asked.precision}, {encoder.status().runtime}, {n} of {asked.size}"
        )
        print("floor, images/s  files, images/s  share by the clock  by processor time")
        for _ in range(asked.rounds):
            floor, floor_cpu = spent(encoder.encode, [picture] * n)
            ours, ours_cpu = spent(files, paths)
            print(
                f"{n / floor:15.2f}  {n / ours:15.2f}  {floor / ours:18.0%}  "
                f"{floor_cpu / ours_cpu:17.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
