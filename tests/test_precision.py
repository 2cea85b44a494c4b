"""Derivatives of float32 are made of products in full precision, also where a GPU would round to ten bits."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import bnjax
from bnjax.curvature import along_gradient, curvature_along_gradient, linearized_gradient, ritz_values, trace
from bnjax.normalizers import batch_norm
from bnjax.theorems import STATEMENTS, draw_case

X = jnp.asarray(np.sin(np.arange(24, dtype=np.float32)).reshape(6, 4))
WEIGHTS = jnp.asarray(np.cos(np.arange(12, dtype=np.float32)).reshape(4, 3))


def loss(y):
    return jnp.sum(jnp.tanh(y @ WEIGHTS) ** 2)


def loss_of(weights):
    return jnp.sum(jnp.tanh(X @ weights) ** 2)


def hessian_product(weights):
    return linearized_gradient(loss_of, weights).hessian_product


def of_weights(function):
    return lambda x: function(WEIGHTS + x[:4, :1])


CALLS = {
    "blocking": lambda x: bnjax.blocking(loss, batch_norm(), x, hessian_norms=True),
    "spectrum": lambda x: bnjax.spectrum(loss, batch_norm(), x, max_order=2),
    "term_hessian": lambda x: bnjax.term_hessian(loss, batch_norm(), x, term="diagonal") @ x.ravel(),
    "linearized_gradient": of_weights(lambda weights: hessian_product(weights)(weights)),
    "ritz_values": of_weights(lambda weights: ritz_values(hessian_product(weights), weights, steps=2)),
    "trace": of_weights(lambda weights: trace(hessian_product(weights), weights, jax.random.key(0), rank=1, samples=2)),
    "along_gradient": of_weights(lambda weights: along_gradient(loss_of, weights, jnp.ones(2, jnp.float32))),
    "curvature_along_gradient": of_weights(lambda weights: curvature_along_gradient(loss_of, weights)),
    **{
        f"statement {statement.name}": lambda x, statement=statement: statement.check(
            statement.normalizer, draw_case(jax.random.key(0), x.shape, x.dtype)
        )
        for statement in STATEMENTS
        if statement.name in ("T3", "S4")
    },
}


def precisions(program: str) -> list[set[str]]:
    """Return for every product and convolution of a program, as text, the precisions that it is asked for."""
    lines = re.findall(r"^.*stablehlo\.(?:dot_general|convolution)\b.*$", program, re.MULTILINE)
    return [set(re.findall(r"\b(?:HIGHEST|HIGH|DEFAULT)\b", line)) for line in lines]


@pytest.mark.parametrize("name", CALLS)
def test_every_product_is_in_full_precision(name):
    found = precisions(jax.jit(CALLS[name]).lower(X).as_text())
    assert found
    assert all(precision == {"HIGHEST"} for precision in found)
    assert jax.config.values["jax_default_matmul_precision"] is None  # For others nothing was changed.


def test_outside_of_derivatives_products_are_as_jax_makes_them():
    assert precisions(jax.jit(loss).lower(X[0]).as_text()) in ([set()], [{"DEFAULT"}])


class OfItsOwnPrecision(nn.Module):
    """A network whose last layer asks for a precision, and no other does."""

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=False, name="norm")(nn.Conv(2, (2,))(x))
        return nn.Dense(3, precision="high")(nn.relu(nn.Conv(2, (2,))(x)).ravel().reshape(len(x), -1))


def test_a_model_is_audited_in_full_precision_but_where_it_asks_for_another(tmp_path):
    model, inputs, before = OfItsOwnPrecision(), X[..., None], jax.config.read("jax_dump_ir_to")
    variables = jax.jit(model.init)(jax.random.key(0), inputs)
    jax.config.update("jax_dump_ir_to", str(tmp_path))
    try:
        labels = np.arange(6) % 3
        loss = optax.softmax_cross_entropy_with_integer_labels
        bnjax.audit(model, variables, inputs, labels, loss=loss, layer="norm", trunk_gradients=True)
    finally:
        jax.config.update("jax_dump_ir_to", before)
    programs = [file.read_text() for file in tmp_path.glob("*.mlir")]
    found = [precision for program in programs for precision in precisions(program)]
    assert {"HIGHEST"} in found
    assert {"HIGH"} in found
    assert all(precision in ({"HIGHEST"}, {"HIGH"}) for precision in found)
