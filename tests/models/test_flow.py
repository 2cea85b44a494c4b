"""RealNVP is invertible, its log-determinant is that of the exact Jacobian, and live statistics are no bijection."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.models.flow import (
    Channels,
    Checkerboard,
    Coupling,
    FlowNormalization,
    RealNVP,
    bits_per_dimension,
    dequantized,
)
from bnjax.models.flow.pixels import squeezed, unsqueezed
from bnjax.normalizers import (
    batch_norm,
    batch_renorm,
    detached_batch_norm,
    frozen_batch_norm,
    ghost_batch_norm,
    group_norm,
    layer_norm,
    lp_norm,
)
from tests.comparison import assert_close

FLOWS = {
    "batch_norm": RealNVP(width=3, blocks=1),
    "whole_batch": RealNVP(width=4, blocks=1, norm=group_norm(groups=1), whole_batch=True),
    "color": RealNVP(channels=3, width=3, blocks=1),
}


def drawn(*shape, low=0.0, high=1.0):
    return jax.device_put(np.random.default_rng(0).uniform(low, high, shape))


def drawn_variables(init, *args, **options):
    """Draw a module's variables in float64 that make no scale and no shift trivial; only shapes come from `init`."""
    generator = np.random.default_rng(1)

    def draw(path, leaf):
        size = 0.0 if path[-1].key in ("mean", "bias", "direction", "scale_shift") else 0.6
        return size + generator.uniform(-0.2, 0.2, leaf.shape)

    shapes = jax.eval_shape(lambda: init(jax.random.key(0), *args, **options))
    return jax.device_put(jax.tree_util.tree_map_with_path(draw, shapes))


@pytest.fixture(scope="module", params=FLOWS)
def flow(request):
    """Return a flow's `encode` with variables that are not initial ones, images, and what it makes of them and back."""
    model = FLOWS[request.param]
    images = drawn(3, 4, 8, model.channels)
    variables = drawn_variables(model.init, images)

    @jax.jit
    def encode(images):
        return model.apply(variables, images, mode="running", method="encode")

    @jax.jit
    def everything(images):
        latents, log_determinant = encode(images)
        decoded = model.apply(variables, latents, method="decode")
        return latents, log_determinant, decoded, model.apply(variables, images, mode="running")

    return encode, images, everything(images)


def test_decoding_inverts_encoding(flow):
    _, images, (latents, _, decoded, _) = flow
    np.testing.assert_allclose(decoded, images, rtol=0, atol=1e-9)
    assert sum(latent.size for latent in latents) == images.size


def test_the_log_determinant_is_that_of_the_exact_jacobian(flow):
    encode, images, (_, log_determinant, *_) = flow

    @jax.jit
    @jax.jacfwd
    def jacobian(image):
        latents, _ = encode(images.at[0].set(image.reshape(images[0].shape)))
        return jnp.concatenate([latent[0].ravel() for latent in latents])

    _, exact = np.linalg.slogdet(jacobian(np.asarray(images)[0].ravel()))
    np.testing.assert_allclose(log_determinant[0], exact, rtol=0, atol=1e-9)


def test_the_log_likelihood_is_that_of_the_latents_with_the_log_determinant(flow):
    _, images, (latents, log_determinant, _, log_likelihood) = flow
    rows = np.concatenate([np.reshape(latent, (len(images), -1)) for latent in map(np.asarray, latents)], axis=1)
    normal = -np.sum(rows**2 + np.log(2 * np.pi), axis=1) / 2
    assert_close(log_likelihood, normal + np.asarray(log_determinant))


def test_the_factored_half_is_one_colour_of_a_checkerboard():
    places = np.arange(16.0).reshape(1, 4, 4, 1)
    last = jax.jit(lambda x: RealNVP()._by_colour(squeezed(x))[..., :2])(places)
    rows, columns = np.divmod(np.asarray(last, int).ravel(), 4)
    assert ((rows + columns) % 2 == 0).all()


@pytest.mark.parametrize("partition", [Checkerboard(False), Checkerboard(True), Channels(False), Channels(True)])
def test_halves_put_together_are_the_images(partition):
    x = drawn(2, 4, 6, 4)
    kept, other = jax.jit(partition.split)(x)
    assert kept.size == other.size == x.size / 2
    np.testing.assert_array_equal(jax.jit(partition.merge)(kept, other), x)
    assert set(np.asarray(kept).ravel()) | set(np.asarray(other).ravel()) == set(np.asarray(x).ravel())


@pytest.mark.parametrize("odd", [False, True])
def test_a_checkerboard_keeps_the_pixels_of_one_colour(odd):
    board = Checkerboard(odd)
    mask = jax.jit(lambda x: board.mask(board.split(x)[0]))(drawn(1, 4, 6, 1))
    rows, columns = np.indices((4, 6))
    np.testing.assert_array_equal(np.asarray(mask)[0, ..., 0], (rows + columns) % 2 == odd)


