"""From the name of a sound encoder to its Encoder: ``mfcc``, ``headstock:speech_embedding``
(weights inside another package), ``net:FILE`` (ONNX or TFLite, described by the JSON beside it),
``hf:FOLDER`` (a network of the transformers library).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstock.extract.encoder import Encoder
from headstock.extract.encoders.described import HEXADECIMAL, PACKAGE_DATA, beside
from headstock.extract.encoders.mfcc import MfccEncoder
from headstock.extract.encoders.packaged import SOUNDS, installed
from headstock.store.errors import OptionError, UnsafeInput, one_line

__all__ = ["AUDIO", "audio_encoder", "audio_from_recipe", "audio_names", "audio_options"]

AUDIO = ("mfcc", "net:FILE", "hf:FOLDER", *(f"headstock:{name}" for name in SOUNDS))
OF_RECIPE = ("encoder", "version", "network", "format", "decoder")
"""Fields of a network's recipe that are not settings."""


def audio_names() -> list[str]:
    """Those that need no file."""
    return [name for name in AUDIO if not name.endswith(("FILE", "FOLDER"))]


def audio_options() -> set[str]:
    """What may be set of any of them."""
    from headstock.extract.encoders.sound_settings import SETTINGS

    return {*MfccEncoder().loader.__dataclass_fields__, *SETTINGS} - {"front"}


def audio_encoder(name: str = "mfcc", **parameters: Any) -> Encoder:
    """The Encoder of sounds called ``name``. ``parameters``: those of ``MfccLoader``, or fields of
    ``SoundSettings`` that go before the description of a network.

    Raises OptionError, WeightsError, UnsafeInput for a description that no network may have.
    """
    library, _, rest = name.partition(":")
    if name == "mfcc":
        return MfccEncoder(**parameters)
    if library == "net" and rest:
        return _by_file(name, Path(rest), parameters)
    if library == "hf" and rest:
        from headstock.extract.encoders.folder_sounds import folder_sounds

        return folder_sounds(Path(rest), **parameters)
    if library == "headstock" and rest in SOUNDS:
        paths = SOUNDS[rest].paths(name)
        return _network(name, beside(PACKAGE_DATA / rest), parameters, paths, source=name)
    raise OptionError(f"audio {name}", "no such encoder", f"one of {', '.join(AUDIO)}")


def _by_file(name: str, path: Path, parameters: Mapping[str, Any]) -> Encoder:
    where, said = beside(path)
    front = said.get("front")
    other = front.get("network") if isinstance(front, Mapping) else None
    paths = [path]
    if isinstance(other, str) and Path(other).name == other and "\0" not in other:
        paths.append(path.parent / other)
    return _network(f"net:{path.name}", (where, said), parameters, paths)


def _network(
    name: str,
    described: tuple[Path, Mapping[str, Any]],
    parameters: Mapping[str, Any],
    paths: list[Path],
    source: str = "",
) -> Encoder:
    from headstock.extract.encoders.sound_networks import SoundNetworkEncoder
    from headstock.extract.encoders.sound_settings import checked, settings_from

    where, said = described
    given = dict(parameters)
    if isinstance(given.get("pool"), str):
        given["pool"] = re.split("[+,]", given["pool"])
    try:
        checked(name, given)
    except UnsafeInput as error:  # said by the user, not by a file
        raise OptionError(error.where, error.what, error.fix) from error
    settings = settings_from(where if said else name, {**said, **given})
    return SoundNetworkEncoder(name, settings, paths, source)


def audio_from_recipe(
    fields: Mapping[str, Any],
    hint: str | Path | None,
    provenance: Mapping[str, Any],
    device: str = "auto",
) -> Encoder | None:
    """The Encoder that ``fields`` of a recipe describe; None when they are of no sound encoder.
    Files are looked for at ``hint`` and where ``provenance`` says, and taken by their digest.

    Raises as ``audio_encoder``, and WeightsError when a file is not here.
    """
    kind = fields.get("encoder")
    if kind == "mfcc":
        known = MfccEncoder().loader.__dataclass_fields__
        return MfccEncoder(**{k: v for k, v in fields.items() if k in known})
    if kind == "hf":
        from headstock.extract.encoders.folder_sounds import folder_sounds_again

        return folder_sounds_again(fields, (hint, provenance.get("weights")), device)
    if kind != "net" or fields.get("decoder") is None:
        return None
    own = {k: v for k, v in fields.items() if k not in OF_RECIPE}
    digests = [fields.get("network")]
    front = own.get("front")
    if isinstance(front, Mapping) and "network" in front:
        digests.append(front["network"])
        own["front"] = {**front, "network": "front.onnx"}  # the name says nothing, the digest all
    for digest in digests:
        if not isinstance(digest, str) or not HEXADECIMAL.fullmatch(digest):
            what = f"network is {one_line(repr(digest), 80)}"
            raise UnsafeInput("recipe", what, "a sha256 of 64 hexadecimal digits")
    from headstock.extract.encoders.sound_networks import SoundNetworkEncoder
    from headstock.extract.encoders.sound_settings import settings_from
    from headstock.extract.runtimes.network_file import found_by_digest

    settings = settings_from("recipe", own)
    carried = {one: name for name in installed(SOUNDS) for one in SOUNDS[name].files.values()}
    names = {carried.get(digest, "") for digest in digests if isinstance(digest, str)}
    if len(names) == 1 and (name := names.pop()):
        paths = SOUNDS[name].paths(f"headstock:{name}")
        return SoundNetworkEncoder(f"headstock:{name}", settings, paths, f"headstock:{name}")
    places = (hint, provenance.get("weights"), provenance.get("front"))
    found = [found_by_digest(str(digest), places) for digest in digests]
    return SoundNetworkEncoder(f"net:{found[0].name}", settings, found)
