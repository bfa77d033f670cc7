"""Pictures by a network in a file (ONNX, TFLite), described by the JSON beside it.

It is one more library: preprocessing, tiles, mirrored pictures and the recipe are those of any
network. Letters: b pictures, h and w their sides, d features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headstock.extract.decode.preprocess import Preprocess
from headstock.extract.encoders.described import (
    PORT,
    SETTINGS,
    Check,
    beside,
    check_fields,
    known_fields,
    number_in,
    one_of,
)
from headstock.extract.encoders.network import Network, NetworkEncoder
from headstock.extract.encoders.options import sides, three_numbers
from headstock.extract.runtimes.forward import THREADS
from headstock.extract.runtimes.network_file import FORMATS, digest_of, found_by_digest, opened
from headstock.extract.runtimes.views import View
from headstock.store.errors import OptionError, UnsafeInput

__all__ = ["build", "build_again", "encoder_of"]

POOLS = ("none", "mean", "first")
OWN: Mapping[str, Check] = {
    "axes": one_of("bchw", "bhwc"),
    "channels": one_of("rgb", "bgr"),
    "scale": number_in(1e-6, 1e6),
    "input": PORT,
    "output": PORT,
    "output_pool": one_of(*POOLS),
}
"""Beside how pictures are prepared: the order of the input's axes and of its channels, what values
are multiplied with after mean and deviation, names in the file, and what is taken over all axes of
the output between the first and the last (over places of (b, c, h, w))."""
DEFAULTS = {
    "axes": "bchw", "channels": "rgb", "scale": 1.0, "input": None, "output": None,
    "output_pool": "none",
}  # fmt: skip
PREPARED = {k: v for k, v in SETTINGS.items() if k not in ("architecture", "model_args")}


class FileModule(nn.Module):
    """(b, 3, h, w) normalised -> (b, d), by OpenVINO on the CPU; several threads may pass."""

    computed_by = "openvino"

    def __init__(self, path: Path, sha256: str, own: Mapping[str, Any]) -> None:
        super().__init__()
        self._path, self._sha256, self._own = path, sha256, dict(own)

    def forward(self, x: Tensor) -> Tensor:
        o = self._own
        if o["channels"] == "bgr":
            x = x.flip(1)
        x = x * o["scale"] if o["scale"] != 1 else x
        x = x if o["axes"] == "bchw" else x.permute(0, 2, 3, 1)
        given = x.contiguous().numpy()
        network = opened(
            self._path, self._sha256, o["input"], o["output"], tuple(given.shape),
            THREADS,
        )  # fmt: skip
        parts = [given[i : i + 1] for i in range(len(given))] if network.alone else [given]
        out = torch.cat([torch.from_numpy(network(part)) for part in parts])
        return _pooled(out, o["output_pool"])


def _pooled(out: Tensor, pool: str) -> Tensor:
    if pool == "none":
        return out.flatten(1) if out.ndim > 2 and out[0].numel() == max(out.shape[1:]) else out
    if out.ndim == 4:
        out = out.flatten(2).transpose(1, 2)
    if out.ndim != 3:
        raise OptionError("output_pool", f"{pool} of an output of {out.ndim} axes", "none")
    return out.mean(dim=1) if pool == "mean" else out[:, 0]


def build(path: Path, stated: Mapping[str, Any]) -> Network:
    """The network in ``path``; ``stated``: how pictures are prepared, before what its JSON says.

    Raises OptionError, WeightsError, UnsafeInput for a field that no description may have.
    """
    where, said = beside(path)
    kinds = {**PREPARED, **OWN}
    known_fields(where, said, kinds, "", "a picture network")
    check_fields(where, said, kinds, "")
    told = {**{k: v for k, v in said.items() if k in PREPARED}, **stated}
    if (size := told.get("input_size")) is None:
        raise OptionError(path, "input_size is not stated", "its JSON, or --input-size")
    preprocess = Preprocess.of_size(
        sides(size) or (0, 0),
        told.get("crop_pct", 1.0),
        three_numbers(told.get("mean", 0.0)) or (),
        three_numbers(told.get("std", 1.0)) or (),
        told.get("interpolation", "bicubic"),
        told.get("crop_mode", "center"),
    )
    own = {**DEFAULTS, **{k: v for k, v in said.items() if k in OWN}}
    return _network(path, digest_of(path), preprocess, own)


def build_again(fields: Mapping[str, Any], places: Iterable[Any]) -> Network:
    """The network that the checked ``fields`` of a recipe describe, its file from ``places`` by its
    digest. Raises as ``build``."""
    own = fields.get("network")
    if not isinstance(own, Mapping) or set(own) != set(OWN):
        raise UnsafeInput("recipe", "network has other fields", ", ".join(OWN))
    check_fields("recipe", own, OWN, "network.", whole=True)
    sha256 = fields["weights"]["sha256"]
    path = found_by_digest(sha256, places)
    return _network(path, sha256, Preprocess.from_recipe(fields["preprocess"]), own)


def _network(path: Path, sha256: str, preprocess: Preprocess, own: Mapping[str, Any]) -> Network:
    return Network(
        module=FileModule(path.absolute(), sha256, own),
        library="net",
        architecture=FORMATS[path.suffix.lower()],
        preprocess=preprocess,
        pooling="own",
        file=str(path.absolute()),
        source=str(path),
        versions={"openvino": version("openvino")},
        digest=sha256,
        more={"network": dict(own)},
    )


def encoder_of(network: Network, decode: str = "full", flip: str = "none") -> NetworkEncoder:
    """The Encoder of what ``build`` gave. Raises OptionError when it gives no (b, d) features."""
    name = f"net:{Path(str(network.file)).name}"
    return NetworkEncoder(name, network, "cpu", decode=decode, view=View(flip=flip))
