"""From a backbone's name to its Encoder.

``timm:arch.tag``, ``torchvision:arch.WEIGHTS``, ``headstock:resnext_nano`` (weights inside this
package) or ``headstock:efficientnet_lite0`` (inside another one), or a bare name that is looked for
in that order of libraries. torch, timm and torchvision are imported when a name is resolved, not
before: they cost seconds.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstock.extract.encoders.audio import audio_encoder, audio_from_recipe, audio_names
from headstock.extract.encoders.converted import keep_converted, kept_converted, on_cpu
from headstock.extract.encoders.described import BACKBONE, PACKAGE_DATA, checked_recipe
from headstock.extract.encoders.options import number, sides, switch, text, three_numbers, whole
from headstock.extract.encoders.packaged import PICTURES, installed
from headstock.store.errors import OptionError, WeightsError, one_line
from headstock.store.recipe import Recipe

if TYPE_CHECKING:
    from headstock.extract.encoder import Encoder
    from headstock.extract.encoders.network import NetworkEncoder
    from headstock.store.seen import Seen

__all__ = [
    "DEFAULT_AUDIO",
    "DEFAULT_IMAGE",
    "LIBRARIES",
    "audio_encoder",
    "embedded",
    "encoder_from_recipe",
    "image_encoder",
    "listing",
]

DEFAULT_IMAGE = "timm:resnext50_32x4d.a1h_in1k"
DEFAULT_AUDIO = "mfcc"
LIBRARIES = {
    "timm": "headstock.extract.encoders.timm_networks",
    "torchvision": "headstock.extract.encoders.torchvision_networks",
    "headstock": "headstock.extract.encoders.cnn4",
}
LONGEST_PATH = 4096


def embedded() -> dict[str, Path]:
    """Backbones whose weights come with this package, by name."""
    return {path.stem: path for path in sorted(PACKAGE_DATA.glob("*.safetensors"))}


def listing(match: str = "") -> list[str]:
    """Every backbone's full name that contains ``match``; imports timm and torchvision."""
    found = [f"headstock:{name}" for name in (*embedded(), *PICTURES)]
    for library, module in LIBRARIES.items():
        found += [f"{library}:{name}" for name in import_module(module).names()]
    return [name for name in (*found, *audio_names()) if match in name]


def image_encoder(
    name: str = DEFAULT_IMAGE,
    weights: str | Path | None = None,
    model_args: Mapping[str, Any] | None = None,
    input_size: int | Sequence[int] | None = None,
    crop_pct: float | None = None,
    crop_mode: str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    interpolation: str | None = None,
    device: str = "auto",
    precision: str = "fp32",
    offline: bool = False,
    untrained_seed: int | None = None,
    compile: bool = False,
    channels_last: bool = True,
    decode: str = "full",
    runtime: str = "auto",
    layer: str | None = None,
    pool: str | None = None,
    flip: str = "none",
) -> NetworkEncoder:
    """The Encoder of pictures called ``name``; see the module for names.

    ``weights``: a file in place of the library's own; a JSON beside it (``FILE.json``) may state
    ``architecture``, ``model_args``, ``input_size``, ``crop_pct``, ``crop_mode``, ``mean``, ``std``
    and ``interpolation``, and what is given here goes before it. Without a file they go before the
    weights' own configuration. ``untrained_seed``: random weights, marked in name and recipe.
    ``decode="fast"``: JPEGs at a reduced scale, another recipe; see ``ImageLoader``;
    ``decode="device"``: by the CUDA device, another recipe again; see ``DeviceLoader``.
    ``runtime``: ``auto``, ``torch`` or ``openvino``; see ``Forward``. ``layer``, ``pool``,
    ``flip``: see ``View``.

    Raises OptionError for names and options without meaning, WeightsError for weights that cannot
    be had or do not fit.
    """
    for option, value, kind in (
        ("crop-pct", crop_pct, number), ("untrained", untrained_seed, whole),
        ("compile", compile, switch), ("crop mode", crop_mode, text),
        ("interpolation", interpolation, text), ("precision", precision, text),
        ("decode", decode, text), ("runtime", runtime, text), ("layer", layer, text),
        ("pool", pool, text), ("flip", flip, text),
    ):  # fmt: skip
        if value is not None:
            kind(option, value)
    file = None if weights is None else Path(weights)
    if file is not None and untrained_seed is not None:
        raise OptionError("untrained-seed", "weights are given as well", "one of the two")
    stated = {
        "input_size": sides(input_size),
        "crop_pct": crop_pct,
        "crop_mode": crop_mode,
        "mean": three_numbers(mean),
        "std": three_numbers(std),
        "interpolation": interpolation,
    }
    if name.startswith("net:"):
        if model_args or compile or file or untrained_seed is not None:
            raise OptionError(name, "is a network with its weights", "its JSON and --input-size")
        if precision != "fp32" or device not in ("auto", "cpu", "elsewhere") or layer:
            raise OptionError(name, "is computed on the CPU in fp32, as a whole", "leave it away")
        from headstock.extract.encoders.file_pictures import build, encoder_of

        picked = {k: v for k, v in stated.items() if v is not None}
        return encoder_of(build(Path(name.partition(":")[2]), picked), decode, flip)
    inside = name if name.startswith("headstock:") and not _own(name) else ""
    if inside:
        file, said = _carried(name, file, untrained_seed)
    else:
        said = _settings(file)
    library, rest = _resolve(said.get("architecture", name) if inside else name)
    _agree(file, said.get("architecture"), library, rest)
    beside = {k: said[k] for k in stated if k in said}
    if "input_size" in beside:
        beside["input_size"] = sides(beside["input_size"])
    for key in ("mean", "std"):
        if key in beside:
            beside[key] = three_numbers(beside[key])
    network = import_module(LIBRARIES[library]).build(
        rest,
        weights=file if untrained_seed is None else None,
        model_args={**said.get("model_args", {}), **(model_args or {})},
        preprocess={**beside, **{k: v for k, v in stated.items() if v is not None}},
        offline=offline,
        seed=untrained_seed,
    )
    from headstock.extract.encoders.network import NetworkEncoder, untrained
    from headstock.extract.runtimes.views import View

    shown = untrained(f"{library}:{rest}", network.seed)
    network.seen = _seen(file)
    if inside:
        shown, network.file, network.source = inside, None, inside
    return NetworkEncoder(
        shown,
        network,
        device,
        precision,
        compile=compile,
        channels_last=channels_last,
        decode=decode,
        runtime=runtime,
        view=View(layer, pool, flip),
    )


