"""On which devices does a batch lie? Its rows spread over several, of one process or of many.

Nothing else is needed to compute on all of them: compiled functions go where their arrays are (`jax.sharding`), and
the statistics of a normalizer are those of the whole batch, wherever its rows lie (docs/scaling.md).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from bnjax.integers import check_integers, is_integer

# The name of the axis of a mesh.
ROWS = "rows"


def row_mesh(count: int | None = None) -> Mesh:
    """Return the first `count` devices of all processes, all by default, as a mesh whose one axis is that of rows.

    Raises:
        TypeError: a count that is no integer.
        ValueError: a count that there are not.
    """
    devices = jax.devices()
    if count is not None and not is_integer(count):
        raise TypeError(f"the number of devices needs to be an integer, or None for all, got {count!r}")
    if count is not None and not 1 <= count <= len(devices):
        raise ValueError(
            f"the number of devices needs to be from 1 to {len(devices)}, which JAX has on {jax.default_backend()}, "
            f"got {count}; a CPU is split by jax.config.update('jax_num_cpu_devices', count) before anything is "
            "computed"
        )
    return Mesh(np.array(devices[:count]), (ROWS,), axis_types=(AxisType.Auto,))


def over_rows(tree: Any, mesh: Mesh | None, *, axis: int = 0) -> Any:
    """Return the arrays of a batch with their rows spread evenly over the devices of a mesh.

    With several processes each of them passes the whole batch, the same.

    Args:
        tree: a tree of arrays with one entry a row.
        mesh: one of `row_mesh`, or another with that one axis; None leaves the arrays to JAX, which takes its default
            device.
        axis: the axis of the rows, from 0 on.

    Raises:
        TypeError: a mesh of other axes; an axis that is no integer.
        ValueError: rows that do not divide evenly, a negative axis, arrays without that axis.
    """
    check_integers(axis=axis)
    if axis < 0:
        raise ValueError(f"axis needs to be counted from the first, from 0 on, got {axis}")
    if mesh is not None:
        _check_mesh(mesh)
    check_rows_divide(tree, mesh, axis=axis)
    return _put(tree, mesh, PartitionSpec(*[None] * axis, ROWS))


def own_rows_over(tree: Any, mesh: Mesh) -> Any:
    """Return the batch that the processes have together, of which each passes its own rows, equally many.

    The batch has the rows of the first process first. With one process this is `over_rows`, but for arrays that are
    being traced, which several processes can't hand over.

    Args:
        tree: a tree of arrays with one entry for each row of this process; of random keys, too.
        mesh: one of `row_mesh`, of all processes.

    Raises:
        TypeError: a mesh of other axes, or none at all; a call under `jax.jit`.
        ValueError: rows that do not divide evenly over this process's devices.
    """
    _check_mesh(mesh)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree)):
        raise TypeError("own_rows_over takes rows that a process holds, not what is traced: call it outside of jax.jit")
    check_rows_divide(tree, mesh.local_mesh)
    rows = NamedSharding(mesh, PartitionSpec(ROWS))

    def joined(leaf: Any) -> Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(joined(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        return jax.make_array_from_process_local_data(rows, np.asarray(leaf))

    return jax.tree.map(joined, tree)


def replicated(tree: Any, mesh: Mesh | None) -> Any:
    """Return arrays whole on every device of a mesh, such as the parameters of a model; None as in `over_rows`."""
    return _put(tree, mesh, PartitionSpec())


def automatic(value: Any) -> Any:
    """Return an array on the devices where it is, along axes of which XLA decides what lies where; others as they are.

    The axes of `jax.make_mesh` are explicit: there many operations ask where their result is to lie.
    """
    sharding = None if isinstance(value, Tracer) else getattr(value, "sharding", None)
    if not isinstance(sharding, NamedSharding):
        return value
    mesh = sharding.mesh
    if not isinstance(mesh, Mesh) or AxisType.Explicit not in mesh.axis_types:
        return value
    alike = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
    return jax.device_put(value, NamedSharding(alike, sharding.spec))


def with_automatic_axes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with what `automatic` does for its arguments, also if they are being traced.

    Where the axes of such are explicit, what it returns is whole on every device.
    """

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        args = jax.tree.map(automatic, args)
        meshes = [jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves(args) if isinstance(leaf, Tracer)]
        explicit = [mesh for mesh in meshes if AxisType.Explicit in mesh.axis_types]
        if not explicit:
            return function(*args)
        whole = NamedSharding(explicit[0], PartitionSpec())
        return jax.sharding.auto_axes(function, out_sharding=whole)(*args)

    return call


def check_rows_divide(tree: Any, mesh: Mesh | None, *, axis: int = 0) -> None:
    """Raise ValueError unless all arrays of a tree have rows that divide evenly over the devices of a mesh."""
    for shape in map(np.shape, jax.tree.leaves(tree)):
        if len(shape) <= axis:
            raise ValueError(
                f"arrays need rows on axis {axis}, got one of shape {shape}; a list counts as many arrays: make it one"
            )
        if mesh is not None and shape[axis] % mesh.size:
            raise ValueError(
                f"rows need to divide evenly over the {mesh.size} devices, got an array of shape {shape} with its rows "
                f"on axis {axis}; take a multiple of {mesh.size} rows, or fewer devices"
            )


def _check_mesh(mesh: Any) -> None:
    if not isinstance(mesh, Mesh) or mesh.axis_names != (ROWS,):
        raise TypeError(f"mesh needs to be one of bnjax.devices.row_mesh(), with the one axis {ROWS!r}, got {mesh!r}")


def _put(tree: Any, mesh: Mesh | None, spec: PartitionSpec) -> Any:
    if mesh is None:
        return jax.tree.map(jnp.asarray, tree)
    # Of what is being traced it says how it is to lie, once it is computed.
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))
    put = jax.lax.with_sharding_constraint if traced else jax.device_put
    return put(tree, NamedSharding(mesh, spec))
