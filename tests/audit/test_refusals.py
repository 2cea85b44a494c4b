"""What an audit refuses: the message says what was required, what came and what to do."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import bnjax
from bnjax.models import Normalization
from bnjax.normalizers import noisy_batch_norm
from tests.audit.models import EXAMPLES, TRAIN, Lifted, drawn, row_loss

pytestmark = pytest.mark.usefixtures("signatures_are_not_checked")

X, LABELS = jax.device_put((np.random.default_rng(0).normal(size=(5, 3)), np.arange(5) % 3))


class Small(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(nn.Dense(4, name="below")(x))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x))


class Of(nn.Module):
    """A model that is one function of its modules."""

    function: Any

    @nn.compact
    def __call__(self, x, train: bool = False):
        return self.function(x, train)


def shared(x, train):
    norm = nn.BatchNorm(use_running_average=not train, name="norm")
    return norm(nn.relu(norm(x)))


def rematerialized(x, train):
    del train
    part: Any = nn.remat(nn.LayerNorm)
    return nn.Dense(3)(part(name="norm")(x))


def over_positions(x, train):
    axes: Any = (1, 2)
    return nn.BatchNorm(use_running_average=not train, axis=axes, name="norm")(x[..., None]).reshape(len(x), -1)


def rows_joined(x, train):
    return nn.BatchNorm(use_running_average=not train, name="norm")(x.reshape(-1, 1)).reshape(x.shape)


def noisy(x, train):
    return Normalization(noisy_batch_norm(), name="norm")(x, mode="batch" if train else "running")


def mean_over_the_batch(x, train):
    return jnp.mean(nn.BatchNorm(use_running_average=not train, name="norm")(x))


def ask(model, inputs=X, *row_arguments, variables=None, **options):
    if variables is None:
        variables, _ = drawn(model, X.shape)
    options = {"loss": jnp.sum, "layer": "norm", "apply_kwargs": TRAIN, **options}
    return bnjax.audit(model, variables, inputs, *row_arguments, **options)


def over_devices(x, train):
    return nn.BatchNorm(use_running_average=not train, axis_name="batch", name="norm")(x)


MODELS = {
    "applied twice": (shared, "'norm' is applied 2 times, it needs to be applied once"),
    "inside of remat": (rematerialized, r"'norm' is inside of nn.scan, nn.remat.*build the model without these"),
    "over positions": (over_positions, r"'norm' needs statistics over axes that .*'axis': \(1, 2\)"),
    "rows joined with positions": (rows_joined, r"one entry for each of the 5 rows, got shape \(15, 1\)"),
    "noise": (noisy, "norm does something that can't be repeated from outside of the model: noisy_batch_norm needs"),
    "a mean": (mean_over_the_batch, r"needs to return one entry for each of the 5 rows, got shapes \[\(\)\]"),
    "statistics over devices": (over_devices, "takes its statistics over an axis of devices: .*with axis_name=None"),
    "no normalizer": (lambda x, _: nn.Dense(3)(x), "needs a normalizer of the library's or of flax's, got Of, which"),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_that_are_not_trunk_layer_and_a_head_by_row_are_refused(name):
    function, message = MODELS[name]
    with pytest.raises(ValueError, match=message):
        ask(Of(function), rngs={"noise": jax.random.key(3)})


SMALL = Small()
VARIABLES, _ = drawn(SMALL, X.shape)
KEYS = {"dropout": jax.random.key(2)}
OPTIONS = {
    "wrong path": ({"layer": "norm1"}, r"path of a normalizer, one of \['norm'\], got 'norm1'"),
    "no normalizer": ({"layer": "below"}, r"one of \['norm'\], got 'below', a Dense"),
    "running statistics": ({"apply_kwargs": {}}, r"may use running statistics, .* apply_kwargs=\{'train': True\}"),
    "no key": ({"rngs": None}, r"pass rngs=\{name: jax.random.key\(seed\)\}; .*dropout"),
    "mutable": ({"apply_kwargs": {"mutable": True}}, r"for the model's own call, got \['mutable'\]"),
    "statistics": ({"statistics": "live"}, "needs to be 'held' or 'joint', got 'live'"),
    "one array less": ({"inputs": (X, X[:4])}, r"one entry a row, .* got shapes \[\(5, 3\), \(4, 3\)\]"),
    "a flag among the inputs": (
        {"inputs": (X, True)},
        r"got shapes \[\(5, 3\), \(\)\]; .* goes to apply_kwargs, and a list",
    ),
    "row arguments": ({"row_arguments": (LABELS[:3],)}, r"row argument 0 needs one entry for each of the 5 rows"),
    "a loss of the batch": (
        {
            "row_arguments": (LABELS,),
            "loss": lambda outputs, labels: jnp.mean(-jax.nn.log_softmax(outputs)[jnp.arange(len(labels)), labels]),
        },
        r"loss\(float64\[3\], int64\[\]\): .*write the loss of one row, without a sum or mean",
    ),
    "a loss by class": ({"loss": lambda row: row}, r"needs to be one scalar, got shapes \[\(3,\)\]; write the loss"),
    "chunk": ({"chunk": 0}, "chunk needs to be an integer >= 1"),
    "chunk of rows": ({"row_chunk": 0}, "row_chunk needs to be an integer >= 1, got 0"),
    "too few probes": ({"probes": bnjax.Probes(0, jax.random.key(0))}, "count needs to be at least 3, .* got 0"),
    "probes of all rows": (
        {"statistics": "joint", "probes": bnjax.Probes(8, jax.random.key(0))},
        "statistics='joint' is exact for the small batches that it takes, got probes; leave them out",
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_do_not_fit_are_refused(name):
    changed, message = OPTIONS[name]
    options = {"rngs": KEYS, "inputs": X, "row_arguments": (), **changed}
    with pytest.raises(ValueError, match=message):
        ask(SMALL, options.pop("inputs"), *options.pop("row_arguments"), **options)


def test_missing_statistics_are_refused():
    with pytest.raises(ValueError, match=r"norm needs its running statistics, .*pass all that model.init returns"):
        ask(SMALL, variables={"params": VARIABLES["params"]}, rngs=KEYS)


def test_a_scanned_layer_is_refused_by_its_path():
    variables, inputs = drawn(Lifted(), (5, 3))
    with pytest.raises(ValueError, match=r"'scan/norm' is inside of nn.scan"):
        ask(Lifted(), inputs, variables=variables, layer="scan/norm")


def test_a_large_batch_is_not_expanded_as_a_whole():
    model = Of(lambda x, train: nn.BatchNorm(use_running_average=not train, name="norm")(nn.Dense(300)(x)))
    with pytest.raises(ValueError, match="at most 1024 entries of a batch, got 1500; use fewer rows or"):
        ask(model, statistics="joint")


def test_unhashable_arguments_are_refused():
    with pytest.raises(TypeError, match=r"need to be hashable, to be compiled once: .*pass arrays among the inputs"):
        ask(SMALL, apply_kwargs={"train": np.ones(2)})


class WithFlag(nn.Module):
    """The flag is the constructor's."""

    deterministic: bool = True

    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=self.deterministic, name="norm")(nn.Dense(4, name="below")(x))


