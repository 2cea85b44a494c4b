"""How large are the gradients of each layer on batches of one class, and of random rows?

    python -m experiments.layer_gradients
    python -m experiments.layer_gradients --dataset cifar10 --model vgg11 --batch-size 128

A network is trained on random batches, without a normalizer, with batch and with layer normalization. Then the gradient
of the mean loss is taken on batches of random rows and of one class each, in batch mode, and for the kernel of every
layer reported as squared norm / number of elements. Of VGG-11, the paper's network, the last three layers are the
classifier, which alone has a normalizer.
"""

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict
from jaxtyping import Array

from bnjax.data import LabelledImages
from bnjax.measurements import layer_names
from bnjax.training import Recipe, TrainState, mean_loss
from experiments.common.claim import BLINDNESS, SECTION_UNKNOWN, Claim, verdict
from experiments.common.command import main
from experiments.common.networks import DataOptions, NormalizerName
from experiments.common.orders import COMPARED_ORDERS, check_orders
from experiments.common.progress import training_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# The normalizers with which that of batch normalization is compared.
OTHERS = ("none", "layer_norm")


@dataclass(frozen=True)
class Config(DataOptions):
    """Measure the gradient of every layer on batches of one class and of random rows."""

    normalizers: tuple[NormalizerName, ...] = ("none", "batch_norm", "layer_norm")
    """The normalizers to compare."""
    batch_size: int = 32
    """Rows of a batch."""
    epochs: int = 5
    """Epochs of training on random batches before the measurement."""
    learning_rate: float = 0.01
    """Learning rate of SGD with momentum 0.9."""
    batches: int = 20
    """Batches of each kind that are averaged over."""

    def smoke_sized(self) -> "Config":
        """Return a run of seconds."""
        return dataclasses.replace(self, epochs=1, batches=2)

    def paper_sized(self) -> "Config":
        """Return the published run: VGG-11 on CIFAR-10."""
        return dataclasses.replace(self, dataset="cifar10", model="vgg11", batch_size=128)


def run(config: Config) -> dict[str, Any]:
    """Train every network and measure its layers on both kinds of batches."""
    train_data, test_data = config.load(train=True), config.load(train=False)
    check_orders(train_data, config.batch_size)
    table = []
    with training_bar(len(config.normalizers) * config.epochs) as advance:
        for normalizer in config.normalizers:
            recipe = Recipe(config.network(normalizer, train_data.classes), optax.sgd(config.learning_rate, 0.9))
            trained = config.trained(recipe, train_data, test_data, report=partial(advance, normalizer))
            accuracy = trained.history[-1]["test_accuracy"]
            for kind in COMPARED_ORDERS:
                measured = _measure(config, recipe, trained.state, train_data, kind)
                table += [{"normalizer": normalizer, "batches": kind, **row, "accuracy": accuracy} for row in measured]
    return {"table": table, "data": train_data.name}


def failures(results: dict[str, Any]) -> list[str]:
    """Return gradients that are not finite."""
    return [
        f"{row['normalizer']}, {row['name']}: squared gradient {row['squared_gradient']}"
        for row in results["table"]
        if not np.isfinite(row["squared_gradient"])
    ]


def claims(results: dict[str, Any], config: dict[str, Any]) -> list[Claim]:
    """Return what was found of the claim that what a batch of one class adds to the gradients does not get down."""
    if not {"batch_norm", *OTHERS} <= set(config["normalizers"]):
        return []
    growths = {name: _growths(results, name) for name in ("batch_norm", *OTHERS)}
    if not all(1 < last < np.inf for _, last in growths.values()):  # There is nothing that could reach the first.
        return []
    passing = {name: first / last for name, (first, last) in growths.items()}
    shown = (f"{last:.3g} and {first:.3g} ({name})" for name, (first, last) in growths.items())
    return [
        Claim(
            paper=BLINDNESS,
            place=SECTION_UNKNOWN,
            claim="What a batch of one class adds to the gradient of the last layer reaches the first one less through "
            "batch normalization than through layer normalization or none.",
            ours="squared gradient on rows of one class, as a multiple of that on random rows, in the last and the "
            f"first layer: {', '.join(shown)}",
            n=f"{config['batches']} batches of {config['batch_size']} rows, 1 network of each kind "
            f"({config['model']}); {results['data']}",
            # Half as much is beyond what batches differ by; but another seed is another network.
            verdict=verdict((passing["batch_norm"] < passing[name] / 2 for name in OTHERS), samples=1),
        )
    ]


