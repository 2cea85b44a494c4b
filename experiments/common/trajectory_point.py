"""How smooth is the loss at one point of a trajectory? What is measured there, on one batch, the statistics live.

- Along the gradient g, at θ - η g for 8 step sizes η (arXiv 1805.11604, Fig. 4): the range of the loss
  (`loss_landscape`), the distance ‖∇L(θ - η g) - g‖ (`gradient_predictiveness`) and the largest ‖∇L(θ - η g) - g‖ /
  ‖η g‖ (`effective_smoothness`), all of one trajectory, for 9 gradients a measurement;
- the exact curvature gᵀHg / ‖g‖², and now and then the Hessian's spectrum by Lanczos' method and its trace;
- layer by layer, how the gradient changes when the layers before have taken a step (`internal_covariate_shift`,
  definition 2.1), and how much of the gradient at each normalizer's output batch normalization removes (docs/theory.md,
  S1); without a normalizer, how much it would remove.
"""

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike

from bnjax.curvature import (
    along_gradient,
    batch_loss,
    curvature_along_gradient,
    linearized_gradient,
    ritz_values,
    trace,
)
from bnjax.data import LabelledImages
from bnjax.measurements import BlockedShare, blocked_share, internal_covariate_shift, layer_names, parameter_order
from bnjax.training import Recipe, TrainState
from experiments.common.networks import fixed_keys
from experiments.common.threads import threads_on
from experiments.common.trajectory_options import TrajectoryOptions

STEP_SIZES = 8


def measured_point(
    config: TrajectoryOptions, data: LabelledImages, recipe: Recipe, seed: int, epoch: int, state: TrainState
) -> dict[str, Any]:
    """Return everything that is measured at one point of the trajectory, on one batch."""
    chosen = np.random.default_rng([seed, epoch, 1]).choice(len(data.labels), config.batch_size, replace=False)
    batch = config.over_devices((data.images[chosen], data.labels[chosen]))
    step_sizes = config.learning_rate * np.geomspace(*config.step_range, STEP_SIZES)
    key = jax.random.fold_in(jax.random.key(seed), epoch)
    sizes = jnp.asarray(step_sizes, batch[0].dtype)
    measurements = [partial(_along, recipe, state, *batch, sizes, config.learning_rate)]
    if epoch % config.spectrum_every == 0 or epoch == config.epochs:
        measurements.append(partial(_spectrum, recipe, state, *batch, key, config.lanczos_steps))
    # Most of the first point's time is compilation, which takes a core a program.
    with ThreadPoolExecutor(threads_on(config.devices)) as pool:
        found, *spectra = jax.device_get(list(pool.map(lambda measure: measure(), measurements)))
    along, losses = found["along"], np.append(found["along"].losses, found["along"].loss)
    point = {
        "loss": along.loss,
        "gradient_norm": along.gradient_norm,
        "loss_min": np.min(losses),
        "loss_max": np.max(losses),
        "loss_range": np.ptp(losses),
        "distance_max": np.max(along.gradient_distances),
        "smoothness": np.max(along.smoothness),
        "curvature": found["curvature"],
    }
    landscape = zip(step_sizes, along.losses, along.gradient_distances, along.smoothness, strict=True)
    columns = ("step_size", "loss", "distance", "smoothness")
    return jax.tree.map(
        lambda value: value if isinstance(value, str | int) else float(value),
        {
            "point": point,
            "spectrum": [spectrum["ends"] for spectrum in spectra],
            "ritz": [
                {"value": value, "weight": weight}
                for spectrum in spectra
                for value, weight in zip(spectrum["values"], spectrum["weights"], strict=True)
            ],
            "landscape": [dict(zip(columns, row, strict=True)) for row in landscape],
            "layers": [
                {"layer": place, "name": name, **shift._asdict()}
                for place, (name, shift) in enumerate(found["layers"].items(), start=1)
            ],
            "normalizers": [
                {"layer": place, "name": name, **_removed(share)}
                for place, (name, share) in enumerate(found["shares"].items(), start=1)
            ],
        },
    )


def _removed(share: BlockedShare) -> dict[str, Any]:
    """Return the shares of a gradient and what they add up to; None where there is no gradient."""
    shares = {**share._asdict(), "removed": sum(share)}
    return dict.fromkeys(shares) if np.isnan(shares["removed"]) else shares


@partial(jax.jit, static_argnums=0)
def _along(
    recipe: Recipe, state: TrainState, images: Array, labels: Array, step_sizes: Array, rate: ArrayLike
) -> dict[str, Any]:
    """Return what is measured along the gradient and what layer by layer, the statistics live."""
    loss = batch_loss(recipe.model, state.stats, images, labels, loss=recipe.loss, rngs=fixed_keys())
    updated = jax.tree.map(lambda leaf, slope: leaf - rate * slope, state.params, jax.grad(loss)(state.params))
    order = parameter_order(recipe.model, state.variables, images, mode="running")
    names = layer_names(recipe.model, state.variables, images, mode="running")
    shifts = internal_covariate_shift(loss, state.params, updated, order, names)
    return {
        "along": along_gradient(loss, state.params, step_sizes),
        "curvature": curvature_along_gradient(loss, state.params),
        # In order, which a compiled function keeps in an OrderedDict alone.
        "layers": OrderedDict((name, jax.tree.map(itemgetter(place), shifts)) for place, name in enumerate(names)),
        "shares": blocked_share(
            recipe.model,
            state.variables,
            images,
            labels,
            loss=lambda output, label: recipe.loss(output[None], label[None])[0],
            rngs=fixed_keys(),
        ).shares,
    }


@partial(jax.jit, static_argnums=(0, 5))
def _spectrum(
    recipe: Recipe, state: TrainState, images: Array, labels: Array, key: Array, steps: int
) -> dict[str, Any]:
    """Return the ends of the Hessian's spectrum and its trace, and all Ritz values with their weights; live statistics.

    One linearization serves both.
    """
    loss = batch_loss(recipe.model, state.stats, images, labels, loss=recipe.loss, rngs=fixed_keys())
    start_key, trace_key = jax.random.split(key)
    hessian_product = linearized_gradient(loss, state.params).hessian_product
    ritz = ritz_values(hessian_product, optax.tree.random_like(start_key, state.params), steps=steps)
    # Of `steps` products two for each dimension of the subspace and the rest, at least 2, for samples.
    rank = max(1, (steps - 2) // 4)
    estimate = trace(hessian_product, state.params, trace_key, rank=rank, samples=max(2, steps - 2 * rank))
    ends = {
        "eigenvalue_max": ritz.values[-1],
        "eigenvalue_min": ritz.values[0],
        "error_bound": jnp.maximum(ritz.error_bounds[0], ritz.error_bounds[-1]),
        "trace": estimate.value,
        "trace_error": estimate.standard_error,
    }
    return {"ends": ends, "values": ritz.values, "weights": ritz.weights}
