"""Small pictures whose class can be seen, and a network that learns it in a moment."""

from pathlib import Path

import numpy as np
from PIL import Image

from headstock.store import Items

SIDE = 16
TINY = {
    "model_args": {"widths": [8, 8, 16, 16]},
    "input_size": SIDE,
    "workers": 0,
}


def draw(folder: Path, n: int, classes: int = 2, seed: int = 0, noise: bool = False) -> Items:
    """n pictures of SIDE pixels in ``folder``: bright on one of ``classes`` quarters, or noise."""
    rng = np.random.default_rng(seed)
    names, labels = [], []
    for i in range(n):
        pixels = rng.integers(0, 256 if noise else 90, (SIDE, SIDE, 3), dtype=np.uint8)
        label = i % classes
        if not noise:
            top, left = 8 * (label // 2), 8 * (label % 2)
            pixels[top : top + 8, left : left + 8] += 150
        names.append(f"{i:03d}.png")
        labels.append("abcd"[label])
        Image.fromarray(pixels).save(folder / names[-1])
    if noise:
        rng.shuffle(labels)
    return Items.of(names, paths={"image": names}, label=labels, root=str(folder))
