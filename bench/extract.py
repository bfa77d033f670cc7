"""Extraction side by side with the loops people write, on the same files, in one run.

    python bench/extract.py [--mix 500x375:48,1280x960:8] [--real FOLDER] [--rounds 2] [--json FILE]
                            [--peer NAME=PYTHON]... [--only WORD]... [--start FOLDER]

Each contender is a process of its own: it imports, builds ResNeXt-50 32x4d with the same random
weights, warms up, and is then timed from the first file to the last vector. Rounds alternate, so
that a busy neighbour hits all alike; CPU seconds include workers. A contender whose library is not
installed is left out by name; ``--peer`` names a Python that has thingsvision or embetter, whose
requirements exclude ours. "busy" is the share of the time in which the model computed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

BACKBONE = os.environ.get("BACKBONE", "resnext50_32x4d")
SIZE, CROP_PCT, SEED = 224, 0.95, 0
WORKERS = max(1, (os.cpu_count() or 1) // 2)
Loop = Callable[[list[str]], np.ndarray]


def network():
    """timm's network without its classifier, random weights."""
    import timm
    import torch

    torch.manual_seed(SEED)
    return timm.create_model(BACKBONE, num_classes=0).eval()


def transform():
    from timm.data import create_transform

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return create_transform(
        (3, SIZE, SIZE), crop_pct=CROP_PCT, interpolation="bicubic", mean=mean, std=std
    )


def headstock(**options) -> Loop:
    """Ours, with everything that it does beside: hashing, checks, durable commits."""
    from headstock.extract import extract, image_encoder
    from headstock.store import FeatureStore, Items

    encoder = image_encoder(f"timm:{BACKBONE}", untrained_seed=SEED, **options)

    def run(paths: list[str]) -> np.ndarray:
        items = Items.of(paths, paths={"image": paths})
        with (
            tempfile.TemporaryDirectory() as place,
            FeatureStore.open(Path(place, "f.h5"), "a") as store,
        ):
            account = extract(store, items, {"image": encoder}, workers=WORKERS)
            run.busy = account.sets["image"].busy  # type: ignore[attr-defined]
            return store.feature_set("image").x()

    return run


def notebook() -> Loop:
    """The notebook's way: a Dataset that opens files, a DataLoader, a loop over batches of 32."""
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    model, prepare = network(), transform()

    class Files(Dataset):
        def __init__(self, paths):
            self.paths = paths

        def __len__(self):
            return len(self.paths)

        def __getitem__(self, i):
            return prepare(Image.open(self.paths[i]).convert("RGB"))

    def run(paths: list[str]) -> np.ndarray:
        out, clock = [], Clock()
        with torch.no_grad():
            for batch in DataLoader(Files(paths), batch_size=32, num_workers=WORKERS):
                with clock:
                    out.append(model(batch).numpy())
        run.busy = clock.share()  # type: ignore[attr-defined]
        return np.concatenate(out)

    return run


class Clock:
    """The share of its life that was spent within it."""

    def __init__(self) -> None:
        self.begun, self.within = time.perf_counter(), 0.0

    def __enter__(self) -> None:
        self.entered = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.within += time.perf_counter() - self.entered

    def share(self) -> float:
        return self.within / (time.perf_counter() - self.begun)


def thingsvision() -> Loop:
    """thingsvision's extractor on a timm model: its dataset, loader and hooks."""
    import shutil

    from thingsvision import get_extractor_from_model
    from thingsvision.utils.data import DataLoader, ImageDataset

    prepare = transform()
    extractor = get_extractor_from_model(model=network(), device="cpu", backend="pt")

    def run(paths: list[str]) -> np.ndarray:
        with tempfile.TemporaryDirectory() as place:
            for i, path in enumerate(paths):  # it reads folders, in order of names
                shutil.copy(path, Path(place, f"{i:06d}.jpg"))
            data = ImageDataset(root=place, out_path=place, backend="pt", transforms=prepare)
            loader = DataLoader(dataset=data, batch_size=32, backend="pt")
            return extractor.extract_features(
                batches=loader, module_name="global_pool", flatten_acts=True, output_type="ndarray"
            )

    return run


