"""How is an nnx model looked into? As a linen module, in which its normalizers and dropout are linen modules too."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache, partial
from typing import Any

from flax import linen as nn
from flax import nnx
from flax.core import Scope

# What is seen of an nnx model, and as what.
LINEN: dict[type[nnx.Module], type[nn.Module]] = {
    nnx.BatchNorm: nn.BatchNorm,
    nnx.LayerNorm: nn.LayerNorm,
    nnx.RMSNorm: nn.RMSNorm,
    nnx.GroupNorm: nn.GroupNorm,
    nnx.InstanceNorm: nn.InstanceNorm,
    nnx.Dropout: nn.Dropout,
}
COLLECTIONS = ("params", "batch_stats")


class NnxModel(nn.Module):
    """An nnx model as a linen module, equal for models that differ in their arrays alone.

    The collection `params` has its `nnx.Param`, `batch_stats` all else that is an array: statistics, streams of keys.
    Their paths are the same, such as `blocks/0/norm/scale`.

    Attributes:
        graphdef: the model without its arrays.
    """

    graphdef: nnx.GraphDef

    @nn.nowrap
    def with_variables(self, variables: Mapping[str, Any]) -> Any:
        """Return the nnx model with these variables, or with something of their shapes in their place."""
        return nnx.merge(self.graphdef, *(nnx.restore_int_paths(variables.get(name, {})) for name in COLLECTIONS))

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Return what the model makes of its arguments; what its call changes in `batch_stats` is put there."""
        model = self.with_variables(self.variables)
        for path, module in list(nnx.iter_modules(model)):
            for own in LINEN:
                if isinstance(module, own):
                    _show(module, LINEN[own], _inner(self.scope, path))
        outputs = model(*inputs, **options)
        if self.is_mutable_collection("batch_stats"):
            for name, value in _collections(model)["batch_stats"].items():
                self.put_variable("batch_stats", name, value)
        return outputs


def from_nnx(model: nnx.Module) -> tuple[NnxModel, dict[str, Any]]:
    """Return an nnx model as a linen module, and its variables."""
    return NnxModel(nnx.graphdef(model)), _collections(model)


def _collections(model: nnx.Module) -> dict[str, Any]:
    _, *states = nnx.split(model, nnx.Param, ...)
    return {name: _named(nnx.to_pure_dict(state)) for name, state in zip(COLLECTIONS, states, strict=True)}


def _named(tree: Any) -> Any:
    """Return nested dicts with names in place of the numbers that lists have for keys."""
    return {str(key): _named(value) for key, value in tree.items()} if isinstance(tree, Mapping) else tree


def _inner(scope: Any, path: tuple) -> Scope:
    for name in map(str, path):
        scope = scope.push(name, reuse=True)
    return scope


def _show(module: Any, kind: type[nn.Module], scope: Scope) -> None:
    """Have an nnx module called by way of a linen module with its settings."""
    own = ((field.name, getattr(module, field.name, None)) for field in fields(kind))
    settings = {name: value for name, value in own if value is not None}
    module.seen_as = partial(_seen(kind), **settings, parent=scope)
    module.__class__ = _shown(type(module))


@cache
def _shown(kind: Any) -> type[nnx.Module]:
    class Shown(kind):
        seen_as: Callable[..., nn.Module]

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return self.seen_as(own_call=partial(kind.__call__, self))(*args, **kwargs)

    return Shown


@cache
def _seen(kind: Any) -> type[nn.Module]:
    class Seen(kind):
        own_call: Callable[..., Any] = partial

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return self.own_call(*args, **kwargs)

    return Seen
