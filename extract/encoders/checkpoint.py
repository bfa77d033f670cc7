"""Weights files: read without running anything in them, fitted without guessing, named by content.

A file is safetensors, or a PyTorch state dict read with ``weights_only=True``. Classifier keys are
dropped; any other key that is missing, unexpected or misshaped is refused, because a network with
one random layer still gives plausible vectors.
"""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from headstock.extract.encoders.described import beside, checked_settings
from headstock.store.errors import UnsafeInput, WeightsError
from headstock.store.jsonfile import parse_json
from headstock.store.seen import Seen

__all__ = [
    "CLASSIFIER",
    "NOTE",
    "digest",
    "fit",
    "is_safetensors",
    "read_note",
    "read_seen",
    "read_settings",
    "read_state_dict",
]

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")  # timm's order: averages first
PREFIXES = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put in front
COUNTER = "num_batches_tracked"  # read in training only; old files lack it
CLASSIFIER = "headstock_classifier"  # the one that adaptation puts on any backbone
NOTE = "headstock weights"  # the name of our JSON among a safetensors file's metadata
State = dict[str, Tensor]


def read_state_dict(path: Path) -> State:
    """The tensors in ``path`` by name, out of their usual wrappers.

    Raises WeightsError; UnsafeInput for an archive that unpacks to far more than it is.
    """
    if not path.is_file():
        raise WeightsError(path, "no such weights file", "give a .safetensors or .pt file")
    try:
        if is_safetensors(path):
            return safetensors.torch.load_file(path, device="cpu")
        _refuse_bomb(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise WeightsError(path, f"damaged safetensors file: {error}", "copy it again") from error
    except pickle.UnpicklingError as error:
        fix = "save the state dict alone: torch.save(model.state_dict(), ...)"
        raise WeightsError(path, "holds more than tensors; nothing of it was run", fix) from error
    except (RuntimeError, EOFError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(path, f"not a weights file: {error}", "safetensors or .pt") from error
    return _unwrapped(path, loaded)


def is_safetensors(path: Path) -> bool:
    """By its first bytes."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and not head.startswith(b"PK")


def _refuse_bomb(path: Path) -> None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > 16 * path.stat().st_size + (1 << 20):
            raise UnsafeInput(path, f"unpacks to {unpacked:,} bytes", "a plain torch.save file")


def _unwrapped(path: Path, loaded: Any) -> State:
    for _ in range(2):  # {"model": {"state_dict": ...}} is as deep as they come
        for key in WRAPPERS:
            if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
                loaded = loaded[key]
                break
    if not isinstance(loaded, Mapping) or not loaded:
        raise WeightsError(path, "holds no state dict", "names mapped to tensors")
    odd = [str(k) for k, v in loaded.items() if not isinstance(v, Tensor)]
    if odd:
        raise WeightsError(path, f"not tensors: {_some(odd)}", "a state dict alone")
    state = {str(k): v for k, v in loaded.items()}
    for prefix in PREFIXES:
        if all(k.startswith(prefix) for k in state):
            state = {k[len(prefix) :]: v for k, v in state.items()}
    return state


def fit(
    module: nn.Module,
    state: State,
    where: object,
    classifier: Iterable[str] = (),
    rename: Callable[[State], State] | None = None,
) -> None:
    """Load ``state`` into ``module``; keys of the modules named ``classifier`` are dropped.

    ``rename``: tried when the names do not fit as they are (a library's own translation of older
    files). Raises WeightsError that lists the missing, unexpected and misshaped keys.
    """
    heads = (*classifier, CLASSIFIER)

    def backbone(tensors: State) -> State:
        return {k: v for k, v in tensors.items() if not _within(k, heads)}

    wanted = {k: v for k, v in module.state_dict().items() if not _within(k, heads)}
    given = backbone(state)
    complaint = _mismatch(wanted, given)
    if complaint and rename is not None:
        renamed = backbone(rename(dict(state)))
        if not _mismatch(wanted, renamed):
            given, complaint = renamed, ""
    if complaint:
        fix = "state the architecture that the file was trained with (--image, --model-arg)"
        raise WeightsError(where, complaint, fix)
    module.load_state_dict(given, strict=False)


def _within(key: str, modules: tuple[str, ...]) -> bool:
    return any(key.startswith(f"{name}.") for name in modules)


def _mismatch(wanted: State, given: State) -> str:
    missing = [k for k in wanted if k not in given and not k.endswith(COUNTER)]
    unexpected = [k for k in given if k not in wanted]
    misshaped = [
        f"{k} {tuple(given[k].shape)} for {tuple(v.shape)}"
        for k, v in wanted.items()
        if k in given and given[k].shape != v.shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("misshaped", misshaped))
    return "; ".join(f"{len(keys)} {kind}: {_some(keys)}" for kind, keys in kinds if keys)


def _some(names: list[str], shown: int = 8) -> str:
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest


def digest(module: nn.Module) -> str:
    """sha256 over the name, type, shape and bytes of each tensor that ``module`` computes with.

    The same weights have the same digest whatever file they came from.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if name.endswith(COUNTER):
            continue
        flat = tensor.detach().cpu().contiguous()
        total.update(f"{name} {flat.dtype} {list(flat.shape)}\n".encode())
        total.update(flat.flatten().view(torch.uint8).numpy().data if flat.numel() else b"")
    return total.hexdigest()


def read_settings(path: Path) -> dict[str, Any]:
    """What a weights file says of architecture and preprocessing; {} when it says nothing.

    It says it inside, where ``headstock adapt`` wrote it, or in JSON beside it
    (``model.safetensors.json`` or ``model.json``), which goes before. Raises WeightsError when it
    cannot be read or is no object, UnsafeInput for a value that no description may hold.
    """
    inside = checked_settings(path, read_note(path).get("settings", {}))
    place, said = beside(path)
    return {**inside, **checked_settings(place, said)}


def read_note(path: Path) -> dict[str, Any]:
    """The JSON that ``headstock adapt`` put into a weights file; {} for any other file.

    Raises WeightsError when it is damaged.
    """
    if not path.is_file() or not is_safetensors(path):
        return {}
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(NOTE, "{}")
        note = parse_json(text)
    except (SafetensorError, ValueError) as error:
        raise WeightsError(path, f"damaged safetensors file: {error}", "copy it again") from error
    if not isinstance(note, dict) or not isinstance(note.get("settings", {}), dict):
        raise WeightsError(path, "its description is no JSON object", "adapt again")
    return note


def read_seen(path: Path) -> Seen | None:
    """Whose labels the weights in ``path`` were adapted on; None for any other file.

    Raises WeightsError when the file says that it was adapted and not on what.
    """
    note = read_note(path)
    if "adapted" not in note:
        return None
    try:
        return Seen.from_json(note["adapted"])
    except ValueError as error:
        raise WeightsError(path, error, "adapt again") from error
