"""What is measured on several devices, in processes of its own: their number is fixed when JAX starts.

python -m tests.devices.measured FOLDER                  # one of 8 devices, and all of them
python -m tests.devices.measured FOLDER NUMBER PORT      # one of two processes, each with half of the rows
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import bnjax
from bnjax.curvature import batch_loss, linearized_gradient
from bnjax.data import LabelledImages, random_batches
from bnjax.devices import over_rows, own_rows_over, replicated, row_mesh
from bnjax.models import Normalization
from bnjax.normalizers import batch_norm
from bnjax.normalizers.normalizer import Mode
from bnjax.training import Recipe, train

DEVICES, ROWS, BATCH_SIZE = 8, 16, 8
NUMBERS = ("blocking", "spectrum", "audit", "blocked_share", "hessian_product", "training")
REFUSALS = ("a feature that does not vary", "a feature that is not finite", "a row whose loss is not finite")
UNEVEN = {
    "uneven rows": r"over the 8 devices, got an array of shape \(15,\) .* take a multiple of 8 rows, or fewer devices",
    "an uneven batch size": r"over the 8 devices, got an array of shape \(9,\) .* take a multiple of 8 rows",
    "too many devices": "from 1 to 8, which JAX has on cpu, got 9; a CPU is split by .*jax_num_cpu_devices",
}


class Network(nn.Module):
    """Two convolutions, each with batch normalization, and a linear layer."""

    @nn.compact
    def __call__(self, x, *, mode: Mode = "batch"):
        for name in ("first", "second"):
            x = nn.Conv(3, (3, 3), param_dtype=x.dtype)(x)
            x = nn.relu(Normalization(batch_norm(), name=name)(x, mode=mode))
        return nn.Dense(3, param_dtype=x.dtype)(jnp.mean(x, (1, 2)))


MODEL = Network()
IMAGES, LABELS = np.random.default_rng(0).normal(size=(ROWS, 3, 3, 2)), np.arange(ROWS) % 3
CROSS_ENTROPY = optax.softmax_cross_entropy_with_integer_labels


def keys() -> jax.Array:
    """Return a random key for each row; a function, for JAX is not to start on import."""
    return jax.random.split(jax.random.key(0), ROWS)


def loss(y, label):
    return jnp.mean(jnp.sin(y) * jnp.linspace(-1, 2, y.size).reshape(y.shape)) ** 2 + label * jnp.mean(jnp.cos(y))


def share(images: Any, labels: Any) -> Any:
    """Return what a training step of one's own has of `blocked_share`."""
    variables = jax.jit(MODEL.init)(jax.random.key(0), IMAGES)
    return jax.jit(lambda *batch: bnjax.blocked_share(MODEL, variables, *batch, loss=CROSS_ENTROPY))(images, labels)


def measurements(batch: Any, mesh: Mesh | None) -> dict[str, Callable[[], Any]]:
    """Return what is measured on images with labels, or refused of them, by name."""
    images, labels = batch
    variables = jax.jit(MODEL.init)(jax.random.key(0), IMAGES)
    params, stats = variables["params"], variables["batch_stats"]

    def hessian_product():
        def product(params, images, labels):
            gradient, hessian_product = linearized_gradient(batch_loss(MODEL, stats, images, labels), params)
            return hessian_product(gradient)

        return jax.jit(product)(params, images, labels)

    def training():
        places = []

        def look(_, images):
            jax.debug.inspect_array_sharding(images, callback=places.append)
            return images

        data, recipe = LabelledImages(IMAGES, LABELS, "noise", 3), Recipe(MODEL, optax.sgd(0.1, 0.9), augment=look)
        trained = train(recipe, data, data, order=random_batches, batch_size=BATCH_SIZE, epochs=1, mesh=mesh)
        batch = jax.device_put(IMAGES[:BATCH_SIZE], places[0])
        return trained.state.params, trained.state.stats, trained.history[0], batch

    def of_one_position(value):
        return jnp.where(jnp.arange(2) == 1, value, images)

    return {
        "blocking": lambda: bnjax.blocking(loss, batch_norm(), images, labels),
        "spectrum": lambda: bnjax.spectrum(loss, batch_norm(), images, labels, max_order=2),
        # On several devices in chunks, with a row of each.
        "audit": lambda: bnjax.audit(
            MODEL,
            variables,
            images,
            labels,
            loss=CROSS_ENTROPY,
            layer="first",
            trunk_gradients=True,
            row_chunk=mesh and mesh.size,
        ),
        "blocked_share": lambda: share(images, labels),
        "hessian_product": hessian_product,
        "training": training,
        REFUSALS[0]: lambda: bnjax.blocking(loss, batch_norm(epsilon=0.0), of_one_position(2.0), labels),
        REFUSALS[1]: lambda: bnjax.blocking(loss, batch_norm(), of_one_position(jnp.inf), labels),
        REFUSALS[2]: lambda: bnjax.blocking(loss, batch_norm(), images, jnp.where(labels == 2, jnp.nan, labels)),
    }


