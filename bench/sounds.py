"""Sounds side by side with the plain calls of librosa and OpenVINO, one thread, in one run.

python bench/sounds.py [--network]
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np

from headstock.extract.doctor import sample_wav


def rate(step: Callable, given: object, least: float = 1.5) -> float:
    """Calls of ``step`` a CPU second, over ``least`` of them."""
    step(given)
    begin, calls = time.process_time(), 0
    while time.process_time() - begin < least:
        step(given)
        calls += 1
    return calls / (time.process_time() - begin)


def coefficients() -> None:
    """Clips a CPU second: ours and librosa's own calls; reading apart from MFCC."""
    from headstock.extract.decode.audio import mono_blocks
    from headstock.extract.encoders.mfcc import MfccLoader, mfcc, windows

    loader = MfccLoader()

    def load(wav: bytes) -> np.ndarray:
        return librosa.load(io.BytesIO(wav), sr=22050)[0]

    def theirs(y: np.ndarray) -> np.ndarray:
        return windows(librosa.feature.mfcc(y=y, sr=22050, n_mfcc=13).T, 8)

    def ours(y: np.ndarray) -> np.ndarray:
        return windows(mfcc([y], loader), 8)

    print("clip            reading and resampling     MFCC alone                file to 104 values")
    print("                ours    librosa  ratio     ours    librosa  ratio    ratio  difference")
    for seconds in (1, 3, 5, 30):
        for hz in (22050, 44100, 8000):
            wav = sample_wav(seconds, hz)
            y = load(wav)
            apart = np.abs(loader(wav) - theirs(y)).max()
            read, read_too = rate(lambda w: list(mono_blocks(w, 22050, None)), wav), rate(load, wav)
            own, other = rate(ours, y), rate(theirs, y)
            whole = (1 / read_too + 1 / other) / (1 / read + 1 / own)
            print(
                f"{seconds:3} s {hz:6} Hz  {read:7.0f} {read_too:7.0f} {read / read_too:6.1f}"
                f"    {own:7.0f} {other:7.0f} {own / other:6.1f}   {whole:5.1f}  {apart:.1e}"
            )


def network() -> None:
    """Clips a CPU second of the speech embedding: our loader, window by window from the
    bytes, and the plain loop (read, resample, both networks over the whole sound, pool); then both
    of our sets of sounds in one pass over the files and in two."""
    import openvino

    from headstock.extract import audio_encoder, extract
    from headstock.extract.encoders.packaged import SOUNDS
    from headstock.store import FeatureStore, Items

    encoder = audio_encoder("headstock:speech_embedding")
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    embed, mel = (
        core.compile_model(path, "CPU", settings)
        for path in SOUNDS["speech_embedding"].paths("speech_embedding")
    )

    def plain(wav: bytes) -> np.ndarray:
        y = librosa.load(io.BytesIO(wav), sr=16_000)[0]
        mels = next(iter(mel([y[None] * np.float32(32768)]).values()))[0, 0] / 10 + 2
        windows = np.stack([mels[i : i + 76] for i in range(0, len(mels) - 75, 8)])[..., None]
        rows = next(iter(embed([windows]).values())).reshape(-1, 96)
        return np.concatenate([rows.mean(0), rows.std(0), rows.max(0)])

    print("clip             ours   plain loop  ratio  difference")
    for seconds, hz in ((1, 16_000), (5, 16_000), (5, 44_100), (30, 44_100)):
        wav = sample_wav(seconds, hz)
        apart = np.abs(encoder.loader(wav) - plain(wav)).max()
        own, other = rate(encoder.loader, wav, 3), rate(plain, wav, 3)
        print(
            f"{seconds:3} s {hz:6} Hz  {own:6.1f}   {other:6.1f}   {own / other:7.2f}  {apart:.1e}"
        )
    with tempfile.TemporaryDirectory() as place:
        paths = []
        for i in range(200):
            path = Path(place, f"{i}.wav")
            path.write_bytes(sample_wav(2 + i / 100, 44_100))
            paths.append(str(path))
        items = Items.of(paths, paths={"audio": paths})
        sets = {"speech": encoder, "mfcc": audio_encoder("mfcc", rate=16_000)}
        for name, passes in (("one pass", [sets]), ("two", [{k: v} for k, v in sets.items()])):
            before = os.times()
            with FeatureStore.open(Path(place, f"{name}.h5"), "a") as store:
                for some in passes:
                    extract(store, items, some, workers=0)
            spent = sum(os.times()[:2]) - sum(before[:2])
            print(f"200 clips, speech embedding and MFCC in {name}: {spent:.1f} processor seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", action="store_true", help="a network instead of MFCC")
    (network if parser.parse_args().network else coefficients)()


if __name__ == "__main__":
    main()
