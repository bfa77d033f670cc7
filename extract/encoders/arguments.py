"""What may be set of an architecture: arguments by name, kind and value, from a fixed list.

Constructors of timm and torchvision take far more than an architecture needs: where weights come
from, where they are cached, what filters them, callables of all kinds. A recipe, a bundle and a
weights file come from anybody, so what is not in this list never reaches a constructor, and no
value is a path, an address or the name of code.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from headstock.store.errors import HeadstockError, OptionError, near, one_line

__all__ = ["ARGUMENTS", "LARGEST", "WORDS", "checked_arguments"]

LARGEST = 8192
"""Of any number: no published architecture has a layer as wide or a side as long."""
MOST = 256
"""Numbers in one argument; twice as many when its lists are counted too."""
DEEPEST = 3
"""Lists in lists: the settings of stages, of their blocks, of a window."""

ARGUMENTS = frozenset(
    """
    alpha attention_dropout attn_drop_rate attn_ratio aux_logits avg_down base_width
    block_config block_reduce_first bn_size bottle_ratio cardinality channels class_token conv_bias
    conv_mlp depth depth_mult depths dim dims distillation distilled down_kernel_size
    downsample_kernel_size downsamples drop_block_rate drop_path_rate drop_rate dropout
    dynamic_img_pad dynamic_img_size embed_dim embed_dims expand_ratio expansion_ratio fc_norm
    final_norm fix_init fix_stem group groups growth_rate head_dim head_hidden_size head_init_scale
    head_norm_first heads hidden_dim hidden_sizes image_size img_size init_channels
    init_values init_weights kernel_size kernel_sizes key_dim layer_scale layer_scale_init_value
    layers ls_init_value memory_efficient mlp_dim mlp_dropout mlp_ratio mlp_ratios no_embed_class
    norm_eps num_classes num_features num_heads num_init_features num_kv_heads num_layers
    num_reg_tokens output_stride patch_drop_rate patch_kernel patch_size patch_stride
    pool_include_prefix pos_drop_rate pre_norm proj_bias proj_drop_rate qk_norm qkv_bias
    reg_tokens replace_stem_pool replace_stride_with_dilation rope_temperature round_nearest
    scale_attn_norm scale_mlp scale_mlp_norm se_ratio sr_ratios stem_chs stem_size stem_width
    stochastic_depth_prob strict_img_size strides swiglu_mlp transform_input use_fc_norm use_grn
    use_post_norm use_rel_pos_bias width width_factor width_mult width_per_group widths window_size
    zero_init_last zero_init_residual
    """.split()
)
"""Arguments whose value is a number, true or false, nothing, or lists of such."""

WORDS: Mapping[str, frozenset[str]] = {
    "act_layer": frozenset(
        "celu elu gelu gelu_tanh hard_mish hard_sigmoid hard_swish leaky_relu mish prelu "
        "quick_gelu relu relu6 selu sigmoid silu swish tanh".split()
    ),
    "global_pool": frozenset(["", *"avg avgmax catavgmax fast map max token".split()]),
    "norm_layer": frozenset(
        "batchnorm batchnorm2d groupnorm groupnorm1 layernorm layernorm2d rmsnorm rmsnorm2d".split()
    ),
    "pad_type": frozenset(["", "same"]),
    "pool_type": frozenset("avg max".split()),
    "pos_embed": frozenset(["", "learn", "none"]),
    "stem_type": frozenset(["", *"deep deep_tiered overlap patch s2d".split()]),
    "version": frozenset("v1 v2".split()),
    "weight_init": frozenset(["", "jax", "jax_nlhb", "moco", "reset"]),
}
"""Arguments whose value is one of these words."""


def checked_arguments(
    where: object,
    arguments: Mapping[str, Any],
    error: type[HeadstockError] = OptionError,
    own: Iterable[str] = ARGUMENTS,
) -> dict[str, Any]:
    """``arguments`` as they are, when each is in the list and its value of the kind it has there.

    ``own``: the names that this library takes. Raises ``error`` for the first that is not.
    """
    if not isinstance(arguments, Mapping):
        raise error(where, f"model_args is a {type(arguments).__name__}", "names and values")
    for name, value in arguments.items():
        if isinstance(name, str) and name in WORDS:
            if not isinstance(value, str) or value not in WORDS[name]:
                fix = f"one of {', '.join(sorted(w or repr('') for w in WORDS[name]))}"
                raise error(where, f"model argument {name} is {one_line(repr(value), 80)}", fix)
        elif not isinstance(name, str) or name not in own:
            known = (*own, *WORDS)
            fix = f"{near(str(name)[:80], known)}arguments of an architecture alone"
            raise error(where, f"model argument {one_line(repr(name), 80)} may not be set", fix)
        elif (odd := _odd(value)) is not None:
            fix = f"a number up to {LARGEST}, true or false, or a list of up to {MOST} such"
            raise error(where, f"model argument {name} holds {one_line(repr(odd), 80)}", fix)
    return dict(arguments)


def _odd(value: Any) -> Any:
    """What of ``value`` is neither number nor truth of a sensible size; None when all of it is."""
    waiting, seen = [(value, 0)], 0
    while waiting:
        one, depth = waiting.pop()
        if isinstance(one, list | tuple):
            seen += len(one) + 1
            if depth == DEEPEST or seen > 2 * MOST:
                return f"{len(one)} values, {depth + 1} lists deep"
            waiting += [(each, depth + 1) for each in one]
        elif one is None or isinstance(one, bool):
            continue
        elif not isinstance(one, int | float) or not 0 <= one <= LARGEST or not math.isfinite(one):
            return one
    return None
