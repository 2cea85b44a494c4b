"""How much of the gradient at each normalizer's output has no way back through batch normalization?"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from flax import nnx
from jaxtyping import Array, Float

from bnjax.derivatives.norms import over_largest
from bnjax.devices import with_automatic_axes
from bnjax.models import Passage, differentiate
from bnjax.models.given import as_linen, explained
from bnjax.models.nnx_model import NnxModel
from bnjax.models.row_losses import row_losses
from bnjax.models.running import check_batch_statistics
from bnjax.normalizers.moments import batch_axes, moments, statistics_dtype
from bnjax.normalizers.normalizer import divide_by_deviation

# Where a feature is constant there is no part along it.
EPSILON = 1e-5


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
    """What share of ‖G‖² batch normalization removes on the way back (T7 and S1 of docs/theory.md).

    All are NaN where G is 0, for nothing has no shares: so it is at a normalizer whose own scale is 0, and at those
    that only a scale of 0 lies behind, as residual networks often start.

    Attributes:
        mean: ‖mean part‖² / ‖G‖².
        along: ‖part along ŷ‖² / ‖G‖², which is removed whole at ε = 0.
        passed: ‖rest‖² / ‖G‖² = 1 - mean - along, what gets through up to the scale.
    """

    mean: Float[Array, ""]
    along: Float[Array, ""]

    @property
    def passed(self) -> Float[Array, ""]:
        """‖rest‖² / ‖G‖²."""
        return 1 - self.mean - self.along


class Metered(NamedTuple):
    """The shares at every normalizer of a model, and what the same pass gives a training step.

    Attributes:
        shares: by the normalizer's path, from the input on.
        loss: the mean of the losses of the rows (that of an `AuditReport` is the sum).
        gradient: that of the mean, with respect to the parameters.
        updated: the collections that the model changed, `batch_stats`.
    """

    shares: dict[str, BlockedShare]
    loss: Float[Array, ""]
    gradient: Any
    updated: Mapping[str, Any]


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


def blocked_share(
    model: nn.Module | nnx.Module,
    variables: Mapping[str, Any] | None,
    inputs: Any,
    /,
    *row_arguments: Any,
    loss: Callable[..., Array],
    apply_kwargs: Mapping[str, Any] | None = None,
    rngs: Mapping[str, Array] | None = None,
) -> Metered:
    """Return the shares of the gradient that batch normalization removes, at every normalizer of a model, in one pass.

    They are the `shares` of what is returned, a `Metered`; the `loss` there, its `gradient` and the statistics
    (`updated`) are those of a training step.

    G is the gradient with respect to the standardized output ŷ: `γ G_y` behind an affine phase, `s γ G_y` if noise
    multiplies it by s. Feature by feature, over m rows and positions, the mean's subtraction removes `(Σ G)² / m` of
    ‖G‖², and the division by the deviation `(Σ ŷG)² / Σ ŷ²` at ε = 0. That is what β and γ get, `∂L/∂β = Σ G_y` and
    `∂L/∂γ = Σ ŷG_y` (T7 of docs/theory.md).
    A layer with ε > 0 removes `1 - (ε / (σ² + ε))²` of the part along ŷ: all but 1e-10 of it at ε = 1e-5 and σ = 1, far
    less of a feature whose variance is near ε. At another normalizer, or none (`identity`), the shares are those that
    batch normalization in its place would remove, with ε = 0.

    It compiles nothing by itself; a train step that takes loss, gradient and statistics from it, too, has the shares
    for a few sums over each normalizer's output.

    Args:
        model: any linen module, with flax's normalizers or the library's; or any nnx model, which stays as it is.
        variables: all that `model.init` returns; `batch_stats` are mutable. None for an nnx model: `gradient` and
            `updated["batch_stats"]` are then states that its optimizer and `nnx.update(model, …)` take.
        inputs: the model's argument, or a tuple of its arguments.
        *row_arguments: further arguments of the loss, with one entry a row.
        loss: `loss(output_row, *row_arguments_i) -> scalar`, of one row of what the model returns.
        apply_kwargs: what else the model is called with, such as `{"train": True}`.
        rngs: its keys, such as `{"dropout": key}`; an nnx model has its own.

    Raises:
        TypeError: a model that is none of flax's or does not take the inputs, variables that are no collections.
        ValueError: inputs or variables that are not those of the model; a loss that is not of one row; a batch
            normalization that takes running statistics; a normalizer is applied more than once, has several axes of
            features, or is inside of `nn.scan` or `nn.remat`.

    Example:
        >>> import jax, optax
        >>> class Model(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x, train):
        ...         return nn.Dense(2)(nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(x)))
        >>> model, optimizer = Model(), optax.sgd(0.1)
        >>> loss = optax.softmax_cross_entropy_with_integer_labels
        >>> @jax.jit
        ... def train_step(variables, optimizer_state, x, labels):
        ...     found = blocked_share(model, variables, x, labels, loss=loss, apply_kwargs={"train": True})
        ...     updates, optimizer_state = optimizer.update(found.gradient, optimizer_state)
        ...     params = optax.apply_updates(variables["params"], updates)
        ...     return {"params": params, **found.updated}, optimizer_state, found.shares
        >>> x, labels = jnp.sin(jnp.arange(15.0)).reshape(5, 3), jnp.array([0, 1, 0, 1, 1])
        >>> variables = model.init(jax.random.key(0), x, False)
        >>> variables, state, shares = train_step(variables, optimizer.init(variables["params"]), x, labels)
        >>> list(shares), bool(0 < shares["norm"].mean + shares["norm"].along < 1)  # to be logged
        (['norm'], True)
    """
    arguments, options = inputs if isinstance(inputs, tuple) else (inputs,), apply_kwargs or {}
    module, variables = as_linen(model, variables, arguments, options, rngs)

    def measure(variables: Mapping[str, Any], inputs: tuple, row_arguments: tuple, rngs: Any) -> Metered:
        def mean_loss(outputs: Any) -> Array:
            return jnp.mean(row_losses(loss, outputs, row_arguments))

        with explained(module, inputs):
            whole = differentiate(module, variables, inputs, mean_loss, rngs=rngs, **options)
            check_batch_statistics(module, variables, inputs, options, rngs)
        # A plain dict would leave compiled code in alphabetical order.
        shares = OrderedDict((name, _share(passage)) for name, passage in whole.passages.items())
        return Metered(shares, whole.loss, whole.gradient, whole.updated)

    whole = with_automatic_axes(measure)(variables, arguments, row_arguments, rngs)
    if isinstance(module, NnxModel):
        changed = module.with_variables({"params": whole.gradient, **whole.updated})
        gradient, updated = nnx.state(changed, nnx.Param, ...)
        return whole._replace(gradient=gradient, updated={"batch_stats": updated})
    return whole


def _share(passage: Passage) -> BlockedShare:
    axes = batch_axes(passage.features, passage.feature_axis)
    features, gradient = (value.astype(statistics_dtype(value.dtype)) for value in (passage.features, passage.gradient))
    gradient = over_largest(passage.slope * gradient)
    standardized = divide_by_deviation(features, moments(features, axes), EPSILON).values
    squares = jnp.sum(standardized**2, axes)
    mean = jnp.sum(jnp.sum(gradient, axes) ** 2) * gradient.shape[passage.feature_axis] / gradient.size
    along = jnp.sum(jnp.sum(standardized * gradient, axes) ** 2 / jnp.where(squares > 0, squares, 1))
    whole = jnp.sum(gradient**2)
    return BlockedShare(mean / whole, along / whole)
