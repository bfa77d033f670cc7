"""What ``--decode fast`` changes: vectors, classes and head accuracy, with real weights.

    python bench/decode.py --weights mobilenetv2.safetensors --pictures imagenet_sample/index.csv
                           --labelled animals/index.csv

``--pictures``: a CSV with ``image`` and ``class_index``; each picture is enlarged to 2,000 pixels,
for a reduced scale to matter, and judged by the weights' own classifier. ``--labelled``: a CSV with
``image`` and ``label``; its pictures are enlarged to 1,280 pixels, get the grain of a camera, and a
logistic regression is scored on the same five folds with vectors of both ways.
"""

from __future__ import annotations

import argparse
import csv
import io
import time
from pathlib import Path

import numpy as np
import safetensors.numpy
from PIL import Image

from headstock.extract import image_encoder
from headstock.extract.decode.preprocess import ImageLoader


def enlarged(path: Path, side: int, grain: float, seed: int) -> bytes:
    """A JPEG whose longer side has ``side`` pixels, with ``grain`` grey levels of noise."""
    image = Image.open(path).convert("RGB")
    scale = side / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS), dtype=np.float32)
    pixels = pixels + np.random.default_rng(seed).standard_normal(pixels.shape, np.float32) * grain
    out = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=92)
    return out.getvalue()


def vectors(encoder, files: list[bytes]) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """(n, d) of full and of fast decoding, and the seconds of CPU a picture of each."""
    out, spent = [], []
    for fast in (False, True):
        loader = ImageLoader(encoder.network.preprocess, fast)
        begin = time.process_time()
        items = [loader(data) for data in files]
        spent.append((time.process_time() - begin) / len(files))
        out.append(encoder.encode(items))
    return out[0], out[1], spent


def closeness(full: np.ndarray, fast: np.ndarray, spent: list[float]) -> str:
    a, b = full.astype(float), fast.astype(float)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    low, median = cosine.min(), np.median(cosine)
    took = f"{1000 * spent[0]:.1f} against {1000 * spent[1]:.1f} ms of CPU a picture"
    return f"{took}; cosine at least {low:.5f}, median {median:.5f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", required=True, help="timm mobilenetv2_100, pad_type same")
    parser.add_argument("--pictures", help="CSV with image and class_index")
    parser.add_argument("--labelled", help="CSV with image and label")
    parser.add_argument("--only", type=int, default=10_000, help="so many pictures of each")
    asked = parser.parse_args()
    encoder = image_encoder(
        "timm:mobilenetv2_100", weights=asked.weights, model_args={"pad_type": "same"},
        input_size=224, crop_pct=0.875, mean=0.5, std=0.5, device="cpu",
    )  # fmt: skip
    if asked.pictures:
        rows = _rows(asked.pictures, asked.only)
        files = [enlarged(path, 2000, 0.0, i) for i, (path, _) in enumerate(rows)]
        full, fast, spent = vectors(encoder, files)
        own = safetensors.numpy.load_file(asked.weights)
        right = np.array([int(row["class_index"]) for _, row in rows])
        weight, bias = own["classifier.weight"], own["classifier.bias"]
        said = [(x @ weight.T + bias).argmax(1) for x in (full, fast)]
        print(f"{len(rows)} pictures enlarged to 2,000 pixels: {closeness(full, fast, spent)}")
        print(
            f"  the weights' own classifier: {(said[0] == right).sum()} right in full, "
            f"{(said[1] == right).sum()} fast; {(said[0] != said[1]).sum()} answers differ"
        )
    if asked.labelled:
        rows = _rows(asked.labelled, asked.only)
        files = [enlarged(path, 1280, 4.0, i) for i, (path, _) in enumerate(rows)]
        full, fast, spent = vectors(encoder, files)
        labels = np.array([row["label"] for _, row in rows])
        print(f"{len(rows)} labelled pictures at 1,280 pixels: {closeness(full, fast, spent)}")
        answers = {name: _out_of_fold(x, labels) for name, x in (("full", full), ("fast", fast))}
        right = {name: answer == labels for name, answer in answers.items()}
        better = int((right["fast"] & ~right["full"]).sum())
        worse = int((right["full"] & ~right["fast"]).sum())
        print(
            f"  logistic regression, five folds: {right['full'].mean():.4f} in full, "
            f"{right['fast'].mean():.4f} fast; {better} rows better, {worse} worse"
        )


def _rows(table: str, most: int) -> list[tuple[Path, dict[str, str]]]:
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))[:most]
    return [(Path(table).parent / row["image"], row) for row in rows]


def _out_of_fold(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return cross_val_predict(head, x, labels, cv=folds)


if __name__ == "__main__":
    main()