def refusals_of_uneven_rows(mesh: Mesh) -> dict[str, Callable[[], Any]]:
    """Return what does not divide over the devices, by name."""
    data, recipe = LabelledImages(IMAGES, LABELS, "noise", 3), Recipe(MODEL, optax.sgd(0.1))
    calls = (
        lambda: over_rows((IMAGES, LABELS[:-1]), mesh),
        lambda: train(recipe, data, data, order=random_batches, batch_size=DEVICES + 1, epochs=1, mesh=mesh),
        lambda: row_mesh(DEVICES + 1),
    )
    return dict(zip(UNEVEN, calls, strict=True))


def pieces(leaf: Any) -> int:
    """Return into how many pieces the rows of an array are split."""
    return len(leaf) // leaf.sharding.shard_shape(leaf.shape)[0] if np.ndim(leaf) else 1


def save(file: Path, calls: dict[str, Callable[[], Any]], mesh: Mesh | None) -> None:
    """Write what the calls return, number by number, or what they are refused with."""
    found = {}
    for name, call in calls.items():
        try:
            numbers = call()
            found[f"pieces of {name}"] = np.array(max(map(pieces, jax.tree.leaves(numbers))))
            whole = jax.tree.leaves_with_path(replicated(numbers, mesh))
            found |= {f"{name}/{jax.tree_util.keystr(path)}": np.asarray(leaf) for path, leaf in whole}
        except ValueError as error:
            found[name] = np.array(str(error))
    np.savez(file, **found)


def main(folder: Path, *process: str) -> None:
    """Measure on one device and on 8, or as one of two processes."""
    jax.config.update("jax_enable_x64", True)
    if not process:
        jax.config.update("jax_num_cpu_devices", DEVICES)
        mesh = row_mesh()
        save(folder / "one.npz", measurements((jnp.asarray(IMAGES), jnp.asarray(LABELS)), None), None)
        calls = measurements(over_rows((IMAGES, LABELS), mesh), mesh) | refusals_of_uneven_rows(mesh)
        explicit = jax.device_put(IMAGES, NamedSharding(jax.make_mesh((DEVICES,), ("rows",)), PartitionSpec("rows")))
        calls["blocking of explicit axes"] = lambda: bnjax.blocking(loss, batch_norm(), explicit, LABELS).total_gradient
        calls["blocked_share of explicit axes"] = lambda: share(explicit, LABELS)
        save(folder / "eight.npz", calls, mesh)
        return
    number, port = map(int, process)
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=number)
    mesh = row_mesh()
    own = slice(number * ROWS // 2, (number + 1) * ROWS // 2)
    calls = measurements(own_rows_over((IMAGES[own], LABELS[own]), mesh), mesh)
    calls["keys"] = lambda: jax.random.key_data(own_rows_over(keys()[own], mesh))
    save(folder / f"two-{number}.npz", calls, mesh)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