def encoder_from_recipe(
    recipe: Recipe,
    *,
    weights_hint: str | Path | None = None,
    provenance: Mapping[str, Any] | None = None,
    device: str = "auto",
    offline: bool = False,
    converted: bool = False,
) -> Encoder:
    """The Encoder that makes exactly what ``recipe`` describes, to encode new files alike.

    The recipe holds no path: weights are looked for in ``weights_hint``, else where
    ``provenance`` (of the set, as the encoder gave it) says they came from. ``converted``: where
    the CPU encodes and no hint is given, a network that this machine has converted before is taken
    from the user's cache, without torch, and one that it converts now is kept there.
    Raises WeightsError when what it builds differs, naming the fields; OptionError for a recipe
    that no encoder here can follow; UnsafeInput for a field that no encoder here would write.
    """
    fields = recipe.fields
    kind = fields.get("encoder")
    encoder: Encoder | None = None
    if recipe.modality == "audio":
        encoder = audio_from_recipe(fields, weights_hint, provenance or {}, device)
    if encoder is not None:
        pass
    elif kind == "net" and recipe.modality == "image":
        from headstock.extract.encoders.file_pictures import build_again, encoder_of

        fields = checked_recipe(fields, ("net",))
        network = build_again(fields, (weights_hint, (provenance or {}).get("weights")))
        encoder = encoder_of(network, _decode(fields), fields.get("flip", "none"))
    elif isinstance(kind, str) and kind in LIBRARIES:
        fields = checked_recipe(fields, tuple(LIBRARIES))
        converted = converted and weights_hint is None and on_cpu(device)
        if converted and (kept := kept_converted(Recipe(recipe.modality, fields))) is not None:
            return kept
        encoder = _network_again(fields, weights_hint, provenance or {}, device, offline)
        if converted:
            encoder.forward.on_proof = partial(keep_converted, encoder)
    else:
        what = f"encoder {one_line(repr(kind), 80)} is not one of ours"
        raise OptionError("recipe", what, "extract it elsewhere")
    differences = recipe.difference(encoder.recipe())
    if differences:
        what = f"rebuilt another encoder: {'; '.join(differences[:4])}"
        raise WeightsError(encoder.name, what, "give the weights it was made with (--weights)")
    return encoder


def _network_again(
    fields: Mapping[str, Any],
    hint: str | Path | None,
    provenance: Mapping[str, Any],
    device: str,
    offline: bool,
) -> NetworkEncoder:
    from headstock.extract.decode.preprocess import Preprocess
    from headstock.extract.encoders.network import NetworkEncoder
    from headstock.extract.runtimes.views import View

    library, architecture = fields["encoder"], fields["architecture"]
    seed = fields["weights"].get("untrained_seed")
    if hint is None and seed is None:
        hint = _recorded(provenance) or _same_embedded(fields)
    told = str(provenance.get("name", ""))
    told = told.partition(":")[2] if BACKBONE.fullmatch(told) else ""
    name = told if told.partition(".")[0] == architecture and seed is None else architecture
    network = import_module(LIBRARIES[library]).build(
        name,
        weights=None if hint is None else Path(hint),
        model_args=fields["model_args"],
        offline=offline,
        seed=seed,
    )
    network.preprocess = Preprocess.from_recipe(fields["preprocess"])
    full = f"{library}:{name}" + ("" if seed is None else f"[untrained:{seed}]")
    network.seen = _seen(None if hint is None else Path(hint))
    view, decode = View.from_recipe(fields), _decode(fields)
    return NetworkEncoder(full, network, device, fields["precision"], decode=decode, view=view)


