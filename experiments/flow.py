"""Does a flow with batch normalization give what lies between two classes the likelihood of real images?

    python -m experiments.flow
    python -m experiments.flow --dataset mnist --data-dir DIR
    python -m experiments.flow --dataset mnist --data-dir DIR --width 64 --blocks 8 --repeats 300 --pairs 900

RealNVP learns two classes of digits, with a normalizer inside its networks and inside the flow, from random batches or
from batches of one class. Then test images of both classes are mixed, x = α · positive + (1 - α) · negative: the
paper's finding is that batch normalization gives mixtures a log-likelihood like that of real images and layer
normalization does not (arXiv 2205.15146). The table joint_jacobian measures what the flow's log-determinant leaves out:
in training the statistics are those of the batch, and the joint map of a whole batch is no bijection (docs/theory.md,
R1).
"""

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bnjax.data import LabelledImages
from bnjax.models.flow import RealNVP, bits_per_dimension, dequantized
from bnjax.training import TrainState
from experiments.common.averages import over_seeds, p_of, paired_difference
from experiments.common.claim import BLINDNESS, SECTION_UNKNOWN, Claim, verdict, with_spread
from experiments.common.command import main
from experiments.common.flow_training import SAMPLES, Config, flow_of, recipe_of, trained_flow
from experiments.common.progress import training_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALPHAS = tuple(step / 10 for step in range(11))
# The joint Jacobian is that of so many rows of so many pixels in height and width.
JOINT_ROWS, JOINT_SIZE = 4, 8


