"""From a manifest to a store: builds the encoders that flags or a saved model ask for, and runs
them. The rooms below know one encoder each; this file only joins them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headstock.extract.account import Account
from headstock.extract.backbones import (
    DEFAULT_AUDIO,
    DEFAULT_IMAGE,
    audio_encoder,
    encoder_from_recipe,
    image_encoder,
)
from headstock.extract.columns import ingest_columns
from headstock.extract.encoder import Encoder
from headstock.extract.run import extract
from headstock.store import FeatureStore, Manifest, Recipe
from headstock.store.errors import BundleError, OptionError

__all__ = ["columns_of", "extract_like", "extract_manifest"]

_IMAGE_FLAGS = (
    "weights model_args input_size crop_pct mean std interpolation untrained_seed precision decode "
    "compile"
).split()


def extract_manifest(
    manifest: Manifest,
    output: str | Path,
    *,
    image: Sequence[str] = (),
    audio: Sequence[str] = (),
    columns: Sequence[str] = (),
    column_sets: Sequence[str] = (),
    audio_args: Mapping[str, Any] | None = None,
    device: str = "auto",
    offline: bool = False,
    **flags: Any,
) -> Account:
    """Extract what the flags name from ``manifest`` into the store ``output``.

    ``image`` and ``audio`` are ``[SET=]ENCODER`` words, the set named after its modality by
    default; ``columns`` are patterns of numeric columns, each entering the set at the same position
    of ``column_sets``. With none of the three, each modality of the manifest gets its default
    encoder. Further ``flags`` go to ``image_encoder`` or to ``extract`` by their names.

    Raises OptionError when two encoders claim one set or the manifest lacks a modality.
    """
    items = manifest.items
    if not (image or audio or columns):
        image = [DEFAULT_IMAGE] if "image" in items.paths else []
        audio = [DEFAULT_AUDIO] if "audio" in items.paths else []
    of_image = {k: flags.pop(k) for k in _IMAGE_FLAGS if k in flags}
    encoders: dict[str, Encoder] = {}

    def claim(modality: str, word: str) -> tuple[str, str]:
        name, equals, what = word.rpartition("=")
        name = name if equals else modality
        if name in encoders or name in column_sets:
            raise OptionError(f"--{modality} {word}", f"set {name!r} twice", f"write NAME={what}")
        if modality not in items.paths:
            raise OptionError(
                f"--{modality} {word}", f"{manifest.source} has no {modality} column",
                f"name it with --{modality}-col",
            )  # fmt: skip
        return name, what

    for word in image:
        name, what = claim("image", word)
        encoders[name] = image_encoder(what, device=device, offline=offline, **of_image)
    for word in audio:
        name, what = claim("audio", word)
        encoders[name] = audio_encoder(what, **(audio_args or {}))

    wanted: dict[str, list[str]] = {}
    for pattern, name in zip(columns, column_sets):
        wanted.setdefault(name, []).append(pattern)
    return _run(manifest, output, encoders, wanted, flags)


def columns_of(recipes: Mapping[str, Recipe]) -> dict[str, list[str]]:
    """The manifest columns that each columns-made set of ``recipes`` needs."""
    return {
        name: list(recipe.fields["columns"])
        for name, recipe in recipes.items()
        if recipe.modality == "columns"
    }


@contextmanager
def extract_like(
    manifest: Manifest,
    recipes: Mapping[str, Recipe],
    *,
    keep: str | Path | None = None,
    provenance: Mapping[str, Mapping[str, Any]] | None = None,
    weights: str | Path | None = None,
    device: str = "auto",
    offline: bool = False,
    **flags: Any,
) -> Iterator[tuple[FeatureStore, Account]]:
    """Extract ``manifest`` with the very recipes a model was fitted on; gives the open store.

    ``keep`` names the store to fill; without it a temporary one is used and removed. Weights are
    looked for at ``weights``, else where ``provenance`` says that extraction found them.

    Raises BundleError when the manifest lacks a modality that a recipe needs, and WeightsError when
    the weights here do not make the same recipe.
    """
    for name, recipe in recipes.items():
        have = manifest.columns if recipe.modality == "columns" else manifest.items.paths
        if recipe.modality != "columns" and recipe.modality not in have:
            raise BundleError(
                manifest.source, f"no {recipe.modality} column, and the model uses set {name!r}",
                f"name the column with --{recipe.modality}-col",
            )  # fmt: skip
    encoders = {}
    for name, recipe in recipes.items():
        if recipe.modality != "columns":
            encoders[name] = encoder_from_recipe(
                recipe,
                weights_hint=weights if recipe.modality == "image" else None,
                provenance=(provenance or {}).get(name),
                device=device,
                offline=offline,
            )
    with tempfile.TemporaryDirectory(prefix="headstock-") as folder:
        output = Path(keep or Path(folder, "features.h5"))
        account = _run(manifest, output, encoders, columns_of(recipes), flags)
        with FeatureStore.open(output) as store:
            yield store, account


def _run(
    manifest: Manifest,
    output: str | Path,
    encoders: Mapping[str, Encoder],
    columns: Mapping[str, Sequence[str]],
    flags: Mapping[str, Any],
) -> Account:
    with FeatureStore.open(output, mode="a") as store:
        store.register(manifest.items)
        counts = {name: ingest_columns(store, manifest, name, p) for name, p in columns.items()}
        account = extract(store, manifest.items, encoders, **flags)
        account.add_columns(counts)
        store.compact()
    return account
