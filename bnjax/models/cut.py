"""What enters a normalizer inside a network, and what does the rest of the network make of what leaves it?"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flax import linen as nn
from jaxtyping import Array

from bnjax.models.normalizer import Normalization
from bnjax.normalizers import Normalizer
from bnjax.normalizers.normalizer import Params, Stats


class Cut(NamedTuple):
    """A network cut in two at one normalizer: trunk → normalizer → head.

    Attributes:
        name: where the normalizer's parameters are in the collection `params`, such as `Normalization_0`.
        normalizer: the normalizer.
        params: its parameters.
        stats: its statistics.
        features: what enters it.
        head: `head(y) -> output`, what the rest of the network makes of the normalizer's output `y`, all else equal.
    """

    name: str
    normalizer: Normalizer
    params: Params
    stats: Stats
    features: Array
    head: Callable[[Array], Array]


def cut_at_last_normalizer(
    model: nn.Module, variables: Mapping[str, Any], inputs: Array, *, rngs: Mapping[str, Array] | None = None
) -> Cut:
    """Return a network in batch mode, cut at the last normalizer that it applies.

    Args:
        model: a linen module with `__call__(inputs, *, mode)` that holds its normalizers as `Normalization`.
        variables: its parameters and statistics.
        inputs: a batch.
        rngs: the keys of its dropout and noise, which are the same in both parts.

    Raises:
        ValueError: the model applies no normalizer, or the last one is applied more than once.
    """

    def applied(replace: Callable[[nn.Module, Array], Array | None]) -> Array:
        def intercepted(call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
            if isinstance(context.module, Normalization) and context.method_name == "__call__":
                replaced = replace(context.module, args[0])
                if replaced is not None:
                    return replaced
            return call(*args, **kwargs)

        apply: Any = model.apply
        with nn.intercept_methods(intercepted):
            return apply(variables, inputs, mode="batch", mutable=["batch_stats"], rngs=rngs)[0]

    seen: list[tuple[str, Normalizer, Array]] = []

    def note(module: nn.Module, features: Array) -> None:
        assert isinstance(module, Normalization)
        seen.append(("/".join(module.path), module.norm, features))

    applied(note)
    if not seen:
        raise ValueError(f"the network needs a normalizer to be cut at, got {type(model).__name__} that applies none")
    name, normalizer, features = seen[-1]
    if sum(other == name for other, *_ in seen) > 1:
        raise ValueError(f"the last normalizer needs to be applied once, got {name} applied several times")
    params, stats = (_at(variables.get(collection, {}), name) for collection in ("params", "batch_stats"))

    def head(y: Array) -> Array:
        return applied(lambda module, _: y if "/".join(module.path) == name else None)

    return Cut(name, normalizer, params, stats, features, head)


def _at(collection: Mapping[str, Any], name: str) -> dict[str, Array]:
    for part in name.split("/"):
        collection = collection.get(part, {})
    return dict(collection)