def run(config: Config) -> dict[str, Any]:
    """Train every normalizer from every seed and measure mixtures, samples and the joint Jacobian."""
    train_data, test_data = config.pair_of_classes(train=True), config.pair_of_classes(train=False)
    levels, dimensions = config.image_set.levels, math.prod(train_data.images.shape[1:])
    noisy = dequantized(jax.random.key(config.seed), jnp.asarray(test_data.images), levels=levels)
    test_data = test_data._replace(images=np.asarray(noisy))
    mixtures = _mixtures(config, test_data)
    runs, curves, likelihoods, jacobians, samples = [], [], [], [], {}
    with training_bar(len(config.normalizers) * config.seeds * config.epochs) as advance:
        for name in config.normalizers:
            flow = flow_of(config, name, train_data.images.shape[-1])
            recipe = recipe_of(config, flow)
            for seed in range(config.seed, config.seed + config.seeds):
                which = {"normalizer": name, "seed": seed}
                trained = trained_flow(config, recipe, train_data, test_data, which, advance)
                bits = partial(bits_per_dimension, dimensions=dimensions, levels=levels)
                curves += [
                    {**which, "epoch": row["epoch"], "bits_per_dimension": float(bits(row["test_log_likelihood"]))}
                    for row in trained.history
                ]
                values = np.asarray(_log_likelihoods(flow, trained.state, mixtures)) / dimensions
                for alpha, of_pairs in zip(ALPHAS, values, strict=True):
                    mean, std = float(np.mean(of_pairs)), float(np.std(of_pairs))
                    likelihoods.append({**which, "alpha": alpha, "log_likelihood": mean, "over_pairs": std})
                real, mixed = np.mean(values[[0, -1]]), np.mean(values[len(ALPHAS) // 2])
                runs.append({**curves[-1], "real": float(real), "mixed": float(mixed), "gap": float(real - mixed)})
                if seed == config.seed:
                    samples[name] = trained.samples
                    jacobians.append({**which, **_joint_jacobian(flow, trained.state, test_data)})
    metrics = ("bits_per_dimension", "real", "mixed", "gap")
    return {
        "table": [{"batches": config.batches, **row} for row in over_seeds(runs, ("normalizer",), metrics)],
        "interpolation": over_seeds(likelihoods, ("normalizer", "alpha"), ("log_likelihood", "over_pairs")),
        "runs": runs,
        "curves": curves,
        "joint_jacobian": jacobians,
        "samples": samples,
        "data": f"trained on {train_data.name}; tested on {test_data.name}",
    }


def _mixtures(config: Config, data: LabelledImages) -> Float[Array, "alphas pairs h w channels"]:
    """Return `α · positive + (1 - α) · negative` for random pairs of test images."""
    generator = np.random.default_rng(config.seed)
    negative, positive = (
        jnp.asarray(data.images[generator.choice(np.flatnonzero(data.labels == label), config.pairs)])
        for label in (0, 1)
    )
    return jnp.stack([alpha * positive + (1 - alpha) * negative for alpha in ALPHAS])


@partial(jax.jit, static_argnums=0)
def _log_likelihoods(
    model: RealNVP, state: TrainState, mixtures: Float[Array, "alphas pairs h w channels"]
) -> Float[Array, "alphas pairs"]:
    apply: Any = model.apply
    return jax.lax.map(lambda images: apply(state.variables, images, mode="running"), mixtures)


def _joint_jacobian(model: RealNVP, state: TrainState, data: LabelledImages) -> dict[str, float | int]:
    """Compare the log-determinant that the flow counts in batch mode with the Jacobian of the whole batch, in float64.

    Of the latter, whose determinant is 0, the singular values above rounding are taken.
    """
    images = jnp.asarray(data.images[:JOINT_ROWS, -JOINT_SIZE:, -JOINT_SIZE:], float)
    variables = jax.tree.map(lambda leaf: leaf.astype(float), state.variables)
    apply: Any = model.apply

    def encoded(images: Array) -> tuple[Array, Array]:
        options: Any = {"mode": "batch", "method": "encode", "mutable": ["batch_stats"]}
        (latents, counted), _ = apply(variables, images, rngs={"noise": jax.random.key(0)}, **options)
        return jnp.concatenate([latent.ravel() for latent in latents]), jnp.sum(counted)

    jacobian, counted = jax.jit(jax.jacfwd(encoded, has_aux=True))(images)
    singular_values = jnp.linalg.svdvals(jacobian.reshape(images.size, images.size))
    passed = singular_values > images.size * jnp.finfo(float).eps * singular_values[0]
    return {
        "rows": len(images),
        "dimensions": images.size,
        "counted": float(counted),
        "lost_directions": int(jnp.sum(~passed)),
        "of_the_others": float(jnp.sum(jnp.where(passed, jnp.log(singular_values), 0.0))),
    }


def failures(results: dict[str, Any]) -> list[str]:
    """Return likelihoods that are not finite; what a flow learns is a result, not a check."""
    return [
        f"{row['normalizer']}: {row['bits_per_dimension']} bits per dimension"
        for row in results["table"]
        if not np.isfinite(row["bits_per_dimension"])
    ]


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of the paper's claim on mixtures, by paired tests over seeds."""
    if not {"batch_norm", "layer_norm"} <= set(config["normalizers"]) or config["seeds"] < 2:
        return []
    batch, layer = (
        {key: [row[key] for row in results["runs"] if row["normalizer"] == name] for key in ("real", "mixed", "gap")}
        for name in ("batch_norm", "layer_norm")
    )
    like_real = paired_difference(batch["real"], batch["mixed"], "not smaller")
    apart = paired_difference(batch["gap"], layer["gap"], "larger")
    gaps = (f"{with_spread(row['gap'], row['gap_std'])} ({row['normalizer']})" for row in results["table"])
    return [
        Claim(
            paper=BLINDNESS,
            place=SECTION_UNKNOWN,
            claim="With batch normalization a flow gives what lies between two classes the likelihood of real images, "
            "with layer normalization it does not.",
            ours="log-likelihood of real images less that of mixtures, nats per dimension: "
            f"{', '.join(gaps)}; {p_of(like_real)} (batch_norm's), {p_of(apart)} (their difference)",
            n=f"{config['seeds']} seeds, {config['pairs']} pairs; width {config['width']} and blocks "
            f"{config['blocks']} (published: 64 and 8), {config['epochs']} epochs; {results['data']}",
            verdict=verdict([like_real["found"] != "contradicted", apart["found"] == "shown"]),
        )
    ]


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw the likelihood of mixtures, the bits per dimension by epoch, and the samples of every normalizer."""
    from bnjax.reporting.figures import image_grid, lines

    size = f"width {config['width']}, {config['blocks']} blocks (published: 64 and 8), {config['epochs']} epochs of "
    kind = "random rows" if config["batches"] == "random" else "one class"
    setting = f"{results['data']}; {size}{2 * config['repeats']} batches of {config['batch_size']} ({kind})"
    seeds = f"{config['seeds']} seeds from {config['seed']}"
    grids = {
        f"samples_{name}": image_grid(
            {f"epoch {row['epoch']}": row["images"] for row in drawn},
            title=f"Samples of the flow with {name}",
            caption=f"{setting}; the same {SAMPLES} latents after every epoch, by running statistics; seed "
            f"{config['seed']}",
        )
        for name, drawn in results["samples"].items()
    }
    return grids | {
        "interpolation": lines(
            results["interpolation"],
            x="alpha",
            y="log_likelihood",
            spread="over_pairs",
            series="normalizer",
            x_label=f"α, share of class {config['positive']} in the mixture (0: class {config['negative']})",
            y_label="log-likelihood (nats per dimension)",
            title="What the flow says of mixtures of two classes",
            caption=f"{setting}; mean and standard deviation over {config['pairs']} pairs of test images, "
            f"drawn with replacement, both the mean over {seeds}; running statistics",
        ),
        "bits_per_dimension": lines(
            over_seeds(results["curves"], ("normalizer", "epoch"), ("bits_per_dimension",)),
            x="epoch",
            y="bits_per_dimension",
            spread="bits_per_dimension_std",
            series="normalizer",
            y_label="bits per dimension of the test images",
            title="How well the flow knows its two classes",
            caption=f"{setting}; mean and standard deviation over {seeds}; running statistics",
        ),
    }


if __name__ == "__main__":
    main(run, Config, name="experiments.flow", figures=figures, failures=failures, claims=claims)