def embetter() -> Loop:
    """embetter's image loader and timm encoder, a scikit-learn pipeline."""
    from embetter.vision import ImageLoader, TimmEncoder

    encoder = TimmEncoder.__new__(TimmEncoder)
    encoder.name, encoder.encode_predictions = BACKBONE, False
    encoder.model, encoder.transform_img = network(), transform()

    def run(paths: list[str]) -> np.ndarray:
        return np.asarray(encoder.transform(ImageLoader(convert="RGB").transform(paths)))

    return run


def timm_loop() -> Loop:
    """timm's own inference.py: its dataset, its loader, channels last, inference mode."""
    import torch
    from timm.data import ImageDataset, create_loader

    model = network().to(memory_format=torch.channels_last)

    class Files(ImageDataset):
        def __init__(self, paths):
            self.paths, self.transform, self.target_transform = paths, None, None

        def __len__(self):
            return len(self.paths)

        def __getitem__(self, i):
            from PIL import Image

            return self.transform(Image.open(self.paths[i]).convert("RGB")), 0

    def run(paths: list[str]) -> np.ndarray:
        loader = create_loader(
            Files(paths), (3, SIZE, SIZE), 32, use_prefetcher=False, interpolation="bicubic",
            crop_pct=CROP_PCT, num_workers=WORKERS, device=torch.device("cpu"),
        )  # fmt: skip
        out, clock = [], Clock()
        with torch.inference_mode():
            for batch, _ in loader:
                with clock:
                    out.append(model(batch.contiguous(memory_format=torch.channels_last)).numpy())
        run.busy = clock.share()  # type: ignore[attr-defined]
        return np.concatenate(out)

    return run


def model_alone() -> Loop:
    """The floor of the plain loops: the model on ready tensors, torch's own threads."""
    import torch

    model = network()

    def eager(paths: list[str]) -> np.ndarray:
        batch = torch.zeros(32, 3, SIZE, SIZE)
        with torch.inference_mode():
            parts = [model(batch[: len(paths[i : i + 32])]) for i in range(0, len(paths), 32)]
        return torch.cat(parts).numpy()

    return eager


def floor(**options) -> Loop:
    """The floor of ours: its runtime on ready pictures."""
    from headstock.extract import image_encoder

    encoder = image_encoder(f"timm:{BACKBONE}", untrained_seed=SEED, **options)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)

    def tiles(paths: list[str]) -> np.ndarray:
        return encoder.encode([picture] * len(paths))

    return tiles


CONTENDERS: dict[str, Callable[[], Loop]] = {
    "headstock": headstock,
    "headstock, torch": lambda: headstock(runtime="torch"),
    "headstock, bf16": lambda: headstock(precision="bf16"),
    "headstock, bf16, fast decode": lambda: headstock(precision="bf16", decode="fast"),
    "notebook's DataLoader loop": notebook,
    "timm's inference loop": timm_loop,
    "thingsvision": thingsvision,
    "embetter": embetter,
    "alone: model, torch threads": model_alone,
    "alone: torch, our tiles": lambda: floor(runtime="torch"),
    "alone: OpenVINO": lambda: floor(runtime="openvino"),
    "alone: OpenVINO, bf16": lambda: floor(runtime="openvino", precision="bf16"),
}


def peak_memory() -> int:
    """The most memory that this process had, in bytes (Linux)."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))


def cpu_seconds() -> float:
    used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def one(name: str, listing: str) -> None:
    """Run one contender once and print its figures as JSON; memory is the main process's."""
    paths = Path(listing).read_text().splitlines()
    loop = CONTENDERS[name]()
    loop(paths[:8])
    wall, cpu = time.perf_counter(), cpu_seconds()
    vectors = loop(paths)
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    np.save(listing + ".npy", vectors)
    busy = getattr(loop, "busy", None)
    figures = {
        "n": len(paths),
        "wall": wall,
        "cpu": cpu,
        "peak_mb": peak_memory() / 2**20,
        "busy": busy,
    }
    print(json.dumps(figures))