def test_squeezed_images_hold_a_square_in_every_pixel():
    x = np.asarray(drawn(2, 4, 6, 3))
    small = jax.jit(squeezed)(x)
    np.testing.assert_array_equal(jax.jit(unsqueezed)(small), x)
    np.testing.assert_array_equal(np.asarray(small)[1, 1, 2], x[1, 2:4, 4:6].ravel())


@pytest.mark.parametrize("partition", [Checkerboard(True), Channels(False)])
def test_a_coupling_leaves_the_kept_half_alone_and_depends_on_it(partition):
    coupling, x = Coupling(type(partition), 2, 3, 1, batch_norm(), batch_norm()), drawn(3, 4, 4, 2)
    variables = drawn_variables(coupling.init, x, partition.odd, mode="batch")
    coupled: Any = coupling.apply

    @jax.jit
    def halves_after(kept, other):
        return partition.split(coupled(variables, partition.merge(kept, other), partition.odd, mode="running").values)

    kept, other = map(np.asarray, jax.jit(partition.split)(x))
    kept_after, after = halves_after(kept, other)
    np.testing.assert_array_equal(kept, kept_after)
    _, changed = halves_after(kept + 1, other)
    assert np.min(np.max(np.abs(changed - np.asarray(after)), axis=(1, 2, 3))) > 1e-3


@pytest.mark.parametrize(
    "norm",
    [
        batch_norm(),
        batch_renorm(),
        detached_batch_norm(),
        frozen_batch_norm(),
        lp_norm(p=1),
        ghost_batch_norm(ghost_size=4),
    ],
    ids=repr,
)
@pytest.mark.parametrize("whole_batch", [False, True])
def test_a_normalizer_inside_the_flow_is_inverted_by_its_running_statistics(norm, whole_batch):
    layer, x = FlowNormalization(norm, whole_batch), drawn(8, 2, 4, 2, low=3.0, high=4.0)
    variables = drawn_variables(layer.init, x, mode="batch")
    apply: Any = layer.apply

    @jax.jit
    def there_and_back(x):
        y, log_determinant = apply(variables, x, mode="running")
        return y, log_determinant, apply(variables, y, method="inverse")

    x, (y, log_determinant, back) = np.asarray(x), map(np.asarray, there_and_back(x))
    assert_close(back, x)
    slope = (y[0] - y[1]) / (x[0] - x[1])
    assert_close(log_determinant, np.full(8, np.sum(np.log(slope))))
    assert len(jax.tree.leaves(variables)[0]) == (1 if whole_batch else 2)


@pytest.mark.parametrize(("whole_batch", "features"), [(False, 2), (True, 1)])
def test_live_statistics_forget_mean_and_scale_so_that_the_joint_jacobian_is_singular(whole_batch, features):
    layer, x = FlowNormalization(batch_norm(epsilon=0.0), whole_batch), np.asarray(drawn(3, 2, 2, 2))

    def joint(x):
        variables = layer.init(jax.random.key(0), x, mode="batch")
        (y, log_determinant), _ = layer.apply(variables, x, mode="batch", mutable=["batch_stats"])
        return y, jnp.sum(log_determinant)

    jacobian, counted = jax.jit(jax.jacfwd(joint, has_aux=True))(x)
    singular = np.linalg.svd(np.reshape(jacobian, (x.size, x.size)), compute_uv=False)
    assert np.sum(singular < 1e-12 * singular[0]) == 2 * features
    # Of m entries with one scale m - 2 directions are divided by it, the flow counts all m.
    deviations = np.std(x) if whole_batch else np.std(x, axis=(0, 1, 2))
    assert_close(np.sum(np.log(singular[: x.size - 2 * features])), float(counted) + 2 * np.sum(np.log(deviations)))


def test_dequantized_images_stay_in_their_grey_level_and_uniform_noise_costs_no_bits():
    images = np.arange(17).reshape(1, 17, 1, 1) / 16
    noisy = jax.jit(dequantized, static_argnames="levels")(jax.random.key(0), images, levels=17)
    np.testing.assert_array_equal(np.floor(np.asarray(noisy) * 17), images * 16)
    assert bits_per_dimension(0.0, dimensions=5, levels=256) == 8.0


@pytest.mark.parametrize("shape", [(2, 6, 8, 1), (2, 8, 7, 1), (2, 8, 8, 3)])
def test_images_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match="multiples of 4, got"):
        RealNVP(width=2, blocks=1).init(jax.random.key(0), jnp.ones(shape))


def test_a_normalizer_without_running_statistics_is_refused_inside_the_flow():
    with pytest.raises(ValueError, match="needs running statistics to be inverted by, got layer_norm"):
        FlowNormalization(layer_norm()).init(jax.random.key(0), drawn(2, 4, 4, 2), mode="batch")
