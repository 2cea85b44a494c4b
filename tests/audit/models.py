"""Models in other people's habits, with flax's own layers, and the gradients that audits of them are held against."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array

from bnjax.models import Normalization
from bnjax.normalizers import ghost_batch_norm


class Example(NamedTuple):
    """A model, its inputs, and the layer that is asked about."""

    model: nn.Module
    shape: tuple[int, ...]
    layer: str
    apply_kwargs: Mapping[str, Any] = {}
    held: tuple[str, ...] = ()


class ResidualBlock(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        y = nn.BatchNorm(use_running_average=not train, name="bn1")(nn.Conv(2, (3, 3), use_bias=False)(x))
        y = nn.Dropout(0.3, deterministic=not train)(nn.relu(y))
        y = nn.BatchNorm(use_running_average=not train, name="bn2")(nn.Conv(2, (2, 2), use_bias=False)(y))
        return nn.relu(x + y)


class Residual(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = ResidualBlock(name="block1")(nn.Conv(2, (1, 1))(x), train)
        return nn.Dense(3)(jnp.mean(ResidualBlock(name="block2")(x, train), (1, 2)))


class UNet(nn.Module):
    """An image for an image, around a connection past the narrow part."""

    @nn.compact
    def __call__(self, image):
        wide = nn.relu(nn.GroupNorm(num_groups=None, group_size=2, name="outer")(nn.Conv(4, (3, 3))(image)))
        narrow = nn.max_pool(wide, (2, 2), (2, 2))
        narrow = nn.silu(nn.GroupNorm(num_groups=2, name="inner")(nn.Conv(4, (2, 2))(narrow)))
        back = jax.image.resize(narrow, wide.shape, "nearest")
        return nn.Conv(1, (1, 1))(jnp.concatenate([wide, back], -1))


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, tokens, *, deterministic: bool = True):
        x = nn.Embed(7, 4)(tokens)
        y = nn.LayerNorm(name="ln1")(x)
        attention = nn.MultiHeadDotProductAttention(2, dropout_rate=0.0, deterministic=deterministic)
        x = x + nn.Dropout(0.2)(attention(y, y), deterministic=deterministic)
        y = nn.Dense(4)(nn.gelu(nn.Dense(6)(nn.LayerNorm(name="ln2")(x))))
        return nn.Dense(3)(jnp.mean(x + nn.Dropout(0.2)(y, deterministic=deterministic), 1))


class ConvNeXt(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Conv(4, (2, 2), strides=2, name="stem")(x)
        y = nn.Conv(4, (3, 3), feature_group_count=4, name="depthwise")(x)
        y = nn.LayerNorm(epsilon=1e-6, use_scale=False, name="norm")(y)
        y = nn.Dense(4)(nn.gelu(nn.Dense(6)(y))) * self.param("layer_scale", nn.initializers.constant(0.5), (4,))
        x = x + nn.Dropout(0.4, broadcast_dims=(1, 2, 3), deterministic=not train)(y)
        return nn.Dense(3)(nn.RMSNorm(name="head_norm")(jnp.mean(x, (1, 2))))


class BehindReLU(nn.Module):
    """In `setup` style; one dropout for two places, and no scale."""

    def setup(self):
        self.first, self.second, self.last = nn.Dense(5), nn.Dense(4), nn.Dense(3)
        self.bn1, self.bn2 = nn.BatchNorm(use_scale=False), nn.BatchNorm(epsilon=1e-3)
        self.dropout = nn.Dropout(0.3)

    def __call__(self, x, train: bool = False):
        x = self.dropout(self.bn1(nn.relu(self.first(x)), not train), deterministic=not train)
        x = self.dropout(self.bn2(nn.relu(self.second(x)), not train), deterministic=not train)
        return self.last(x)


class ChannelsFirst(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.BatchNorm(axis=1, use_running_average=not train, use_fast_variance=False, name="norm")(x)
        x = jnp.tanh(x) * self.param("gain", nn.initializers.normal(), (1, 3, 4))
        return nn.Dense(3)(nn.InstanceNorm(feature_axes=1, name="instance")(x).reshape(len(x), -1))


class Precise(nn.Module):
    """All numbers in one dtype that the model is told."""

    dtype: Any

    @nn.compact
    def __call__(self, x, train: bool = False):
        numbers: dict[str, Any] = {"dtype": self.dtype, "param_dtype": jnp.promote_types(self.dtype, jnp.float32)}
        x = nn.Dense(4, **numbers)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="norm", **numbers)(x))
        return nn.Dense(3, **numbers)(x)


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return Normalization(ghost_batch_norm(ghost_size=3), name="norm")(nn.Dense(4)(x), mode=train)


class Middle(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.relu(Inner(name="inner")(x, train)) + Inner(name="beside")(x, train)


class Nested(nn.Module):
    """Modules in modules, a normalizer of the library's, two outputs."""

    @nn.compact
    def __call__(self, x, train="running"):
        x = Middle(name="middle")(x, train)
        y = Inner(name="last")(x, train)
        return {"logits": nn.Dense(3)(jnp.tanh(y)), "features": y}


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        return x + nn.tanh(nn.LayerNorm(name="norm")(nn.Dense(4)(x))), None


