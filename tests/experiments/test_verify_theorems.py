"""What is shown of a statement that does not hold is a case that it is about."""

import jax.numpy as jnp

from bnjax.normalizers import batch_norm
from bnjax.theorems.statement import Comparison, Statement
from experiments import verify_theorems
from experiments.verify_theorems import Config


def test_a_counterexample_is_a_feature_at_which_the_hypothesis_holds(monkeypatch):
    def check(_, case):
        feature = jnp.arange(len(case.gamma))
        left = jnp.where(feature == 0, 5.0, 1.0)
        return Comparison(left, 0 * left, jnp.ones_like(left), jnp.zeros(()), applies=feature > 0)

    claimed = Statement("claimed", "1 ≤ 0", check, batch_norm(), batch_norm(), relation="<=", form="printed")
    monkeypatch.setattr(verify_theorems, "STATEMENTS", [claimed])
    (shown,) = verify_theorems.run(Config(smoke=True))["counterexamples"]
    assert shown["left"] == shown["largest_violation"] == 1
    assert shown["right_as_printed"] == 0
