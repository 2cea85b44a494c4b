"""Which package computes which problem of `benchmarks.curvature_problems`, and how?"""

from collections.abc import Callable
from typing import Any

from benchmarks import pytorch_heads as heads
from benchmarks import pytorch_networks as networks
from benchmarks.curvature_problems import (
    Implementation,
    dense_head_diagonals,
    head_diagonals,
    head_products,
    inside,
    network_products,
)

_WHOLE = "it forms the whole Hessian for a product"
# By problem and peer: how it does it, or why it does not.
PEERS: dict[Callable[[Any], Implementation], dict[str, Callable[[Any], Implementation] | str]] = {
    head_diagonals: {
        "torch.func": heads.torch_func_head_diagonals,
        "jax.hessian": dense_head_diagonals,
        "curvlinops": heads.curvlinops_head_diagonals,
        "BackPACK": heads.backpack_head_diagonals,
    },
    head_products: {
        "torch.func": heads.torch_func_head_products,
        "jax.hessian": _WHOLE,
        "curvlinops": heads.curvlinops_head_products,
        "BackPACK": heads.backpack_head_products,
    },
    network_products: {
        "torch.func": networks.torch_func_network_products,
        "jax.hessian": _WHOLE,
        "curvlinops": networks.curvlinops_network_products,
        "BackPACK": networks.backpack_network_products,
    },
    inside: {
        "torch.func": networks.torch_func_inside,
        "jax.hessian": "it would be by hand, as torch.func is here",
        "curvlinops": "its operators are over parameters, for all rows together",
        "BackPACK": "its diagonals by row are of parameters, which a convolution's positions share",
    },
}
