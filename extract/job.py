"""From a manifest to a store: builds the encoders that flags or a saved model ask for, and runs
them. The rooms below know one encoder each; this file only joins them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from headstock.extract.encoder import Encoder
from headstock.extract.encoders.audio import audio_options
from headstock.extract.encoders.backbones import (
    DEFAULT_AUDIO,
    DEFAULT_IMAGE,
    audio_encoder,
    encoder_from_recipe,
    image_encoder,
)
from headstock.extract.encoders.columns import ingest_columns, read_numbers
from headstock.extract.encoders.fingerprints import fingerprint_of
from headstock.extract.pipeline.account import Account
from headstock.extract.pipeline.admit import admit, settle
from headstock.extract.pipeline.distributed import extract_on_ray
from headstock.extract.pipeline.holdings import Held
from headstock.extract.pipeline.options import Options, share_of
from headstock.extract.pipeline.pending import refuse_absent
from headstock.extract.pipeline.run import extract_some
from headstock.store import ABSENT, FeatureStore, Manifest, Recipe, StoreReader, open_store
from headstock.store.errors import BundleError, OptionError
from headstock.store.fingerprints import fingerprint_set
from headstock.store.jsonfile import parse_json
from headstock.store.manifest.cells import CATEGORY, DATE, columns_in

__all__ = ["columns_of", "extract_like", "extract_manifest"]

_IMAGE_FLAGS = (
    "weights model_args input_size crop_pct mean std interpolation untrained_seed precision decode "
    "compile runtime"
).split()
_OF_ONE_IMAGE = {*_IMAGE_FLAGS, "crop_mode", "layer", "pool", "flip"} - {"model_args"}


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
    part: str = "",
    fingerprints: bool = True,
    **flags: Any,
) -> Account:
    """Extract what the flags name from ``manifest`` into the store ``output``.

    ``image`` and ``audio`` are ``[SET=]ENCODER[,OPTION=VALUE]...`` words, the set named after its
    modality by default; options are those of ``image_encoder`` (``layer=layer3,pool=max``) or
    ``audio_encoder`` for this set alone and go before ``flags``. Sets of one modality are filled in
    one pass over the files. ``columns`` are patterns of the manifest's columns, each entering the
    set at the same position of ``column_sets``. With none of the three, each modality of the
    manifest gets its default encoder. Weights that ``adapt`` wrote name their own backbone, and
    with folds they fill a set more for each (``image.fold0`` …). Further ``flags`` go to
    ``image_encoder`` or to ``extract`` by their names.

    ``part`` ("3/8") takes this share of the manifest's rows alone, for a store that is one of
    several. ``shard`` ("3/8") registers every row and encodes this share of them: for job arrays
    that fill one store. ``engine`` "ray" encodes on a cluster, with so many ``actors``.

    ``fingerprints``: fill ``image.fingerprint`` and ``audio.fingerprint`` in the same pass, to find
    copies by.

    The account is kept beside the store, as ``features.run.json`` for ``features.h5``.

    Raises OptionError when two encoders claim one set or the manifest lacks a modality.
    """
    if part:
        manifest = manifest.take(share_of(part, len(manifest.items), "--part"))
    items = manifest.items
    if not image and _of_weights(flags.get("weights"))[0]:
        image = [""]
    if not (image or audio or columns):
        image = [DEFAULT_IMAGE] if "image" in items.paths else []
        audio = [DEFAULT_AUDIO] if "audio" in items.paths else []
    of_image = {k: flags.pop(k) for k in _IMAGE_FLAGS if k in flags}
    if of_image.get("weights") and flags.get("engine") == "ray":
        of_image["weights"] = os.path.abspath(of_image["weights"])  # an actor works elsewhere
    builders: dict[str, Callable[[], Encoder]] = {}

    def claim(modality: str, word: str, known: Collection[str]) -> tuple[str, str, dict[str, Any]]:
        head, *options = word.split(",")
        name, equals, what = head.rpartition("=")
        name = name if equals else modality
        if name in builders or name in column_sets:
            raise OptionError(f"--{modality} {word}", f"set {name!r} twice", f"write NAME={what}")
        if modality not in items.paths:
            raise OptionError(
                f"--{modality} {word}", f"{manifest.source} has no {modality} column",
                f"name it with --{modality}-col",
            )  # fmt: skip
        return name, what, _options(f"--{modality} {word}", options, known)

    for word in image:
        name, what, own = claim("image", word, _OF_ONE_IMAGE)
        told = {"device": device, "offline": offline, **of_image, **own}
        if own.get("weights"):
            told["weights"] = os.path.abspath(own["weights"])
        backbone, fold_files = _of_weights(told.get("weights"))
        what = what or backbone or DEFAULT_IMAGE
        builders[name] = partial(image_encoder, what, **told)
        for fold, file in enumerate(fold_files):
            told = {**told, "weights": os.path.abspath(file)}
            builders[f"{name}.fold{fold}"] = partial(image_encoder, what, **told)
    for word in audio:
        name, what, own = claim("audio", word, audio_options())
        builders[name] = partial(audio_encoder, what, **{**(audio_args or {}), **own})

    wanted: dict[str, list[str]] = {}
    for pattern, name in zip(columns, column_sets):
        wanted.setdefault(name, []).append(pattern)
    flags["fingerprints"] = fingerprints
    return _run(manifest, output, builders, wanted, device, flags)


def _options(where: str, words: Sequence[str], known: Collection[str]) -> dict[str, Any]:
    """``key=value`` words by key; a value is JSON where it parses, text where it does not."""
    out: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        key = {"untrained": "untrained_seed"}.get(key, key).replace("-", "_")
        if not equals or key not in known:
            raise OptionError(where, f"{word!r} is no option of a set", ", ".join(sorted(known)))
        try:
            out[key] = parse_json(text)
        except ValueError:
            out[key] = text
    return out


def _of_weights(weights: str | Path | None) -> tuple[str | None, list[Path]]:
    """The backbone that a weights file names, if it does, and the files of its folds."""
    if not weights:
        return None, []
    from headstock.extract.adapt.files import fold_files
    from headstock.extract.encoders.checkpoint import read_settings

    return read_settings(Path(weights)).get("architecture"), fold_files(Path(weights))


def columns_of(recipes: Mapping[str, Recipe]) -> dict[str, list[str]]:
    """What ``Manifest.read`` must be asked for, so that a manifest holds the columns of the sets
    that ``recipes`` made of columns: ``columns``, ``categories`` and ``dates``."""
    needed = [
        column
        for recipe in recipes.values()
        if recipe.modality == "columns"
        for column in columns_in(recipe)
    ]
    return {
        "columns": sorted({one.name for one in needed}),
        "categories": sorted({one.name for one in needed if one.kind == CATEGORY}),
        "dates": sorted({one.name for one in needed if one.kind == DATE}),
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
    some: bool = False,
    **flags: Any,
) -> Iterator[tuple[StoreReader, Account]]:
    """Extract ``manifest`` with the very recipes a model was fitted on; gives the open store.

    ``keep`` names the store to fill; without it a temporary one is used and removed. Weights are
    looked for at ``weights``, else where ``provenance`` says that extraction found them. ``some``:
    the model answers rows by what they have, so a modality that the manifest lacks is left out.

    Raises BundleError when the manifest lacks a modality that a recipe needs, and WeightsError when
    the weights here do not make the same recipe.
    """
    there = {n: r for n, r in recipes.items() if r.modality in ("columns", *manifest.items.paths)}
    if some and there:
        recipes = there
    for name, recipe in recipes.items():
        have = manifest.columns if recipe.modality == "columns" else manifest.items.paths
        if recipe.modality != "columns" and recipe.modality not in have:
            raise BundleError(
                manifest.source, f"no {recipe.modality} column, and the model uses set {name!r}",
                f"name the column with --{recipe.modality}-col",
            )  # fmt: skip
    builders: dict[str, Callable[[], Encoder]] = {}
    for name, recipe in recipes.items():
        if recipe.modality != "columns":
            builders[name] = partial(
                encoder_from_recipe,
                recipe,
                weights_hint=weights,
                provenance=(provenance or {}).get(name),
                device=device,
                offline=offline,
                converted=True,
            )
    with tempfile.TemporaryDirectory(prefix="headstock-") as folder:
        output = Path(keep or Path(folder, "features.h5"))
        columns = {name: r for name, r in recipes.items() if r.modality == "columns"}
        flags["gather"] = keep is not None  # what is read once needs not be written twice
        account = _run(manifest, output, builders, columns, device, flags)
        with open_store(output) as store:
            yield store, account


def _run(
    manifest: Manifest,
    output: str | Path,
    builders: Mapping[str, Callable[[], Encoder]],
    columns: Mapping[str, Sequence[str] | Recipe],
    device: str,
    flags: dict[str, Any],
) -> Account:
    shard, engine = flags.pop("shard", None) or "", flags.pop("engine", "local")
    gather = flags.pop("gather", True)
    actors, fingerprints = flags.pop("actors", None), flags.pop("fingerprints", False)
    if actors is not None and engine != "ray":
        raise OptionError("actors", "encode on a cluster", "--engine ray")
    share = share_of(shard or "1/1", len(manifest.items))
    here = _without_device if engine == "ray" else _plainly  # the actors' machines have it
    encoders = {name: here(build) for name, build in builders.items()}
    prints = _fingerprints(encoders) if fingerprints else {}
    builders = {**builders, **prints}
    encoders |= {name: build() for name, build in prints.items()}
    options = Options(**flags)
    reader = options.reader(manifest.items.root)
    for modality in {encoder.modality for encoder in encoders.values()}:
        # before a store is made or told of another folder
        refuse_absent(manifest.items, modality, reader)
    with FeatureStore.open(output, mode="a") as store:
        over = options.overwrite
        numbers = [read_numbers(store, manifest, name, of, over) for name, of in columns.items()]
        for one in numbers:
            if not over:  # before its rows are held against others made of other columns
                store.agrees(one.declared)
        held = Held(store)
        modalities = [encoder.modality for encoder in encoders.values()]
        admitted = admit(store, manifest.items, reader, modalities, numbers, manifest.source)
        ids = admitted.items.id.tolist()
        counts = {one.name: ingest_columns(store, one, ids, over) for one in numbers}
        own = admitted.take(share) if shard else admitted
        if engine == "ray":
            more = {"actors": actors, "device": device, "admission": own, **flags}
            account = extract_on_ray(store, own.items, builders, encoders, **more)
        else:
            account = extract_some(store, own.items, encoders, options, own)
        account.set_apart(prints)
        changed = settle(store, own)
        account.add_columns(counts, {one.name: one.notes for one in numbers})
        account.ids, account.rows = ids, held.account(store, admitted, changed, manifest.source)
        part = f"-{shard.replace('/', '-of-')}" if shard else ""
        account.save(Path(output).with_suffix(f".run{part}.json"))
        # gathering is for the last of several jobs: each time it writes the whole store
        if gather and (not shard or _settled(store, encoders)):
            store.compact()
    return account


def _fingerprints(encoders: Mapping[str, Encoder]) -> dict[str, Callable[[], Encoder]]:
    """What makes the fingerprints of each modality, decoded as its first encoder decodes."""
    out: dict[str, Callable[[], Encoder]] = {}
    for encoder in encoders.values():
        name = fingerprint_set(encoder.modality)
        if name not in out and (build := fingerprint_of(encoder)) is not None:
            out[name] = build
    return out


def _plainly(build: Callable[[], Encoder]) -> Encoder:
    return build()


def _without_device(build: Callable[..., Encoder]) -> Encoder:
    asked = isinstance(build, partial) and "device" in build.keywords
    return build(device="elsewhere") if asked else build()


def _settled(store: FeatureStore, encoders: Mapping[str, Encoder]) -> bool:
    """Whether every row that names a file has been tried by somebody, in each of the sets."""
    store.refresh()
    for name, encoder in encoders.items():
        named = store.items.paths[encoder.modality] != ""
        if (named & (store.progress(name).status == ABSENT)).any():
            return False
    return True
