"""How is a model of the user's own trained? As it is called in training, without another mode."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from bnjax.data import random_batches
from experiments.common.progress import progress
from experiments.own.files import Rows
from experiments.own.model import OwnModel, streams


def trained(
    model: OwnModel,
    variables: dict[str, Any],
    data: Rows,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> tuple[dict[str, Any], list[float]]:
    """Return the variables after training by Adam, and the mean loss of every epoch.

    Raises:
        ValueError: a batch of more rows than there are.
        ArithmeticError: a loss that is not finite.
    """
    optimizer = optax.adam(learning_rate)
    state = optimizer.init(variables["params"])

    @jax.jit
    def step(variables: dict[str, Any], state: Any, inputs: Array, labels: Array, key: Array) -> tuple[Any, Any, Array]:
        others = {name: collection for name, collection in variables.items() if name != "params"}

        def mean_loss(params: Any) -> tuple[Array, Any]:
            outputs, updated = model.outputs({**others, "params": params}, inputs, streams(key))
            return jnp.mean(jax.vmap(model.loss)(outputs, labels)), updated

        (loss, updated), gradient = jax.value_and_grad(mean_loss, has_aux=True)(variables["params"])
        change, state = optimizer.update(gradient, state)
        return {**variables, **updated, "params": optax.apply_updates(variables["params"], change)}, state, loss

    key, losses = jax.random.key(seed), []
    for epoch in progress(range(1, epochs + 1), "training"):
        batches = random_batches(data.labels, batch_size, np.random.default_rng([seed, epoch])).indices
        of_steps = []
        for number, chosen in enumerate(batches):
            step_key = jax.random.fold_in(jax.random.fold_in(key, epoch), number)
            variables, state, loss = step(variables, state, *data.chosen(chosen), step_key)
            of_steps.append(loss)
        losses.append(float(jnp.mean(jnp.stack(of_steps))))
        if not np.isfinite(losses[-1]):
            raise ArithmeticError(
                f"the loss needs to stay finite, got {losses[-1]} in epoch {epoch}; lower --learning-rate"
            )
    return variables, losses
