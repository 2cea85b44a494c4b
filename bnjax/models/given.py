"""Can this model be looked into? What users hand over, as a linen module with its variables, or what to do instead."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
from flax import errors, nnx
from flax import linen as nn

from bnjax.models.nnx_model import from_nnx


def as_linen(
    model: Any, variables: Any, arguments: tuple, options: Mapping[str, Any], rngs: Any
) -> tuple[nn.Module, Mapping[str, Any]]:
    """Return a linen or nnx model as a linen module, and its variables.

    Args:
        model: a linen module, or an nnx model.
        variables: what `model.init` returns; None for an nnx model, which has its own.
        arguments: what the model is called with.
        options: what else it is called with, by name.
        rngs: its keys; None for an nnx model, which has its own.

    Raises:
        TypeError: a model that is neither, is bound or can't be called so; variables that are no mapping, or not None.
        ValueError: options that are not the model's, parameters in place of collections of variables, keys for an nnx
            model.
    """
    if not isinstance(model, nn.Module | nnx.Module):
        hint = f"; make one, {model.__name__}(...)" if isinstance(model, type) else "; pass the module itself"
        raise TypeError(f"model needs to be a linen module or an nnx model of flax, got {type(model).__name__}{hint}")
    _check_call(model, arguments, options)
    if isinstance(model, nnx.Module):
        if variables is not None:
            raise TypeError(
                f"an nnx model has its own variables: pass None for them, got {type(variables).__name__}; "
                "nnx.update(model, state) gives it others"
            )
        if rngs is not None:
            raise ValueError("an nnx model draws from its own nnx.Rngs: pass no rngs; nnx.reseed(model, ...) sets them")
        return from_nnx(model)
    if model.scope is not None:
        raise TypeError("model needs to be a module without variables, got a bound one; pass model.unbind()[0]")
    _check_variables(variables)
    return model, variables


@contextmanager
def explained(model: nn.Module, arguments: tuple) -> Iterator[None]:
    """Say what a model was applied to where flax refuses to; ValueError in place of flax's errors."""
    try:
        yield
    except errors.InvalidRngError as error:
        raise ValueError(f"the model draws random numbers: pass rngs={{name: jax.random.key(seed)}}; {error}") from None
    except NameError as error:
        if "axis name" not in str(error):
            raise
        raise ValueError(
            f"a normalizer of {type(model).__name__} takes its statistics over an axis of devices: {error}; build the "
            "model with axis_name=None, for the whole batch is passed at once"
        ) from error
    except errors.FlaxError as error:
        shapes = [leaf.shape for leaf in jax.tree.leaves(arguments)]
        raise ValueError(
            f"{type(model).__name__} can't be applied to inputs of shapes {shapes} with these variables: {error}; pass "
            "inputs as in training, one entry a row, and all that model.init returns for such; of the variables "
            "batch_stats alone may change in the call"
        ) from error


def _check_call(model: Any, arguments: tuple, options: Mapping[str, Any]) -> None:
    """Raise unless a model's `__call__` takes these arguments."""
    if taken := {"mutable", "rngs", "method", "capture_intermediates"} & set(options):
        raise ValueError(f"apply_kwargs are for the model's own call, got {sorted(taken)}; pass rngs= beside them")
    name = type(model).__name__
    if not callable(model):
        raise TypeError(f"the model needs a method __call__, which {name} has not; wrap it in a module with one")
    signature = inspect.signature(model)
    try:
        signature.bind(*arguments, **options)
    except TypeError as error:
        raise TypeError(
            f"{name}.__call__{signature} can't be called with {len(arguments)} inputs and apply_kwargs "
            f"{dict(options)}: {error}; pass further inputs in a tuple, and what is no array of rows, such as a flag, "
            "as apply_kwargs={'train': True}"
        ) from None


def _check_variables(variables: Any) -> None:
    """Raise unless variables are collections by name, as `model.init` returns them."""
    wanted = "variables need to be all that model.init returns, {'params': ..., 'batch_stats': ...}"
    if not isinstance(variables, Mapping):
        own = ["'params': state.params"] if hasattr(variables, "params") else []
        own += ["'batch_stats': state.batch_stats"] if hasattr(variables, "batch_stats") else []
        hint = f"; pass {{{', '.join(own)}}}" if own else ""
        raise TypeError(f"{wanted}, got {type(variables).__name__}{hint}")
    if variables and not {"params", "batch_stats"} & set(variables):
        raise ValueError(f"{wanted}, got the keys {sorted(variables)}; of parameters alone make {{'params': params}}")
