"""How do the weights of a Flax network get into its counterpart in PyTorch? Layer by layer, as they are called."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from flax import linen as nn

from bnjax.models import Convolution, Normalization
from bnjax.models.interception import names_of

LAYERS: tuple[Any, ...] = (Convolution, nn.Dense, Normalization)
NORMS: tuple[Any, ...] = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)
PYTORCH_LAYERS = (torch.nn.Conv2d, torch.nn.Linear, *NORMS)
Path = tuple[str, ...]


def paths_in_order(model: nn.Module, variables: Mapping[str, Any], images: Any) -> list[Path]:
    """Return the paths of a Flax model's layers in the order of their calls."""
    names = names_of(model, variables, images, of=lambda module: isinstance(module, LAYERS), mode="running")
    return [tuple(name.split("/")) for name in names]


def layers_in_order(module: torch.nn.Module, images: torch.Tensor) -> list[Any]:
    """Return the layers of a PyTorch model in the order of their calls; it is in evaluation mode afterwards."""
    order: list[Any] = []
    leaves = [leaf for leaf in module.modules() if isinstance(leaf, PYTORCH_LAYERS)]
    hooks = [leaf.register_forward_hook(lambda leaf, _, y: order.append(leaf)) for leaf in leaves]  # noqa: ARG005
    with torch.no_grad():
        module.eval()(images)
    for hook in hooks:
        hook.remove()
    return order


def parameters_in_order(layers: Sequence[Any]) -> list[torch.nn.Parameter]:
    """Return weight and bias of every layer, as far as it has them."""
    return [leaf for layer in layers for leaf in (layer.weight, layer.bias) if leaf is not None]


def arrays_in_order(params: Mapping[str, Any], paths: Sequence[Path]) -> list[np.ndarray]:
    """Return a tree like a Flax model's parameters in the order and the layout of `parameters_in_order`."""
    arrays = []
    for path in paths:
        layer = at(params, path)
        weight = np.asarray(layer["kernel"] if "kernel" in layer else layer["scale"])
        arrays.append(weight.transpose(3, 2, 0, 1) if weight.ndim == 4 else weight.T)
        arrays += [np.asarray(layer["bias"])] if "bias" in layer else []
    return arrays


def transfer(variables: Mapping[str, Any], paths: Sequence[Path], layers: Sequence[Any]) -> None:
    """Copy parameters and running statistics into the layers."""
    pairs: list[Any] = list(zip(parameters_in_order(layers), arrays_in_order(variables["params"], paths), strict=True))
    for path, layer in zip(paths, layers, strict=True):
        if isinstance(layer, NORMS):
            stats = at(variables["batch_stats"], path)
            pairs += [(layer.running_mean, stats["mean"]), (layer.running_var, stats["variance"])]
    with torch.no_grad():
        for target, value in pairs:
            assert target.shape == np.shape(value)
            target.copy_(torch.from_numpy(np.array(value)))


def at(tree: Any, path: Path) -> Any:
    """Return what stands at a path."""
    for key in path:
        tree = tree[key]
    return tree
