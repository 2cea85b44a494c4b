"""An nnx model is audited as the linen model with its weights is, by its own code and without being changed."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import bnjax
from bnjax.derivatives import TERMS
from bnjax.models.nnx_model import from_nnx
from tests.comparison import assert_close
from tests.test_blocking import parts_of
from tests.test_compiled_once import compilations

X, LABELS = jax.device_put((np.random.default_rng(0).normal(size=(6, 3)), np.arange(6) % 3))
LOSS = optax.softmax_cross_entropy_with_integer_labels


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=0.1, name="norm")
        return x + jnp.tanh(norm(nn.Dense(3, name="below")(x)))


class LinenModel(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        for index in range(2):
            x = LinenBlock(name=f"blocks_{index}")(x, train)
        return nn.Dense(3, name="last")(nn.LayerNorm(name="norm")(x))


class Block(nnx.Module):
    def __init__(self, rate, rngs):
        self.below = nnx.Linear(3, 3, rngs=rngs, param_dtype=jnp.float64)
        self.norm = nnx.BatchNorm(3, momentum=0.9, epsilon=0.1, rngs=rngs, param_dtype=jnp.float64)
        self.dropout = nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x):
        return x + self.dropout(jnp.tanh(self.norm(self.below(x))))


class Model(nnx.Module):
    """In other people's habits: a list of blocks, a Sequential, dropout with the model's own keys."""

    def __init__(self, rate, rngs):
        self.blocks = nnx.List([Block(rate, rngs) for _ in range(2)])
        precise = {"rngs": rngs, "param_dtype": jnp.float64}
        self.head = nnx.Sequential(nnx.LayerNorm(3, **precise), nnx.Linear(3, 3, **precise))

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@partial(nnx.jit, static_argnames=("rate", "seed"))
def initialized(rate, seed):
    return Model(rate, nnx.Rngs(seed))


def drawn(rate=0.0, seed=0):
    """Return a model with random parameters and statistics, all in float64."""
    model, generator = initialized(rate, seed), np.random.default_rng(seed)
    state = nnx.state(model, (nnx.Param, nnx.BatchStat))
    nnx.update(model, jax.tree.map(lambda leaf: 0.3 + generator.uniform(size=leaf.shape), state))
    return model


def linen_variables(model):
    """Return the same variables under the linen model's names."""

    def renamed(collection, last):
        blocks = {f"blocks_{index}": collection["blocks"][index] for index in "01"}
        return {**jax.tree.map(lambda leaf: leaf, blocks), **last}

    collections = from_nnx(model)[1]
    head = collections["params"]["head"]["layers"]
    stats = {f"blocks_{index}": {"norm": collections["batch_stats"]["blocks"][index]["norm"]} for index in "01"}
    return {"params": renamed(collections["params"], {"norm": head["0"], "last": head["1"]}), "batch_stats": stats}


def ask(model, layer, variables=None, **options) -> Any:
    options = {"loss": LOSS, "expansion_point": 0.4, "trunk_gradients": True, **options}
    return bnjax.audit(model, variables, X, LABELS, layer=layer, **options)


@pytest.fixture(scope="module")
def model():
    return drawn()


@pytest.fixture(scope="module")
def report(model):
    return ask(model, "blocks/0/norm")


def test_the_audit_is_that_of_the_linen_model_with_its_weights(model, report):
    expected = ask(LinenModel(), "blocks_0/norm", linen_variables(model), apply_kwargs={"train": True})
    for found, wanted in zip(parts_of(report).values(), parts_of(expected).values(), strict=True):
        assert_close(found.input_gradient, wanted.input_gradient)
        assert_close(found.value, wanted.value)
    assert_close(report.gradient_error, expected.gradient_error)
    assert report.held == ("blocks/1/norm",)
    for term in TERMS:
        found, wanted = report.trunk_gradients[term], expected.trunk_gradients[term]
        assert sorted(found) == ["blocks/0/below/bias", "blocks/0/below/kernel"]
        assert_close(found["blocks/0/below/kernel"], wanted["blocks_0/below/kernel"])


def test_another_model_of_the_same_structure_compiles_nothing(report):
    other = drawn(seed=1)
    with compilations() as events:
        again = ask(other, "blocks/0/norm")
    assert not events
    assert again.loss != report.loss


def test_it_stays_as_it_is_and_its_own_dropout_is_what_its_next_call_draws():
    model = drawn(rate=0.4)
    before = nnx.clone(model)
    report = ask(model, "blocks/1/norm", trunk_gradients=False)
    assert all(map(jnp.array_equal, jax.tree.leaves(nnx.state(model)), jax.tree.leaves(nnx.state(before))))
    assert_close(report.loss, nnx.jit(lambda model: jnp.sum(LOSS(model(X), LABELS)))(model), order=1)


def test_the_meter_gives_a_training_step_what_nnx_gives():
    model, expected = drawn(rate=0.4), drawn(rate=0.4)

    @nnx.jit
    def train_step(model, optimizer):
        found = bnjax.blocked_share(model, None, X, LABELS, loss=LOSS)
        nnx.update(model, found.updated["batch_stats"])
        optimizer.update(model, found.gradient)
        return found.shares

    @nnx.jit
    def plain_step(model, optimizer):
        gradient = nnx.grad(lambda model: jnp.mean(LOSS(model(X), LABELS)))(model)
        optimizer.update(model, gradient)

    shares = train_step(model, nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param))
    plain_step(expected, nnx.Optimizer(expected, optax.sgd(0.1), wrt=nnx.Param))
    assert list(shares) == ["blocks/0/norm", "blocks/1/norm", "head/layers/0"]
    for found, wanted in zip(*(jax.tree.leaves(nnx.state(each)) for each in (model, expected)), strict=True):
        if jnp.issubdtype(found.dtype, jnp.number):  # The rest are keys.
            assert_close(found, wanted, order=1)


def test_what_it_is_not_asked_about_is_said_with_the_remedy(model):
    with pytest.raises(ValueError, match=r"one of \['blocks/0/norm', 'blocks/1/norm', 'head/layers/0'\], got 'norm'"):
        ask(model, "norm")
    with pytest.raises(TypeError, match=r"has its own variables: pass None for them, got State; nnx.update"):
        ask(model, "blocks/0/norm", nnx.state(model))
    with pytest.raises(ValueError, match=r"its own nnx.Rngs: pass no rngs"):
        ask(model, "blocks/0/norm", rngs={"dropout": jax.random.key(0)})
    evaluated = nnx.clone(model)
    evaluated.eval()
    with pytest.raises(ValueError, match=r"may use running statistics, .*one of nnx, by its train\(\)"):
        ask(evaluated, "blocks/0/norm")


def test_a_normalizer_inside_of_remat_is_refused():
    class Rematerialized(nnx.Module):
        def __init__(self):
            self.block, self.norm = drawn().blocks[0], nnx.LayerNorm(3, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.norm(nnx.remat(lambda block, x: block(x))(self.block, x))

    with pytest.raises(ValueError, match=r"'block/norm' is inside of nn.scan, nn.remat"):
        ask(Rematerialized(), "block/norm")
