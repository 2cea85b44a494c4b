"""How is a program compiled? Sooner, where that takes longer than to run it; for derivatives, in full precision."""

import functools
import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxlib.version import __version__ as jaxlib_version

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# XLA keeps none of its flags for good, and ends a process that asks for one that it lacks.
OLDER_GENERATOR = "--xla_cpu_use_fusion_emitters=false" if jaxlib_version.startswith("0.10.") else ""
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


def in_full_precision(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return the function with matrix products and convolutions in the full precision of their numbers.

    By default JAX rounds what enters a float32 product to 10 bits on recent GPUs (TF32), to 7 bits on TPUs, and
    differences of terms are made of what is lost (docs/theory.md, numerical traps). It holds for all that is compiled
    or linearized inside, also if that is used outside, and nowhere else: no setting of the process is changed. What
    asks for a precision of its own, such as `flax.linen.Dense(…, precision=…)`, keeps it.
    """

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return call


def compile_sooner() -> None:
    """Have this process and those that it starts compile by XLA's older code generator for CPUs.

    It takes half of the time, for programs that run about as fast (docs/performance.md), but many times as long where
    random numbers are drawn in many places. To be called before anything is computed; later it has no effect on the
    process itself.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if OLDER_GENERATOR not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {OLDER_GENERATOR}".strip()
