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
from headstock.store.errors import (
    OptionError,
    StorageError,
    UnsafeInput,
    WeightsError,
    near,
    one_line,
)
from headstock.store.jsonfile import read_json

__all__ = [
    "BACKBONE",
    "HEXADECIMAL",
    "PACKAGE_DATA",
    "PORT",
    "SETTINGS",
    "Check",
    "beside",
    "check_fields",
    "checked_recipe",
    "checked_settings",
    "either",
    "known_fields",
    "list_of",
    "matching",
    "nothing",
    "number_in",
    "one_of",
    "read_fields",
    "truth",
    "whole_in",
]

NAME = re.compile(r"[A-Za-z0-9_]{1,100}")
BACKBONE = re.compile(r"(?:[a-z]{1,20}:)?[A-Za-z0-9_]{1,100}(?:\.[A-Za-z0-9_.-]{1,100})?")
LAYER = re.compile(r"[A-Za-z0-9_]{1,64}(?:\.[A-Za-z0-9_]{1,64}){0,16}")
HEXADECIMAL = re.compile(r"[0-9a-f]{64}")
LARGEST_SIDE = 8192  # pixels, as for Preprocess
LARGEST_SEED = 1 << 63
LARGEST_JSON_BYTES = 16 << 20
PACKAGE_DATA = Path(__file__).parent / "weights"

Check = Callable[[Any], bool]


def matching(form: re.Pattern[str]) -> Check:
    return lambda value: isinstance(value, str) and form.fullmatch(value) is not None


def one_of(*words: str) -> Check:
    return lambda value: isinstance(value, str) and value in words


def whole_in(low: int, high: int) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def number_in(low: float, high: float) -> Check:
    def check(value: Any) -> bool:
        real = isinstance(value, int | float) and not isinstance(value, bool)
        return real and low <= value <= high and math.isfinite(value)

    return check


def list_of(least: int, most: int, each: Check) -> Check:
    return lambda value: (
        isinstance(value, list | tuple)
        and least <= len(value) <= most
        and all(each(one) for one in value)
    )


def either(*checks: Check) -> Check:
    return lambda value: any(check(value) for check in checks)


def nothing(value: Any) -> bool:
    return value is None


def truth(value: Any) -> bool:
    return isinstance(value, bool)


PORT = either(nothing, matching(re.compile(r"[^\x00-\x1f\x7f]{1,200}")))
"""The name of an input or output in a network's file, or None."""
SIDE, SHADE = whole_in(1, LARGEST_SIDE), number_in(-1, 1)
SPREAD = number_in(1e-6, 1e3)
PREPROCESS: Mapping[str, Check] = {
    "resize": list_of(2, 2, SIDE),
    "crop": list_of(2, 2, SIDE),
    "mode": one_of(*MODES),
    "interpolation": one_of(*INTERPOLATIONS),
    "mean": list_of(3, 3, SHADE),
    "std": list_of(3, 3, SPREAD),
}
SETTINGS: Mapping[str, Check] = {
    "architecture": matching(BACKBONE),
    "model_args": lambda value: isinstance(value, Mapping),
    "input_size": either(SIDE, list_of(1, 3, SIDE)),
    "crop_pct": number_in(0.01, 4),
    "crop_mode": one_of(*MODES),
    "mean": either(SHADE, list_of(1, 3, SHADE)),
    "std": either(SPREAD, list_of(1, 3, SPREAD)),
    "interpolation": one_of(*INTERPOLATIONS),
}
"""What a weights file may say of its network."""


def beside(path: Path) -> tuple[Path, dict[str, Any]]:
    """The JSON beside a file (``model.onnx.json`` or ``model.json``) and what it states; {} when
    there is none. Raises WeightsError."""
    places = (path.with_name(path.name + ".json"), path.with_suffix(".json")) if path.name else ()
    for place in places:
        if not place.is_file():
            continue
        return place, read_fields(place, "give a JSON file")
    return path, {}


def read_fields(place: Path, fix: str) -> dict[str, Any]:
    """What the JSON file ``place`` states. Raises WeightsError for what is no JSON object."""
    try:
        said = read_json(place, fix, LARGEST_JSON_BYTES)
    except (StorageError, ValueError) as error:
        raise WeightsError(place, f"not readable JSON: {error}", fix) from error
    if not isinstance(said, dict):
        raise WeightsError(place, "is not a JSON object", "names and values")
    return said


def checked_settings(where: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``SETTINGS`` in the description of a weights file at ``where``.

    Raises UnsafeInput for a value that is not of its kind.
    """
    settings = {k: v for k, v in said.items() if k in SETTINGS and v is not None}
    check_fields(where, settings, SETTINGS, "")
    checked_arguments(where, settings.get("model_args", {}), UnsafeInput)
    return settings


def checked_recipe(fields: Mapping[str, Any], libraries: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a network's recipe, each of the kind that ``NetworkEncoder.recipe`` writes.

    Raises UnsafeInput for one that is not, or that is missing.
    """
    weights = fields.get("weights")
    check_fields(
        "recipe",
        fields,
        {
            "encoder": one_of(*libraries),
            "architecture": matching(NAME),
            "model_args": lambda value: isinstance(value, Mapping),
            "weights": lambda value: isinstance(value, Mapping),
            "pooling": matching(re.compile(r"[a-z+-]{1,20}")),
            "preprocess": lambda value: isinstance(value, Mapping),
            "decoder": lambda value: isinstance(value, Mapping),
            "precision": matching(NAME),
        },
        "",
        whole=True,
    )
    optional = {"layer": matching(LAYER), "tokens": one_of("places"), "flip": matching(NAME)}
    check_fields("recipe", {k: fields[k] for k in optional if k in fields}, optional, "")
    assert isinstance(weights, Mapping)
    seed = {"untrained_seed": whole_in(-LARGEST_SEED, LARGEST_SEED)}
    check_fields("recipe", weights, {"sha256": matching(HEXADECIMAL)}, "weights.", whole=True)
    check_fields("recipe", {k: weights[k] for k in seed if k in weights}, seed, "weights.")
    preprocess = fields["preprocess"]
    check_fields("recipe", preprocess, PREPROCESS, "preprocess.", whole=True)
    known_fields("recipe", preprocess, PREPROCESS, "preprocess.", "a recipe")
    checked_arguments("recipe", fields["model_args"], UnsafeInput)
    return dict(fields)


def known_fields(
    where: object, said: Mapping[str, Any], kinds: Mapping[str, Check], prefix: str, of: str
) -> None:
    """Raises UnsafeInput for a field of ``said`` that is none of ``kinds``, those of ``of``."""
    for name in said:
        if name not in kinds:
            what = f"{prefix}{one_line(str(name), 80)} is no field of {of}"
            fix = f"{near(str(name)[:80], kinds)}one of {', '.join(kinds)}"
            raise UnsafeInput(where, what, fix)


def check_fields(
    where: object,
    values: Mapping[str, Any],
    kinds: Mapping[str, Check],
    prefix: str,
    whole: bool = False,
) -> None:
    """Raises UnsafeInput for a value that its kind refuses, and OptionError for one that is missing
    where the ``whole`` has to be there."""
    for name, check in kinds.items():
        if name not in values:
            if whole:
                raise OptionError(where, f"{prefix}{name} is missing", "extract it again")
        elif not check(values[name]):
            what = f"{prefix}{name} is {one_line(repr(values[name]), 80)}"
            raise UnsafeInput(where, what, "a value that headstock would write there")
