"""The files of an adaptation: weights that say what they are, and where the others of it lie."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from headstock.extract.decode.preprocess import Preprocess
from headstock.extract.encoders.checkpoint import NOTE, read_note
from headstock.store.disk.commit import write_whole
from headstock.store.errors import WeightsError
from headstock.store.seen import NO_FOLD

__all__ = [
    "beside",
    "fold_files",
    "load_checkpoint",
    "save_checkpoint",
    "settings_of",
    "write_weights",
]


def beside(output: Path, tail: str) -> Path:
    """``adapted.safetensors`` and ``fold0.safetensors`` -> ``adapted.fold0.safetensors``."""
    return output.with_name(f"{output.name.removesuffix('.safetensors')}.{tail}")


def fold_files(weights: Path) -> list[Path]:
    """The files of the networks that did not see one fold each, in order; [] for weights that were
    adapted without folds, or not here. Raises WeightsError when one is missing or of another run.
    """
    note = read_note(weights)
    adapted = note.get("adapted", {})
    folds = adapted.get("folds", 0) if isinstance(adapted, dict) else None
    if type(folds) is not int or not 0 <= folds < NO_FOLD:
        raise WeightsError(weights, "its description names no number of folds", "adapt again")
    if adapted.get("fold") is not None:
        return []
    files = [beside(weights, f"fold{k}.safetensors") for k in range(folds)]
    for file in files:
        if not file.is_file():
            what = f"{file.name} is not beside it, the network that did not see one fold"
            raise WeightsError(weights, what, "keep the files of an adaptation together")
        if read_note(file).get("fingerprint") != note.get("fingerprint"):
            raise WeightsError(file, f"is of another run than {weights.name}", "adapt again")
    return files


def settings_of(architecture: str, args: dict[str, Any], p: Preprocess) -> dict[str, Any]:
    """What ``image_encoder`` needs to build the network around the weights again."""
    share = p.crop[0] / (p.resize[0] + 0.5)  # floor(size / share) is the resize, whatever the size
    return {
        "architecture": architecture,
        "model_args": args,
        "input_size": [3, *p.crop],
        "crop_pct": 1.0 if p.crop == p.resize else share,
        "crop_mode": p.mode,
        "mean": list(p.mean),
        "std": list(p.std),
        "interpolation": p.interpolation,
    }


def write_weights(path: Path, state: dict[str, Tensor], note: dict[str, Any]) -> None:
    """A safetensors file whose metadata holds ``note``. Raises StorageError."""
    write_whole(path, safetensors.torch.save(state, {NOTE: json.dumps(note)}))


def save_checkpoint(path: Path, body: dict[str, Any]) -> None:
    """One file, replaced whole: a kill leaves the old one or the new one. Raises StorageError."""
    whole = io.BytesIO()
    torch.save(body, whole)
    write_whole(path, whole.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """What ``save_checkpoint`` wrote; None without one. Nothing in the file is run."""
    if not path.is_file():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)
