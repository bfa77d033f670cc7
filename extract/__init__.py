"""Files -> vectors: an encoder fills one column of the store, once.

Names are imported on first use: torch costs seconds, and decode workers must start without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Account": "pipeline.account",
    "Encoder": "encoder",
    "FeatureDataset": "dataset",
    "Loader": "encoder",
    "audio_encoder": "encoders.backbones",
    "encoder_from_recipe": "encoders.backbones",
    "extract": "pipeline.run",
    "image_encoder": "encoders.backbones",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
