"""Curvature at the input of a head by torch.func, curvlinops and BackPACK, as they document it.

Each function returns an `Implementation`; packages are imported where they are used, so that each runs without the
others.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, hessian, jvp, vmap

from benchmarks.curvature_problems import Arrays, Head, Implementation

# Columns of a Hessian that curvlinops computes at once, as many as `bnjax` does by default.
CHUNK = 64


def torch_func_head_diagonals(problem: Head) -> Implementation:
    loss, points, labels = _row_loss(problem)
    of_rows = vmap(lambda point, label: torch.diagonal(hessian(loss)(point, label)))
    return Implementation(lambda: of_rows(points, labels), _one_array)


def torch_func_head_products(problem: Head) -> Implementation:
    loss, points, labels = _row_loss(problem)
    directions = torch.from_numpy(problem.directions())
    of_rows = vmap(lambda point, label, direction: jvp(grad(lambda at: loss(at, label)), (point,), (direction,))[1])
    return Implementation(lambda: of_rows(points, labels, directions), _one_array)


def curvlinops_head_diagonals(problem: Head) -> Implementation:
    """Take D columns: the rows are the parameters, so that one product has a column of every row's Hessian."""
    operator, (rows, features) = _rows_operator(problem), (problem.rows, problem.features)

    def call() -> Tensor:
        diagonals = []
        for coordinates in torch.arange(features).split(CHUNK):
            columns = torch.eye(features)[:, coordinates].expand(rows, -1, -1)
            (product,) = operator @ [columns.contiguous()]
            diagonals.append(product[:, coordinates, torch.arange(len(coordinates))])
        return torch.cat(diagonals, dim=1)

    return Implementation(call, _one_array)


def curvlinops_head_products(problem: Head) -> Implementation:
    operator, directions = _rows_operator(problem), torch.from_numpy(problem.directions())
    return Implementation(lambda: (operator @ [directions])[0], _one_array)


def backpack_head_diagonals(problem: Head) -> Implementation:
    """Take the rows' diagonals for the bias of the layer before: a change of it is a change of the head's input."""
    from backpack import backpack, extend
    from backpack.extensions import BatchDiagHessian

    model, loss = _sequential(problem), extend(nn.CrossEntropyLoss(reduction="sum"))
    bias: Any = model[0].bias.requires_grad_()
    extended = extend(model)
    # BackPACK's hooks see only what inputs with gradients reach.
    inputs, labels = torch.from_numpy(problem.inputs()).requires_grad_(), torch.from_numpy(problem.labels())

    def call() -> Tensor:
        bias.grad = None
        with backpack(BatchDiagHessian()):
            loss(extended(inputs), labels).backward()
        return bias.diag_h_batch

    return Implementation(call, _one_array)


def backpack_head_products(problem: Head) -> Implementation:
    from backpack.hessianfree.hvp import hessian_vector_product

    head, labels = _sequential(problem)[1:], torch.from_numpy(problem.labels())
    points, directions = torch.from_numpy(problem.points()).requires_grad_(), torch.from_numpy(problem.directions())

    def call() -> Tensor:
        loss = nn.functional.cross_entropy(head(points), labels, reduction="sum")
        return hessian_vector_product(loss, [points], [directions])[0]

    return Implementation(call, _one_array)


class Rows(nn.Module):
    def __init__(self, points: Tensor, head: nn.Module):
        super().__init__()
        self.points, self.head = nn.Parameter(points), head

    def forward(self, indices: Tensor) -> Tensor:
        return self.head(self.points[indices])


def _rows_operator(problem: Head) -> Any:
    from curvlinops import HessianLinearOperator

    rows = Rows(torch.from_numpy(problem.points()), _sequential(problem)[1:])
    data = [(torch.arange(problem.rows), torch.from_numpy(problem.labels()))]
    return HessianLinearOperator(rows, nn.CrossEntropyLoss(reduction="sum"), [rows.points], data)


def _row_loss(problem: Head) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor]:
    weights = {name: torch.from_numpy(array) for name, array in problem.weights().items()}

    def loss(point: Tensor, label: Tensor) -> Tensor:
        hidden = torch.relu(weights["first"] @ torch.relu(point) + weights["bias"])
        logits = weights["second"] @ hidden
        return torch.logsumexp(logits, 0) - logits.gather(0, label[None])[0]

    return loss, torch.from_numpy(problem.points()), torch.from_numpy(problem.labels())


def _sequential(problem: Head) -> nn.Sequential:
    """Return Linear(10→D) and the head behind it, without gradients of the weights."""
    weights = {name: torch.from_numpy(array) for name, array in problem.weights().items()}
    before = nn.Linear(weights["before"].shape[1], problem.features)
    first, second = nn.Linear(problem.features, problem.width), nn.Linear(problem.width, 10)
    model = nn.Sequential(before, nn.ReLU(), first, nn.ReLU(), second).requires_grad_(False)
    names = ("before", "shift", "first", "bias", "second")
    for leaf, name in zip(model.parameters(), names, strict=False):
        leaf.copy_(weights[name])
    second.bias.zero_()
    return model


def _one_array(found: Tensor) -> Arrays:
    return [found.detach().numpy()]
