"""Backbones of timm: any of its models, by ``arch`` or ``arch.tag``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm
import timm.data
from timm.models import is_model, model_entrypoint
from torch import nn

from headstock.extract.decode.preprocess import Preprocess
from headstock.extract.encoders import hub
from headstock.extract.encoders.arguments import checked_arguments
from headstock.extract.encoders.checkpoint import State, fit, read_state_dict
from headstock.extract.encoders.network import Network, option_error, seeded, weights_error
from headstock.extract.encoders.renamed import of_efficientnet_pytorch
from headstock.extract.encoders.size import Fitting
from headstock.store.errors import HeadstockError, OptionError, WeightsError

__all__ = ["build", "names"]

Cfg = timm.models.PretrainedCfg


def names() -> list[str]:
    """All architectures, without tags."""
    return timm.list_models()


def build(
    name: str,
    *,
    weights: Path | None = None,
    model_args: Mapping[str, Any] | None = None,
    preprocess: Mapping[str, Any] | None = None,
    offline: bool = False,
    seed: int | None = None,
) -> Network:
    """The network ``name`` (``resnext50_32x4d`` or ``resnext50_32x4d.a1h_in1k``).

    Weights come from ``weights``, else from timm's own download and cache, else at random from
    ``seed``. ``preprocess``: fields that replace those of the weights' configuration.
    Raises OptionError, WeightsError.
    """
    architecture, _, tag = name.partition(".")
    if not is_model(architecture):
        raise OptionError(f"timm:{name}", "no such model", "headstock list backbones")
    try:
        cfg = timm.get_pretrained_cfg(name) or Cfg()
    except RuntimeError as error:
        tags = [n.partition(".")[2] for n in timm.list_pretrained(f"{architecture}.*")]
        fix = f"one of {', '.join(tags)}"
        raise OptionError(f"timm:{name}", f"no weights {tag}", fix) from error
    stated = dict(preprocess or {})
    args = _arguments(cfg, checked_arguments(f"timm:{name}", model_args or {}), stated)
    if weights is None and seed is None:
        module = _pretrained(name, cfg, args, offline)
        source = str(cfg.hf_hub_id or cfg.url)
    else:
        module = _bare(name, architecture, args, seed or 0)
        source = str(weights) if weights is not None else "random"
        if weights is not None:
            heads = [cfg.classifier] if isinstance(cfg.classifier, str) else cfg.classifier or ()
            fit(module, read_state_dict(weights), weights, heads, _translator(architecture, module))
    return Network(
        module=module,
        library="timm",
        architecture=architecture,
        preprocess=_preprocess(cfg, stated),
        model_args=args,
        seed=seed if weights is None else None,
        file=None if weights is None else str(weights.absolute()),
        source=source,
        versions={"timm": timm.__version__},
    )


def _arguments(cfg: Cfg, args: dict[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """``args``, with the size told to the architectures that are built for one size."""
    size = stated.get("input_size")
    if size is not None and cfg.fixed_input_size:
        args.setdefault("img_size", list(size))
    return args


def _create(name: str, args: dict[str, Any], pretrained: bool) -> nn.Module:
    with Fitting(f"timm:{name}"):
        return timm.create_model(name, pretrained=pretrained, **{"num_classes": 0, **args})


def _pretrained(name: str, cfg: Cfg, args: dict[str, Any], offline: bool) -> nn.Module:
    full = f"timm:{name}"
    if not cfg.has_weights:
        raise WeightsError(full, "timm has no pretrained weights for it", "give --weights FILE")
    url = None if cfg.hf_hub_id else str(cfg.url)
    if url is None or hub.cached_url(url):
        try:
            with hub.cache_only():
                return _create(name, args, pretrained=True)
        except TypeError as error:
            raise option_error(full, error) from error
        except OSError:  # not in the cache
            hub.require(full, url, offline)
        except (RuntimeError, ValueError) as error:
            raise weights_error(full, error) from error
    else:
        hub.require(full, url, offline)
    try:
        return _create(name, args, pretrained=True)
    except TypeError as error:
        raise option_error(full, error) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise weights_error(full, error) from error


def _bare(name: str, architecture: str, args: dict[str, Any], seed: int) -> nn.Module:
    try:
        return seeded(seed, lambda: _create(architecture, args, pretrained=False))
    except HeadstockError:
        raise
    except Exception as error:  # a constructor may raise anything over odd numbers
        raise option_error(f"timm:{name}", error) from error


def _translator(architecture: str, module: nn.Module) -> Callable[[State], State]:
    """timm's own translation of published files for this family, where it has one, and that of
    EfficientNets in another library's names."""
    family = sys.modules[model_entrypoint(architecture).__module__]
    translate = getattr(family, "checkpoint_filter_fn", None)

    def renamed(state: State) -> State:
        state = of_efficientnet_pytorch(state, module)
        try:
            return state if translate is None else translate(state, module)
        except (KeyError, AttributeError, TypeError, ValueError, RuntimeError, IndexError):
            return state  # not a file of this family: the plain comparison has the better words

    return renamed


def _preprocess(cfg: Cfg, stated: Mapping[str, Any]) -> Preprocess:
    said = timm.data.resolve_data_config({}, pretrained_cfg=cfg.to_dict())
    said.update(stated)
    return Preprocess.of_size(
        tuple(said["input_size"])[-2:],
        said["crop_pct"],
        said["mean"],
        said["std"],
        said["interpolation"],
        said["crop_mode"],
    )
