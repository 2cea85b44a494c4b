"""Which of the four losses give one gradient follows from what the normalizer blocks."""

from itertools import permutations

import pytest

from experiments.four_losses import Config, run


@pytest.mark.parametrize(
    ("normalizer", "alike"),
    # With noise drawn per row the loss differs from row to row, but the extra losses do not.
    [("noisy_batch_norm", (1, 2, 3)), ("l1_norm", (1, 2))],
)
def test_the_losses_that_differ_by_what_is_blocked_give_one_gradient(normalizer, alike):
    results = run(Config(normalizers=(normalizer,), epochs=1, train_images=128, test_images=128))
    same = {(row["first"], row["second"]) for row in results["table"] if row["mean"] <= 1e-12}
    assert same == {*permutations(alike, 2), (1, 1), (2, 2), (3, 3), (4, 4)}
