from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bnjax.models import Normalization
from bnjax.normalizers import batch_norm, frozen_batch_norm, noisy_batch_norm
from tests.comparison import assert_close
from tests.normalizers.cases import KEY, MAPS, NORMALIZERS, OVER_BATCH, ROWS, drawn_like, features

every = pytest.mark.parametrize("name", NORMALIZERS)


def initialized(norm, x) -> tuple[Any, dict[str, Any]]:
    """Return the module and its variables with other numbers than the initial ones."""
    module: Any = Normalization(norm)
    variables = module.init({"params": KEY, "noise": KEY}, x)
    return module, {collection: drawn_like(state) for collection, state in variables.items()}


@every
def test_it_starts_from_the_parameters_and_statistics_of_the_pure_init(name):
    x, norm = features(), NORMALIZERS[name](affine=True)
    variables: Any = Normalization(norm).init(KEY, x)
    params, stats = norm.init(x)
    assert variables.keys() == {"params"} | ({"batch_stats"} if stats else set())
    for collection, state in [("params", params), ("batch_stats", stats)]:
        assert variables.get(collection, {}).keys() == state.keys()
        for entry, vector in state.items():
            np.testing.assert_array_equal(variables[collection][entry], vector)


@every
def test_outputs_and_updates_are_those_of_the_pure_functions(name):
    x, norm = features(), NORMALIZERS[name]()
    module, variables = initialized(norm, x)

    def draw(module):
        return module.make_rng("noise")

    key = nn.apply(draw, module)(variables, rngs={"noise": KEY})
    params, stats = variables.get("params", {}), variables.get("batch_stats", {})
    expected, expected_stats = norm.apply(params, stats, x, key=key)
    y, updated = module.apply(variables, x, mutable=["batch_stats"], rngs={"noise": KEY})
    assert_close(y, expected)
    assert updated.get("batch_stats", {}).keys() == expected_stats.keys()
    for entry, vector in expected_stats.items():
        assert_close(updated["batch_stats"][entry], vector)


@every
def test_running_mode_needs_no_noise_and_leaves_the_statistics_alone(name):
    x, norm = features(), NORMALIZERS[name]()
    module, variables = initialized(norm, x)
    params, stats = variables.get("params", {}), variables.get("batch_stats", {})
    y, updated = module.apply(variables, x, mode="running", mutable=["batch_stats"])
    assert_close(y, norm.apply(params, stats, x, mode="running")[0])
    for entry, vector in stats.items():
        np.testing.assert_array_equal(updated["batch_stats"][entry], vector)


@pytest.mark.parametrize("name", OVER_BATCH)
def test_statistics_that_are_not_mutable_are_not_updated(name):
    x = features()
    module, variables = initialized(NORMALIZERS[name](), x)
    fixed = module.apply(variables, x, rngs={"noise": KEY})
    mutable, updated = module.apply(variables, x, rngs={"noise": KEY}, mutable=["batch_stats"])
    np.testing.assert_array_equal(fixed, mutable)
    assert any(not np.array_equal(updated["batch_stats"][e], v) for e, v in variables["batch_stats"].items())


def test_initialization_does_not_update_the_statistics():
    stats = Normalization(batch_norm()).init(KEY, features())["batch_stats"]
    np.testing.assert_array_equal(stats["mean"], np.zeros(4))
    np.testing.assert_array_equal(stats["variance"], np.ones(4))


def test_a_normalizer_without_parameters_has_no_collection_of_them():
    assert Normalization(NORMALIZERS["identity"]()).init(KEY, features()) == {}
    assert Normalization(batch_norm(affine=False)).init(KEY, features()).keys() == {"batch_stats"}


def test_noise_comes_from_its_own_stream_and_in_initialization_from_that_of_the_parameters():
    x = features(ROWS)
    module: Any = Normalization(noisy_batch_norm())
    variables = module.init(KEY, x)
    first, again, other = (module.apply(variables, x, rngs={"noise": jax.random.fold_in(KEY, i)}) for i in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    with pytest.raises(ValueError, match=r"needs a key in batch mode, got None; .* rngs=\{'noise': key\}"):
        module.apply(variables, x)


def test_two_noisy_layers_of_a_model_draw_different_noise():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            return tuple(Normalization(noisy_batch_norm(), name=name)(x) for name in ("a", "b"))

    module: Any = Twice()
    x = features(ROWS)
    a, b = module.apply(module.init(KEY, x), x, rngs={"noise": KEY})
    assert not np.array_equal(a, b)


@pytest.mark.parametrize("norm", [batch_norm(epsilon=0.0), frozen_batch_norm(epsilon=0.0)], ids=lambda norm: norm.name)
def test_one_row_of_constant_features_is_taken_in_running_mode(norm):
    module, variables = initialized(norm, features(ROWS))
    row = jnp.full((1, 4), 0.1)
    expected, _ = norm.apply(variables["params"], variables["batch_stats"], row, mode="running")
    assert_close(module.apply(variables, row, mode="running"), expected)


def test_a_model_is_initialized_by_one_row_of_constant_features_in_running_mode():
    variables: Any = Normalization(batch_norm(epsilon=0.0)).init(KEY, jnp.ones((1, 4)), mode="running")
    assert variables["params"]["scale"].shape == (4,)
    with pytest.raises(ValueError, match="at least 2 values"):
        Normalization(batch_norm()).init(KEY, jnp.ones((1, 4)))


def test_statistics_that_were_not_passed_are_asked_for():
    module, variables = initialized(batch_norm(), features())
    with pytest.raises(ValueError, match=r"need an entry 'mean' .* got only the entries \[\]"):
        module.apply({"params": variables["params"]}, features())


def test_a_compiled_training_step_and_a_gradient_go_through_it():
    module, variables = initialized(batch_norm(), features())

    @jax.jit
    def loss(params, x):
        state = {"params": params, "batch_stats": variables["batch_stats"]}
        y, updated = module.apply(state, x, mutable=["batch_stats"])
        return jnp.sum(y**2), updated

    gradient, updated = jax.grad(loss, has_aux=True)(variables["params"], features())
    # Σ (γŷ + β)² over N values of a feature, with Σŷ = 0 and Σŷ² ≈ N.
    count = np.prod(MAPS[:-1])
    assert_close(gradient["bias"], 2 * count * variables["params"]["bias"], order=1)
    _, expected = batch_norm().apply(variables["params"], variables["batch_stats"], features())
    assert_close(updated["batch_stats"]["variance"], expected["variance"])
