"""A model of which no row can be taken alone is refused, with what to do; one that fails by itself says so itself."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

import bnjax
from tests.audit.models import TRAIN
from tests.audit.test_refusals import Of, X, ask


def squeezed_outputs(x, train):
    return nn.Dense(1)(nn.BatchNorm(use_running_average=not train, name="norm")(x)).squeeze()


def squeezed_inside(x, train):
    x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
    return nn.Dense(3)(x[:, None].squeeze())


def of_five_rows(x, train):
    x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
    return nn.Dense(3)(jnp.stack([x, x], 1).reshape(5, -1))


def dropout_of_positions_before_rows(x, train):
    x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
    return nn.Dropout(0.5, deterministic=not train)(x.T.reshape(-1, 1)).reshape(x.T.shape).T


def dropout_with_positions_first(x, train):
    x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
    rows = nn.Dropout(0.4, deterministic=not train)(jnp.tanh(x)[..., None].swapaxes(0, 1)).swapaxes(0, 1)
    return nn.Dense(2)(rows.reshape(len(x), -1))


def with_a_dropped_gate(x, train):
    x = nn.LayerNorm(name="norm")(x)
    return nn.Dense(2)(jnp.tanh(x)) * (1 + nn.Dropout(0.4, deterministic=not train)(jnp.ones(())))


def faulty(x, train):
    return nn.BatchNorm(use_running_average=not train, name="norm")(x) @ jnp.ones((7, 7))


def attention_over_the_batch(x, train):
    x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
    return jax.nn.softmax(x @ x.T) @ x


def hidden_behind(x, train):
    x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
    part: Any = nn.remat(nn.BatchNorm)
    return part(use_running_average=not train, name="hidden")(jnp.tanh(x))


class StochasticDepth(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        y = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        kept = jax.random.bernoulli(self.make_rng("drop_path"), 0.5, (len(x), 1)) if train else 1
        return jnp.tanh(x + kept * y)


MODELS = {
    "attention over the batch": (
        attention_over_the_batch,
        "rows are mixed behind .*: alone a row's loss differs by .*'joint'",
    ),
    "squeezed outputs": (
        squeezed_outputs,
        r"Of needs to take every row alone, as a batch of one of shapes \[\(1, 3\)\], .*it returns shapes \[\(\)\] in "
        r"place of \[\(1,\)\]; .*x.squeeze\(-1\)",
    ),
    "squeezed inside": (squeezed_inside, r"every row alone, .* \[\(3,\)\] in place of \[\(1, 3\)\]; .*x.squeeze\(-1\)"),
    "a fixed number of rows": (of_five_rows, r"every row alone, .*cannot reshape .*; .*x.reshape\(len\(x\), -1\)"),
    "positions before rows": (
        dropout_of_positions_before_rows,
        "rows are mixed behind .*positions joined with rows in one axis to rows first",
    ),
    "positions on the first axis": (
        dropout_with_positions_first,
        r"^Dropout_0 needs to act on rows that are on the first axis: of one row \(3, 1, 1\) enters it, and what it "
        r"did to the batch makes that \(3, 5, 1\); put the axis of rows first there",
    ),
    "hidden behind the layer": (hidden_behind, r"inside of nn.scan or nn.remat \(such as hidden\)"),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_that_take_rows_only_together_are_refused(name):
    function, message = MODELS[name]
    with pytest.raises(ValueError, match=message):
        ask(Of(function), rngs={"dropout": jax.random.key(4)})


def test_a_model_that_fails_by_itself_shows_its_own_error():
    params, stats = ({name: jnp.ones(3) for name in names} for names in (("scale", "bias"), ("mean", "var")))
    variables = {"params": {"norm": params}, "batch_stats": {"norm": stats}}
    for call in (bnjax.audit, bnjax.blocked_share):
        options: dict[str, Any] = {"layer": "norm"} if call is bnjax.audit else {}
        with pytest.raises(TypeError, match=r"^dot_general requires contracting dimensions"):
            call(Of(faulty), variables, X, loss=jnp.sum, apply_kwargs=TRAIN, **options)


def test_noise_that_the_model_draws_itself_is_refused_with_what_holds_it():
    model, keys = StochasticDepth(), {"drop_path": jax.random.key(0)}
    with pytest.raises(ValueError, match=r"rows are mixed behind .*make_rng.*nn.Dropout\(rate, broadcast_dims="):
        ask(model, rngs=keys)
    assert ask(model, rngs=keys, statistics="joint").gradient_error < 1e-8


@pytest.mark.parametrize("rows", [1, 5])
def test_a_number_that_is_dropped_is_the_same_for_all_rows(rows):
    keys = {"dropout": jax.random.key(1)}
    assert ask(Of(with_a_dropped_gate), X[:rows], rngs=keys).gradient_error < 1e-12
