"""State dicts in the names of other libraries, put into those of timm."""

from __future__ import annotations

import re

from torch import Tensor, nn

__all__ = ["of_efficientnet_pytorch"]

BLOCK = re.compile(r"_blocks\.(\d+)\.(?:(_bn\d)|(_\w+))\.(\w+)")
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
INSIDE = {
    "_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw", "_project_conv": "conv_pwl",
    "_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand",
    "_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3",
}  # fmt: skip
WITHOUT_EXPANSION = {**INSIDE, "_project_conv": "conv_pw", "_bn1": "bn1", "_bn2": "bn2"}


def of_efficientnet_pytorch(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """``state`` of an EfficientNet in the names of the packages ``efficientnet_pytorch`` and
    ``efficientnet_lite_pytorch``, in those of ``module``, timm's network of the same architecture;
    as it is when it has other names.

    There blocks are counted through, here by stage; a block that does not expand has a norm less.
    """
    if "_conv_stem.weight" not in state:
        return state
    places = [
        f"blocks.{s}.{i}"
        for s, stage in enumerate(module.get_submodule("blocks").children())
        for i, _ in enumerate(stage.children())
    ]
    out = {}
    for name, tensor in state.items():
        if (found := BLOCK.fullmatch(name)) and int(found[1]) < len(places):
            expands = f"_blocks.{found[1]}._expand_conv.weight" in state
            part = (INSIDE if expands else WITHOUT_EXPANSION).get(found[2] or found[3])
            name = f"{places[int(found[1])]}.{part}.{found[4]}" if part else name
        else:
            outside, _, leaf = name.rpartition(".")
            name = f"{OUTSIDE[outside]}.{leaf}" if outside in OUTSIDE else name
        if not name.startswith("_fc."):
            out[name] = tensor
    return out
