import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.normalizers import batch_norm, noisy_batch_norm
from tests.comparison import assert_close
from tests.normalizers.cases import KEY, ROWS, compiled, drawn_like, features


def noisy(key, x=None):
    x = features(ROWS) if x is None else x
    normalizer = noisy_batch_norm()
    return normalizer.apply(*normalizer.init(x), x, key=key)


def test_the_noise_is_a_function_of_the_key_alone():
    first, again, other = (noisy(jax.random.key(seed))[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.all(np.asarray(first) != np.asarray(other))


def test_no_noise_gives_batch_norm_and_noise_leaves_the_statistics_alone():
    x = features()
    params, stats = (drawn_like(state) for state in batch_norm().init(x))
    expected, expected_stats = compiled(batch_norm(), params, stats, x)
    silent = noisy_batch_norm(mean_noise=0.0, deviation_noise=1.0, mean_spread=0.0, deviation_spread=0.0)
    assert_close(compiled(silent, params, stats, x)[0], expected)
    _, updated = compiled(noisy_batch_norm(), params, stats, x)
    assert_close(updated["mean"], expected_stats["mean"])
    assert_close(updated["variance"], expected_stats["variance"])


def test_there_is_no_noise_and_no_key_in_running_mode():
    x = features()
    params, stats = (drawn_like(state) for state in batch_norm().init(x))
    y, _ = noisy_batch_norm().apply(params, stats, x, mode="running")
    assert_close(y, compiled(batch_norm(), params, stats, x, mode="running")[0])


def test_a_missing_key_is_refused_in_batch_mode():
    with pytest.raises(ValueError, match=r"needs a key in batch mode, got None; pass key=jax\.random\.key"):
        noisy(None)


def test_the_noise_comes_after_scale_and_bias():
    normalizer, x, key = noisy_batch_norm(), features(ROWS), KEY
    params = drawn_like(normalizer.init(x)[0])
    s, m = noisy_batch_norm(affine=False).affine({}, x, mode="batch", key=key)
    slope, offset = normalizer.affine(params, x, mode="batch", key=key)
    assert_close(slope, s * params["scale"])
    assert_close(offset, s * params["bias"] + m)


def test_the_noise_has_the_distributions_of_the_paper():
    rows, width = 2000, 300
    normalizer = noisy_batch_norm(affine=False)
    s, m = normalizer.affine({}, jnp.zeros((rows, width)), mode="batch", key=jax.random.key(0))
    s, m = np.asarray(s), np.asarray(m)
    # Within a feature s is normal and m uniform. Each mean of 2,000 is known to 0.1/√2000 = 0.0022.
    sigma, mu = s.mean(axis=0), m.mean(axis=0)
    np.testing.assert_allclose((s - sigma).std(), 0.1, rtol=0.01)
    np.testing.assert_allclose((abs(s - sigma) < 0.1).mean(), 0.6827, rtol=0.01)
    assert abs(m - mu).max() < 0.1 + 0.01
    np.testing.assert_allclose((m - mu).std(), 0.1 / 3**0.5, rtol=0.01)
    # Over the features σ is uniform on [1, 1.25] and μ on [-0.5, 0.5].
    assert 1 - 0.01 < sigma.min() < 1.01
    assert 1.24 < sigma.max() < 1.25 + 0.01
    assert -0.5 - 0.01 < mu.min() < -0.48
    assert 0.48 < mu.max() < 0.5 + 0.01
    np.testing.assert_allclose([sigma.std(), mu.std()], [0.25 / 12**0.5, 1 / 12**0.5], rtol=0.1)
    # s and m, and neighbouring rows, are independent.
    assert abs(np.corrcoef(sigma, mu)[0, 1]) < 0.2
    for left, right in [(s - sigma, m - mu), ((s - sigma)[1:], (s - sigma)[:-1])]:
        assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 0.01


def test_positions_share_the_features_distribution_and_not_the_draws():
    shape = (40, 5, 5, 3)
    s, m = noisy_batch_norm(affine=False).affine({}, jnp.zeros(shape), mode="batch", key=KEY)
    assert len(np.unique(s)) == len(np.unique(m)) == s.size
    by_position = np.asarray(m).mean(axis=0)
    assert abs(by_position - by_position.mean(axis=(0, 1))).max() < 5 * 0.1 / 3**0.5 / 40**0.5


@pytest.mark.parametrize("wrapped", [lambda function: function, jax.jit], ids=["plain", "compiled"])
def test_each_of_a_batch_of_keys_draws_what_it_draws_alone(wrapped):
    keys = jax.random.split(jax.random.key(0), 3)
    together = wrapped(jax.vmap(lambda key: noisy(key)[0]))(keys)
    for key, drawn in zip(keys, together, strict=True):
        assert_close(drawn, wrapped(lambda key: noisy(key)[0])(key))


@pytest.mark.parametrize(
    "options",
    [{"mean_noise": -1.0}, {"deviation_noise": 0.5}, {"mean_spread": float("nan")}, {"deviation_spread": -0.1}],
)
def test_noise_of_no_size_is_refused(options):
    with pytest.raises(ValueError, match="noise needs finite mean_noise"):
        noisy_batch_norm(**options)
