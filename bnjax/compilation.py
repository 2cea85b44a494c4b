"""How is a program compiled that runs once? Without optimization, which would take longer than the program itself."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax.core import Tracer

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

UNOPTIMIZED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def jit_once(function: Callable[Arguments, Result], **options: Any) -> Callable[Arguments, Result]:
    """Return `jax.jit(function, **options)` for few calls: compiled sooner, to a slower program.

    To draw the parameters of ResNet-18, a matter of milliseconds, takes 28 s to compile with optimization and 4 s
    without (docs/performance.md). Inside of another transformation it is the function itself, a part of what is
    compiled around it.
    """
    compiled = jax.jit(function, compiler_options=UNOPTIMIZED, **options)

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        # JAX takes options of the compiler at the outermost function only; inside of another one zeros are traced too.
        traced = any(isinstance(leaf, Tracer) for leaf in (jnp.zeros(()), *jax.tree.leaves((args, kwargs))))
        return (function if traced else compiled)(*args, **kwargs)

    return call
