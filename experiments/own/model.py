"""Which model and which loss are those of the user? Named on the command line, checked before they are used.

All that does not fit raises ValueError, which names the option, what it needs and what came.
"""

import inspect
import json
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.core import FrozenDict, unfreeze
from jaxtyping import Array

from bnjax.models.given import explained
from bnjax.models.interception import Around, apply_around
from bnjax.models.recognition import NORMALIZATIONS
from bnjax.reporting.errors import said


def squared(output: Array, target: Array) -> Array:
    """Return half of the squared distance of an output and a target of the same shape."""
    if output.shape != target.shape:
        raise ValueError(
            f"a squared loss needs targets of the outputs' shape {output.shape}, got {target.shape} and {target.dtype}"
        )
    return jnp.sum((output - target) ** 2) / 2


LOSSES: dict[str, Callable[..., Array]] = {
    "cross_entropy": optax.softmax_cross_entropy_with_integer_labels,
    "squared": squared,
}

EXAMPLES = {"--model-options": '{"features": 32}', "--call-options": '{"train": true}'}


class OwnModel(NamedTuple):
    """A model as it is called in training, with its loss; hashable, so that equal ones compile once.

    Attributes:
        module: the linen module.
        options: what else it is called with, as pairs.
        loss: of one row, `loss(output_row, label)`.
    """

    module: nn.Module
    options: tuple[tuple[str, Any], ...]
    loss: Callable[..., Array]

    def init(self, key: Array, inputs: Array) -> dict[str, Any]:
        """Return variables at random, as plain arrays: the boxes of `nn.with_partitioning` are for other devices."""
        init: Any = self.module.init
        return unfreeze(nn.unbox(init(streams(key), inputs, **dict(self.options))))

    def outputs(self, variables: Any, inputs: Array, rngs: Any, around: Around | None = None) -> tuple[Any, Any]:
        """Return the outputs and the changed statistics, with `around` in place of the calls of its modules."""
        options = {"mutable": ["batch_stats"], "rngs": rngs, **dict(self.options)}
        return apply_around(
            around or (lambda _, __, value, call: call(value)), self.module, variables, inputs, **options
        )

    def normalizers(self, variables: Any, inputs: Array, rngs: Any) -> list[str]:
        """Return the paths of its normalizers, from the input on; nothing is computed."""
        paths: list[str] = []

        def note(module: nn.Module, path: str, value: Any, call: Callable[[Any], Any]) -> Any:
            if isinstance(module, NORMALIZATIONS):
                paths.append(path)
            return call(value)

        jax.eval_shape(partial(self.outputs, around=note), variables, inputs, rngs)
        return list(dict.fromkeys(paths))


def streams(key: Array) -> dict[str, Array]:
    """Return the keys of dropout and noise, and as `params` the one that flax takes for every other name."""
    return dict(zip(("dropout", "noise", "params"), jax.random.split(key, 3), strict=True))


def own_model(model: str, model_options: str, call_options: str, loss: str) -> OwnModel:
    """Return the model that options of the command line name."""
    make, options = _named("--model", model), _options("--model-options", model_options)
    if not callable(make):
        raise ValueError(f"--model needs a linen module class or a function that makes one, got {type(make).__name__}")
    signature = inspect.signature(make)
    try:
        signature.bind(**options)
    except TypeError as error:
        raise ValueError(f"--model-options do not fit {model}{signature}: {error}") from None
    try:
        module = make(**options)
    except Exception as error:
        raise ValueError(f"--model {model} can't be made with the options {options}: {said(error)}") from error
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"--model needs a linen module class (flax.linen.Module), or a function that makes such a module; {model} "
            f"makes a {type(module).__name__}; an nnx model is audited from Python, by bnjax.audit(model, None, ...)"
        )
    of_row = LOSSES[loss] if loss in LOSSES else _named("--loss", loss, f"one of {', '.join(LOSSES)}, or ")
    return OwnModel(module, tuple(sorted(_call_options(module, call_options).items())), of_row)


def called_shapes(model: OwnModel, key: Array, inputs: Array) -> dict[str, Any]:
    """Return the shapes of a model's variables, for which it can be called on the inputs."""
    try:
        with explained(model.module, (inputs,)):
            variables = jax.eval_shape(model.init, key, inputs)
            jax.eval_shape(model.outputs, variables, inputs, streams(key))
    except Exception as error:
        raise ValueError(
            f"--model can't be called on inputs of shape {inputs.shape} and {inputs.dtype} with --call-options "
            f"{dict(model.options)}: {said(error)}; what else it is called with in training goes to --call-options, "
            f"such as '{EXAMPLES['--call-options']}'"
        ) from error
    return variables


def check_classes(model: OwnModel, variables: Any, inputs: Array, *labels: np.ndarray) -> None:
    """Raise unless the labels of a cross-entropy, in any arrays, are numbers of the model's outputs."""
    if model.loss is not LOSSES["cross_entropy"]:
        return
    outputs, _ = jax.eval_shape(model.outputs, variables, inputs, streams(jax.random.key(0)))
    shape = getattr(outputs, "shape", ())
    if len(shape) != 2:
        raise ValueError(
            f"--loss cross_entropy needs a model that returns logits of shape (rows, classes), got "
            f"{shape or type(outputs).__name__}; pass --loss package.module:name, a loss(output_row, label) of your own"
        )
    for array in labels:
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            raise ValueError(
                f"--loss cross_entropy needs labels of one integer a row, got {array.dtype} of shape {array.shape}"
            )
        if array.min() < 0 or array.max() >= shape[1]:
            raise ValueError(
                f"labels need to be from 0 to {shape[1] - 1}, for the model has {shape[1]} outputs, got some from "
                f"{array.min()} to {array.max()}"
            )


def _named(option: str, name: str, further: str = "") -> Any:
    """Return what `package.module:name` names."""
    module, separator, attribute = name.partition(":")
    if not (module and separator and attribute) or "/" in module or module.endswith(".py"):
        raise ValueError(f"{option} needs {further}package.module:name, without a path or .py, got {name!r}")
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:
        raise ValueError(
            f"{option} {name} can't be imported: {said(error)}; run from the folder that holds the module, or put it "
            "on PYTHONPATH"
        ) from error


def _call_options(module: nn.Module, text: str) -> dict[str, Any]:
    """Return what else a model is called with; ValueError unless its own `__call__` takes that."""
    options, name = _options("--call-options", text), type(module).__name__
    if not callable(module):
        raise ValueError(f"--model needs a module with a method __call__, which {name} has not")
    if taken := set(inspect.signature(nn.Module.apply).parameters) & set(options):
        raise ValueError(f"--call-options are for {name}.__call__, got {' '.join(sorted(taken))} of apply")
    signature = inspect.signature(module)
    try:
        signature.bind("inputs", **options)
    except TypeError as error:
        raise ValueError(f"--call-options do not fit {name}.__call__{signature}: {error}") from None
    return options


def _options(option: str, text: str) -> dict[str, Any]:
    """Return a JSON object, hashable: with tuples in place of lists."""
    wanted = f"{option} needs a JSON object such as '{EXAMPLES[option]}', got {text!r}"
    try:
        options = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{wanted}: {error}") from None
    if not isinstance(options, dict):
        raise ValueError(wanted)
    return {name: _hashable(value) for name, value in options.items()}


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return FrozenDict({name: _hashable(entry) for name, entry in value.items()})
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
