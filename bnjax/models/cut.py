"""What enters a normalizer inside a network, and what does the rest of the network make of what leaves it?"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flax import linen as nn
from jaxtyping import Array

from bnjax.models.interception import apply_around, names_of
from bnjax.models.normalizer import Normalization
from bnjax.normalizers import Normalizer
from bnjax.normalizers.normalizer import Params, Stats

# How a network is applied here, whose statistics are then those of the batch.
BATCH_MODE: dict[str, Any] = {"mode": "batch", "mutable": ["batch_stats"]}


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


# What to make of a normalizer inside a network: itself, its name, what enters it, and the call that applies it.
AroundNormalizer = Callable[[Normalizer, str, Array, Callable[[], Array]], Array]


def normalizer_names(
    model: nn.Module, variables: Mapping[str, Any], inputs: Array, *, rngs: Mapping[str, Array] | None = None
) -> list[str]:
    """Return a network's normalizers in the order in which it applies them in batch mode; nothing is computed.

    One that is applied several times is named as often. Arguments as in `cut_at`.
    """
    return names_of(
        model, variables, inputs, of=lambda module: isinstance(module, Normalization), rngs=rngs, **BATCH_MODE
    )


def cut_at(
    model: nn.Module,
    variables: Mapping[str, Any],
    inputs: Array,
    name: str,
    *,
    rngs: Mapping[str, Array] | None = None,
) -> Cut:
    """Return a network in batch mode, cut at one of its normalizers.

    Args:
        model: a linen module with `__call__(inputs, *, mode)` that holds its normalizers as `Normalization`.
        variables: its parameters and statistics.
        inputs: a batch.
        name: which normalizer, one of `normalizer_names`.
        rngs: the keys of its dropout and noise, which are the same in both parts.

    Raises:
        ValueError: the model applies no normalizer of this name, or applies it more than once.
    """
    seen: list[tuple[str, Normalizer, Array]] = []

    def note(normalizer: Normalizer, name: str, features: Array, call: Callable[[], Array]) -> Array:
        seen.append((name, normalizer, features))
        return call()

    _applied(model, variables, inputs, rngs, note)
    named = [(normalizer, features) for other, normalizer, features in seen if other == name]
    if not named:
        raise ValueError(f"the network needs a normalizer {name!r} to be cut at, got {[other for other, *_ in seen]}")
    if len(named) > 1:
        raise ValueError(f"a normalizer to be cut at needs to be applied once, got {name} applied several times")
    ((normalizer, features),) = named
    params, stats = (_at(variables.get(collection, {}), name) for collection in ("params", "batch_stats"))

    def head(y: Array) -> Array:
        return _applied(model, variables, inputs, rngs, lambda _, other, __, call: y if other == name else call())

    return Cut(name, normalizer, params, stats, features, head)


def cut_at_last_normalizer(
    model: nn.Module, variables: Mapping[str, Any], inputs: Array, *, rngs: Mapping[str, Array] | None = None
) -> Cut:
    """Return a network in batch mode, cut at the last normalizer that it applies; arguments as in `cut_at`.

    Raises:
        ValueError: the model applies no normalizer, or the last one is applied more than once.
    """
    names = normalizer_names(model, variables, inputs, rngs=rngs)
    if not names:
        raise ValueError(f"the network needs a normalizer to be cut at, got {type(model).__name__} that applies none")
    return cut_at(model, variables, inputs, names[-1], rngs=rngs)


def _applied(
    model: nn.Module,
    variables: Mapping[str, Any],
    inputs: Array,
    rngs: Mapping[str, Array] | None,
    around: AroundNormalizer,
) -> Array:
    """Return the output of a network in batch mode with `around` in place of every normalizer's call."""

    def around_normalizer(module: nn.Module, name: str, value: Array, call: Callable[[Array], Any]) -> Any:
        if isinstance(module, Normalization):
            return around(module.norm, name, value, lambda: call(value))
        return call(value)

    return apply_around(around_normalizer, model, variables, inputs, rngs=rngs, **BATCH_MODE)[0]


def _at(collection: Mapping[str, Any], name: str) -> dict[str, Array]:
    for part in name.split("/"):
        collection = collection.get(part, {})
    return dict(collection)
