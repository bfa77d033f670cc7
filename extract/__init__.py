"""Files -> vectors: an encoder fills one column of the store, once.

Names are imported on first use: torch costs seconds, and decode workers must start without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what a type checker sees; a test holds it equal to the table below
    from headstock.extract.contract import check_encoder as check_encoder
    from headstock.extract.dataset import FeatureDataset as FeatureDataset
    from headstock.extract.encoder import Encoder as Encoder
    from headstock.extract.encoder import Loader as Loader
    from headstock.extract.encoder import Status as Status
    from headstock.extract.encoders.backbones import audio_encoder as audio_encoder
    from headstock.extract.encoders.backbones import encoder_from_recipe as encoder_from_recipe
    from headstock.extract.encoders.backbones import image_encoder as image_encoder
    from headstock.extract.pipeline.account import Account as Account
    from headstock.extract.pipeline.run import extract as extract

_HOMES = {
    "Account": "pipeline.account",
    "Encoder": "encoder",
    "FeatureDataset": "dataset",
    "Loader": "encoder",
    "Status": "encoder",
    "audio_encoder": "encoders.backbones",
    "check_encoder": "contract",
    "encoder_from_recipe": "encoders.backbones",
    "extract": "pipeline.run",
    "image_encoder": "encoders.backbones",
}
__all__ = sorted(_HOMES)

if not TYPE_CHECKING:  # a type checker must see that a misspelt name is none

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
