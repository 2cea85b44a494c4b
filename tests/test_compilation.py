"""A program compiled to run once computes what it says, wherever it is called."""

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from bnjax import compilation
from bnjax.compilation import compile_sooner, jit_once
from tests.comparison import assert_close
from tests.conftest import pytest_configure


def shifted(x, by):
    return jnp.sin(x) + by


@pytest.mark.parametrize(
    "around",
    [
        lambda f: f,
        jax.jit,
        jax.vmap,
        lambda f: jax.grad(lambda x: jnp.sum(f(x))),
        lambda f: lambda x: jnp.zeros(jax.eval_shape(f, x).shape),
    ],
    ids=["alone", "jit", "vmap", "grad", "eval_shape"],
)
def test_it_is_the_function_itself_also_inside_of_transformations(around):
    x = jnp.linspace(0.0, 1.0, 5)
    once = jit_once(shifted, static_argnums=1)
    assert_close(around(lambda x: once(x, 2))(x), around(lambda x: shifted(x, 2))(x))


def test_inside_of_a_compiled_function_its_arguments_may_be_constants():
    once = jit_once(shifted, static_argnums=1)
    x = jnp.linspace(0.0, 1.0, 5)
    assert_close(jax.jit(lambda factor: factor * once(x, 2))(3.0), 3 * shifted(x, 2))


def test_it_is_compiled_once_for_equal_shapes():
    traced = []
    once = jit_once(lambda x: traced.append(1) or x + 1)
    once(jnp.ones(3))
    once(jnp.zeros(3))
    assert len(traced) == 1


def test_flags_that_were_given_are_kept_and_none_is_given_twice(monkeypatch):
    monkeypatch.setattr(compilation, "OLDER_GENERATOR", "--older")
    monkeypatch.setenv("XLA_FLAGS", "--given=1")
    compile_sooner()
    compile_sooner()
    assert os.environ["XLA_FLAGS"] == "--given=1 --older"


def test_without_pytests_cache_no_programs_are_kept(monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    without: Any = SimpleNamespace()
    pytest_configure(without)
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


def test_this_jaxlib_has_the_older_generator():
    code = "from bnjax.compilation import *; compile_sooner(); print(jnp.ones(2).sum())"
    environment = {**os.environ, "XLA_FLAGS": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "2.0"
