"""Curvature of and inside of networks by torch.func, curvlinops and BackPACK, as they document it.

Each function returns an `Implementation`; packages are imported where they are used, so that each runs without the
others.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jvp, replace_all_batch_norm_modules_, vjp, vmap

from benchmarks import pytorch_models
from benchmarks.curvature_problems import Arrays, Implementation, Inside, Network
from benchmarks.pytorch_weights import (
    NORMS,
    arrays_in_order,
    layers_in_order,
    parameters_in_order,
    paths_in_order,
    transfer,
)

COUNTERPARTS: dict[str, Callable[[int], nn.Module]] = {
    "MLP": lambda width: pytorch_models.MLP(64, (8 * width, 8 * width), 10),
    "VGG-A": lambda width: pytorch_models.VGGA(width),
    "ResNet-18": lambda width: pytorch_models.ResNet((2, 2, 2, 2), False, width),
}


def torch_func_network_products(problem: Network) -> Implementation:
    module, params, columns, (images, labels) = _network(problem)
    names = {id(leaf): name for name, leaf in module.named_parameters()}
    point = {names[id(leaf)]: leaf.detach() for leaf in params}
    directions = dict(zip(point, columns, strict=True))

    def loss(point: dict[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(functional_call(module, point, images), labels)

    def product(direction: dict[str, Tensor]) -> dict[str, Tensor]:
        return jvp(grad(loss), (point,), (direction,))[1]

    def call() -> Any:
        if problem.columns == 1:
            return [leaf[None] for leaf in product({name: leaf[0] for name, leaf in directions.items()}).values()]
        return list(vmap(product)(directions).values())

    return Implementation(call, _by_column)


def curvlinops_network_products(problem: Network) -> Implementation:
    from curvlinops import HessianLinearOperator

    module, params, columns, batch = _network(problem)
    # Its check compares two calls to within 1e-8 of each entry, which float32 does not keep in training mode.
    operator: Any = HessianLinearOperator(module, nn.CrossEntropyLoss(), params, [batch], check_deterministic=False)
    last = [leaf.movedim(0, -1).contiguous() for leaf in columns]
    return Implementation(lambda: [leaf.movedim(-1, 0) for leaf in operator @ last], _by_column)


def backpack_network_products(problem: Network) -> Implementation:
    from backpack.hessianfree.hvp import hessian_vector_product

    module, params, columns, (images, labels) = _network(problem)

    def call() -> list[Tensor]:
        loss = nn.functional.cross_entropy(module(images), labels)
        products = [
            hessian_vector_product(loss, params, [leaf[at] for leaf in columns]) for at in range(problem.columns)
        ]
        return [torch.stack(leaves) for leaves in zip(*products, strict=True)]

    return Implementation(call, _by_column)


def torch_func_inside(problem: Inside) -> Implementation:
    """Take dense Hessians by row, by hand: the rest of the network in evaluation mode, with the batch's statistics."""
    module, _, _, (images, labels) = _network(problem.network())
    layers = list(module.children())
    at = [at for at, layer in enumerate(layers) if isinstance(layer, NORMS)][problem.number]
    trunk, norm, rest = nn.Sequential(*layers[:at]), layers[at], nn.Sequential(*layers[at + 1 :])

    def standardize(x: Tensor) -> Tensor:
        axes = batch_axes(x)
        mean = x.mean(axes, keepdim=True)
        return (x - mean) / torch.sqrt(torch.square(x - mean).mean(axes, keepdim=True) + norm.eps)

    def loss(row: Tensor, label: Tensor) -> Tensor:
        by_feature = (-1, *[1] * (row.ndim - 1))
        y = norm.weight.reshape(by_feature) * row + norm.bias.reshape(by_feature)
        return nn.functional.cross_entropy(rest(y[None])[0], label)

    first = trunk(images)[0]
    center = torch.from_numpy(np.moveaxis(problem.center((*first.shape[1:], len(first))), -1, 0).copy())

    def terms(row: Tensor, label: Tensor) -> Tensor:
        delta, size = (row - center).ravel(), row.numel()
        gradient, here = grad(loss)(center, label).ravel(), grad(loss)(row, label).ravel()
        matrix = hessian(loss)(center, label).reshape(size, size)
        diagonal, second = torch.diagonal(matrix) * delta, matrix @ delta
        stacked = torch.stack([gradient, diagonal, second - diagonal, here - gradient - second])
        return stacked.reshape(4, *row.shape)

    @torch.no_grad()
    def call() -> Tensor:
        hold_statistics(module, images)
        passed: Any = vjp(standardize, trunk(images))
        standardized, transpose = passed
        by_row = vmap(terms, out_dims=1)(standardized, labels)
        return torch.stack([transpose(term)[0] for term in by_row])

    return Implementation(call, lambda found: list(found.numpy()))


def hold_statistics(module: nn.Module, images: Tensor) -> None:
    """Set the running statistics to those of a batch, with the biased variance, and evaluation mode."""

    def take(norm: Any, inputs: tuple[Tensor, ...]) -> None:
        (x,) = inputs
        norm.running_mean.copy_(x.mean(batch_axes(x)))
        norm.running_var.copy_(x.var(batch_axes(x), correction=0))

    # In evaluation mode each normalizer then applies what it has just taken, as in training.
    norms = [layer for layer in module.modules() if isinstance(layer, NORMS)]
    hooks = [norm.register_forward_pre_hook(take) for norm in norms]
    with torch.no_grad():
        module.eval()(images)
    for hook in hooks:
        hook.remove()


def batch_axes(x: Tensor) -> tuple[int, ...]:
    return tuple(axis for axis in range(x.ndim) if axis != 1)


def _network(problem: Network) -> tuple[Any, list[nn.Parameter], list[Tensor], tuple[Tensor, Tensor]]:
    """Return the module in the problem's mode, its parameters, the vectors in their order, and the batch."""
    variables, (images, labels) = problem.variables(), problem.batch()
    paths = paths_in_order(problem.model(), variables, images)
    batch = torch.from_numpy(np.moveaxis(images, -1, 1).copy()), torch.from_numpy(labels.astype(np.int64))
    module = COUNTERPARTS[problem.name](problem.width)
    layers = layers_in_order(module, batch[0])
    transfer(variables, paths, layers)
    if problem.mode == "batch":
        # What torch.func asks for: normalizers that keep no running statistics use the batch's.
        replace_all_batch_norm_modules_(module.train())
    directions = problem.directions(variables["params"])
    columns = [
        arrays_in_order(jax.tree.map(lambda leaf, at=at: leaf[at], directions), paths) for at in range(problem.columns)
    ]
    stacked = [torch.from_numpy(np.stack(leaves)) for leaves in zip(*columns, strict=True)]
    return module, parameters_in_order(layers), stacked, batch


def _by_column(found: list[Tensor]) -> Arrays:
    return [leaf[at].detach().numpy() for at in range(len(found[0])) for leaf in found]
