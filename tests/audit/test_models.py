"""In models that the library's authors never saw the terms add up to the gradient at the layer, or are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnjax
from tests.audit.models import EXAMPLES, RNGS, Example, Precise, at_layer, drawn, row_loss
from tests.comparison import assert_close

POINT = 0.3


def audited(example: Example, **options):
    variables, inputs = drawn(example.model, example.shape)
    labels = jax.device_put(np.arange(example.shape[0]) % 3)
    report = bnjax.audit(
        example.model,
        variables,
        inputs,
        labels,
        loss=row_loss,
        layer=example.layer,
        apply_kwargs=example.apply_kwargs,
        rngs=RNGS,
        expansion_point=POINT,
        **options,
    )
    return report, (example, variables, inputs, labels)


def difference(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def arriving(report):
    return sum(np.asarray(part.input_gradient, float) for part in report.terms.values())


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_terms_add_up_to_the_gradient_of_the_model_with_what_is_named_held(name):
    report, whole = audited(EXAMPLES[name])
    assert report.held == EXAMPLES[name].held
    loss, actual = at_layer(*whole, like=report.total_gradient)
    defined = at_layer(*whole, like=report.total_gradient, detached=True)[1] if report.held else actual
    assert difference(arriving(report), defined) < 1e-10
    assert difference(np.asarray(report.total_gradient), defined) < 1e-10
    assert abs(float(report.gradient_error) - difference(defined, actual)) < 1e-10
    assert (float(report.gradient_error) > 1e-3) == bool(report.held)
    values = float(report.value) + sum(float(part.value) for part in report.terms.values())
    assert_close([values, float(report.loss)], [loss, loss], order=1, scale=10.0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 0.05)])
def test_in_lower_precision_they_do_so_to_its_rounding(dtype, tolerance):
    report, whole = audited(Example(Precise(dtype), (6, 3), "norm", {"train": True}))
    assert report.total_gradient.dtype == dtype
    _, actual = at_layer(*whole, like=report.total_gradient)
    assert difference(arriving(report), actual.astype(float)) < tolerance
