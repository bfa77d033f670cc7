"""What the teacher says about every training picture, computed once and kept in an HDF5 file.

Letters: n pictures, v views of a picture, k classes, d teacher features.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import click
import h5py
import numpy as np
import timm
import torch
from pictures import random_boxes, to_batch
from safetensors.torch import load_file
from settings import Settings


def imagenet_columns(classes: list[str]) -> list[int] | None:
    """Teacher output of each class where all are ImageNet wnids, else None."""
    known = {w: i for i, w in enumerate(timm.data.ImageNetInfo().label_names())}
    return [known[c] for c in classes] if all(c in known for c in classes) else None


def teach(weights: Path, data: dict, work: Path, s: Settings) -> dict[str, np.ndarray]:
    """The teacher's boxes (n,v,4), features (n,v,d) and logits (n,v,k), computed once into HDF5."""
    n, v = len(data["x"]), s.views
    columns = imagenet_columns(list(data["classes"]))
    digest = hashlib.sha256(weights.read_bytes() + data["x"][::97].tobytes()).hexdigest()
    recipe = json.dumps([digest, n, v, s.seed, s.crop_area, s.teacher_size])
    with h5py.File(work / "teacher.h5", "a") as f:
        if f.attrs.get("recipe") != recipe:
            f.clear()
            boxes = random_boxes(n * v, s.crop_area, torch.Generator().manual_seed(s.seed))
            boxes.view(n, v, 4)[:, 0] = torch.tensor([0.0, 0.0, 1.0, 1.0])
            f["boxes"] = boxes.view(n, v, 4).numpy()
            f.create_dataset("features", (n, v, 1280), "f2")
            if columns:
                f.create_dataset("logits", (n, v, len(columns)), "f2")
            f.attrs["recipe"], f.attrs["done"] = recipe, 0
        if f.attrs["done"] < n:
            model = timm.create_model("mobilenetv2_100", pad_type="same").eval()
            model.load_state_dict(load_file(weights))
            model = model.to(memory_format=torch.channels_last)
            start, first = time.time(), int(f.attrs["done"])
            for i in range(first, n, 24):
                j = min(i + 24, n)
                boxes = torch.from_numpy(f["boxes"][i:j]).flatten(0, 1)
                x = to_batch(data["x"][i:j].repeat(v, 0), boxes, s.teacher_size, "bicubic")
                with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                    features = model.forward_head(model.forward_features(x), pre_logits=True)
                    logits = model.classifier(features).float().numpy()
                f["features"][i:j] = features.float().numpy().reshape(j - i, v, -1)
                if columns:
                    f["logits"][i:j] = logits[:, columns].reshape(j - i, v, -1)
                f.attrs["done"] = j
                if i // 24 % 100 == 0:
                    rate = (j - first) * v / (time.time() - start)
                    click.echo(f"teacher: {j} of {n} pictures, {rate:.0f} views a second")
                    f.flush()
        return {name: f[name][:] for name in f}
