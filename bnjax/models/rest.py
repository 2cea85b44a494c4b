"""What does a model make of what leaves one of its layers, of a whole batch or of a row alone?"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
from flax import linen as nn
from jaxtyping import Array, Float

from bnjax.models.held import Held
from bnjax.models.interception import Around, apply_around
from bnjax.models.recognition import NORMALIZATIONS

# A call: the path of the module, and how often it had been called before.
Call = tuple[str, int]


@dataclass(frozen=True)
class Application:
    """A model as it is applied in training, and one layer in it; hashable, so that equal ones compile once.

    Attributes:
        model: any linen module.
        layer: the path of the layer.
        options: further arguments of the model's call, as pairs.
    """

    model: nn.Module
    layer: str
    options: tuple[tuple[str, Any], ...]

    def __call__(self, around: Around, variables: Mapping[str, Any], inputs: tuple, rngs: Any) -> Any:
        """Return the model's outputs, with `around` in place of its modules' calls."""
        options = {"mutable": ["batch_stats"], "rngs": rngs, **dict(self.options)}
        return apply_around(around, self.model, variables, *inputs, **options)[0]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rest:
    """A model without one of its layers: what it makes of rows that leave that layer; a pytree.

    Attributes:
        variables: parameters and statistics.
        rngs: the keys.
        held: calls that are replaced, the same for all rows.
        application: the model and the layer.
        dtype: of what leaves the layer.
    """

    variables: Mapping[str, Any]
    rngs: Any
    held: dict[Call, Held]
    application: Application = field(metadata={"static": True})
    dtype: Any = field(metadata={"static": True})

    def __call__(self, y: Float[Array, "n ..."], inputs: tuple, held: Mapping[Call, Held] | None = None) -> Any:
        """Return the model's outputs with `y` in place of what leaves the layer, and further calls replaced."""
        replaced = {**self.held, **(held or {})}
        calls: Counter[str] = Counter()

        def around(module: nn.Module, name: str, value: Any, call: Callable[[Any], Any]) -> Any:
            if name == self.application.layer:
                return y.astype(self.dtype)
            if not isinstance(module, (nn.Dropout, *NORMALIZATIONS)):
                return call(value)
            held = replaced.get((name, calls[name]), call)
            calls[name] += 1
            return held(value)

        return self.application(around, self.variables, inputs, self.rngs)


def row_output(rest: Rest, row: Float[Array, "..."], context: tuple[tuple, dict[Call, Held]]) -> Any:
    """Return the model's output for one row that leaves the layer.

    Args:
        rest: the model without the layer.
        row: what leaves the layer.
        context: of the row, the model's inputs and the calls to be replaced.
    """
    batch_of_one = partial(jax.tree.map, lambda leaf: leaf[None])
    return jax.tree.map(lambda leaf: leaf[0], rest(row[None], *batch_of_one(context)))
