"""What do gradient and curvature of a loss in a filter's scale and bias do at the border of the dead region?

    python -m experiments.dead_region

One filter `act(γx̂ + β)` (`+ α` with post-shifted batch normalization) in front of a softmax cross-entropy, x̂ a batch
of standardized Gaussian numbers, γ = 1. The bias β is moved, so that the margin γ max x̂ + β goes from dead to live:
below 0 batch normalization and a ReLU leave nothing of gradient and Hessian in (γ, β), exactly; a leaky ReLU of slope a
leaves what the linear unit a·z has; and the constant shift α moves the border to -α (docs/theory.md, F1 and F3).
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from bnjax.normalizers import Normalizer, batch_norm, post_shifted_batch_norm
from experiments.common.claim import COLLAPSE, Claim, verdict
from experiments.common.command import main
from experiments.common.options import Options

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLASSES = 3
# So far from the border rounding does not decide on which side a filter is.
BESIDE = 1e-9


@dataclass(frozen=True)
class Config(Options):
    """Measure gradient and Hessian of a loss in (γ, β) of one filter, from the dead region to the live side."""

    least: ClassVar[Mapping[str, int]] = {**Options.least, "rows": 3, "margins": 3}
    above_zero: ClassVar[tuple[str, ...]] = (*Options.above_zero, "slope")  # With 0 the leaky ReLU is dead as well.

    rows: int = 256
    """Rows of a batch."""
    margins: int = 41
    """Numbers γ max x̂ + β from -1 to 1; an odd number has the border among them, where rounding decides."""
    slope: float = 0.1
    """Slope of the leaky ReLU below 0."""
    shift: float = 0.1
    """The constant shift α of post-shifted batch normalization."""
    seeds: int = 10
    """Batches and heads, with the seeds seed, seed + 1, …"""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, margins=5, seeds=2)


def run(config: Config) -> dict[str, Any]:
    """Measure every normalizer, activation and margin on every batch."""
    normalizers = {
        "batch_norm": batch_norm(epsilon=0.0),
        "post_shifted_batch_norm": post_shifted_batch_norm(shift=config.shift, epsilon=0.0),
    }
    activations: dict[str, Callable[[Array], Array]] = {
        "relu": jax.nn.relu,
        "leaky_relu": lambda z: jax.nn.leaky_relu(z, config.slope),
    }
    margins = np.linspace(-1, 1, config.margins)
    keys = jnp.stack([jax.random.key(seed) for seed in range(config.seed, config.seed + config.seeds)])
    table = []
    for (name, normalizer), (activation_name, activation) in product(normalizers.items(), activations.items()):
        gradients, hessians = jax.device_get(_derivatives(config, normalizer, activation, keys, margins))
        norms, eigenvalues = np.linalg.norm(gradients, axis=-1), np.linalg.eigvalsh(hessians)
        table += [
            {"normalizer": name, "activation": activation_name, "margin": float(margin)}
            | {"gradient_norm": float(norm.mean()), "gradient_norm_std": float(norm.std())}
            | {"gradient_norm_max": float(norm.max()), "hessian_max": float(np.abs(values).max())}
            | {"eigenvalue_max": float(values[:, 1].mean()), "eigenvalue_max_std": float(values[:, 1].std())}
            | {"eigenvalue_min": float(values[:, 0].mean()), "eigenvalue_min_std": float(values[:, 0].std())}
            | {"dead": bool(margin + (config.shift if name == "post_shifted_batch_norm" else 0.0) < 0)}
            | {"seeds": config.seeds}
            for margin, norm, values in zip(margins, norms.T, eigenvalues.swapaxes(0, 1), strict=True)
        ]
    return {"table": table}


def _derivatives(
    config: Config, normalizer: Normalizer, activation: Callable[[Array], Array], keys: Array, margins: np.ndarray
) -> tuple[Array, Array]:
    """Return gradient and Hessian in (γ, β), (seeds, margins, 2) and (seeds, margins, 2, 2)."""

    def of(key: Array, margin: Array) -> tuple[Array, Array]:
        feature_key, head_key, other_key, label_key = jax.random.split(key, 4)
        rows, weights = config.rows, jax.random.normal(head_key, (CLASSES,))
        x, others, labels = config.over_devices(
            (
                jax.random.normal(feature_key, (rows, 1)),
                jax.random.normal(other_key, (rows, CLASSES)),
                jax.random.randint(label_key, (rows,), 0, CLASSES),
            )
        )
        params, stats = normalizer.init(x)
        plain, _ = batch_norm(epsilon=0.0).apply({"scale": jnp.ones(1), "bias": jnp.zeros(1)}, stats, x)

        def loss(scale_and_bias: Array) -> Array:
            scale, bias = scale_and_bias
            moved = {**params, "scale": scale[None], "bias": bias[None]}
            z, _ = normalizer.apply(moved, stats, x)
            logits = activation(z) * weights + others
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

        at = jnp.stack([jnp.ones(()), margin - jnp.max(plain)])
        return jax.grad(loss)(at), jax.hessian(loss)(at)

    return jax.jit(jax.vmap(jax.vmap(of, (None, 0)), (0, None)))(keys, jnp.asarray(margins))


def failures(results: dict[str, Any]) -> list[str]:
    """Return dead filters with a derivative behind a ReLU, and filters without any that are not dead."""
    return [
        f"{row['normalizer']}, {row['activation']}, margin {row['margin']:g}: gradient {row['gradient_norm_max']:.1e}, "
        f"Hessian {row['hessian_max']:.1e}"
        for row in results["table"]
        if _off_border(row) and not _as_derived(row)
    ]


def _off_border(row: dict[str, Any]) -> bool:
    """Return whether a filter is beside the border, where the derivative is no convention."""
    return abs(row["margin"]) > BESIDE


def _as_derived(row: dict[str, Any]) -> bool:
    """Return whether gradient and Hessian are exactly 0 where a filter is dead behind a ReLU, and only there."""
    return (row["dead"] and row["activation"] == "relu") == _without_derivatives(row)


def _without_derivatives(row: dict[str, Any]) -> bool:
    return row["gradient_norm_max"] == row["hessian_max"] == 0


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of the region that cannot be trained, and of what makes a filter trainable again."""

    def rows_of(normalizer: str, activation: str) -> list[dict[str, Any]]:
        kind = (normalizer, activation)
        return [row for row in results["table"] if (row["normalizer"], row["activation"]) == kind and _off_border(row)]

    relu, leaky = rows_of("batch_norm", "relu"), rows_of("batch_norm", "leaky_relu")
    shifted = rows_of("post_shifted_batch_norm", "relu")
    leaky_dead = [row for row in leaky if row["dead"]]
    near, near_unshifted = (
        [row for row in rows if BESIDE - config["shift"] < row["margin"] < 0] for rows in (shifted, relu)
    )
    cases = (
        ("In front of a ReLU normalization makes a region of (γ, β) that cannot be trained.", relu, _as_derived, ""),
        (
            "In front of a leaky ReLU too normalization makes such a region.",
            leaky_dead,
            _without_derivatives,
            "",
        ),
        (
            "Post-shifted batch normalization makes a filter near the region's border trainable again.",
            near,
            lambda row: not _without_derivatives(row),
            f"; without the shift: {_told(near_unshifted)}",
        ),
    )
    return [
        Claim(
            paper=COLLAPSE,
            place="abstract",
            claim=sentence,
            ours=f"{_told(rows)}{beside}",
            n=f"{config['seeds']} seeds, each a batch of {config['rows']} Gaussian rows and a head of its own; one "
            f"filter at {len(rows)} bias{'es' * (len(rows) > 1)}",
            verdict=verdict(map(holds, rows), samples=config["seeds"]),
        )
        for sentence, rows, holds, beside in cases
        if rows
    ]


