"""Which normalizer of the library is it that a module of a model applies? Ours say so, flax's have settings."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from bnjax.models.normalizer import Normalization
from bnjax.normalizers import Normalizer, batch_norm, group_norm, instance_norm, layer_norm, rms_norm
from bnjax.normalizers.normalizer import Params, Stats

# The library's normalizers and flax's.
NORMALIZATIONS = (Normalization, nn.BatchNorm, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.InstanceNorm)


def normalizer_of(module: nn.Module, x: Array) -> Normalizer | None:
    """Return the library's normalizer that computes what a module makes of `x` in training, None if it has none.

    Args:
        module: one of `NORMALIZATIONS`.
        x: its input, for the number of its axes and features.
    """
    last, inner = (x.ndim - 1,), tuple(range(1, x.ndim - 1))
    match module:
        case Normalization():
            return module.norm
        case nn.BatchNorm() if len(features := _axes(module.axis, x)) == 1 and features != (0,):
            return batch_norm(epsilon=module.epsilon, affine=_is_affine(module), feature_axis=features[0])
        case nn.LayerNorm() | nn.RMSNorm() if len(features := _axes(module.feature_axes, x)) == 1 and features == _axes(
            module.reduction_axes, x
        ) != (0,):
            make = layer_norm if isinstance(module, nn.LayerNorm) else rms_norm
            return make(epsilon=module.epsilon, affine=_is_affine(module), feature_axis=features[0])
        case nn.LayerNorm() if (_axes(module.feature_axes, x), _axes(module.reduction_axes, x)) == (last, inner + last):
            return group_norm(groups=1, epsilon=module.epsilon, affine=_is_affine(module))
        case nn.LayerNorm() if (_axes(module.feature_axes, x), _axes(module.reduction_axes, x)) == (last, inner):
            return instance_norm(epsilon=module.epsilon, affine=_is_affine(module))
        case nn.GroupNorm() if module.reduction_axes is None or _axes(module.reduction_axes, x) == inner + last:
            groups = module.num_groups or x.shape[-1] // (module.group_size or 1)
            return group_norm(groups=groups, epsilon=module.epsilon, affine=_is_affine(module))
        case nn.InstanceNorm() if len(features := _axes(module.feature_axes, x)) == 1 and features != (0,):
            return instance_norm(epsilon=module.epsilon, affine=_is_affine(module), feature_axis=features[0])
    return None


def feature_axis_of(module: nn.Module, x: Array) -> int:
    """Return the axis of `x` that a module has its features on, the last one where the library has no such normalizer.

    Arguments as in `normalizer_of`.
    """
    normalizer = normalizer_of(module, x)
    return (-1 if normalizer is None else normalizer.feature_axis) % x.ndim


def state_of(module: nn.Module, normalizer: Normalizer, x: Array) -> tuple[Params, Stats]:
    """Return the parameters and statistics of a bound module's normalizer.

    What flax's module does without, a `scale` or a `bias`, is 1 or 0. Its running statistics, which training does not
    read, are those of `normalizer.init`.

    Raises:
        ValueError: a normalizer with running statistics for which the module has none.
    """
    params, stats = normalizer.init(x)
    given = {collection: module.variables.get(collection, {}) for collection in ("params", "batch_stats")}
    if stats and not given["batch_stats"]:
        raise ValueError(
            f"{'/'.join(module.path) or 'the model'} needs its running statistics, but variables['batch_stats'] has "
            "none; pass all that model.init returns, not the parameters alone"
        )
    own = given["params"]
    params = {name: jnp.asarray(own.get(name, value)).reshape(value.shape) for name, value in params.items()}
    return params, dict(given["batch_stats"]) if isinstance(module, Normalization) else stats


def _axes(axes: int | Sequence[int], x: Array) -> tuple[int, ...]:
    return tuple(sorted(axis % x.ndim for axis in ((axes,) if isinstance(axes, int) else axes)))


def _is_affine(module: Any) -> bool:
    return module.use_scale or getattr(module, "use_bias", False)
