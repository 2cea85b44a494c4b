"""Which function of the parameters is a training loss? The mean loss of one batch, its statistics live or running."""

from collections.abc import Callable, Mapping
from typing import Any

import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int

from bnjax.normalizers.normalizer import Mode
from bnjax.training.step import Loss, mean_over_rows


def batch_loss(
    model: nn.Module,
    stats: Any,
    images: Float[Array, "n ..."],
    labels: Int[Array, " n"],
    *,
    loss: Loss = optax.softmax_cross_entropy_with_integer_labels,
    mode: Mode = "batch",
    rngs: Mapping[str, Array] | None = None,
) -> Callable[[Any], Float[Array, ""]]:
    """Return the mean loss of a batch as a function of the parameters alone.

    Its derivatives of all orders go through the statistics in mode "batch", as those of training do: they are live. In
    mode "running" the statistics are constants.

    Args:
        model: a linen module with `__call__(images, *, mode)`.
        stats: its collection `batch_stats`.
        images: the batch.
        labels: its labels.
        loss: `(outputs, labels) -> losses`, one a row; of a classifier the outputs are logits.
        mode: whose statistics: the batch's own ("batch") or the running ones ("running").
        rngs: keys of what is random in the model (`dropout`, `noise`); the same at every call.

    Raises:
        ValueError: no images, not as many labels, or, when it is called, a loss that is not one number a row.
    """
    if len(images) != len(labels) or not len(labels):
        raise ValueError(f"a batch needs as many images as labels, got {len(images)} and {len(labels)}")

    def of_params(params: Any) -> Array:
        variables = {"params": params, "batch_stats": stats}
        apply: Any = model.apply
        outputs, _ = apply(variables, images, mode=mode, mutable=["batch_stats"], rngs=rngs)
        return mean_over_rows("loss", loss(outputs, labels), labels)

    return of_params
