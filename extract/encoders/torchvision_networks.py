"""Backbones of torchvision: any of its classification models, by ``arch`` or ``arch.WEIGHTS``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torchvision
from torch import nn
from torchvision import models
from torchvision.transforms._presets import ImageClassification

from headstock.extract.decode.preprocess import Preprocess
from headstock.extract.encoders import hub
from headstock.extract.encoders.arguments import checked_arguments
from headstock.extract.encoders.checkpoint import State, fit, read_state_dict
from headstock.extract.encoders.network import Network, option_error, seeded, weights_error
from headstock.extract.encoders.size import Fitting
from headstock.store.errors import HeadstockError, OptionError

__all__ = ["build", "names"]

# Arguments that the pretrained constructors set by themselves; a file needs the same network.
WITH_WEIGHTS: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True, "aux_logits": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "aux_logits": True, "init_weights": False},
}


def names() -> list[str]:
    """All classification architectures, without weights' names."""
    return models.list_models(module=models)


def build(
    name: str,
    *,
    weights: Path | None = None,
    model_args: Mapping[str, Any] | None = None,
    preprocess: Mapping[str, Any] | None = None,
    offline: bool = False,
    seed: int | None = None,
) -> Network:
    """The network ``name`` (``resnext50_32x4d`` or ``resnext50_32x4d.IMAGENET1K_V2``).

    Weights come from ``weights``, else from torchvision's own download and cache, else at random
    from ``seed``. ``preprocess``: fields that replace those of the weights' own transforms.
    Raises OptionError, WeightsError.
    """
    architecture, _, tag = name.partition(".")
    if architecture not in names():
        raise OptionError(f"torchvision:{name}", "no such model", "headstock list backbones")
    known = models.get_model_weights(architecture)
    tags = list(known.__members__)
    if tag and tag not in (*tags, "DEFAULT"):
        raise OptionError(f"torchvision:{name}", f"no weights {tag}", f"one of {', '.join(tags)}")
    entry = known[tag or "DEFAULT"]
    args = checked_arguments(f"torchvision:{name}", model_args or {})
    module = _module(architecture, entry, args, weights, offline, seed)
    trained = weights is None and seed is None
    return Network(
        module=_pooled(module),
        library="torchvision",
        architecture=architecture,
        preprocess=_preprocess(entry.transforms(), preprocess or {}),
        model_args=args,
        seed=seed if weights is None else None,
        file=None if weights is None else str(weights.absolute()),
        source=str(weights) if weights is not None else str(entry) if trained else "random",
        versions={"torchvision": torchvision.__version__},
    )


def _module(
    architecture: str,
    entry: Any,
    args: dict[str, Any],
    weights: Path | None,
    offline: bool,
    seed: int | None,
) -> nn.Module:
    full = f"torchvision:{architecture}.{entry.name}"
    if weights is None and seed is None:
        if not hub.cached_url(entry.url):
            hub.require(full, entry.url, offline)
        try:
            with Fitting(full):
                return models.get_model(architecture, weights=entry, progress=False, **args)
        except TypeError as error:
            raise option_error(full, error) from error
        except (OSError, RuntimeError, ValueError) as error:
            raise weights_error(full, error) from error
    extra = {**WITH_WEIGHTS.get(architecture, {}), **args}
    if seed is not None:
        extra.pop("init_weights", None)
    try:
        with Fitting(full):
            build = partial(models.get_model, architecture, weights=None, **extra)
            module = seeded(seed or 0, build)
    except HeadstockError:
        raise
    except Exception as error:  # a constructor may raise anything over odd numbers
        raise option_error(full, error) from error
    if weights is not None:
        rename = _densenet_names if architecture.startswith("densenet") else None
        fit(module, read_state_dict(weights), weights, [_classifier(module)], rename)
    return module


def _classifier(module: nn.Module) -> str:
    """The dotted name of the last linear map: in all of torchvision's classifiers, the classes."""
    linear = [k for k, m in module.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return linear[-1]


def _pooled(module: nn.Module) -> nn.Module:
    """``module`` without its classifier: (b, d) features before the logits."""
    parent, _, leaf = _classifier(module).rpartition(".")
    setattr(module.get_submodule(parent), leaf, nn.Identity())
    return module


def _densenet_names(state: State) -> State:
    """The published DenseNet files carry old names; torchvision's constructor translates so."""
    old = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.(?:\w+))$")
    return {old.sub(r"\1\2", k): v for k, v in state.items()}


def _preprocess(own: ImageClassification, stated: Mapping[str, Any]) -> Preprocess:
    """The weights' transforms with what the user stated in place of it.

    torchvision says two sizes in pixels; once a size or a crop share is stated, the resize follows
    from crop share and size as everywhere else, with torchvision's own share as the default.
    """
    crop, resize = own.crop_size[0], own.resize_size[0]
    said = {
        "mean": own.mean,
        "std": own.std,
        "interpolation": own.interpolation.value,
        **{k: v for k, v in stated.items() if k not in ("input_size", "crop_pct", "crop_mode")},
    }
    if {"input_size", "crop_pct", "crop_mode"} & stated.keys():
        return Preprocess.of_size(
            stated.get("input_size", (crop, crop)),
            stated.get("crop_pct", crop / resize),
            said["mean"],
            said["std"],
            said["interpolation"],
            stated.get("crop_mode", "center"),
        )
    whole = Preprocess.of_size((crop, crop), 1.0, said["mean"], said["std"], said["interpolation"])
    return replace(whole, resize=(resize, resize))
