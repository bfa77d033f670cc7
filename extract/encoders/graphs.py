"""Backbones as ONNX graphs: pixels of the network's size in, the vectors of its recipe out.

What comes before the pixels (decoding, resizing, cropping) is not in the graph: it is the
``preprocess`` and ``decoder`` of the recipe, which goes along as metadata.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from headstock.extract.decode.workers import decoded
from headstock.extract.encoder import Loader
from headstock.extract.encoders.backbones import LIBRARIES, encoder_from_recipe
from headstock.store.datafile import Reader
from headstock.store.dataroot import DataRoot
from headstock.store.errors import BundleError, OptionError
from headstock.store.recipe import Recipe

__all__ = ["Backbone", "backbones"]

OPSET = 18
NOISE = 4
"""Pictures of noise that a graph is tried on beside the real ones: every value of a pixel."""
PICTURES = 12


@dataclass(frozen=True)
class Backbone:
    """A network as an ONNX ``model`` from ``pixels`` (n, h, w, 3) uint8 to ``vectors`` (n, d)
    float32, with ``inputs`` (m, h, w, 3) and the ``vectors`` (m, d) that the encoder makes of
    them."""

    model: Any
    inputs: np.ndarray
    vectors: np.ndarray


def backbones(
    recipes: Mapping[str, Recipe],
    *,
    provenance: Mapping[str, Mapping[str, Any]] | None = None,
    weights: str | Path | None = None,
    offline: bool = False,
    store: Any = None,
    data: str | os.PathLike[str] | None = None,
) -> dict[str, Backbone]:
    """The network of each image set of ``recipes``, normalisation included, with the first
    pictures of an open ``store`` to compare on, beside noise. ``data``: the folder of its files.

    Raises OptionError when there is no network among them or onnx is missing, BundleError for one
    that ONNX cannot express, WeightsError when the weights here do not make the recipe.
    """
    wanted = {n: r for n, r in recipes.items() if r.fields.get("encoder") in LIBRARIES}
    if not wanted:
        raise OptionError("--backbone", "the model reads no network's vectors", "leave it away")
    pictures: tuple[Reader, Sequence[str]] = Reader(), []
    if store is not None and any(paths := store.items.paths.get("image", ())):
        root = DataRoot.of(Path(store.path), store.items.root, data)
        pictures = root.reader(store.path), paths[: 4 * PICTURES].tolist()
    return {
        name: _backbone(name, recipe, (provenance or {}).get(name), weights, offline, pictures)
        for name, recipe in wanted.items()
    }


def _backbone(
    name: str,
    recipe: Recipe,
    provenance: Mapping[str, Any] | None,
    weights: str | Path | None,
    offline: bool,
    pictures: tuple[Reader, Sequence[str]],
) -> Backbone:
    precision = recipe.fields.get("precision")
    if precision != "fp32":
        what = f"its vectors were made in {precision}, and the graph computes in fp32"
        raise BundleError(f"backbone of {name}", what, "export without the backbone")
    encoder: Any = encoder_from_recipe(
        recipe, weights_hint=weights, provenance=provenance, device="cpu", offline=offline
    )
    h, w = encoder.network.preprocess.crop
    noise = np.random.default_rng(0).integers(0, 256, (NOISE, h, w, 3), dtype=np.uint8)
    inputs = np.concatenate([noise, *_decoded(encoder.loader, pictures)])
    return Backbone(_exported(name, encoder, inputs[:2]), inputs, encoder.encode(list(inputs)))


def _decoded(loader: Loader, pictures: tuple[Reader, Sequence[str]]) -> list[np.ndarray]:
    """(1, h, w, 3) of each of the first PICTURES that can be decoded."""
    good = (done.item[None] for done in decoded(pictures[0], loader, pictures[1]) if not done.error)
    return list(islice(good, PICTURES))


def _exported(name: str, encoder: Any, example: np.ndarray) -> Any:
    import torch

    try:
        import onnx
    except ImportError as error:
        raise OptionError("--backbone", "needs onnx", "pip install 'headstock[onnx]'") from error

    class Vectors(torch.nn.Module):
        """The normalised passes, and what the encoder's view makes of them."""

        def __init__(self) -> None:
            super().__init__()
            self.whole = encoder.forward.whole

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            raw = self.whole(pixels)
            if encoder.view.flip != "mean":
                return raw
            plain, mirrored = raw.chunk(2, dim=1)
            return (plain + mirrored) / 2

    out: Any = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # the newer exporter needs a further dependency
            torch.onnx.export(
                Vectors().eval(),
                (torch.from_numpy(example),),
                out,
                dynamo=False,
                input_names=["pixels"],
                output_names=["vectors"],
                dynamic_axes={"pixels": {0: "n"}, "vectors": {0: "n"}},
                opset_version=OPSET,
            )
    except Exception as error:
        what = f"cannot be expressed in ONNX ({type(error).__name__}: {error})"
        raise BundleError(f"backbone of {name}", what, "export without the backbone") from error
    return onnx.load_from_string(out.getvalue())
