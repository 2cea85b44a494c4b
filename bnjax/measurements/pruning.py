"""What can be removed of a network without a change of its output? Its collapsed filters, with all that reads them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.errors import FlaxError
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Bool

from bnjax.compilation import jit_once
from bnjax.measurements.collapse import filter_margins
from bnjax.models.interception import Around, apply_around
from bnjax.models.recognition import NORMALIZATIONS, feature_axis_of

# By how much outputs may differ, relative to the largest of them, or else by so many roundings of their dtype: sums
# that lose terms of 0 may round otherwise.
TOLERANCE, ROUNDINGS = 1e-6, 100


@dataclass(frozen=True, repr=False)
class Pruned:
    """A network with fewer filters, to be applied by `apply`.

    To train it on, make a network of these `widths` and give it the variables: the model as it is has room for all.

    Attributes:
        model: the network that it was made of, with its own widths.
        variables: its parameters and statistics, without those of the removed filters.
        widths: how many filters are left to a layer that lost some, by the layer's name.
        removed: how many filters were removed, by the name of the normalizer behind them.
        parameters: numbers in the collection `params`, before and after.
        operations: multiplications and additions of all kernels for one row, before and after.
    """

    model: nn.Module
    variables: Mapping[str, Any]
    widths: Mapping[str, int]
    removed: Mapping[str, int]
    parameters: tuple[int, int]
    operations: tuple[int, int]

    def __repr__(self) -> str:
        """Return what was removed, without the numbers of the network."""
        counts = f"{self.parameters[1]} parameters and {self.operations[1]} operations left"
        return f"<Pruned {type(self.model).__name__}: removed {dict(self.removed)}; {counts}>"

    def apply(self, *inputs: Array, **options: Any) -> Any:
        """Return what the model returns, with the pruned variables.

        Args:
            *inputs: what the model is applied to.
            **options: further arguments of the model, such as `mode="running"`.
        """
        return _applied(None, self, *inputs, **options)


class _Marked(NamedTuple):
    """What is seen of an application of a network in which some filters are marked by NaN behind their normalizer.

    Attributes:
        outputs: the network's; a mark is left where one went around every kernel.
        marked: which features of its input were marked, by the layer; 0 took their place.
        silent: which features of its input are 0 in all rows, likewise.
        escaped: whether a mark came to another normalizer, or to a convolution in groups.
    """

    outputs: Any
    marked: dict[str, Bool[Array, " features"]]
    silent: dict[str, Bool[Array, " features"]]
    escaped: Bool[Array, ""]


class _Removal(NamedTuple):
    """Filters that can go.

    Attributes:
        normalizer: the name of theirs.
        maker: the layer before it.
        kept: which of its filters stay.
        read: which rows of other kernels read those that go, by the layer.
    """

    normalizer: str
    maker: str
    kept: np.ndarray
    read: dict[str, np.ndarray]


def prune(model: nn.Module, variables: Mapping[str, Any], *inputs: Array, **options: Any) -> Pruned:
    """Return a network without the filters that are collapsed on these inputs; its output on them is unchanged.

    A filter goes if its normalizer stands directly behind a layer with a kernel and directly before a ReLU
    (`before_relu`), and if all that reads it are layers with a kernel, which lose its rows. What is read by something
    else, a residual sum say, stays; and of a layer whose filters are all collapsed one stays. Outputs are compared
    before and after: relative to the largest they agree to 1e-6, or in low precision to 100 roundings.

    Args:
        model: any linen module whose layers with a kernel have their `features` as an attribute, as `nn.Dense`,
            `nn.Conv` and the library's `Convolution`.
        variables: its parameters and statistics.
        *inputs: what the model is applied to: all the rows on which the output shall not change.
        **options: further arguments of the model, such as `mode="running"`, with which it returns its output alone.

    Raises:
        ValueError: a normalizer is applied more than once, or inside of a loop or a rematerialized part; an input
            without rows; inputs or outputs that are not finite; `mutable`, with which a model returns more than its
            output.
    """
    if "mutable" in options:
        raise ValueError("prune needs the model's output alone, with statistics that stay; leave out mutable=")
    whole = Pruned(model, variables, {}, {}, (0, 0), (0, 0))
    makers, operations = _structure(whole, *inputs, **options)
    measure = jit_once(lambda variables, inputs: filter_margins(model, variables, *inputs, **options))
    walk = jit_once(
        lambda marks, variables, inputs: _marked(replace(whole, variables=variables), marks, *inputs, **options)
    )
    margins = {name: margin for name, margin in measure(variables, inputs).items() if name in makers}
    nothing = {name: jnp.zeros(margin.shape, bool) for name, margin in margins.items()}
    plain = walk(nothing, variables, inputs)
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((inputs, plain.outputs))):
        raise ValueError("prune compares outputs: inputs and outputs need to be finite, got NaN or infinity")
    removals = []
    for name, margin in margins.items():
        # The filter of the largest margin stays even if that is negative.
        collapsed = (margin < 0).at[jnp.argmax(margin)].set(False)
        if not collapsed.any():
            continue
        seen = walk({**nothing, name: collapsed}, variables, inputs)
        silent = all(bool(jnp.all(plain.silent[layer] | ~marked)) for layer, marked in seen.marked.items())
        if silent and not seen.escaped and _agree(seen.outputs, plain.outputs):
            read = {layer: np.array(marked) for layer, marked in seen.marked.items()}
            removals.append(_Removal(name, makers[name], ~np.array(collapsed), read))
    pruned = _tried(whole, removals, plain.outputs, *inputs, **options)
    if pruned is None:  # Something takes both what is removed and what is not: found by trying one after another.
        pruned, fitting = whole, []
        for removal in removals:
            trial = _tried(whole, [*fitting, removal], plain.outputs, *inputs, **options)
            if trial is not None:
                pruned, fitting = trial, [*fitting, removal]
    _, fewer = _structure(pruned, *inputs, **options)
    return replace(
        pruned,
        parameters=(_parameters(variables), _parameters(pruned.variables)),
        operations=(operations, fewer),
    )


def _tried(whole: Pruned, removals: Sequence[_Removal], expected: Any, *inputs: Array, **options: Any) -> Pruned | None:
    """Return the network without some filters, or None if that is none or returns something else."""
    network = replace(
        whole,
        variables=_sliced(whole.variables, removals) if removals else whole.variables,
        widths={removal.maker: int(removal.kept.sum()) for removal in removals},
        removed={removal.normalizer: int((~removal.kept).sum()) for removal in removals},
    )
    try:
        outputs = jit_once(lambda variables, inputs: replace(network, variables=variables).apply(*inputs, **options))(
            network.variables, inputs
        )
    except (TypeError, ValueError, FlaxError):  # Shapes that do not fit.
        return None
    return network if _agree(outputs, expected) else None


def _sliced(variables: Mapping[str, Any], removals: Sequence[_Removal]) -> dict[str, Any]:
    """Return variables without the columns of layers, the numbers of their normalizers and the rows that read them."""
    kept = {holder: removal.kept for removal in removals for holder in (removal.normalizer, removal.maker)}
    flat: dict[tuple[str, ...], Any] = flatten_dict(variables)
    for path, leaf in flat.items():
        holder = "/".join(path[1:-1])
        if path[-1] == "kernel":
            read = [removal.read[holder] for removal in removals if holder in removal.read]
            leaf = leaf[..., ~np.any(read, axis=0), :] if read else leaf
        if holder in kept and leaf.shape[-1:] == kept[holder].shape:
            leaf = leaf[..., kept[holder]]
        flat[path] = leaf
    return unflatten_dict(flat)


def _agree(outputs: Any, others: Any) -> bool:
    def same(one: Array, other: Array) -> bool:
        if not jnp.issubdtype(other.dtype, jnp.inexact) or not other.size:
            return one.shape == other.shape and bool(jnp.all(one == other))
        allowed = max(TOLERANCE, ROUNDINGS * float(jnp.finfo(other.dtype).eps))
        return one.shape == other.shape and bool(jnp.max(jnp.abs(one - other)) <= allowed * jnp.max(jnp.abs(other)))

    return all(jax.tree.leaves(jax.tree.map(same, outputs, others)))


def _parameters(variables: Mapping[str, Any]) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def _structure(network: Pruned, *inputs: Array, **options: Any) -> tuple[dict[str, str], int]:
    """Return which layer's output each normalizer takes, and the operations of all kernels; nothing is computed."""
    makers: dict[str, str] = {}
    made: list[tuple[Array, str]] = []
    operations = 0

    def seen(module: nn.Module, name: str, value: Array, call: Callable[[Array], Array]) -> Array:
        nonlocal operations
        output = call(value)
        if isinstance(module, NORMALIZATIONS) and feature_axis_of(module, value) == value.ndim - 1:
            makers.update((name, maker) for taken, maker in made if taken is value)
        elif module.has_variable("params", "kernel"):
            if _is_dense(module, value):
                made.append((output, name))
            places = output.size // (len(output) * output.shape[-1])
            operations += 2 * places * module.get_variable("params", "kernel").size
        return output

    jax.eval_shape(
        lambda variables: _applied(seen, replace(network, variables=variables), *inputs, **options), network.variables
    )
    return makers, operations


