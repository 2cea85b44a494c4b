"""Which batch normalizations of a model take running statistics where those of the batch are meant?"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

from bnjax.models.dependence import dependence
from bnjax.models.interception import apply_around
from bnjax.models.recognition import NORMALIZATIONS, normalizer_of
from bnjax.normalizers import Normalizer
from bnjax.normalizers.normalizer import Stats


def check_batch_statistics(
    model: nn.Module, variables: Mapping[str, Any], inputs: tuple, options: Mapping[str, Any], rngs: Any
) -> None:
    """Raise unless every batch normalization of a model takes the statistics of the batch and has running ones.

    It is read off the program, so that it holds for what is being traced too.

    Args:
        model: any linen module, whose normalizers are neither in `nn.scan` nor in `nn.remat`.
        variables: its parameters and statistics.
        inputs: its arguments.
        options: what else it is called with.
        rngs: its keys.

    Raises:
        ValueError: one that does not; it names the normalizer.
    """
    flat: Mapping[str, Any] = flatten_dict(nn.unbox(variables.get("batch_stats", {})), sep="/")
    names: list[str] = []

    def leaving(stats: Mapping[str, Any]) -> dict[str, Array]:
        found: dict[str, Array] = {}

        def note(module: nn.Module, name: str, value: Any, call: Callable[[Any], Any]) -> Any:
            output = call(value)
            normalizer = normalizer_of(module, value) if isinstance(module, NORMALIZATIONS) else None
            if normalizer and _reads_the_batch_alone(normalizer, value):
                found[name] = output
            return output

        whole = {**variables, "batch_stats": unflatten_dict(stats, sep="/")}
        apply_around(note, model, whole, *inputs, mutable=["batch_stats"], rngs=rngs, **options)
        names.extend(sorted(found))
        return found

    reached = dependence(leaving, flat)
    for name, by_statistic in zip(names, reached, strict=True):
        place = name or "the model"
        own = [used for path, used in zip(sorted(flat), by_statistic, strict=True) if path.rpartition("/")[0] == name]
        if not own:
            raise ValueError(
                f"{place} needs its running statistics, but variables['batch_stats'] has none; pass all that "
                "model.init returns, not the parameters alone"
            )
        if any(own):
            raise ValueError(
                f"{place} needs to take the statistics of the batch, but it takes running ones; set the model to "
                "training, by what its call takes for that, such as apply_kwargs={'train': True}, by a flag of its "
                "constructor or, if it is one of nnx, by its train()"
            )


def _reads_the_batch_alone(normalizer: Normalizer, x: Array) -> bool:
    """Return whether running statistics are kept that batch mode ignores; batch renormalization reads them."""
    stats = normalizer.init(x)[1]
    if not stats:
        return False

    def values(stats: Stats) -> Array:
        return normalizer.standardize(stats, x, mode="batch", key=jax.random.key(0))[0].values

    (reached,) = dependence(values, stats)
    return not any(reached)