def _told(rows: list[dict[str, Any]]) -> str:
    """Return at how many biases no seed has anything to train with, and how large the gradient is at the others."""
    dead = [row for row in rows if row["margin"] < 0]
    exact = sum(map(_without_derivatives, dead))
    told = [f"gradient and Hessian exactly 0, for every seed, at {exact} of {len(dead)} biases where γ max x̂ + β < 0"]
    trained = [row for row in rows if not _without_derivatives(row)]
    if trained:
        least = min(trained, key=lambda row: row["gradient_norm"])
        told.append(
            f"elsewhere a gradient of length {least['gradient_norm']:.2g} ± {least['gradient_norm_std']:.2g} at least "
            "(mean and deviation over seeds)"
        )
    return "; ".join(told)


def summary(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows at five margins from one end to the other."""
    margins = sorted({row["margin"] for row in results["table"]})
    shown = {margins[round(place * (len(margins) - 1) / 4)] for place in range(5)}
    keys = ("normalizer", "activation", "margin", "gradient_norm", "eigenvalue_min", "eigenvalue_max", "seeds")
    return [{key: row[key] for key in keys} for row in results["table"] if row["margin"] in shown]


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw the gradient's length and the Hessian's eigenvalues against the margin."""
    from bnjax.reporting.figures import lines

    caption = (
        f"one filter of {config['rows']} Gaussian rows in front of a cross-entropy of {CLASSES} classes, γ = 1; slope "
        f"of the leaky ReLU {config['slope']:g}, shift α = {config['shift']:g}; mean over "
        f"{config['seeds']} seeds from {config['seed']}; float64, ε = 0"
    )
    rows = [{**row, "unit": f"{row['normalizer']}, {row['activation']}"} for row in results["table"]]
    return {
        measure: lines(
            rows,
            x="margin",
            y=measure,
            series="unit",
            x_label="γ max x̂ + β (dead below 0, shifted: below -α)",
            y_label=label,
            title=title,
            caption=caption,
        )
        for measure, label, title in (
            ("gradient_norm", "‖∇L‖ in (γ, β)", "No gradient in the dead region"),
            ("eigenvalue_max", "largest eigenvalue of ∇²L in (γ, β)", "No curvature in the dead region"),
        )
    }


if __name__ == "__main__":
    main(
        run, Config, name="experiments.dead_region", figures=figures, failures=failures, claims=claims, summary=summary
    )