def generate(mix: str, folder: Path) -> list[str]:
    from headstock.extract.doctor import sample_jpeg

    paths = []
    for part in mix.split(","):
        size, _, count = part.partition(":")
        width, height = map(int, size.split("x"))
        for i in range(int(count)):
            path = folder / f"{size}-{i:04d}.jpg"
            path.write_bytes(sample_jpeg(width, height, seed=i))
            paths.append(str(path))
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mix", default="500x375:48,1280x960:6,4000x3000:2")
    parser.add_argument("--real", help="a folder whose JPEGs are added")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", action="append", help="contenders whose name holds this")
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument(
        "--peer", action="append", default=[], metavar="NAME=PYTHON",
        help="Python of thingsvision or embetter, in an environment of its own",
    )  # fmt: skip
    parser.add_argument("--start", help="time the first commit of the pictures in this folder")
    asked = parser.parse_args()
    if asked.start:
        start(asked.start)
        return
    if asked.one:
        one(*asked.one)
        return
    names = [n for n in CONTENDERS if not asked.only or any(o in n for o in asked.only)]
    figures: dict[str, list[dict]] = {name: [] for name in names}
    vectors: dict[str, np.ndarray] = {}
    peers = dict(word.split("=", 1) for word in asked.peer)
    with tempfile.TemporaryDirectory() as place:
        paths = generate(asked.mix, Path(place))
        if asked.real:
            paths += sorted(str(p) for p in Path(asked.real).rglob("*.JP*G"))
        listing = Path(place, "files.txt")
        listing.write_text("\n".join(paths))
        for _ in range(asked.rounds):
            for name in names:
                done = subprocess.run(
                    [
                        peers.get(name, sys.executable),
                        __file__, "--one", name, str(listing),
                    ],
                    stdout=subprocess.PIPE, text=True, check=False,
                )  # fmt: skip
                if done.returncode:
                    print(f"{name}: left out (code {done.returncode})", file=sys.stderr)
                    continue
                figures[name].append(json.loads(done.stdout.splitlines()[-1]))
                print(name, figures[name][-1], file=sys.stderr, flush=True)
                vectors[name] = np.load(str(listing) + ".npy")
    report(figures, vectors)
    if asked.json:
        Path(asked.json).write_text(json.dumps(figures, indent=2))


def start(folder: str) -> None:
    """Seconds from a bare process to the first committed vector, by step."""
    begun = time.perf_counter()
    from headstock.extract import extract, image_encoder

    encoder = image_encoder(f"timm:{BACKBONE}", untrained_seed=SEED)
    from headstock.store import FeatureStore, Items

    built = time.perf_counter()
    first: list[float] = []
    paths = sorted(str(p) for p in Path(folder).rglob("*.[Jj][Pp]*[Gg]"))[:64]
    real = FeatureStore.commit

    def commit(self, *args):
        real(self, *args)
        first.append(time.perf_counter())

    FeatureStore.commit = commit  # type: ignore[method-assign]
    items = Items.of(paths, paths={"image": paths})
    with (
        tempfile.TemporaryDirectory() as place,
        FeatureStore.open(Path(place, "f.h5"), "a") as store,
    ):
        extract(store, items, {"image": encoder}, workers=WORKERS)
    print(
        f"imports and the network {built - begun:.1f} s, first commit {first[0] - built:.1f} s on"
    )


def report(figures: dict[str, list[dict]], vectors: dict[str, np.ndarray]) -> None:
    """A table of the best round of each contender; cosine to the notebook's vectors."""
    reference = vectors.get("notebook's DataLoader loop")
    print(
        f"{'contender':29} {'images/s':>9} {'CPU s/image':>12} {'busy':>5} {'peak MB':>8}  "
        "smallest cosine"
    )
    for name, rounds in figures.items():
        if not rounds:
            continue
        best = min(rounds, key=lambda r: r["wall"])
        least = min(r["cpu"] / r["n"] for r in rounds)
        busy = f"{best['busy']:5.0%}" if best["busy"] is not None else "     "
        near = ""
        if reference is not None and "alone" not in name and vectors[name].shape == reference.shape:
            a, b = vectors[name].astype(float), reference.astype(float)
            cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
            near = f"{cosine.min():.7f}"
        rate = best["n"] / best["wall"]
        print(f"{name:29} {rate:9.2f} {least:12.4f} {busy} {best['peak_mb']:8.0f}  {near}")


if __name__ == "__main__":
    main()
