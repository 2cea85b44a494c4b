"""What does a model make of what leaves one of its layers, of a whole batch or of a row alone?"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from bnjax.models.held import Held, length
from bnjax.models.interception import Around, apply_around
from bnjax.models.recognition import NORMALIZATIONS

# A call: the path of the module, and how often it had been called before.
Call = tuple[str, int]


class RowsElsewhereError(ValueError):
    """Something was done to a batch whose rows are not on the first axis."""


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
        held: calls that are replaced, as of the whole batch.
        application: the model and the layer.
        dtype: of what leaves the layer.
        row_shapes: of the model's outputs, without the axis of rows.
    """

    variables: Mapping[str, Any]
    rngs: Any
    held: dict[Call, Held]
    application: Application = field(metadata={"static": True})
    dtype: Any = field(metadata={"static": True})
    row_shapes: tuple[tuple[int, ...], ...] = field(metadata={"static": True})

    def __call__(self, y: Float[Array, "n ..."], inputs: tuple, of_row: Mapping[Call, Held] | None = None) -> Any:
        """Return the model's outputs with `y` in place of what leaves the layer.

        Calls are replaced by those `of_row`, if they are of the length of what enters them, or else by those held: what
        is dropped of something without rows, such as an embedding of positions, is the same for all.
        """
        calls: Counter[str] = Counter()

        def around(module: nn.Module, name: str, value: Any, call: Callable[[Any], Any]) -> Any:
            if name == self.application.layer:
                return y.astype(self.dtype)
            if not isinstance(module, (nn.Dropout, *NORMALIZATIONS)):
                return call(value)
            place = (name, calls[name])
            calls[name] += 1
            own = (of_row or {}).get(place)
            held = own if own and own.length == length(value) else self.held.get(place)
            if held is None:
                return call(value)
            output = held(value)
            if output.shape != value.shape:
                raise RowsElsewhereError(
                    f"{name} needs to act on rows that are on the first axis: of one row {value.shape} enters it, and "
                    f"what it did to the batch makes that {output.shape}; put the axis of rows first there"
                )
            return output

        return self.application(around, self.variables, inputs, self.rngs)


def row_output(rest: Rest, row: Float[Array, "..."], context: tuple[tuple, dict[Call, Held]]) -> Any:
    """Return the model's output for one row that leaves the layer.

    Args:
        rest: the model without the layer.
        row: what leaves the layer.
        context: of the row, the model's inputs and the calls to be replaced.

    Raises:
        RowsElsewhereError: dropout or a normalizer whose rows are not on the first axis.
        ValueError: a model that takes the whole batch, but no row alone.
    """
    inputs, of_row = context
    batch_of_one = jax.tree.map(lambda leaf: leaf[None], inputs)
    try:
        outputs = rest(row[None], batch_of_one, of_row)
        found, expected = [jnp.shape(leaf) for leaf in jax.tree.leaves(outputs)], [(1, *own) for own in rest.row_shapes]
        if found != expected:
            raise ValueError(f"it returns shapes {found} in place of {expected}")
    except RowsElsewhereError:
        raise
    except Exception as error:
        shapes = [leaf.shape for leaf in jax.tree.leaves(batch_of_one)]
        raise ValueError(
            f"{type(rest.application.model).__name__} needs to take every row alone, as a batch of one of shapes "
            f"{shapes}, and not the whole batch only: {error}; let the model read the number of rows off its input, as "
            "in x.reshape(len(x), -1), and say which axes are to go, as in x.squeeze(-1)"
        ) from error
    return jax.tree.map(lambda leaf: leaf[0], outputs)
