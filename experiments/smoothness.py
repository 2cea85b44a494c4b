"""How smooth is the loss along its own gradient, with batch normalization and without?

    python -m experiments.smoothness
    python -m experiments.smoothness --dataset cifar10 --data-dir DIR --model vgg_a --batch-size 128

A network is trained with each normalizer, from the same seeds, on the same batches. Before the first step and after
every stretch of steps its loss on one batch is measured, the statistics of batch normalization live:

- along the gradient g, at θ - η g for 8 step sizes η (arXiv 1805.11604, Fig. 4): the range of the loss
  (`loss_landscape`), the distance ‖∇L(θ - η g) - g‖ (`gradient_predictiveness`) and the largest ‖∇L(θ - η g) - g‖ /
  ‖η g‖ (`effective_smoothness`), all of one trajectory, for 9 gradients a measurement;
- the exact curvature gᵀHg / ‖g‖², and now and then the Hessian's extreme eigenvalues by Lanczos' method;
- layer by layer, how the gradient changes when the layers before have taken a step (`internal_covariate_shift`,
  definition 2.1), and how much of the gradient at each normalizer's output batch normalization removes (docs/theory.md,
  S1); without a normalizer, how much it would remove.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int
from scipy.stats import ttest_1samp

from bnjax.curvature import along_gradient, batch_loss, curvature_along_gradient, linearized_gradient, ritz_values
from bnjax.data import Batches, LabelledImages
from bnjax.measurements import blocked_shares, internal_covariate_shift, layer_names, parameter_order
from bnjax.models import normalizer_names
from bnjax.training import Recipe, TrainState
from experiments.averages import over_seeds
from experiments.command import main, training_bar
from experiments.networks import DataOptions, ModelName, NormalizerName
from experiments.observed import trained_and_observed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEP_SIZES = 8
# The smallest and the largest step, in units of the learning rate, as published for VGG.
STEP_RANGE = (0.5, 4.0)
MEASURES = (
    "loss",
    "gradient_norm",
    "loss_min",
    "loss_max",
    "loss_range",
    "distance_max",
    "smoothness",
    "curvature",
)
# Of dropout and noise: a loss has them fixed.
RNGS = {"dropout": jax.random.key(0), "noise": jax.random.key(1)}
# What the paper says of batch normalization in comparison.
CLAIMS = {
    "loss": "smaller: it trains faster",
    "loss_range": "smaller",
    "distance_max": "smaller",
    "smoothness": "smaller",
    "curvature": "smaller",
    "distance": "not smaller (internal covariate shift)",
    "cosine": "not larger (internal covariate shift)",
}
EXTREMES = ("eigenvalue_max", "eigenvalue_min", "error_bound")


@dataclass(frozen=True)
class Config(DataOptions):
    """Follow loss, gradient and curvature along the gradient while a network is trained with each normalizer."""

    least: ClassVar[Mapping[str, int]] = {**DataOptions.least, "lanczos_steps": 2}

    model: ModelName = "vgg_a_narrow"
    """The network."""
    normalizers: tuple[NormalizerName, ...] = ("none", "batch_norm")
    """The normalizers to compare."""
    batch_size: int = 64
    """Rows of a batch, in training and measured."""
    epochs: int = 20
    """Stretches of training; the loss is measured before the first and after each."""
    stretch: int = 10
    """Steps of a stretch."""
    learning_rate: float = 0.1
    """Learning rate of plain SGD."""
    spectrum_every: int = 5
    """Stretches between two measurements of the Hessian's extreme eigenvalues."""
    lanczos_steps: int = 10
    """Products with the Hessian for its extreme eigenvalues."""
    seeds: int = 3
    """Runs of every normalizer, with the seeds seed, seed + 1, …"""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        small = dataclasses.replace(self, model="mlp", batch_size=16, epochs=2, stretch=2, seeds=2)
        return dataclasses.replace(small, lanczos_steps=4)


