"""Layer by layer, every model agrees with the same architecture in PyTorch on the same weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bnjax.normalizers import batch_norm
from tests.models.cases import FULL_SIZE, MODELS

torch = pytest.importorskip("torch", reason="comparisons with PyTorch need the extra `bench`")
from benchmarks import pytorch_models  # noqa: E402
from benchmarks.pytorch_weights import LAYERS, NORMS, PYTORCH_LAYERS, at, transfer  # noqa: E402

pytestmark = pytest.mark.bench


def run_with_layers(model, variables, x, mode):
    """Return the paths and outputs of all layers in the order of their calls, and the updated statistics."""
    paths = []

    @jax.jit
    def run(variables, x):
        outputs = []

        def record(call, args, kwargs, context):
            y = call(*args, **kwargs)
            if isinstance(context.module, LAYERS) and context.method_name == "__call__":
                paths.append(context.module.path)
                outputs.append(y)
            return y

        with nn.intercept_methods(record):
            _, updated = model.apply(variables, x, mode=mode, mutable=["batch_stats"])
        return outputs, updated

    outputs, updated = run(variables, x)
    return paths, outputs, updated


def drawn(shapes, dtype):
    """Draw variables; variances and scales are positive, and kernels keep the size of what they multiply."""
    generator = np.random.default_rng(1)

    def draw(path, leaf):
        noise = generator.normal(size=leaf.shape)
        if leaf.ndim > 1:
            noise *= (2 * leaf.shape[-1] / leaf.size) ** 0.5
        return np.asarray(np.exp(0.3 * noise) if path[-1].key in ("variance", "scale") else noise, dtype)

    return jax.device_put(jax.tree_util.tree_map_with_path(draw, shapes))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-10)])
@pytest.mark.parametrize("name", MODELS)
def test_every_layer_has_pytorchs_output_and_statistics(name, dtype, tolerance):
    build, counterpart, shape = MODELS[name]
    model, module = build(batch_norm()), counterpart(pytorch_models).to(getattr(torch, dtype))
    x = jax.device_put(np.random.default_rng(0).normal(size=shape).astype(dtype))
    variables = drawn(jax.eval_shape(model.init, jax.random.key(0), x), dtype)
    leaves = [leaf for leaf in module.modules() if isinstance(leaf, PYTORCH_LAYERS)]
    order, values = [], []

    def record(layer, _, y):
        order.append(layer)
        values.append(y)

    for leaf in leaves:
        leaf.register_forward_hook(record)
    images = torch.from_numpy(np.array(x))
    images = images.permute(0, 3, 1, 2) if images.ndim == 4 else images
    module.eval()(images)  # for the order of the calls

    for mode in ("running", "batch"):
        paths, outputs, updated = run_with_layers(model, variables, x, mode)
        transfer(variables, paths, order[: len(leaves)])
        values.clear()
        (module.train() if mode == "batch" else module.eval())(images)
        for path, ours, theirs in zip(paths, outputs, values, strict=True):
            expected = theirs.detach().numpy()
            expected = expected.transpose(0, 2, 3, 1) if expected.ndim == 4 else expected
            assert ours.dtype == dtype
            np.testing.assert_allclose(
                ours, expected, rtol=0, atol=tolerance * np.abs(expected).max(), err_msg=f"{mode}: {path}"
            )
        if mode == "batch":
            old, new = variables["batch_stats"], updated["batch_stats"]
            compare_statistics(old, new, paths, order[: len(leaves)], outputs, tolerance)


def compare_statistics(old, new, paths, modules, outputs, tolerance):
    for path, module, y in zip(paths, modules, outputs, strict=True):
        if isinstance(module, NORMS):
            before, after = (jax.tree.map(np.asarray, at(stats, path)) for stats in (old, new))
            count = y.size / y.shape[-1]
            close = partial(np.testing.assert_allclose, rtol=10 * tolerance, atol=10 * tolerance)
            close(after["mean"], module.running_mean.numpy())
            # PyTorch keeps the unbiased variance of the batch.
            fresh = (after["variance"] - 0.9 * before["variance"]) * count / (count - 1)
            close(0.9 * before["variance"] + fresh, module.running_var.numpy())


@pytest.mark.parametrize("name", FULL_SIZE)
def test_the_published_size_has_pytorchs_number_of_parameters(name):
    build, counterpart = FULL_SIZE[name]
    with torch.device("meta"):
        expected = sum(parameter.numel() for parameter in counterpart(pytorch_models).parameters())
    variables = jax.eval_shape(build(batch_norm()).init, jax.random.key(0), jnp.zeros((2, 32, 32, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == expected
