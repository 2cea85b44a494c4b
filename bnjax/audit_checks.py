"""Can it be said of this model what gets back through that layer? The checks of an audit, in their order."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from bnjax.models.recording import Recording
from bnjax.models.rest import Application
from bnjax.normalizers.checks import is_concrete
from bnjax.problem import as_array

# The most entries of a batch, rows times features, for which its loss is expanded as a whole.
JOINT_LIMIT = 1024


def as_application(model: nn.Module, layer: str, apply_kwargs: Mapping[str, Any]) -> Application:
    """Return the model as it is applied; TypeError if it can't be compiled once.

    A layer that is no string is kept as it is written: no layer has that path, and those that there are will be listed.
    """
    path = layer if isinstance(layer, str) else repr(layer)
    application = Application(model, path, tuple(sorted(apply_kwargs.items())))
    try:
        hash(application)
    except TypeError as error:
        raise TypeError(
            f"model and apply_kwargs need to be hashable, to be compiled once: {error}; use tuples for lists, "
            "and pass arrays among the inputs"
        ) from None
    return application


def as_inputs(inputs: Any) -> tuple:
    """Return the arguments of a model as arrays; ValueError unless they are of the same rows."""
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    arrays = jax.tree.map(partial(as_array, what="an input"), arguments)
    shapes = [leaf.shape for leaf in jax.tree.leaves(arrays)]
    if len({shape[:1] for shape in shapes}) != 1 or shapes[0] == ():
        raise ValueError(
            f"inputs need to have one entry a row, all for the same rows, got shapes {shapes}; what is no array of "
            "rows goes to apply_kwargs, and a list of numbers counts as many arrays: make it one"
        )
    return arrays


def check_layer(recording: Recording, rows: int, layer: str) -> None:
    """Raise unless what the layer did is what its normalizer does in training, row by row."""
    seen = recording.layer
    name, shape = seen.normalizer.name, seen.features.shape
    if not is_concrete(seen.error):
        raise TypeError("audit looks at values and compiles by itself: call it outside of jax.jit and jax.grad")
    if len(seen.features) != rows:
        raise ValueError(
            f"the input of {layer!r} needs one entry for each of the {rows} rows, got shape {shape}; what joins rows "
            "and positions in one axis has no rows any more"
        )
    seen.normalizer.check(seen.features)
    if not seen.error <= 1:
        raise ValueError(
            f"{layer!r} needs to be {name} with the statistics of the batch, but it returned something else, different "
            f"by {float(seen.relative_error):.2g} of the largest entry. It may use running statistics, or a mask: "
            "leave out masks, and set the model to training, by what its call takes for that, such as "
            "apply_kwargs={'train': True}, by a flag of its constructor or, if it is one of nnx, by its train()"
        )


def check_rows(losses: Float[Array, " n"], recording: Recording, layer: str) -> None:
    """Raise unless every row has the same loss alone as in the batch."""
    dtypes = [leaf.dtype for leaf in (recording.layer.features, recording.losses, *jax.tree.leaves(recording.outputs))]
    epsilon = max(float(jnp.finfo(dtype).eps) for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating))
    size, error = (float(jnp.max(jnp.abs(value))) for value in (recording.losses, losses - recording.losses))
    # What the layer's fast variance loses is in the losses of the batch alone.
    lost = 10 * float(recording.layer.relative_error) if recording.layer.fast_variance else 0.0
    if error > (epsilon**0.5 + lost) * size:
        hidden = f" (such as {', '.join(recording.hidden)})" if recording.hidden else ""
        raise ValueError(
            f"rows are mixed behind {layer!r}, or noise is drawn there that a row alone does not get: alone a row's "
            f"loss differs by {error:.3g} from what it is in the batch, where the largest is {size:.3g}. "
            "Audit a layer behind it, or change it: noise that the model draws itself (make_rng, as for stochastic "
            "depth) to nn.Dropout(rate, broadcast_dims=(1, 2, 3), rng_collection=...), which is held as drawn; "
            "positions joined with rows in one axis to rows first. Normalizers and dropout of flax's or the library's "
            f"are held, unless they are inside of nn.scan or nn.remat{hidden}; not held are attention over the batch, "
            "other normalizations, and what use_fast_variance loses where a mean is large. For a batch of up to "
            f"{JOINT_LIMIT} entries at the layer there is statistics='joint'"
        )
