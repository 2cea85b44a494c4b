"""The terms agree with PyTorch double backward, an implementation that shares no code with ours."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnjax
from bnjax.derivatives.terms import TERM_PARTS
from bnjax.normalizers import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    lp_norm,
    rms_norm,
)

torch = pytest.importorskip("torch", reason="comparisons with PyTorch need the extra: pip install -e '.[bench]'")
pytestmark = pytest.mark.bench

ROWS, CLASSES, HIDDEN = 6, 3, 5
TOLERANCE = 1e-10


def centre(x, axes):
    return x - x.mean(axes, keepdim=True)


def by_deviation(axes, epsilon):
    def standardize(x):
        return centre(x, axes) / (centre(x, axes).pow(2).mean(axes, keepdim=True) + epsilon).sqrt()

    return standardize


def rms(x):
    return x / x.pow(2).mean(-1, keepdim=True).sqrt()


def l1(x):
    return centre(x, 0) / centre(x, 0).abs().mean(0, keepdim=True)


def groups_of_two(x):
    split = x.reshape(*x.shape[:-1], -1, 2)
    axes = (*range(1, split.ndim - 2), split.ndim - 1)
    return by_deviation(axes, 0.0)(split).reshape(x.shape)


VECTOR, IMAGE = (4,), (2, 2, 4)
CASES = {
    "batch_norm": (batch_norm(epsilon=0.0), by_deviation(0, 0.0), VECTOR),
    "batch_norm_epsilon": (batch_norm(epsilon=0.1), by_deviation(0, 0.1), VECTOR),
    "batch_norm_convolution": (batch_norm(epsilon=0.0), by_deviation((0, 1, 2), 0.0), IMAGE),
    "layer_norm": (layer_norm(epsilon=0.0), by_deviation(-1, 0.0), VECTOR),
    "rms_norm": (rms_norm(epsilon=0.0), rms, VECTOR),
    "group_norm_convolution": (group_norm(groups=2, epsilon=0.0), groups_of_two, IMAGE),
    "instance_norm": (instance_norm(epsilon=0.0), by_deviation((1, 2), 0.0), IMAGE),
    "l1_norm": (lp_norm(p=1, epsilon=0.0), l1, VECTOR),
}


SETTINGS = [(name, "relu") for name in CASES] + [(name, "tanh") for name in ("batch_norm", "instance_norm", "rms_norm")]


@pytest.fixture(scope="module", params=SETTINGS, ids="-".join)
def setting(request):
    """Return our report, our Hessian products and what PyTorch says of the same numbers."""
    name, activation = request.param
    normalizer, standardize, shape = CASES[name]
    size = math.prod(shape)
    generator = np.random.default_rng(0)
    first = generator.standard_normal((HIDDEN, size)) / size**0.5
    bias, second = generator.standard_normal(HIDDEN), generator.standard_normal((CLASSES, HIDDEN))
    gamma, beta = 1 + 0.3 * generator.standard_normal(shape[-1]), generator.standard_normal(shape[-1])
    x, direction = generator.standard_normal((2, ROWS, *shape)) + 0.5
    labels = generator.integers(0, CLASSES, ROWS)

    act = {"relu": jax.nn.relu, "tanh": jnp.tanh}[activation]
    head = bnjax.cross_entropy_head(lambda y: second @ act(first @ y.ravel() + bias))
    call = {"params": {"scale": jnp.asarray(gamma), "bias": jnp.asarray(beta)}}
    arguments = (head, normalizer, jnp.asarray(x), jnp.asarray(labels))
    report = bnjax.blocking(*arguments, **call)

    def ours(term, part):
        own = report.terms[term] if part == "total" else getattr(report.terms[term], part)
        operator = bnjax.term_hessian(*arguments, term=term, part=part, **call)
        return own.value, own.output_gradient, own.input_gradient, operator @ jnp.asarray(direction.ravel())

    weights = [torch.from_numpy(array) for array in (first, bias, second, gamma, beta)]
    theirs = torch_terms(standardize, weights, activation, torch.from_numpy(x), labels, torch.from_numpy(direction))
    return ours, theirs


def torch_terms(standardize, weights, activation, x, labels, direction):
    """Return every (term, part)'s value, output gradient, input gradient and Hessian product, by autograd alone."""
    first, bias, second, gamma, beta = weights
    shape = x.shape[1:]
    size = math.prod(shape)
    act = getattr(torch, activation)

    def loss(row, label):
        logits = second @ act(first @ (gamma * row + beta).reshape(-1) + bias)
        return torch.logsumexp(logits, 0) - logits[label]

    origin = torch.zeros(shape, dtype=torch.float64)
    gradients = torch.stack([torch.autograd.functional.jacobian(lambda r, c=c: loss(r, c), origin) for c in labels])
    hessians = torch.stack(
        [torch.autograd.functional.hessian(lambda r, c=c: loss(r, c), origin).reshape(size, size) for c in labels]
    )
    diagonals = hessians.diagonal(dim1=1, dim2=2).reshape(-1, *shape)
    off_diagonals = hessians - torch.diag_embed(hessians.diagonal(dim1=1, dim2=2))
    all_but_features = tuple(range(x.ndim - 1))

    def shared(coefficients):
        return coefficients.mean(all_but_features, keepdim=True).expand_as(coefficients)

    def parts(term, coefficients, mean):
        return {(term, "total"): coefficients, (term, "shared"): mean, (term, "individual"): coefficients - mean}

    linear = parts("gradient", gradients, shared(gradients))
    square = parts("diagonal", diagonals, shared(diagonals))
    mixed = parts("off_diagonal", off_diagonals, off_diagonals.mean(0, keepdim=True).expand_as(off_diagonals))

    def quadratic(matrices):
        return lambda y: 0.5 * torch.einsum("id,ide,ie->", y.reshape(-1, size), matrices, y.reshape(-1, size))

    functions = {key: lambda y, g=g: (g * y).sum() for key, g in linear.items()}
    functions |= {key: lambda y, h=h: 0.5 * (h * y * y).sum() for key, h in square.items()}
    functions |= {key: quadratic(matrices) for key, matrices in mixed.items()}

    def remainder(y):
        here = sum(loss(row, label) for row, label in zip(y, labels, strict=True))
        there = sum(loss(origin, label) for label in labels)
        expansion = sum(functions[term, "total"](y) for term in ("gradient", "diagonal", "off_diagonal"))
        return here - there - expansion

    functions["remainder", "total"] = remainder

    def derivatives(term):
        y = standardize(x).requires_grad_()
        (output_gradient,) = torch.autograd.grad(term(y), y)
        at = x.clone().requires_grad_()
        (input_gradient,) = torch.autograd.grad(term(standardize(at)), at, create_graph=True)
        (product,) = torch.autograd.grad((input_gradient * direction).sum(), at, allow_unused=True)
        return term(y), output_gradient, input_gradient, product

    return {key: [part.detach().numpy() for part in derivatives(term)] for key, term in functions.items()}


@pytest.mark.parametrize(("term", "part"), TERM_PARTS)
def test_term_and_its_derivatives_agree_with_double_backward(term, part, setting):
    ours, theirs = setting
    sizes = [np.max([np.abs(theirs[key][k]).max() for key in theirs]) for k in range(4)]
    for own, other, size in zip(ours(term, part), theirs[term, part], sizes, strict=True):
        error = np.abs(np.asarray(own).reshape(other.shape) - other).max()
        assert error <= TOLERANCE * size
