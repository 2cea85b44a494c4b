"""What is in the files of a user? Data, and variables of a model.

All that does not fit raises ValueError, which names the option, what it needs and what came.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.serialization import msgpack_restore
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array


class Rows(NamedTuple):
    """Data: what a model is called with, and what its loss is told of each row.

    Attributes:
        inputs: one entry a row.
        labels: one entry a row.
        name: what to call the data on a figure.
    """

    inputs: np.ndarray
    labels: np.ndarray
    name: str

    def chosen(self, rows: np.ndarray) -> tuple[Array, Array]:
        """Return inputs and labels of some rows."""
        return jnp.asarray(self.inputs[rows]), jnp.asarray(self.labels[rows])


def own_rows(inputs: Path, labels: Path | None) -> Rows:
    """Return data from two .npy files, or from one .npz file with the arrays `inputs` and `labels`."""
    if labels is None:
        arrays = _read("--inputs", inputs, lambda: dict(np.load(inputs)) if inputs.suffix == ".npz" else {})
        if not {"inputs", "labels"} <= set(arrays):
            raise ValueError(
                f"--inputs without --labels needs an .npz file with the arrays inputs and labels, got {inputs} with "
                f"{sorted(arrays) or 'no names'}"
            )
        found = arrays["inputs"], arrays["labels"]
    else:
        found = _read("--inputs", inputs, lambda: np.load(inputs)), _read("--labels", labels, lambda: np.load(labels))
    lengths = [len(array) if isinstance(array, np.ndarray) and array.ndim else 0 for array in found]
    if lengths[0] != lengths[1] or not lengths[0]:
        raise ValueError(f"--inputs and --labels need arrays of as many rows, got {lengths[0]} and {lengths[1]} rows")
    return Rows(*found, f"{lengths[0]:,} rows of {inputs.name}")


def own_variables(path: Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """Return variables from an .npz file (by path, `params/below/kernel`), flax's msgpack, or a folder of orbax's.

    Args:
        path: the file or folder; a training state will do, of which the rest is left.
        like: variables of the same shapes.
    """
    found = _read("--variables", path, lambda: _variables(path))
    # As flax's training states have it, and those of this library.
    found = {name: found.get(name, found.get("stats") if name == "batch_stats" else None) or {} for name in like}
    shapes, wanted = map(_shapes, (found, like))
    for key in (*wanted, *shapes):
        if wanted.get(key) != shapes.get(key):
            raise ValueError(
                f"--variables {path} needs the model's own: {key} of shape {wanted.get(key, 'none')}, got "
                f"{shapes.get(key, 'none')}"
            )
    return jax.tree.map(lambda own, leaf: jnp.asarray(leaf, own.dtype), dict(like), found)


def _shapes(tree: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    flat: dict[str, Any] = flatten_dict(tree, sep="/")
    return {path: leaf.shape for path, leaf in flat.items()}


def _variables(path: Path) -> Any:
    if path.is_dir():
        import orbax.checkpoint

        return orbax.checkpoint.StandardCheckpointer().restore(path.absolute())
    if path.suffix == ".npz":
        return unflatten_dict(dict(np.load(path)), sep="/")
    return msgpack_restore(path.read_bytes())


def _read(option: str, path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:
        raise ValueError(f"{option} {path} can't be read: {type(error).__name__}: {error}") from error