def run(config: Config) -> dict[str, Any]:
    """Train every normalizer from every seed and measure the loss on the way."""
    train_data, test_data = config.load(train=True), config.load(train=False)
    if config.batch_size > len(train_data.labels):
        raise ValueError(
            f"--batch-size needs to be at most the {len(train_data.labels)} training images, got {config.batch_size}"
        )
    optimizer = optax.sgd(config.learning_rate)
    points, spectrum, layers, normalizers, landscape, curves = [], [], [], [], [], []
    with training_bar(len(config.normalizers) * config.seeds * config.epochs) as advance:
        for name, seed in product(config.normalizers, range(config.seed, config.seed + config.seeds)):
            recipe = Recipe(config.network(name, train_data.classes), optimizer)
            trained, measured = trained_and_observed(
                config,
                f"{name}-{seed}",
                recipe,
                train_data,
                test_data,
                order=partial(stretch_of_batches, config.stretch),
                seed=seed,
                advance=advance,
                observe=partial(_measured, config, recipe, train_data, seed),
            )
            which = {"normalizer": name, "seed": seed}
            curves += [{**which, "step": row["epoch"] * config.stretch, **row} for row in trained.history]
            for epoch, found in enumerate(measured):
                where = {**which, "step": epoch * config.stretch}
                points.append({**where, **found["point"]})
                spectrum += [{**where, **row} for row in found["spectrum"]]
                landscape += [{**where, **row} for row in found["landscape"]]
                layers += [{**where, **row} for row in found["layers"]]
                normalizers += [{**where, **row} for row in found["normalizers"]]
    return {
        "table": over_seeds(points, ("normalizer", "step"), MEASURES),
        "spectrum": over_seeds(spectrum, ("normalizer", "step"), EXTREMES),
        "curves": over_seeds(curves, ("normalizer", "step"), ("train_loss", "test_accuracy")),
        "tests": _paired_tests(points, layers, config.normalizers),
        "landscape": over_seeds(landscape, ("normalizer", "step", "step_size"), ("loss", "distance", "smoothness")),
        "covariate_shift": over_seeds(layers, ("normalizer", "step", "layer", "name"), ("distance", "cosine", "norm")),
        "blocked_share": over_seeds(normalizers, ("normalizer", "step", "layer", "name"), ("mean", "along", "removed")),
        "runs": points,
        "data": f"trained and measured on {train_data.name}; tested on {test_data.name}",
    }


def stretch_of_batches(
    steps: int, labels: Int[np.ndarray, " n"], batch_size: int, generator: np.random.Generator
) -> Batches:
    """Return so many batches of random rows, each without repetition."""
    rows = np.stack([generator.choice(len(labels), batch_size, replace=False) for _ in range(steps)])
    return Batches(rows, len(labels) - len(np.unique(rows)))


def _measured(
    config: Config, recipe: Recipe, data: LabelledImages, seed: int, epoch: int, state: TrainState
) -> dict[str, Any]:
    """Return everything that is measured at one point of the trajectory, on one batch."""
    chosen = np.random.default_rng([seed, epoch, 1]).choice(len(data.labels), config.batch_size, replace=False)
    batch = jnp.asarray(data.images[chosen]), jnp.asarray(data.labels[chosen])
    step_sizes = config.learning_rate * np.geomspace(*STEP_RANGE, STEP_SIZES)
    found = jax.device_get(_along(recipe, state, *batch, jnp.asarray(step_sizes, batch[0].dtype)))
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
    spectrum = []
    if epoch % config.spectrum_every == 0 or epoch == config.epochs:
        key = jax.random.fold_in(jax.random.key(seed), epoch)
        spectrum = [jax.device_get(_extreme_eigenvalues(recipe, state, *batch, key, config.lanczos_steps))]
    landscape = zip(step_sizes, along.losses, along.gradient_distances, along.smoothness, strict=True)
    columns = ("step_size", "loss", "distance", "smoothness")
    layers, shares = found["layers"], found["shares"]
    names = normalizer_names(recipe.model, _variables(state), batch[0], rngs=RNGS)
    return jax.tree.map(
        lambda value: value if isinstance(value, str | int) else float(value),
        {
            "point": point,
            "spectrum": spectrum,
            "landscape": [dict(zip(columns, row, strict=True)) for row in landscape],
            "layers": [
                {"layer": place, "name": name, **{key: values[place - 1] for key, values in layers._asdict().items()}}
                for place, name in enumerate(_layers(recipe, state, batch[0]), start=1)
            ],
            "normalizers": [
                {"layer": place, "name": name, **shares[name]._asdict(), "removed": sum(shares[name])}
                for place, name in enumerate(names, start=1)
            ],
        },
    )