def _decode(fields: Mapping[str, Any]) -> str:
    said = str(fields["decoder"].get("jpeg", ""))
    return "device" if said == "by the device" else "fast" if said else "full"


def _recorded(provenance: Mapping[str, Any]) -> Path | None:
    """The weights file that extraction found, where it still is one. It may be any file here: what
    is read of it are tensors, and it is used when they have the digest that the recipe says."""
    file = provenance.get("weights")
    if not isinstance(file, str) or not 0 < len(file) <= LONGEST_PATH or "\0" in file:
        return None
    return Path(file) if Path(file).is_file() else None


def _same_embedded(fields: Mapping[str, Any]) -> Path | None:
    """Weights in this package or another one, of the network that a recipe describes."""
    for name in installed(PICTURES):
        if PICTURES[name].tensors == fields["weights"]["sha256"]:
            return PICTURES[name].paths(f"headstock:{name}")[0]
    wanted = f"{fields['encoder']}:{fields['architecture']}", fields["model_args"]
    for path in embedded().values():
        said = _settings(path)
        if (said.get("architecture"), said.get("model_args", {})) == wanted:
            return path
    return None


def _carried(name: str, file: Path | None, seed: int | None) -> tuple[Path, dict[str, Any]]:
    """The weights of ``headstock:NAME`` and what is said of them. Raises OptionError, WeightsError
    for a package that holds something else."""
    known, rest = embedded(), name.partition(":")[2]
    if file is not None or seed is not None:
        raise OptionError(name, "carries its own weights", "leave --weights and seed away")
    if rest not in known and rest not in PICTURES:
        here = ", ".join(f"headstock:{n}" for n in (*known, *PICTURES))
        raise OptionError(name, "no such embedded backbone", here)
    path = known[rest] if rest in known else PICTURES[rest].paths(name)[0]
    return path, _settings(PACKAGE_DATA / f"{rest}.safetensors")  # its JSON is here in either case


def _own(name: str) -> bool:
    """Whether ``headstock:NAME`` is a network without weights, not one inside the package."""
    return name.partition(":")[2] in import_module(LIBRARIES["headstock"]).names()


def _seen(file: Path | None) -> Seen | None:
    if file is None:
        return None
    from headstock.extract.encoders.checkpoint import read_seen

    return read_seen(file)


def _settings(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    from headstock.extract.encoders.checkpoint import read_settings

    return read_settings(file)


def _agree(file: Path | None, said: str | None, library: str, rest: str) -> None:
    """A JSON that names another architecture than the one asked for is a mistake to stop at."""
    architecture = rest.partition(".")[0]
    if said and said.partition(":")[2] not in ("", rest, architecture):
        raise OptionError(f"{file}", f"its JSON says {said}, not {library}:{rest}", "ask for that")
    if said and ":" not in said and said.partition(".")[0] != architecture:
        raise OptionError(f"{file}", f"its JSON says {said}, not {rest}", "ask for that")


def _resolve(name: str) -> tuple[str, str]:
    """(library, name inside it); a bare name is looked for. Raises OptionError with near misses."""
    library, colon, rest = name.partition(":")
    if colon and library not in LIBRARIES:
        known = ", ".join(f"{n}:" for n in LIBRARIES)
        raise OptionError(name, f"no library {library!r}", f"a name begins with {known}")
    bare = rest if colon else name
    where = [library] if colon else list(LIBRARIES)
    for candidate in where:
        if bare.partition(".")[0] in import_module(LIBRARIES[candidate]).names():
            return candidate, bare
    every = [f"{n}:{a}" for n in where for a in import_module(LIBRARIES[n]).names()]
    near = _near(bare, every)
    fix = f"did you mean {' or '.join(near)}?" if near else "see headstock list backbones"
    raise OptionError(name, "no such backbone", fix)


def _near(bare: str, every: list[str]) -> list[str]:
    """Up to three full names closest to ``bare``."""
    by_name: dict[str, list[str]] = {}
    for full in every:
        by_name.setdefault(full.partition(":")[2], []).append(full)
    wanted = bare.partition(".")[0]
    close = sorted((n for n in by_name if n.startswith(wanted)), key=len) if wanted else []
    close += difflib.get_close_matches(wanted, by_name, n=3, cutoff=0.6)
    return [full for name in dict.fromkeys(close) for full in by_name[name]][:3]
