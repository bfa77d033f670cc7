"""Which feature sets are fingerprints of media: to find copies by, no features of a head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstock.store.recipe import Recipe

__all__ = ["BANDS", "FRAMES", "SIDE", "fingerprint_recipe", "fingerprint_set", "is_fingerprint"]

SIDE = 32
"""Grey values a side of a picture."""
FRAMES, BANDS = 200, 16
"""Of a sound: moments, every 10 ms, and mel bands."""


def fingerprint_recipe(modality: str, rules: Mapping[str, Any]) -> Recipe:
    return Recipe(modality, {"encoder": "fingerprint", "version": 1, "decoder": dict(rules)})


def is_fingerprint(recipe: Recipe) -> bool:
    return recipe.fields.get("encoder") == "fingerprint"


def fingerprint_set(modality: str) -> str:
    """The name of the set that keeps the fingerprints of a modality."""
    return f"{modality}.fingerprint"
