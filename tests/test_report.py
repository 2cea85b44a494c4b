"""A report is a pytree, plain JSON, a table, a figure, and says where its numbers mean nothing."""

import json

import jax
import jax.numpy as jnp
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

import bnjax
from bnjax.derivatives import TERM_PARTS, TERMS
from bnjax.normalizers import batch_norm
from tests.comparison import assert_close
from tests.derivatives.cases import HEADS, ROWS, features, labels


@pytest.fixture(scope="module")
def report():
    return bnjax.blocking(HEADS["relu"], batch_norm(), features(ROWS), labels(6), hessian_norms=True)


def test_a_report_is_a_pytree(report):
    doubled = jax.tree.map(lambda leaf: 2 * leaf, report)
    assert isinstance(doubled, bnjax.BlockingReport)
    assert doubled.normalizer == "batch_norm"
    assert_close(doubled.terms["diagonal"].value, 2 * report.terms["diagonal"].value)


def test_a_report_is_plain_json_without_nan(report):
    single = bnjax.blocking(HEADS["relu"], batch_norm(), features(ROWS), jnp.ones(6, int))
    for plain in (report.to_dict(), single.to_dict()):
        table = json.loads(json.dumps(plain, allow_nan=False))["table"]
        assert [(row["term"], row["part"]) for row in table] == [
            (term, part) for term in TERMS for part in ("shared", "individual", "total") if (term, part) in TERM_PARTS
        ]
        assert all(row["survival"] is not None or row["reason"] for row in table)


def test_a_report_prints_a_table_with_every_part(report):
    text = str(report)
    assert "What gets back through batch_norm" in text
    assert "n = 6 rows of shape (4,), float64" in text
    for term, part in TERM_PARTS:
        assert any(line.split()[:2] == [term, part] for line in text.splitlines())
    assert "nan" not in text


def test_a_report_plots_a_figure(report):
    figure = report.plot()
    assert isinstance(figure, Figure)
    assert figure.axes
    assert not pyplot.get_fignums()


def test_terms_are_in_the_order_of_the_expansion(report):
    assert tuple(report.terms) == TERMS


def test_a_report_that_is_remainder_alone_says_that_its_expansion_point_may_be_on_kinks():
    weights = jnp.cos(jnp.arange(12.0)).reshape(3, 4)
    head = bnjax.cross_entropy_head(lambda y: weights @ jax.nn.relu(y))
    x, labels = jnp.sin(jnp.arange(24.0)).reshape(6, 4), jnp.arange(6) % 3
    on_kinks, beside = (bnjax.blocking(head, batch_norm(), x, labels, expansion_point=point) for point in (0.0, 0.5))
    assert "give another expansion_point" in " ".join(str(on_kinks).split())
    assert "expansion_point" not in str(beside)