def _growths(results: dict[str, Any], normalizer: str) -> tuple[float, float]:
    """Return how many times larger the first and the last layer's squared gradient is on rows of one class."""
    random, single_class = (
        [
            row["squared_gradient"]
            for row in results["table"]
            if (row["normalizer"], row["batches"]) == (normalizer, kind)
        ]
        for kind in ("random", "single_class")
    )
    first, last = (single_class[k] / random[k] if random[k] else np.inf for k in (0, -1))
    return first, last


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw the layers' gradients, a line a normalizer and kind of batch."""
    from bnjax.reporting.figures import lines

    rows = [{**row, "normalizer, batches": f"{row['normalizer']}, {row['batches']}"} for row in results["table"]]
    names = list(dict.fromkeys(row["name"] for row in rows))
    averaged = " or ".join(str(count) for count in sorted({row["averaged"] for row in results["table"]}))
    few = names if len(names) <= 12 else [*names[:3], "…", *names[-3:]]
    return {
        "layer_gradients": lines(
            rows,
            x="layer",
            y="squared_gradient",
            spread="std",
            series="normalizer, batches",
            log_y=True,
            x_label="layer, from the input on",
            y_label="squared gradient norm / elements",
            title="The gradients of each layer's kernel",
            caption=f"{results['data']}; {config['model']}, {config['epochs']} epochs on random batches; mean and "
            f"standard deviation over {averaged} batches of {config['batch_size']} rows; "
            f"seed {config['seed']}; layers 1–{len(names)}: {', '.join(few)}",
        )
    }


def _measure(config: Config, recipe: Recipe, state: TrainState, data: LabelledImages, kind: str) -> list[dict]:
    """Return a row for every layer, from the input on: mean and standard deviation over the batches."""
    names = layer_names(recipe.model, state.variables, jnp.asarray(data.images[:2]), mode="running")
    indices = COMPARED_ORDERS[kind](data.labels, config.batch_size, np.random.default_rng(config.seed)).indices
    chosen = indices[np.linspace(0, len(indices) - 1, min(config.batches, len(indices)), dtype=int)]
    batches = (config.over_devices((data.images[rows], data.labels[rows])) for rows in chosen)
    squares = [_squared_gradients(recipe, state, *batch) for batch in batches]
    of_layer = {name: [float(square[f"{name}/kernel"]) for square in squares] for name in names}
    return [
        {
            "layer": number,
            "name": name,
            "squared_gradient": float(np.mean(values)),
            "std": float(np.std(values)),
            "averaged": len(values),
        }
        for number, (name, values) in enumerate(of_layer.items(), start=1)
    ]


@partial(jax.jit, static_argnums=0)
def _squared_gradients(recipe: Recipe, state: TrainState, images: Array, labels: Array) -> dict[str, Any]:
    """Return the mean square of every parameter's gradient, by the parameter's name."""
    key = jax.random.wrap_key_data(state.key)
    rngs = {"dropout": key, "noise": key}
    gradient, _ = jax.grad(mean_loss, has_aux=True)(state.params, recipe, state.stats, images, labels, rngs)
    return flatten_dict(jax.tree.map(lambda leaf: jnp.mean(leaf**2), gradient), sep="/")


if __name__ == "__main__":
    main(run, Config, name="experiments.layer_gradients", figures=figures, failures=failures, claims=claims, x64=False)