def _is_dense(module: nn.Module, value: Array) -> bool:
    """Return whether every output of a layer reads every feature of its input, as in a convolution without groups."""
    return module.get_variable("params", "kernel").shape[-2] == value.shape[-1]


def _marked(network: Pruned, marks: Mapping[str, Bool[Array, " filters"]], *inputs: Array, **options: Any) -> _Marked:
    """Return what is seen of an application with some filters marked; the marks are given by normalizer."""
    marked: dict[str, Array] = {}
    silent: dict[str, Array] = {}
    escaped = jnp.zeros((), bool)

    def seen(module: nn.Module, name: str, value: Array, call: Callable[[Array], Array]) -> Array:
        nonlocal escaped
        if isinstance(module, NORMALIZATIONS):
            escaped |= jnp.isnan(value).any()
            output = call(value)
            return jnp.where(marks[name], jnp.nan, output) if name in marks else output
        if not module.has_variable("params", "kernel"):
            return call(value)
        if not _is_dense(module, value):
            escaped |= jnp.isnan(value).any()
            return call(value)
        places = tuple(range(value.ndim - 1))
        marked[name] = jnp.isnan(value).any(places) | marked.get(name, False)
        value = jnp.where(jnp.isnan(value), 0, value)
        silent[name] = (value == 0).all(places) & silent.get(name, True)
        return call(value)

    outputs = _applied(seen, network, *inputs, **options)
    return _Marked(outputs, marked, silent, escaped)


def _applied(around: Around | None, network: Pruned, *inputs: Array, **options: Any) -> Any:
    """Return what the network returns, with `around(module, name, input, call)`, if given, in place of module calls."""

    def narrow(module: Any, name: str, value: Array, call: Callable[[Array], Any]) -> Any:
        def narrowed(value: Array) -> Any:
            layer = module.clone(features=network.widths[name], parent=None, name=None)
            return layer.apply({"params": module.variables["params"]}, value)

        if not name or around is None:  # A narrowed layer is applied as a model of its own, without a name.
            return narrowed(value) if name in network.widths else call(value)
        return around(module, name, value, narrowed if name in network.widths else call)

    return apply_around(narrow, network.model, network.variables, *inputs, **options)
