"""Mutated pictures and sounds through the real decode workers.

Each is a vector or a named failure of its own row, within the limits of time and memory; the parent
and the other rows never notice. The seeds are files written here, and the broken ones of the shared
data where those are.
"""

from __future__ import annotations

import io
import random
import shutil
import wave
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from headstock.extract.decode.preprocess import ImageLoader, Preprocess
from headstock.extract.decode.reading import Done, Task
from headstock.extract.decode.workers import Workers
from headstock.extract.encoders.mfcc import MfccLoader
from headstock.store.datafile import Reader

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
SECONDS, MEMORY = 20.0, 3 << 30  # what one item may take, and bytes beyond a worker's own
LARGEST = 200_000  # bytes of a seed
CHUNK = 250  # mutated files on the disk at a time
CODES = {
    "images": {
        "empty", "not-an-image", "bomb", "aspect", "truncated", "corrupt", "not-finite",
        "out-of-memory", "timeout", "worker-died",
    },
    "sounds": {
        "empty", "not-audio", "corrupt", "channels", "rate", "too-long", "not-finite",
        "no-samples", "too-short", "overflow", "out-of-memory", "timeout", "worker-died",
    },
}  # fmt: skip


def pictures() -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(48), np.arange(64))[..., None] * np.array([1, 2, 1])
    pixels = (smooth + rng.integers(0, 60, smooth.shape)).clip(0, 255).astype(np.uint8)
    rgb = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    for form, options in (
        ("JPEG", {"quality": 90}), ("JPEG", {"progressive": True, "exif": exif}), ("PNG", {}),
        ("PNG", {"optimize": True}), ("WEBP", {}), ("WEBP", {"lossless": True}), ("BMP", {}),
        ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("PPM", {}), ("JPEG2000", {}),
    ):  # fmt: skip
        yield _saved(rgb, form, **options)
    yield _saved(rgb.convert("CMYK"), "JPEG")
    yield _saved(rgb.convert("P"), "PNG", transparency=3)
    yield _saved(rgb.convert("P"), "GIF", save_all=True, append_images=[rgb.rotate(9)] * 3)
    yield _saved(rgb.convert("RGBA"), "PNG")
    yield _saved(Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), "PNG")
    yield _saved(Image.fromarray(pixels[..., 0].astype(np.float32)), "TIFF")
    yield _saved(rgb.convert("1"), "TIFF", compression="group4")


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def sounds() -> Iterator[bytes]:
    t = np.arange(12_000)
    tone = 0.4 * np.sin(t / 9) + 0.05 * np.random.default_rng(0).normal(size=len(t))
    stereo = np.stack([tone, tone[::-1]], axis=1)
    for form, kind in (
        ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "ULAW"),
        ("WAV", "IMA_ADPCM"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
        ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("W64", "PCM_16"), ("CAF", "PCM_16"),
        ("MP3", "MPEG_LAYER_III"), ("RF64", "PCM_16"), ("NIST", "PCM_16"), ("VOC", "PCM_16"),
    ):  # fmt: skip
        for wave_, rate in ((tone, 16_000), (stereo, 24_000)):
            out = io.BytesIO()
            soundfile.write(out, wave_, rate, format=form, subtype=kind)
            yield out.getvalue()
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 1, 8000, 0, "NONE", ""))
        file.writeframes(bytes(range(256)) * 20)
    yield out.getvalue()


def mutated(seeds: list[bytes], rng: random.Random) -> bytes:
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 3))):
        if not data:
            break
        at = rng.randrange(min(len(data), 300) if rng.random() < 0.5 else len(data))
        how = rng.choice(("bytes", "bits", "number", "cut", "gap", "twice", "splice", "zeros"))
        if how == "bytes":
            for _ in range(rng.randint(1, 20)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        elif how == "bits":
            data[at] ^= 1 << rng.randrange(8)
        elif how == "number":
            size = rng.choice((1, 2, 4, 8))
            value = rng.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), rng.randrange(256)))
            data[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))
        elif how == "cut":
            del data[at:]
        elif how == "gap":
            del data[at : at + rng.randint(1, 200)]
        elif how == "twice":
            data[at:at] = data[at : at + rng.randint(1, 2000)]
        elif how == "splice":
            data[at:] = rng.choice(seeds)[at:]
        else:
            data[at : at + rng.randint(1, 200)] = bytes(rng.randint(1, 200))
    return bytes(data)


KINDS: dict[str, tuple[Callable[[], Iterator[bytes]], str, Any]] = {
    "images": (
        pictures,
        "dirty_images",
        ImageLoader(Preprocess.of_size((64, 64), 1.0, (0.5,), (0.5,))),
    ),
    "sounds": (sounds, "dirty_audio", MfccLoader()),
}


def run(folder: Path, kind: str, count: int, seed: int = 0) -> dict[str, Any]:
    """So many mutated files of a kind; the counts."""
    make, shared, loader = KINDS[kind]
    seeds = list(make())
    if (SHARED / shared).is_dir():
        for path in sorted((SHARED / shared).iterdir()):
            if path.suffix != ".csv" and path.stat().st_size < LARGEST:
                seeds.append(path.read_bytes())
    wrong, codes, vectors, peak, slowest = [], Counter[str](), 0, 0, 0.0
    out = folder / kind
    with Workers(Reader(str(out)), loader, 2, seconds=SECONDS, memory=MEMORY) as pool:
        for start in range(0, count, CHUNK):
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            numbers = range(start, min(start + CHUNK, count))
            for number in numbers:
                raw = mutated(seeds, random.Random(f"{seed}/{kind}/{number}"))
                (out / str(number)).write_bytes(raw)
            results = list(pool.run(Task(n, str(n)) for n in numbers))
            if [r.number for r in results] != list(numbers):
                wrong.append(f"{numbers}: results are missing or out of order")
            for done in results:
                wrong += _judge(done, kind)
                vectors += done.item is not None
                codes.update([done.error[0]] if done.error else [])
                peak, slowest = max(peak, done.peak), max(slowest, done.read + done.decode)
    return {
        f"mutated {kind}": count,
        "vectors": vectors,
        "refused": sum(codes.values()),
        "timeouts": codes["timeout"],
        "dead workers": codes["worker-died"],
        "peak MB": peak >> 20,
        "slowest ms": round(1000 * slowest),
        "codes": dict(codes),
        "wrong": wrong,
    }


def _judge(done: Done, kind: str) -> Iterator[str]:
    where = f"file {done.number}"
    if (done.item is None) == (done.error is None):
        yield f"{where}: neither a vector nor a failure, or both"
    if done.error and (done.error[0] not in CODES[kind] or "\n" in done.error[1]):
        yield f"{where}: {done.error}"
    if done.item is not None and kind == "sounds" and not np.isfinite(done.item).all():
        yield f"{where}: its vector is not finite"
    if done.item is not None and kind == "images" and done.item.shape != (64, 64, 3):
        yield f"{where}: a picture of {done.item.shape}"
