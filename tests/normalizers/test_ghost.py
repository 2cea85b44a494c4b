import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.normalizers import batch_norm, ghost_batch_norm
from tests.comparison import assert_close
from tests.normalizers.cases import MAPS, ROWS, compiled, drawn_like, features

both_shapes = pytest.mark.parametrize("shape", [ROWS, MAPS], ids=["rows", "maps"])


@both_shapes
def test_one_ghost_of_all_rows_is_batch_norm(shape):
    x = features(shape)
    params, stats = (drawn_like(state) for state in batch_norm().init(x))
    y, updated = compiled(ghost_batch_norm(ghost_size=6), params, stats, x)
    expected, expected_updated = compiled(batch_norm(), params, stats, x)
    assert_close(y, expected)
    for entry, vector in expected_updated.items():
        assert_close(updated[entry], vector)


@both_shapes
def test_each_ghost_is_normalized_by_itself(shape):
    x = features(shape)
    ghost, batch = ghost_batch_norm(ghost_size=2), batch_norm()
    params, stats = (drawn_like(state) for state in ghost.init(x))
    y, updated = compiled(ghost, params, stats, x)
    parts = [compiled(batch, params, stats, x[start : start + 2]) for start in (0, 2, 4)]
    assert_close(y, jnp.concatenate([part for part, _ in parts]))
    # The update is linear in the batch's moments, so the mean of updates is the update by the mean.
    for entry in stats:
        assert_close(updated[entry], sum(after[entry] for _, after in parts) / 3)


def test_a_change_in_one_ghost_does_not_reach_another():
    x, normalizer = features(), ghost_batch_norm(ghost_size=3)
    state = normalizer.init(x)
    before, after = (compiled(normalizer, *state, batch)[0] for batch in (x, x.at[0].multiply(2.0)))
    np.testing.assert_array_equal(before[3:], after[3:])
    assert not np.array_equal(before[1], after[1])


@pytest.mark.parametrize("ghost_size", [4, 5, 7])
def test_a_ghost_size_that_does_not_divide_the_rows_is_refused(ghost_size):
    normalizer = ghost_batch_norm(ghost_size=ghost_size)
    with pytest.raises(ValueError, match=f"rows that ghost_size={ghost_size} divides, got 6; drop the rows"):
        normalizer.apply(*normalizer.init(features()), features())


def test_rows_that_the_ghost_size_does_not_divide_are_taken_in_running_mode():
    x, normalizer = features(), ghost_batch_norm(ghost_size=4)
    state = normalizer.init(x)
    assert_close(normalizer.apply(*state, x, mode="running")[0], batch_norm().apply(*state, x, mode="running")[0])


def test_ghosts_of_one_row_are_refused_unless_they_have_positions():
    normalizer = ghost_batch_norm(ghost_size=1)
    assert compiled(normalizer, *normalizer.init(features()), features())[0].shape == MAPS
    with pytest.raises(ValueError, match=r"at least 2 values .*, got 1: "):
        normalizer.apply(*normalizer.init(features(ROWS)), features(ROWS))


@pytest.mark.parametrize("ghost_size", [0, -2])
def test_a_ghost_size_below_one_is_refused(ghost_size):
    with pytest.raises(ValueError, match=f"ghost_size >= 1, got {ghost_size}"):
        ghost_batch_norm(ghost_size=ghost_size)