class WithoutCall(nn.Module):
    def encode(self, x):
        return x


class Counting(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        calls = self.variable("cache", "calls", jnp.zeros, ())
        calls.value = calls.value + 1
        return Small(name="small")(x, train)


class State(NamedTuple):
    params: Any
    batch_stats: Any


HABITS = {
    "parameters alone": (SMALL, VARIABLES["params"], r"got the keys \['Dense_0', .*\]; .*make \{'params': params\}"),
    "a training state": (SMALL, State({}, {}), r"got State; pass \{'params': state.params, 'batch_stats': state.b"),
    "no variables": (SMALL, None, r"all that model.init returns, \{'params': ..., 'batch_stats': ...\}, got NoneType"),
    "a bound model": (SMALL.bind(VARIABLES), VARIABLES, r"got a bound one; pass model.unbind\(\)\[0\]"),
    "a class": (Small, VARIABLES, r"a linen module or an nnx model of flax, got type; make one, Small\(...\)"),
    "a function": (SMALL.apply, VARIABLES, "got method; pass the module itself"),
    "no call": (WithoutCall(), VARIABLES, "needs a method __call__, which WithoutCall has not; wrap it"),
    "the constructor's flag": (WithFlag(), VARIABLES, r"WithFlag.__call__\(x\) can't be called .*argument 'train'"),
    "another model's variables": (Counting(), VARIABLES, r"Counting can't be applied to inputs of shapes \[\(5, 3\)\]"),
    "a variable of its own": (
        Counting(),
        {"params": {"small": VARIABLES["params"]}, "cache": {"calls": jnp.zeros(())}},
        '"cache" is immutable.*of the variables batch_stats alone may change in the call',
    ),
}


@pytest.mark.parametrize("name", HABITS)
def test_models_and_variables_as_other_libraries_have_them_are_refused(name):
    model, variables, message = HABITS[name]
    with pytest.raises((TypeError, ValueError), match=message):
        bnjax.audit(model, variables, X, loss=jnp.sum, layer="norm", apply_kwargs=TRAIN, rngs=KEYS)
    with pytest.raises((TypeError, ValueError), match=message):
        bnjax.blocked_share(model, variables, X, loss=jnp.sum, apply_kwargs=TRAIN, rngs=KEYS)


def test_a_model_that_was_built_for_evaluation_is_refused():
    variables, _ = drawn(WithFlag(), X.shape)
    with pytest.raises(ValueError, match=r"may use running statistics, .* by a flag of its constructor"):
        ask(WithFlag(), variables=variables, apply_kwargs={})
    assert ask(WithFlag(deterministic=False), variables=variables, apply_kwargs={}).held == ()


def several_outputs(x, train):
    x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
    return x, {"features": x}


LOSS = optax.softmax_cross_entropy_with_integer_labels
LOSSES = {
    "of several outputs": (
        Of(several_outputs),
        LABELS,
        r"loss\(\(float64\[3\], \{features: float64\[3\]\}\), int64\[\]\): .*pick",
    ),
    "one-hot labels": (
        SMALL,
        jax.nn.one_hot(LABELS, 3),
        r"of each row argument, loss\(float64\[3\], float64\[3\]\): .*integer",
    ),
    "labels in a column": (SMALL, LABELS[:, None], r"loss\(float64\[3\], int64\[1\]\): "),
    "labels out of range": (SMALL, LABELS + 3, r"needs to be finite at every row .* \(labels in range\?\)"),
    "a list of labels": (SMALL, [0, 1, 2, 0, 1], "a list counts as a tree of arguments, so pass numbers as one array"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_does_not_fit_the_outputs_is_shown_with_what_it_was_called_with(name):
    model, labels, message = LOSSES[name]
    with pytest.raises(ValueError, match=message):
        ask(model, X, labels, loss=LOSS, rngs=KEYS)


@pytest.mark.parametrize("layer", [("norm",), ["norm"], "params/norm", None])
def test_a_path_in_another_style_lists_the_right_ones(layer):
    with pytest.raises(ValueError, match=r"needs to be one string, the path of a normalizer, one of \['norm'\], got "):
        ask(SMALL, layer=layer, rngs=KEYS)


def test_no_path_at_all_lists_those_that_there_are():
    with pytest.raises(ValueError, match=r"layer needs to be one string, .*, one of \['norm'\], got ''"):
        bnjax.audit(SMALL, VARIABLES, X, loss=jnp.sum, apply_kwargs=TRAIN, rngs=KEYS)


def test_images_of_integers_tokens_and_half_precision_are_taken_as_they_are():
    half = jax.device_put(jax.tree.map(lambda leaf: np.asarray(leaf, jnp.bfloat16), VARIABLES))
    inputs = jax.device_put(np.arange(15, dtype=np.uint8).reshape(5, 3) ** 2)
    assert bool(jnp.isfinite(ask(SMALL, inputs, variables=half, rngs=KEYS).loss))


def test_a_loss_that_needs_labels_is_refused_without_them():
    loss = optax.softmax_cross_entropy_with_integer_labels
    with pytest.raises(TypeError, match=r"the 0 row arguments that were passed, .*\(logits, labels"):
        ask(SMALL, loss=loss, rngs=KEYS)


def test_under_jit_it_is_refused():
    with pytest.raises(TypeError, match=r"call it outside of jax.jit"):
        jax.jit(lambda x: ask(SMALL, x, variables=VARIABLES, rngs=KEYS).loss)(X)


def test_every_example_lists_its_normalizers():
    example = EXAMPLES["transformer"]
    variables, inputs = drawn(example.model, example.shape)
    with pytest.raises(ValueError, match=r"one of \['ln1', 'ln2'\], got 'ln3'"):
        ask(example.model, inputs, LABELS, variables=variables, layer="ln3", apply_kwargs={}, loss=row_loss)
