"""RealNVP has the likelihood and the gradient of the same flow in PyTorch on the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.models.flow import RealNVP
from tests.models.test_flow import drawn, drawn_variables

torch = pytest.importorskip("torch", reason="comparisons with PyTorch need the extra `bench`")
from benchmarks import pytorch_flow  # noqa: E402

pytestmark = pytest.mark.bench
BLOCKS = 2


def entry(tree, index):
    """Return one of the modules whose parameters are stacked."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def transfer(variables, module):
    """Copy our variables into the module, coupling by coupling."""
    variables = jax.tree.map(np.asarray, variables)
    for name in ("checkerboard", "channelwise", "last_checkerboard"):
        for index, coupling in enumerate(getattr(module, name)):
            params, stats = (entry(variables[collection][name], index) for collection in ("params", "batch_stats"))
            transfer_coupling(params, stats, coupling)


def transfer_coupling(params, stats, coupling):
    network, network_stats, theirs = params["network"], stats["network"], coupling.network
    copy_norm(params["context_normalization"], stats["context_normalization"], coupling.context_norm)
    copy(coupling.norm.running_mean, stats["normalization"]["mean"][:, None, None])
    copy(coupling.norm.running_var, stats["normalization"]["variance"][:, None, None])
    copy(coupling.scale, params["scale"])
    copy(coupling.scale_shift, params["scale_shift"])
    for index, convolution in enumerate((theirs.first, theirs.skip, theirs.last)):
        copy_convolution(network[f"WeightNormConvolution_{index}"], convolution)
    copy_norm(network["Normalization_0"], network_stats["Normalization_0"], theirs.norm)
    for number, block in enumerate(theirs.blocks):
        own, own_stats = (entry(tree["ResidualBlock_0"], number) for tree in (network, network_stats))
        for index, norm in enumerate(block.norms):
            copy_norm(own[f"Normalization_{index}"], own_stats[f"Normalization_{index}"], norm)
        for index, convolution in enumerate((*block.convolutions, block.skip)):
            copy_convolution(own[f"WeightNormConvolution_{index}"], convolution)


def copy_convolution(params, module):
    copy(module.parametrizations.weight.original0, params["length"][:, None, None, None])
    copy(module.parametrizations.weight.original1, params["direction"].transpose(3, 2, 0, 1))
    if module.bias is not None:
        copy(module.bias, params["bias"])


def copy_norm(params, stats, module):
    copy(module.weight, params["scale"])
    copy(module.bias, params["bias"])
    copy(module.running_mean, stats["mean"])
    copy(module.running_var, stats["variance"])


def copy(target, value):
    assert target.shape == value.shape
    with torch.no_grad():
        target.copy_(torch.from_numpy(np.array(value)))


@pytest.mark.parametrize("mode", ["batch", "running"])
def test_the_flow_has_pytorchs_likelihood_and_gradient(mode):
    flow, images = RealNVP(channels=2, width=3, blocks=BLOCKS), drawn(4, 8, 4, 2)
    variables = drawn_variables(flow.init, images)
    module = pytorch_flow.RealNVP(2, 3, BLOCKS).double().train(mode == "batch")
    transfer(variables, module)

    @jax.jit
    @jax.value_and_grad
    def ours(images):
        return jnp.sum(flow.apply(variables, images, mode=mode, mutable=["batch_stats"])[0] ** 2)

    theirs = torch.from_numpy(np.array(images).transpose(0, 3, 1, 2)).requires_grad_()
    value = (module(theirs) ** 2).sum()
    value.backward()
    our_value, our_gradient = map(np.asarray, ours(images))
    expected = theirs.grad.numpy().transpose(0, 2, 3, 1)
    assert abs(our_value - value.item()) <= 1e-10 * abs(value.item())
    assert np.linalg.norm(our_gradient - expected) <= 1e-10 * np.linalg.norm(expected)