class Lifted(nn.Module):
    """One normalizer outside of, and others inside of `nn.remat` and `nn.scan`."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(nn.Dense(4)(x))
        rematerialized: Any = nn.remat(Layer)
        x, _ = rematerialized(name="remat")(x)
        scanned: Any = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)
        x, _ = scanned(name="scan")(x, None)
        return nn.Dense(3)(x)


class Joined(nn.Module):
    """Dropout of rows and positions in one axis, and of as many positions as there are rows."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        rows, positions, width = x.shape
        places = nn.Dropout(0.4, deterministic=not train)(nn.Embed(positions, width)(jnp.arange(positions)))
        x = nn.BatchNorm(use_running_average=not train, name="norm")(nn.Dense(width)(x)) + places
        joined = nn.Dropout(0.4, deterministic=not train)(jnp.tanh(x).reshape(rows * positions, width))
        return nn.Dense(3)(nn.BatchNorm(use_running_average=not train, name="behind")(joined).reshape(rows, -1))


class Partitioned(nn.Module):
    """Parameters in boxes that name the axes of devices."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        kernel: Any = nn.with_partitioning(nn.initializers.lecun_normal(), (None, "model"))
        scale: Any = nn.with_partitioning(nn.initializers.ones, ("model",))
        x = nn.Dense(4, kernel_init=kernel, name="first")(x)
        x = nn.BatchNorm(use_running_average=not train, scale_init=scale, name="norm")(x)
        return nn.Dense(3, kernel_init=kernel)(jnp.tanh(x))


TRAIN = {"train": True}
EXAMPLES = {
    "residual, another behind": Example(Residual(), (5, 3, 3, 1), "block2/bn1", TRAIN, ("block2/bn2",)),
    "residual, none behind": Example(Residual(), (5, 3, 3, 1), "block2/bn2", TRAIN),
    "u-net": Example(UNet(), (4, 4, 4, 1), "inner"),
    "transformer": Example(Transformer(), (5, 3), "ln2", {"deterministic": False}),
    "convnext": Example(ConvNeXt(), (4, 4, 4, 1), "norm", TRAIN),
    "behind relu, setup": Example(BehindReLU(), (6, 3), "bn1", TRAIN, ("bn2",)),
    "over other axes": Example(ChannelsFirst(), (4, 3, 4), "norm", TRAIN),
    "instance norm behind": Example(ChannelsFirst(), (4, 3, 4), "instance", TRAIN),
    "float64": Example(Precise(jnp.float64), (6, 3), "norm", TRAIN),
    "nested": Example(Nested(), (6, 3), "middle/inner/norm", {"train": "batch"}, ("last/norm",)),
    "remat and scan": Example(Lifted(), (5, 3), "norm", TRAIN),
    "rows joined with positions": Example(Joined(), (4, 4, 3), "norm", TRAIN, ("behind",)),
    "partitioned": Example(Partitioned(), (6, 3), "norm", TRAIN),
    "rms norm": Example(ConvNeXt(), (4, 4, 4, 1), "head_norm", TRAIN),
}


def drawn(model: nn.Module, shape: tuple[int, ...], seed: int = 0) -> tuple[Any, Array]:
    """Draw variables at random, in the dtypes that they have, and inputs (tokens for a model that embeds them)."""
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=shape)
    if isinstance(model, Transformer):
        inputs = generator.integers(0, 7, shape)
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)

    def fill(path: tuple, leaf: Any) -> np.ndarray:
        values = 1.0 * ("scale" in str(path) or "var" in str(path)) + 0.4 * generator.normal(size=leaf.shape)
        exact = leaf.dtype == jnp.float32 and getattr(model, "dtype", None) is None
        return np.asarray(values, jnp.float64 if exact else leaf.dtype)

    return jax.device_put((jax.tree_util.tree_map_with_path(fill, shapes), inputs))


def row_loss(output: Any, label: Array) -> Array:
    """Return the loss of one row of whatever the models return."""
    if isinstance(output, dict):
        return row_loss(output["logits"], label) + jnp.sum(jnp.sin(output["features"]))
    if output.ndim > 1:
        return jnp.sum(jnp.sin(output) * (1 + label))
    return optax.softmax_cross_entropy_with_integer_labels(output, label)


RNGS = {"dropout": jax.random.key(5)}


def whole_loss(example: Example, variables: Any, inputs: Array, labels: Array) -> Array:
    """Return the sum of the losses of the rows, as flax alone computes it."""
    options: dict[str, Any] = {"mutable": ["batch_stats"], "rngs": RNGS, **example.apply_kwargs}
    outputs, _ = example.model.apply(variables, inputs, **options)
    return jnp.sum(jax.vmap(row_loss)(outputs, labels))


def at_layer(
    example: Example, variables: Any, inputs: Array, labels: Array, *, like: Array, detached: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the loss and its gradient at the layer's input, which is `like` this array in shape and dtype.

    `detached` takes the statistics of all others as constants.
    """

    def loss(shift: Any) -> Array:
        def around(call, args, kwargs, context):
            if context.method_name != "__call__" or not args:
                return call(*args, **kwargs)
            if "/".join(context.module.path) == example.layer:
                assert (args[0].shape, args[0].dtype) == (shift.shape, shift.dtype)
                return call(args[0] + shift, *args[1:], **kwargs)
            if detached and isinstance(context.module, nn.BatchNorm):
                return detached_batch_norm(context.module, args[0])
            if detached and isinstance(context.module, Normalization):
                return detached_ghost_norm(context.module, args[0])
            return call(*args, **kwargs)

        with nn.intercept_methods(around):
            return whole_loss(example, variables, inputs, labels)

    value, gradient = jax.jit(jax.value_and_grad(loss))(np.zeros(like.shape, like.dtype))
    return np.asarray(value), np.asarray(gradient)


def detached_batch_norm(module: Any, x: Array) -> Array:
    axis = module.axis % x.ndim
    axes = tuple(other for other in range(x.ndim) if other != axis)
    mean, variance = jax.lax.stop_gradient((x.mean(axes, keepdims=True), x.var(axes, keepdims=True)))
    params = {name: value.reshape(mean.shape) for name, value in module.variables["params"].items()}
    return (x - mean) / jnp.sqrt(variance + module.epsilon) * params.get("scale", 1.0) + params.get("bias", 0.0)


def detached_ghost_norm(module: Any, x: Array) -> Array:
    halves = x.reshape(-1, 3, x.shape[-1])
    mean, variance = jax.lax.stop_gradient((halves.mean(1, keepdims=True), halves.var(1, keepdims=True)))
    params = module.variables["params"]
    return ((halves - mean) / jnp.sqrt(variance + 1e-5)).reshape(x.shape) * params["scale"] + params["bias"]
