"""What is in the files of a user? Data, and variables of a model.

All that does not fit raises ValueError, which names the option, what it needs and what came.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.serialization import msgpack_restore
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

from bnjax.reporting.errors import said


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
        found = {f"--inputs {inputs}, {name}": arrays[name] for name in ("inputs", "labels")}
    else:
        found = {
            f"{option} {path}": _read(option, path, partial(np.load, path))
            for option, path in {"--inputs": inputs, "--labels": labels}.items()
        }
    for name, array in found.items():
        _check_numbers(name, array)
    values, told = found.values()
    if len(values) != len(told):
        raise ValueError(f"--inputs and --labels need arrays of as many rows, got {len(values)} and {len(told)} rows")
    return Rows(values, told, f"{len(values):,} rows of {inputs.name}")


def _check_numbers(name: str, array: Any) -> None:
    """Raise unless there are rows of finite numbers."""
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} needs to be one array, a .npy file, got a {type(array).__name__}")
    came = f"{array.dtype} of shape {array.shape}"
    if not array.size or not array.ndim or not np.issubdtype(array.dtype, np.number):
        raise ValueError(f"{name} needs numbers, one entry a row, got {came}; save what np.asarray(..., float) makes")
    if np.issubdtype(array.dtype, np.inexact):
        finite = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        if not finite.all():
            rows = np.flatnonzero(~finite)
            raise ValueError(
                f"{name} needs to be finite, got NaN or infinity in row {rows[0]} and {len(rows) - 1} more, counted "
                f"from 0, of {came}; drop those rows"
            )


def own_variables(path: Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """Return variables from an .npz file (by path, `params/below/kernel`), flax's msgpack, or a folder of orbax's.

    Args:
        path: the file or folder; a training state will do, of which the rest is left.
        like: variables of the same shapes.
    """
    found = _read("--variables", path, lambda: _variables(path))
    if not isinstance(found, Mapping):
        raise ValueError(f"--variables {path} needs collections of variables by name, got a {type(found).__name__}")
    # As flax's training states have it, and those of this library.
    found = {name: found.get(name, found.get("stats") if name == "batch_stats" else None) for name in like}
    own = _by_path(like)
    leaves = {_unboxed(name, own): leaf for name, leaf in _by_path(found).items()}
    for path_of in (*own, *leaves):
        wanted, came = (_described(tree.get(path_of)) for tree in (own, leaves))
        if wanted != came:
            raise ValueError(f"--variables {path} needs the model's own: {path_of} with {wanted}, got {came}")
    return unflatten_dict({name: jnp.asarray(leaves[name], leaf.dtype) for name, leaf in own.items()}, sep="/")


def _by_path(tree: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[tuple, Any] = flatten_dict(tree)
    return {"/".join(map(str, path)): leaf for path, leaf in flat.items()}


def _unboxed(path: str, own: Mapping[str, Any]) -> str:
    """Return the path of a variable whose value a file holds inside of a box, as flax saves `nn.with_partitioning`."""
    outer = path.removesuffix("/value")
    return outer if outer in own else path


def _described(leaf: Any) -> str:
    """Return the shape of numbers, and what it is of all else."""
    if jnp.issubdtype(getattr(leaf, "dtype", object), np.number):
        return f"shape {leaf.shape}"
    return "none" if leaf is None else f"a {type(leaf).__name__} that holds no numbers"


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
        raise ValueError(f"{option} {path} can't be read: {said(error)}") from None
