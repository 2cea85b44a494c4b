"""How much of the gradient at each normalizer's output has no way back through batch normalization?"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float

from bnjax.models import passages
from bnjax.normalizers import batch_norm
from bnjax.normalizers.batch import batch_axes


class GradientParts(NamedTuple):
    """The parts of the gradient G at a standardized output ŷ, feature by feature over rows and positions.

    Attributes:
        mean: `1 mean(g)`, blocked by the mean's subtraction.
        along: `ŷ ŷᵀg / ‖ŷ‖²`, blocked by the division by the deviation, for ε = 0.
        rest: what gets back whole, up to the scale.
    """

    mean: Float[Array, "n ..."]
    along: Float[Array, "n ..."]
    rest: Float[Array, "n ..."]


class BlockedShare(NamedTuple):
    """What share of ‖G‖² batch normalization removes on the way back (S1 of docs/theory.md).

    Attributes:
        mean: ‖mean part‖² / ‖G‖².
        along: ‖part along ŷ‖² / ‖G‖².
    """

    mean: Float[Array, ""]
    along: Float[Array, ""]


def gradient_parts(
    gradient: Float[Array, "n ..."], standardized: Float[Array, "n ..."], axes: tuple[int, ...]
) -> GradientParts:
    """Return the parts of each feature's gradient, which are orthogonal to one another.

    Args:
        gradient: G, the gradient with respect to the standardized features.
        standardized: Ŷ, whose features have mean 0.
        axes: the axes of rows and positions.
    """
    mean = jnp.broadcast_to(jnp.mean(gradient, axes, keepdims=True), gradient.shape)
    squares = jnp.sum(standardized**2, axes, keepdims=True)
    along = jnp.sum(standardized * gradient, axes, keepdims=True) / jnp.where(squares > 0, squares, 1) * standardized
    return GradientParts(mean, along, gradient - mean - along)


def blocked_shares(
    model: nn.Module,
    variables: Mapping[str, Any],
    inputs: Array,
    loss: Callable[[Array], Float[Array, ""]],
    *,
    rngs: Mapping[str, Array] | None = None,
) -> dict[str, BlockedShare]:
    """Return at every normalizer of a network in batch mode what batch normalization removes, or would, of a gradient.

    G is the gradient with respect to the standardized output: a learned scale is taken into it. At another normalizer,
    or none, the shares are those that batch normalization in its place would remove.

    Args:
        model, variables, inputs, rngs: as in `bnjax.models.passages`.
        loss: the loss of the network's output on the batch.

    Raises:
        ValueError: a normalizer is applied more than once.
    """
    params: dict[str, Any] = flatten_dict(variables["params"], sep="/")
    plain = batch_norm(affine=False)
    shares = {}
    for name, passage in passages(model, variables, inputs, loss, rngs=rngs).items():
        gradient = passage.gradient * params.get(f"{name}/scale", 1.0)
        standardized, _ = plain.apply(*plain.init(passage.features), passage.features)
        parts = gradient_parts(gradient, standardized, batch_axes(passage.features, plain.feature_axis))
        whole = jnp.sum(gradient**2)
        whole = jnp.where(whole > 0, whole, 1)
        shares[name] = BlockedShare(jnp.sum(parts.mean**2) / whole, jnp.sum(parts.along**2) / whole)
    return shares
