"""The demo's data: real handwritten digits as pictures, each with a synthetic keypad tone."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from headstock.store.disk.commit import write_whole
from headstock.store.errors import OptionError

__all__ = ["ABOUT", "commands", "keypad_tone", "write_demo"]

ABOUT = """\
The whole job on embedded data, offline.
  real:      1,797 handwritten digits (the UCI optical digits that scikit-learn carries) and the
             backbone, a small ResNeXt pretrained on photographs of 200 kinds of things
  synthetic: the sounds, a telephone keypad tone of each digit under noise, and so the pairing"""

# ITU-T Q.23: a key is the sum of one low and one high frequency, in Hz.
_LOW, _HIGH = (697.0, 770.0, 852.0, 941.0), (1209.0, 1336.0, 1477.0)
_KEYS = {d: divmod(d - 1, 3) for d in range(1, 10)} | {0: (3, 1)}
_RATE = 8000
_SECONDS = 0.4
_NOISE_DB = (-4.0, 10.0)
_SIDE = 64
_TEST_ROWS = 360


def keypad_tone(digit: int, rng: np.random.Generator) -> np.ndarray:
    """(t,) float32 samples at 8 kHz of the telephone key ``digit``, drowned in white noise.

    Level, phases and the noise, from 4 dB below the tone to 10 dB above it, vary by ``rng``.
    """
    row, column = _KEYS[digit]
    time = np.arange(int(_SECONDS * _RATE)) / _RATE
    phases = rng.uniform(0, 2 * np.pi, 2)
    tone = sum(np.sin(2 * np.pi * f * time + p) for f, p in zip((_LOW[row], _HIGH[column]), phases))
    noise = rng.standard_normal(len(time))
    noise *= np.std(tone) / np.std(noise) * 10 ** (rng.uniform(*_NOISE_DB) / 20)
    mixed = (tone + noise) * rng.uniform(0.3, 1.0)
    return (0.9 * mixed / np.abs(mixed).max()).astype(np.float32)


def commands(folder: str | Path) -> list[list[str]]:
    """The demo's command lines, each as words after ``headstock``."""
    index, store, model = (
        str(Path(folder, n)) for n in ("index.csv", "features.h5", "model.headstock")
    )
    return [
        ["extract", index, "-o", store, "--image", "headstock:resnext_nano", "--audio", "mfcc"],
        ["evaluate", store, "-o", str(Path(folder, "run"))],
        [
            "fit",
            store,
            "--head",
            "logistic",
            "--on",
            "image+audio",
            "--fusion",
            "weighted",
            "-o",
            model,
        ],
        ["predict", model, store, "--only", "test", "-o", str(Path(folder, "predictions.csv"))],
    ]


def write_demo(folder: str | Path, seed: int = 0) -> Path:
    """Write 1,797 pictures, as many sounds and ``index.csv`` below ``folder``; returns the CSV.

    The pictures are scikit-learn's copy of the UCI optical digits (8 x 8 grey, 0 to 16), enlarged
    to 64 x 64 without smoothing. The last 360 are the split ``test``. Nothing is written when the
    CSV is there already: it is written last.
    """
    from PIL import Image
    from sklearn.datasets import load_digits
    from soundfile import write

    folder = Path(folder)
    index = folder / "index.csv"
    if index.exists():
        with index.open("rb") as file:
            ours = file.readline().strip() == b"id,image,audio,label,split"
        if not ours:
            raise OptionError(index, "exists and is not the demo's", "name another folder with -o")
        return index
    digits = load_digits()
    rng = np.random.default_rng(seed)
    for name in ("images", "audio"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = []
    for i, (picture, label) in enumerate(zip(digits.images, digits.target)):
        name = f"{i:04d}"
        grey = Image.fromarray(np.uint8(np.round(picture / 16 * 255)))
        grey.resize((_SIDE, _SIDE), Image.Resampling.NEAREST).save(folder / f"images/{name}.png")
        write(folder / f"audio/{name}.wav", keypad_tone(int(label), rng), _RATE, subtype="PCM_16")
        split = "test" if i >= len(digits.target) - _TEST_ROWS else "train"
        rows.append((name, f"images/{name}.png", f"audio/{name}.wav", int(label), split))
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(("id", "image", "audio", "label", "split"))
    table.writerows(rows)
    write_whole(index, text.getvalue().encode())
    return index
