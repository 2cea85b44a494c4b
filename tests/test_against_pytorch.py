"""The same numbers from PyTorch's double backward, by code that shares nothing with the library's.

Standardizations are written out, since PyTorch's own layers refuse epsilon 0. The coefficients of the expansion are
PyTorch's derivatives at c, held constant.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnjax
from bnjax.derivatives import TERMS
from bnjax.normalizers import batch_norm, group_norm, layer_norm, lp_norm, rms_norm

torch = pytest.importorskip("torch", reason="comparisons with PyTorch need the extra: pip install -e '.[bench]'")
pytestmark = pytest.mark.bench

DRAWN = np.random.default_rng(0)
WEIGHTS, OFFSET, OUTPUT = DRAWN.normal(size=(12, 6)), DRAWN.normal(size=6), DRAWN.normal(size=(6, 3))
LABELS = np.array([0, 1, 2, 1, 0, 2])
CENTER = 0.1


def jax_head(activation):
    def logits(row):
        flat = row.ravel()
        return activation(flat @ WEIGHTS[: flat.size] + OFFSET) @ OUTPUT

    return bnjax.cross_entropy_head(logits)


def torch_head(activation):
    def loss(row, label):
        flat, weights = row.reshape(-1), torch.from_numpy(WEIGHTS)
        hidden = activation(flat @ weights[: flat.numel()] + torch.from_numpy(OFFSET))
        return -torch.log_softmax(hidden @ torch.from_numpy(OUTPUT), 0)[label]

    return loss


def standardized(x, axes, epsilon):
    centered = x - x.mean(axes, keepdim=True)
    return centered / torch.sqrt((centered**2).mean(axes, keepdim=True) + epsilon)


def batch(x, epsilon):
    return standardized(x, [0, *range(1, x.ndim - 1)], epsilon)


def layer(x, epsilon):
    return standardized(x, [-1], epsilon)


def group(x, epsilon):
    grouped = x.reshape(len(x), -1, 2, x.shape[-1] // 2)
    return standardized(grouped, [1, 3], epsilon).reshape(x.shape)


def rms(x, epsilon):
    return x / torch.sqrt((x**2).mean(-1, keepdim=True) + epsilon)


def l1(x, epsilon):
    axes = [0, *range(1, x.ndim - 1)]
    centered = x - x.mean(axes, keepdim=True)
    return centered / (centered.abs().mean(axes, keepdim=True) + epsilon)


NORMALIZERS = {
    "batch_at_epsilon_zero": (batch_norm(epsilon=0.0), lambda x: batch(x, 0.0)),
    "batch": (batch_norm(epsilon=1e-5), lambda x: batch(x, 1e-5)),
    "layer": (layer_norm(epsilon=1e-5), lambda x: layer(x, 1e-5)),
    "rms": (rms_norm(epsilon=1e-5), lambda x: rms(x, 1e-5)),
    "group": (group_norm(groups=2, epsilon=1e-5), lambda x: group(x, 1e-5)),
    "l1": (lp_norm(p=1, epsilon=1e-5), lambda x: l1(x, 1e-5)),
}
HEADS = {"relu": (jax_head(jax.nn.relu), torch_head(torch.relu)), "tanh": (jax_head(jnp.tanh), torch_head(torch.tanh))}
SHAPES = {"rows": (6, 4), "maps": (6, 2, 1, 4)}


def features(shape):
    """Draw features of different means and deviations."""
    return np.linspace(0.5, 2.0, shape[-1]) * np.random.default_rng(1).normal(size=shape) + np.arange(shape[-1])


def torch_terms(loss, shape):
    """Return every (term, part) as a function of the standardized batch, its coefficients constants."""
    row, size = shape[1:], int(np.prod(shape[1:]))
    center = torch.full(row, CENTER, dtype=torch.float64)
    gradients, hessians = [], []
    for label in LABELS:
        point = center.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(point, label), point, create_graph=True)
        columns = [
            torch.autograd.grad(entry, point, retain_graph=True)[0].reshape(-1) for entry in gradient.reshape(-1)
        ]
        gradients.append(gradient.detach())
        hessians.append(torch.stack(columns))
    g, h = torch.stack(gradients), torch.stack(hessians)
    diagonal = torch.diagonal(h, dim1=1, dim2=2).reshape(g.shape)
    off = h - torch.diag_embed(diagonal.reshape(len(g), size))
    positions = list(range(g.ndim - 1))

    def delta(y):
        return y - center

    def linear(coefficients):
        return lambda y: (coefficients * delta(y)).sum()

    def squares(coefficients):
        return lambda y: (coefficients * delta(y) ** 2).sum() / 2

    def form(matrices):
        return lambda y: torch.einsum("id,ide,ie->", (flat := delta(y).reshape(len(g), size)), matrices, flat) / 2

    def split(name, make, total, shared):
        parts = {"total": total, "shared": shared.expand(total.shape), "individual": total - shared}
        return {(name, part): make(coefficients) for part, coefficients in parts.items()}

    terms = {
        **split("gradient", linear, g, g.mean(positions, keepdim=True)),
        **split("diagonal", squares, diagonal, diagonal.mean(positions, keepdim=True)),
        **split("off_diagonal", form, off, off.mean(0, keepdim=True)),
    }

    def remainder(y):
        losses = sum(loss(row, label) - loss(center, label) for row, label in zip(y, LABELS, strict=True))
        return losses - sum(terms[name, "total"](y) for name in ("gradient", "diagonal", "off_diagonal"))

    return {**terms, ("remainder", "total"): remainder}


def torch_derivatives(term, normalize, x, vector):
    """Return value, output gradient, input gradient and input Hessian times a vector."""
    y = normalize(torch.from_numpy(x)).detach().requires_grad_()
    value = term(y)
    (at_output,) = torch.autograd.grad(value, y)
    inputs = torch.from_numpy(x).requires_grad_()
    (at_input,) = torch.autograd.grad(term(normalize(inputs)), inputs, create_graph=True)
    (product,) = torch.autograd.grad((at_input * torch.from_numpy(vector)).sum(), inputs)
    return [found.detach().numpy() for found in (value, at_output, at_input, product)]


def assert_agrees(found, wanted, scale):
    assert np.linalg.norm(np.asarray(found) - wanted) <= 1e-10 * scale


@pytest.mark.parametrize(("head", "shape"), [("relu", "rows"), ("tanh", "rows"), ("relu", "maps")])
@pytest.mark.parametrize("name", NORMALIZERS)
def test_every_part_has_pytorchs_value_and_gradients(name, head, shape):
    (ours, theirs), (normalizer, normalize), x = HEADS[head], NORMALIZERS[name], features(SHAPES[shape])
    report = bnjax.blocking(ours, normalizer, x, LABELS, expansion_point=CENTER)
    terms = {
        key: torch_derivatives(term, normalize, x, np.ones_like(x))
        for key, term in torch_terms(theirs, x.shape).items()
    }
    for (term, part), (value, at_output, at_input, _) in terms.items():
        found = report.terms[term] if part == "total" else getattr(report.terms[term], part)
        # Blocked and individual parts may be zero: relative to the whole term, and at the input to the whole gradient.
        whole = np.linalg.norm(terms[term, "total"][1])
        assert_agrees(found.value, value, 1 + whole)
        assert_agrees(found.output_gradient, at_output, whole)
        assert_agrees(found.input_gradient, at_input, np.linalg.norm(report.total_gradient))
    total = sum(terms[term, "total"][2] for term in TERMS)
    assert_agrees(report.total_gradient, total, np.linalg.norm(total))


@pytest.mark.parametrize(
    ("name", "head", "shape"),
    [(name, "tanh", "rows") for name in NORMALIZERS] + [("batch", "relu", "maps"), ("group", "relu", "maps")],
)
def test_hessian_vector_products_at_the_input_are_pytorchs_double_backward(name, head, shape):
    (ours, theirs), (normalizer, normalize), x = HEADS[head], NORMALIZERS[name], features(SHAPES[shape])
    vector = np.random.default_rng(2).normal(size=x.shape)
    functions = torch_terms(theirs, x.shape)
    for term, part in (
        ("gradient", "total"),
        ("diagonal", "total"),
        ("off_diagonal", "shared"),
        ("remainder", "total"),
    ):
        operator = bnjax.term_hessian(ours, normalizer, x, LABELS, term=term, part=part, expansion_point=CENTER)
        *_, product = torch_derivatives(functions[term, part], normalize, x, vector)
        found = (operator @ vector.ravel()).reshape(x.shape)
        assert_agrees(found, product, np.linalg.norm(product))
