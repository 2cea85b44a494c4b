"""How much does a layer's gradient change when the layers below it move? Internal covariate shift, as optimization."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from bnjax.models.interception import names_of


class CovariateShift(NamedTuple):
    """How the gradient G of each layer changes into G' when all layers before it have taken a step.

    Attributes:
        distance: ‖G' - G‖.
        cosine: ⟨G', G⟩ / (‖G'‖ ‖G‖); 0 where one of them is 0.
        norm: ‖G‖.
    """

    distance: Float[Array, " layers"]
    cosine: Float[Array, " layers"]
    norm: Float[Array, " layers"]


def parameter_order(model: nn.Module, variables: Mapping[str, Any], *inputs: Array, **options: Any) -> list[str]:
    """Return which modules hold parameters, in the order of their first application; nothing is computed.

    Args:
        model: any linen module.
        variables: its parameters and statistics.
        *inputs: what the model is applied to.
        **options: further arguments of the model, such as `mode="running"`.
    """
    holders = {"/".join(path[:-1]) for path in flatten_dict(variables["params"])}
    names = names_of(model, variables, *inputs, of=lambda _: True, **options)
    return [name for name in dict.fromkeys(names) if name in holders]


def internal_covariate_shift(
    loss: Callable[[Any], Float[Array, ""]], params: Any, updated: Any, order: Sequence[str], layers: Sequence[str]
) -> CovariateShift:
    """Return how the gradient of each layer's kernel changes when everything before it is updated and it is not.

    With θ before and θ' after a step, layer i has G = ∂L/∂W_i at θ and G' = ∂L/∂W_i at (θ'_1, …, θ'_{i-1}, θ_i, …), on
    one batch (arXiv 1805.11604, definition 2.1). It takes one gradient for every layer, and one more.

    Args:
        loss: a function of the parameters alone, such as `batch_loss` returns.
        params: θ, a dict as in the collection `params`.
        updated: θ', likewise.
        order: the modules with parameters, in the order of their application, such as `parameter_order` returns.
        layers: those of them whose kernel is looked at.

    Raises:
        ValueError: a layer that is not in `order`, or parameters of a module that is not.
    """
    place = {name: index for index, name in enumerate(order)}
    missing = [name for name in layers if name not in place]
    before: dict[tuple[str, ...], Any] = flatten_dict(params)
    after: dict[tuple[str, ...], Any] = flatten_dict(updated)
    holders = {key: "/".join(key[:-1]) for key in before}
    missing += [holder for holder in holders.values() if holder not in place]
    if missing:
        raise ValueError(f"every layer and every module with parameters needs to be in order, got {missing} besides")

    def step(original: dict[str, Array], place_and_count: tuple[Array, Array]) -> tuple[Any, CovariateShift]:
        index, count = place_and_count
        mixed = {key: jnp.where(place[holders[key]] < count, after[key], leaf) for key, leaf in before.items()}
        gradient: dict[tuple[str, ...], Any] = flatten_dict(jax.grad(loss)(unflatten_dict(mixed)))
        changed = {name: gradient[(*name.split("/"), "kernel")] for name in layers}
        # The first is that of θ itself, by the same program: a layer with none before it has a shift of exactly 0.
        original = jax.tree.map(lambda first, now: jnp.where(index < 0, now, first), original, changed)
        measured = [_compared(original[name], changed[name]) for name in layers]
        return original, jax.tree.map(lambda *leaves: jnp.stack(leaves)[index], *measured)

    counts = jnp.asarray([0, *(place[name] for name in layers)])
    unknown = {name: jnp.zeros_like(before[(*name.split("/"), "kernel")]) for name in layers}
    _, shifts = jax.lax.scan(step, unknown, (jnp.arange(-1, len(layers)), counts))
    return jax.tree.map(lambda leaf: leaf[1:], shifts)


def _compared(gradient: Array, changed: Array) -> CovariateShift:
    norm, other = jnp.linalg.norm(gradient.ravel()), jnp.linalg.norm(changed.ravel())
    product = norm * other
    cosine = jnp.vdot(gradient, changed) / jnp.where(product > 0, product, 1)
    return CovariateShift(jnp.linalg.norm((changed - gradient).ravel()), cosine, norm)