def _variables(state: TrainState) -> dict[str, Any]:
    return {"params": state.params, "batch_stats": state.stats}


def _layers(recipe: Recipe, state: TrainState, images: Array) -> list[str]:
    return layer_names(recipe.model, _variables(state), images, mode="running")


@partial(jax.jit, static_argnums=0)
def _along(recipe: Recipe, state: TrainState, images: Array, labels: Array, step_sizes: Array) -> dict[str, Any]:
    """Return what is measured along the gradient and what layer by layer, the statistics live."""
    loss = batch_loss(recipe.model, state.stats, images, labels, loss=recipe.loss, rngs=RNGS)
    rate = step_sizes[0] / STEP_RANGE[0]
    updated = jax.tree.map(lambda leaf, slope: leaf - rate * slope, state.params, jax.grad(loss)(state.params))
    order = parameter_order(recipe.model, _variables(state), images, mode="running")
    return {
        "along": along_gradient(loss, state.params, step_sizes),
        "curvature": curvature_along_gradient(loss, state.params),
        "layers": internal_covariate_shift(loss, state.params, updated, order, _layers(recipe, state, images)),
        "shares": blocked_shares(
            recipe.model,
            _variables(state),
            images,
            lambda outputs: jnp.mean(recipe.loss(outputs, labels)),
            rngs=RNGS,
        ),
    }


@partial(jax.jit, static_argnums=(0, 5))
def _extreme_eigenvalues(
    recipe: Recipe, state: TrainState, images: Array, labels: Array, key: Array, steps: int
) -> dict[str, Array]:
    """Return the Hessian's largest and smallest eigenvalue as Lanczos' method finds them, the statistics live."""
    loss = batch_loss(recipe.model, state.stats, images, labels, loss=recipe.loss, rngs=RNGS)
    start = optax.tree.random_like(key, state.params)
    ritz = ritz_values(linearized_gradient(loss, state.params).hessian_product, start, steps=steps)
    bounds = jnp.maximum(ritz.error_bounds[0], ritz.error_bounds[-1])
    return {"eigenvalue_max": ritz.values[-1], "eigenvalue_min": ritz.values[0], "error_bound": bounds}


