"""Networks of the transformers library from a folder: configuration, front end and safetensors.

The folder's JSON is read here, field by field, and the library gets plain values of fields that its
own classes have; it never opens the folder, fetches nothing and runs no code of it. Weights are
safetensors alone, and each tensor of the network has to come from them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from headstock.extract.encoders.described import read_fields
from headstock.store.errors import OptionError, UnsafeInput, WeightsError, near, one_line

__all__ = ["SOUNDS", "Kind", "built", "plain_fields", "read_folder"]

WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
LARGEST = 10_000_000  # of a number: samples of a window among them
MOST_LAYERS = 512
MOST_NUMBERS = 4096  # in one list: the mean of each mel
CODE = ("auto_map", "quantization_config", "custom_pipelines")
"""What makes the library run code of the folder or of further packages."""
IGNORED = frozenset(
    """
    _name_or_path architectures dtype torch_dtype transformers_version id2label label2id
    problem_type return_dict output_hidden_states output_attentions use_cache
    _attn_implementation attn_implementation _attn_implementation_internal
    """.split()
)
"""Fields of a configuration that change no vector, or that are set here."""


@dataclass(frozen=True)
class Kind:
    """Classes of the library by name; ``seconds``: of a window where the front end does not say;
    ``pool``: unless a user says otherwise; ``own``: it pools by itself."""

    network: str
    front: str
    seconds: float = 10.0
    pool: str = "mean"
    own: bool = False


SOUNDS: Mapping[str, Kind] = {
    "audio-spectrogram-transformer": Kind("ASTModel", "ASTFeatureExtractor", 10.24, "own", True),
    "clap": Kind("ClapModel", "ClapFeatureExtractor", 10.0, "own", True),
    "hubert": Kind("HubertModel", "Wav2Vec2FeatureExtractor"),
    "wav2vec2": Kind("Wav2Vec2Model", "Wav2Vec2FeatureExtractor"),
    "wavlm": Kind("WavLMModel", "Wav2Vec2FeatureExtractor"),
    "whisper": Kind("WhisperModel", "WhisperFeatureExtractor", 30.0),
}
"""By ``model_type`` of the configuration."""


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration of the network in ``folder``, and that of its front end.

    Raises WeightsError for a folder without them, UnsafeInput for fields that would run code.
    """
    if not folder.is_dir():
        raise WeightsError(folder, "no such folder", "a folder of save_pretrained")
    out = []
    for name in ("config.json", "preprocessor_config.json"):
        said = read_fields(folder / name, "a folder of save_pretrained")
        for field in CODE:
            if said.get(field) is not None:
                what = f"{field} asks for code of its own, which is never run"
                raise UnsafeInput(folder / name, what, "a network that the library itself knows")
        out.append(said)
    return out[0], out[1]


def plain_fields(
    where: object, said: Mapping[str, Any], known: Mapping[str, Any]
) -> dict[str, Any]:
    """Those of ``said`` that a class has, by its defaults ``known``; configurations inside too.

    Raises UnsafeInput for a value that is neither a number up to ten million, truth, nothing, word
    of 64 letters nor a list of such, or that asks for more than 512 layers.
    """
    out: dict[str, Any] = {}
    for name, value in said.items():
        if name in IGNORED or name not in known:
            continue
        inner = known[name]
        if isinstance(value, Mapping) and isinstance(inner, Mapping) and name.endswith("_config"):
            out[name] = plain_fields(where, value, inner)
            continue
        values = value if isinstance(value, list) else [value]
        layers = "layer" in name or name in ("depths", "num_attention_heads")
        most = MOST_LAYERS if layers and "norm" not in name else LARGEST
        if len(values) > MOST_NUMBERS or not all(_plain(one, most) for one in values):
            what = f"{name} is {one_line(repr(value), 80)}"
            fix = f"numbers up to {most:,}, words, true or false"
            raise UnsafeInput(where, what, fix)
        out[name] = value
    return out


def _plain(value: Any, most: int) -> bool:
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, str):
        return WORD.fullmatch(value) is not None
    return isinstance(value, int | float) and abs(value) <= most


def kind_of(where: object, model_type: Any, kinds: Mapping[str, Kind] = SOUNDS) -> Kind:
    """Raises OptionError for a type that is not in the table, and without the library."""
    if not isinstance(model_type, str) or model_type not in kinds:
        what = f"model_type {one_line(repr(model_type), 80)} is not read here"
        raise OptionError(where, what, f"{near(str(model_type)[:80], kinds)}{', '.join(kinds)}")
    if find_spec("transformers") is None:
        raise OptionError(where, "needs transformers", "pip install 'headstock[hf]'")
    return kinds[model_type]


def defaults(kind: Kind, model_type: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the library's classes have by default: fields of configuration and front end."""
    import transformers

    config = transformers.CONFIG_MAPPING[model_type]()
    own = config.to_dict()
    for name in getattr(config, "sub_configs", {}):
        own[name] = getattr(config, name).to_dict()
    return own, getattr(transformers, kind.front)().to_dict()


def front_end(kind: Kind, fields: Mapping[str, Any]) -> Any:
    """The front end of ``fields``, as ``plain_fields`` gives them."""
    import transformers

    return getattr(transformers, kind.front)(**fields)


def built(where: object, kind: Kind, model_type: str, config: Mapping[str, Any], state: Any) -> Any:
    """The network of ``config`` with the tensors ``state``, in evaluation mode.

    Raises WeightsError for tensors that do not fit or are not there, OptionError for a
    configuration that the library cannot build.
    """
    import transformers
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        settings = transformers.CONFIG_MAPPING[model_type](**config)
        network, found = getattr(transformers, kind.network).from_pretrained(
            None, config=settings, state_dict=state, output_loading_info=True,
            attn_implementation="eager", dtype="float32", trust_remote_code=False,
            local_files_only=True,
        )  # fmt: skip
    except Exception as error:  # a constructor may raise anything over odd numbers
        what = f"transformers cannot build it: {one_line(error, 200)}"
        raise OptionError(where, what, "its own config.json") from error
    for trouble in ("missing_keys", "mismatched_keys"):
        if keys := sorted(map(str, found[trouble])):
            what = f"{len(keys)} {trouble.replace('_', ' ')}: {', '.join(keys[:4])}"
            raise WeightsError(where, one_line(what, 400), "the weights of this config.json")
    return network.eval().requires_grad_(False)


def read_tensors(folder: Path) -> dict[str, Any]:
    """The tensors of the safetensors files in ``folder``. Raises WeightsError."""
    from headstock.extract.encoders.checkpoint import is_safetensors, read_state_dict

    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        what = "has no model.safetensors, and other formats are not read"
        raise WeightsError(folder, what, "save_pretrained(..., safe_serialization=True)")
    state: dict[str, Any] = {}
    for file in files:
        if not is_safetensors(file):
            raise WeightsError(file, "is no safetensors file", "copy it again")
        state |= read_state_dict(file)
    return state
