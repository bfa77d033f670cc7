"""What a file says of an encoder, field by field, before anything is built from it.

Two files do: a recipe (in a store, a bundle, a run folder) and the description of a weights file
(in it, or as JSON beside it). Each of their fields has a kind and a bound here; what has none is
refused, or never looked at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from headstock.extract.decode.preprocess import INTERPOLATIONS, MODES
from headstock.extract.encoders.arguments import checked_arguments
from headstock.store.errors import OptionError, UnsafeInput, one_line

__all__ = ["BACKBONE", "SETTINGS", "checked_recipe", "checked_settings"]

NAME = re.compile(r"[A-Za-z0-9_]{1,100}")
BACKBONE = re.compile(r"(?:[a-z]{1,20}:)?[A-Za-z0-9_]{1,100}(?:\.[A-Za-z0-9_.-]{1,100})?")
LAYER = re.compile(r"[A-Za-z0-9_]{1,64}(?:\.[A-Za-z0-9_]{1,64}){0,16}")
HEXADECIMAL = re.compile(r"[0-9a-f]{64}")
LARGEST_SIDE = 8192  # pixels, as for Preprocess
LARGEST_SEED = 1 << 63

Check = Callable[[Any], bool]


def _text(form: re.Pattern[str]) -> Check:
    return lambda value: isinstance(value, str) and form.fullmatch(value) is not None


def _one_of(*words: str) -> Check:
    return lambda value: isinstance(value, str) and value in words


def _whole(low: int, high: int) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def _number(low: float, high: float) -> Check:
    def check(value: Any) -> bool:
        real = isinstance(value, int | float) and not isinstance(value, bool)
        return real and low <= value <= high and math.isfinite(value)

    return check


def _several(least: int, most: int, each: Check) -> Check:
    return lambda value: (
        isinstance(value, list | tuple)
        and least <= len(value) <= most
        and all(each(one) for one in value)
    )


def _either(*checks: Check) -> Check:
    return lambda value: any(check(value) for check in checks)


SIDE, SHADE = _whole(1, LARGEST_SIDE), _number(-1, 1)
SPREAD = _number(1e-6, 1e3)
PREPROCESS: Mapping[str, Check] = {
    "resize": _several(2, 2, SIDE),
    "crop": _several(2, 2, SIDE),
    "mode": _one_of(*MODES),
    "interpolation": _one_of(*INTERPOLATIONS),
    "mean": _several(3, 3, SHADE),
    "std": _several(3, 3, SPREAD),
}
SETTINGS: Mapping[str, Check] = {
    "architecture": _text(BACKBONE),
    "model_args": lambda value: isinstance(value, Mapping),
    "input_size": _either(SIDE, _several(1, 3, SIDE)),
    "crop_pct": _number(0.01, 4),
    "crop_mode": _one_of(*MODES),
    "mean": _either(SHADE, _several(1, 3, SHADE)),
    "std": _either(SPREAD, _several(1, 3, SPREAD)),
    "interpolation": _one_of(*INTERPOLATIONS),
}
"""What a weights file may say of its network."""


def checked_settings(where: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``SETTINGS`` in the description of a weights file at ``where``.

    Raises UnsafeInput for a value that is not of its kind.
    """
    settings = {k: v for k, v in said.items() if k in SETTINGS and v is not None}
    _check(where, settings, SETTINGS, "")
    checked_arguments(where, settings.get("model_args", {}), UnsafeInput)
    return settings


def checked_recipe(fields: Mapping[str, Any], libraries: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a network's recipe, each of the kind that ``NetworkEncoder.recipe`` writes.

    Raises UnsafeInput for one that is not, or that is missing.
    """
    weights = fields.get("weights")
    _check(
        "recipe",
        fields,
        {
            "encoder": _one_of(*libraries),
            "architecture": _text(NAME),
            "model_args": lambda value: isinstance(value, Mapping),
            "weights": lambda value: isinstance(value, Mapping),
            "pooling": _text(re.compile(r"[a-z+-]{1,20}")),
            "preprocess": lambda value: isinstance(value, Mapping),
            "decoder": lambda value: isinstance(value, Mapping),
            "precision": _text(NAME),
        },
        "",
        whole=True,
    )
    optional = {"layer": _text(LAYER), "tokens": _one_of("places"), "flip": _text(NAME)}
    _check("recipe", {k: fields[k] for k in optional if k in fields}, optional, "")
    assert isinstance(weights, Mapping)
    seed = {"untrained_seed": _whole(-LARGEST_SEED, LARGEST_SEED)}
    _check("recipe", weights, {"sha256": _text(HEXADECIMAL)}, "weights.", whole=True)
    _check("recipe", {k: weights[k] for k in seed if k in weights}, seed, "weights.")
    preprocess = fields["preprocess"]
    _check("recipe", preprocess, PREPROCESS, "preprocess.", whole=True)
    if extra := sorted(set(map(str, preprocess)) - PREPROCESS.keys()):
        what = f"preprocess.{one_line(extra[0], 80)} is no field of a recipe"
        raise UnsafeInput("recipe", what, ", ".join(PREPROCESS))
    checked_arguments("recipe", fields["model_args"], UnsafeInput)
    return dict(fields)


def _check(
    where: object,
    values: Mapping[str, Any],
    kinds: Mapping[str, Check],
    prefix: str,
    whole: bool = False,
) -> None:
    for name, check in kinds.items():
        if name not in values:
            if whole:
                raise OptionError(where, f"{prefix}{name} is missing", "extract it again")
        elif not check(values[name]):
            what = f"{prefix}{name} is {one_line(repr(values[name]), 80)}"
            raise UnsafeInput(where, what, "a value that headstock would write there")