def _paired_tests(
    points: list[dict[str, Any]], layers: list[dict[str, Any]], normalizers: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Compare every normalizer with the first, seed by seed, in the mean over the trajectory: a paired t-test."""
    rows = []
    for name, (measure, claim) in product(normalizers[1:], CLAIMS.items()):
        source = layers if measure in ("distance", "cosine") else points
        first, other = (_means_of_seeds(source, which, measure) for which in (normalizers[0], name))
        difference = other - first
        varies = np.ptp(difference) > 0
        p: Any = ttest_1samp(difference, 0.0)[1] if varies else None
        rows.append(
            {
                "normalizer": name,
                "against": normalizers[0],
                "measure": measure,
                "claim": claim,
                "mean_against": float(np.mean(first)),
                "mean": float(np.mean(other)),
                "difference": float(np.mean(difference)),
                "difference_std": float(np.std(difference)),
                "p": None if p is None else float(p),
                "reason": "" if varies else "no spread over seeds",
                "seeds": len(difference),
            }
        )
    return rows


def _means_of_seeds(rows: list[dict[str, Any]], normalizer: str, measure: str) -> np.ndarray:
    own = [row for row in rows if row["normalizer"] == normalizer]
    return np.asarray([np.mean([row[measure] for row in own if row["seed"] == seed]) for seed in _seeds(own)])


def _seeds(rows: list[dict[str, Any]]) -> list[int]:
    return list(dict.fromkeys(row["seed"] for row in rows))


def failures(results: dict[str, Any]) -> list[str]:
    """Return measurements that are not finite; what they say is a result, not a check."""
    return [
        f"{row['normalizer']}, step {row['step']}: {measure} is {row[measure]}"
        for row in results["table"]
        for measure in MEASURES
        if not np.isfinite(row[measure])
    ]


def summary(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the paired comparisons over the whole trajectory."""
    return results["tests"]


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw the landscape along the gradient, distances, smoothness, curvature, and both measures of layers."""
    from bnjax.reporting.figures import lines

    caption = (
        f"{results['data']}; {config['model']}, SGD (rate {config['learning_rate']:g}), batches of "
        f"{config['batch_size']}; live statistics; mean and standard deviation over {config['seeds']} seeds from "
        f"{config['seed']}"
    )
    along = f"; step sizes {STEP_RANGE[0]:g} to {STEP_RANGE[1]:g} times the rate"
    of_points = partial(lines, results["table"], x="step", series="normalizer", x_label="training step")
    band = [
        {**row, "middle": (row["loss_max"] + row["loss_min"]) / 2, "half": (row["loss_max"] - row["loss_min"]) / 2}
        for row in results["table"]
    ]
    drawn = {
        "loss_landscape": lines(
            band,
            x="step",
            y="middle",
            spread="half",
            series="normalizer",
            x_label="training step",
            y_label="loss along the gradient (nats)",
            title="The range of the loss along its gradient",
            caption=f"{caption.partition('; mean and')[0]}{along}; bands from the smallest to the largest loss, both "
            f"the mean over {config['seeds']} seeds from {config['seed']}",
        )
    }
    for name, measure, label, title in (
        ("gradient_predictiveness", "distance_max", "largest ‖∇L(θ - ηg) - g‖", "How far the gradient changes"),
        ("effective_smoothness", "smoothness", "largest ‖∇L(θ - ηg) - g‖ / ‖ηg‖", "Effective β-smoothness"),
        ("curvature", "curvature", "gᵀHg / ‖g‖², exact", "The curvature along the gradient"),
    ):
        drawn[name] = of_points(y=measure, spread=f"{measure}_std", y_label=label, title=title, caption=caption + along)
    drawn["eigenvalues"] = lines(
        [
            {**row, "end": end, "eigenvalue": row[key], "std": row[f"{key}_std"]}
            for end, key in (("largest", "eigenvalue_max"), ("smallest", "eigenvalue_min"))
            for row in results["spectrum"]
        ],
        x="step",
        y="eigenvalue",
        spread="std",
        series="normalizer",
        panels="end",
        x_label="training step",
        y_label="eigenvalue of the Hessian",
        title="The ends of the Hessian's spectrum",
        caption=f"{caption}; {config['lanczos_steps']} products of Lanczos' method",
    )
    shown = {row["layer"] for row in results["covariate_shift"]}
    shown = sorted({min(shown), (min(shown) + max(shown)) // 2, max(shown)})
    drawn["internal_covariate_shift"] = lines(
        [row for row in results["covariate_shift"] if row["layer"] in shown],
        x="step",
        y="cosine",
        spread="cosine_std",
        series="normalizer",
        panels="layer",
        x_label="training step",
        y_label="cosine of G and G', 1: no shift",
        title="How a layer's gradient turns when the layers before it take a step",
        caption=f"{caption}; layer 1 has none before it",
    )
    drawn["blocked_share"] = lines(
        [{**row, "at": f"step {row['step']}"} for row in _ends(results["blocked_share"])],
        x="layer",
        y="removed",
        spread="removed_std",
        series="normalizer",
        panels="at",
        log_y=True,
        x_label="normalizer, from the input on",
        y_label="share of ‖G‖²",
        title="How much of the gradient batch normalization removes, or would remove",
        caption=f"{caption}; G at the standardized output; its mean and its part along ŷ (S1)",
    )
    return drawn


def _ends(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    steps = [row["step"] for row in rows]
    return [row for row in rows if row["step"] in (min(steps), max(steps))]


if __name__ == "__main__":
    main(run, Config, name="experiments.smoothness", figures=figures, failures=failures, summary=summary)
