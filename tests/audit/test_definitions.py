"""The two definitions behind live statistics, what goes on to the trunk, and what a report says of it."""

import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from matplotlib.figure import Figure

import bnjax
from bnjax.derivatives import TERMS
from bnjax.models import Normalization
from bnjax.normalizers import batch_norm
from bnjax.normalizers.normalizer import Mode
from tests.audit.models import EXAMPLES, RNGS, Example, at_layer, drawn, row_loss, whole_loss
from tests.comparison import assert_close
from tests.test_blocking import parts_of
from tests.test_compiled_once import compilations

TRAIN = {"train": True}


class TwoNorms(nn.Module):
    """A normalizer behind another, and two paths to the first."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        beside = nn.Dense(3, name="beside")(x)
        x = nn.BatchNorm(use_running_average=not train, epsilon=0.1, name="first")(nn.Dense(3, name="below")(x))
        x = nn.BatchNorm(use_running_average=not train, epsilon=0.1, name="second")(jnp.tanh(x) + beside)
        return nn.Dense(3, name="last")(nn.relu(x))


MODEL = TwoNorms()
VARIABLES, INPUTS = drawn(MODEL, (5, 2))
LABELS = jax.device_put(np.arange(5) % 3)


def ask(layer: str, model: nn.Module = MODEL, variables: Any = VARIABLES, inputs: Any = INPUTS, **options: Any) -> Any:
    """Return an audit, as anything: a report knows what is None."""
    options = {"loss": row_loss, "apply_kwargs": TRAIN, "expansion_point": 0.4, **options}
    return bnjax.audit(model, variables, inputs, LABELS, layer=layer, **options)


def arriving(report):
    return sum(np.asarray(part.input_gradient) for part in report.terms.values())


@pytest.fixture(scope="module")
def held():
    return ask("first", trunk_gradients=True)


@pytest.fixture(scope="module")
def joint():
    return ask("first", statistics="joint", trunk_gradients=True)


def test_the_joint_terms_add_up_to_the_actual_gradient(joint):
    example = Example(MODEL, (5, 2), "first", TRAIN)
    _, actual = at_layer(example, VARIABLES, INPUTS, LABELS, like=joint.total_gradient)
    assert_close(arriving(joint), actual, order=2)
    assert joint.held == ()
    assert float(joint.gradient_error) < 1e-10


def test_the_joint_diagonal_is_that_of_the_dense_hessian(joint):
    params, inputs = jax.tree.map(np.asarray, (VARIABLES["params"], INPUTS))
    features = inputs @ params["below"]["kernel"] + params["below"]["bias"]
    beside = inputs @ params["beside"]["kernel"] + params["beside"]["bias"]
    own, second, last = (params[name] for name in ("first", "second", "last"))

    def standardized(x):
        return (x - x.mean(0)) / (x.var(0) + 0.1) ** 0.5

    def loss(y):
        x = standardized(jnp.tanh(y * own["scale"] + own["bias"]) + beside) * second["scale"] + second["bias"]
        return jnp.sum(jax.vmap(row_loss)(nn.relu(x) @ last["kernel"] + last["bias"], LABELS))

    derivatives = jax.jit(lambda y: (jax.grad(loss)(y), jax.hessian(loss)(y)))
    gradient, hessian = (np.reshape(part, (-1, 15)) for part in derivatives(np.full(features.shape, 0.4)))
    delta = (standardized(features) - 0.4).ravel()
    diagonal = np.diag(hessian)
    assert_close(joint.terms["gradient"].value, gradient[0] @ delta, order=2, scale=10.0)
    assert_close(joint.terms["diagonal"].value, diagonal @ delta**2 / 2, order=2, scale=10.0)
    off = (delta @ hessian @ delta - diagonal @ delta**2) / 2
    assert_close(joint.terms["off_diagonal"].value, off, order=2, scale=10.0)


def test_both_definitions_agree_where_nothing_behind_mixes_rows():
    by_row, whole = ask("second"), ask("second", statistics="joint")
    assert by_row.held == whole.held == ()
    for term in TERMS:
        assert_close(whole.terms[term].input_gradient, by_row.terms[term].input_gradient, order=2, scale=10.0)


def test_the_joint_terms_take_rows_that_attend_to_one_another():
    class Attending(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.LayerNorm(name="norm")(x)
            return nn.Dense(3)(jax.nn.softmax(x @ x.T) @ x)

    variables, inputs = drawn(Attending(), (5, 4))
    report = ask("norm", Attending(), variables, inputs, apply_kwargs={}, statistics="joint")
    _, actual = at_layer(Example(Attending(), (5, 4), "norm"), variables, inputs, LABELS, like=report.total_gradient)
    assert_close(arriving(report), actual, order=2, scale=10.0)


def test_held_statistics_are_named_with_what_they_change(held, joint):
    assert held.held == ("second",)
    gradient, actual = np.asarray(held.total_gradient), np.asarray(joint.total_gradient)
    assert_close(held.gradient_error, np.linalg.norm(gradient - actual) / np.linalg.norm(actual), order=1)
    assert held.gradient_error > 0.01
    text = " ".join(str(held).split())
    assert "through first (batch_norm)" in text
    assert f"statistics of second behind it held: gradient_error {float(held.gradient_error):.2g}, how far" in text
    assert "all statistics live" in " ".join(str(joint).split())


def test_where_a_scale_behind_the_layer_is_zero_no_error_is_claimed_and_the_cause_is_named():
    scale = jnp.zeros_like(VARIABLES["params"]["second"]["scale"])
    second = {**VARIABLES["params"]["second"], "scale": scale}
    report = ask("first", variables={**VARIABLES, "params": {**VARIABLES["params"], "second": second}})
    assert report.held == ("second",)
    assert jnp.isnan(report.gradient_error)
    assert report.to_dict()["gradient_error"] is report.to_dict()["total_survival"] is None
    cause = "no gradient at the normalizer's output: its scale, or one behind it, may be 0"
    for text in (str(report), " ".join(text.get_text() for text in report.plot().texts)):
        assert cause in " ".join(text.split())
    assert "gradient_error" not in str(report)


def test_the_trunks_gradients_add_up_to_its_whole_gradient(joint):
    example = Example(MODEL, (5, 2), "first", TRAIN)
    whole = jax.jit(jax.grad(lambda params: whole_loss(example, {**VARIABLES, "params": params}, INPUTS, LABELS)))
    expected = whole(VARIABLES["params"])
    assert tuple(joint.trunk_gradients) == TERMS
    for gradients in joint.trunk_gradients.values():
        assert sorted(gradients) == ["below/bias", "below/kernel"]
    found = sum(np.asarray(gradients["below/kernel"]) for gradients in joint.trunk_gradients.values())
    assert_close(found, expected["below"]["kernel"], order=2, scale=10.0)


def test_a_report_is_a_pytree_a_table_a_figure_and_plain_json(held):
    assert jax.tree.map(lambda leaf: leaf, held).layer == "first"
    assert issubclass(bnjax.AuditReport, bnjax.BlockingReport)
    plain = json.loads(json.dumps(held.to_dict(), allow_nan=False))
    assert (plain["layer"], plain["statistics"], plain["held"]) == ("first", "held", ["second"])
    assert all(row["layer"] == "first" for row in plain["table"])
    norms = [row["trunk_gradient_norm"] for row in plain["table"] if row["part"] == "total"]
    gradients = held.trunk_gradients["remainder"].values()
    assert_close(norms[-1], np.sqrt(sum(np.sum(np.asarray(leaf) ** 2) for leaf in gradients)))
    assert isinstance(held.plot(), Figure)
    assert "AuditReport of first" in repr(held)


def test_the_audit_is_what_blocking_says_of_the_model_taken_apart():
    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(nn.relu(nn.LayerNorm(epsilon=1e-5, name="norm")(x)))

    variables, inputs = drawn(Plain(), (5, 4))
    params = variables["params"]
    audited = ask("norm", Plain(), variables, inputs, apply_kwargs={})
    head = bnjax.cross_entropy_head(lambda y: jax.nn.relu(y) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])
    options = {"params": params["norm"], "expansion_point": 0.4}
    by_hand = bnjax.blocking(head, bnjax.normalizers.layer_norm(), inputs, LABELS, **options)
    for found, expected in zip(parts_of(audited).values(), parts_of(by_hand).values(), strict=True):
        assert_close(found.input_gradient, expected.input_gradient, order=2, scale=10.0)
        assert_close(found.value, expected.value, order=2, scale=10.0)


def test_new_variables_and_inputs_compile_nothing(held):
    moved, inputs = jax.device_put(jax.tree.map(lambda leaf: 1.1 * np.asarray(leaf), (VARIABLES, INPUTS)))
    with compilations() as events:
        again = ask("first", TwoNorms(), moved, inputs, trunk_gradients=True)
    assert not events
    assert again.loss != held.loss


def test_fast_variance_is_found_and_its_error_is_measured():
    class Shifted(nn.Module):
        fast: bool

        @nn.compact
        def __call__(self, x, train: bool = False):
            norm = nn.BatchNorm(use_running_average=not train, use_fast_variance=self.fast, name="norm")
            return nn.Dense(3)(nn.relu(norm(x + 2e3)))

    variables, inputs = drawn(Shifted(True), (5, 4))
    single = jax.device_put(jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), (variables, inputs)))
    assert ask("norm", Shifted(False), variables, inputs).fast_variance_error is None
    double, report = ask("norm", Shifted(True), variables, inputs), ask("norm", Shifted(True), *single)
    assert 1e-12 < double.fast_variance_error < 1e-6
    assert report.fast_variance_error > 0.01
    said = f"fast variance, E[x²] - E[x]², which changes its output by {float(report.fast_variance_error):.2g} of"
    assert said in " ".join(str(report).split())


def test_logits_with_a_path_around_the_layer_take_the_low_rank_path(monkeypatch):
    example = EXAMPLES["residual, none behind"]
    module = sys.modules["bnjax.derivatives.expansion"]
    taken = []
    low_rank = module.low_rank_hessian
    monkeypatch.setattr(module, "low_rank_hessian", lambda *a: taken.append(a) or low_rank(*a))
    variables, inputs = drawn(example.model, (3, 3, 3, 1), seed=1)
    options = {"loss": row_loss, "layer": example.layer, "apply_kwargs": example.apply_kwargs, "rngs": RNGS}
    bnjax.audit(example.model, variables, inputs, LABELS[:3], **options)
    assert taken


def test_inputs_may_be_several_arrays_and_the_layer_the_models_own_normalizer():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x, weights, mode: Mode = "running"):
            return nn.Dense(3)(Normalization(batch_norm(), name="norm")(x * weights["w"], mode=mode))

    generator = np.random.default_rng(3)
    inputs = jax.device_put((generator.normal(size=(5, 4)), {"w": generator.normal(size=(5, 1))}))
    variables = jax.jit(Two().init)(jax.random.key(0), *inputs)
    report = ask("norm", Two(), variables, inputs, apply_kwargs={"mode": "batch"})
    assert report.terms["gradient"].shared.survival < 1e-4


class Positions(nn.Module):
    """Dropout of what all rows have in common."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        positions = self.param("positions", nn.initializers.normal(1.0), x.shape[1:])
        x = x + nn.Dropout(0.5, deterministic=not train)(positions)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        return nn.Dense(3)(jnp.mean(jnp.tanh(x), 1) + jnp.mean(positions, 0))


def test_dropout_of_what_has_no_rows_is_the_same_for_all():
    model = Positions()
    variables, x = drawn(model, (5, 4, 2))
    report = bnjax.audit(model, variables, x, LABELS, layer="norm", loss=row_loss, apply_kwargs=TRAIN, rngs=RNGS)
    assert report.gradient_error < 1e-10
